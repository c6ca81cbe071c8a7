"""Token ids against llama.cpp, on strings made to be awkward."""

import unicodedata

import pytest
from draws import draws
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from text_llama import LlamaVocabulary, write_vocabulary
from text_vocabularies import KINDS

pytest.importorskip("llama_cpp")

# llama.cpp 0.3.36 knows Unicode 15.0, Python 3.11 knows 14.0, and 3.13 knows 15.1:
# what 15.1 added is left out, the rest is what Python calls assigned.
_ADDED_IN_15_1 = "".join(
    map(chr, (*range(0x2FFC, 0x3000), 0x31EF, *range(0x2EBF0, 0x2EE5E)))
)
assert unicodedata.unidata_version <= "15.1.0"
_CHARACTERS = st.characters(
    exclude_categories=("Cs", "Cn", "Co"), exclude_characters=_ADDED_IN_15_1
)
_ASCII = st.characters(max_codepoint=0x7F)
_AWKWARD = st.sampled_from(
    [
        *("'s", "'S", "'ſ", "'re", "'LL", "'d", "don't", "I'VE", "’s"),
        *(" ", "  ", "   ", "\n", "\n\n", "\r\n", " \n", "\n ", "\t", "\t\t", "\v"),
        *("\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "\u180e", "\u200b", "\ufeff"),
        *("0", "12", "345", "6789", "１２", "٣", "Ⅷ", "½", "1.5e-3", "1,000"),
        *(
            "e\u0301",
            "n\u0303",
            "नमस्ते",
            "한국",
            "日本語",
            "👩‍👩‍👧",
            "🇫🇷",
            "İ",
            "ß",
            "ǅ",
        ),
        *("<|im_start|>", "<|im_end|>", "<|im_end", "<s>", "</s>", "<unk>", "<tool>"),
        *("<0x0A>", "▁", "▁▁", "[PAD0]", "\x00", "\x04", "\x7f", "a\x04b", "!\x1d!"),
        *("hello", " world", "Hello", "HTTPServer", "$+<=>^~|", "...", "--", "((", "_"),
    ]
)
_TEXTS = st.lists(
    st.one_of(_AWKWARD, st.text(_CHARACTERS, max_size=6), st.text(_ASCII, max_size=8)),
    max_size=12,
).map("".join)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_equal_llama_cpp(kind, tokenizer_of, tmp_path_factory):
    tokenizer = tokenizer_of(kind)
    path = tmp_path_factory.mktemp("vocabulary") / f"{kind}.gguf"
    oracle = LlamaVocabulary(write_vocabulary(path, tokenizer))

    @draws(
        200,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(_TEXTS)
    def check(text):
        for parse_special in (False, True):
            expected = oracle.encode(text, False, parse_special)
            assert tokenizer.encode(text, parse_special=parse_special) == expected
        if kind == "llama":
            # A space is written as this sign, so the two are one.
            assert tokenizer.decode(tokenizer.encode(text)) == text.replace("▁", " ")
        elif not set(text) & _MISSING:
            assert tokenizer.decode(tokenizer.encode(text)) == text

    check()


# Bytes that SmolLM2's vocabulary lacks and that occur in UTF-8.
_MISSING = set(map(chr, (0x04, 0x06, 0x13, 0x14, 0x16, 0x1D)))
