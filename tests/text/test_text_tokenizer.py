"""Tokenizers from metadata: ids, flags, decoding, errors."""

import dataclasses

import numpy as np
import pytest
from text_llama import LlamaVocabulary, write_vocabulary
from text_vocabularies import KINDS, byte_level_tokenizer

from simplex_jax import gguf
from simplex_jax.text import StreamDecoder, Tokenizer, TokenType, known_pre

FLAGS = [(False, True), (True, False)]
TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two  spaces ",
    "naïve größer 日本語 👩‍👩‍👧 е\u0301",
    "<|im_start|>user\nhi<|im_end|>\n",
    "<s>one</s> two<tool>three",
    "tabs\t\tand\r\nlines\n\n",
]


def _metadata(**changes) -> dict:
    metadata = byte_level_tokenizer().gguf_metadata()
    metadata.update({f"tokenizer.ggml.{key}": value for key, value in changes.items()})
    return {key: value for key, value in metadata.items() if value is not None}


def _sentencepiece(tokens: list[str], **changes) -> dict:
    byte_tokens = [f"<0x{i:02X}>" for i in range(256)]
    every = ["<unk>", "<s>", "</s>", *byte_tokens, *tokens]
    types = [2, 3, 3, *[6] * 256, *[1] * len(tokens)]
    scores = [0.0] * 259 + [-float(i) for i in range(len(tokens))]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": every,
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        "tokenizer.ggml.scores": np.array(scores, np.float32),
    } | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_survives_a_file(kind, tokenizer_of, tmp_path):
    tokenizer = tokenizer_of(kind)
    path = write_vocabulary(tmp_path / "v.gguf", tokenizer)
    again = Tokenizer.from_gguf(gguf.open(path).metadata)
    for field in dataclasses.fields(tokenizer):
        before, after = getattr(tokenizer, field.name), getattr(again, field.name)
        np.testing.assert_array_equal(after, before, err_msg=field.name)


def test_metadata_types():
    metadata = byte_level_tokenizer(pad_id=0).gguf_metadata()
    assert metadata["tokenizer.ggml.token_type"].dtype == np.int32
    assert metadata["tokenizer.ggml.bos_token_id"].dtype == np.uint32
    assert metadata["tokenizer.ggml.padding_token_id"].dtype == np.uint32
    assert metadata["tokenizer.ggml.add_bos_token"] is False
    assert isinstance(metadata["tokenizer.ggml.tokens"], list)
    assert "tokenizer.ggml.scores" not in metadata
    assert "tokenizer.chat_template" not in metadata


def test_named_chat_templates_survive():
    tokenizer = byte_level_tokenizer(
        chat_template="a", named_chat_templates={"tool_use": "b", "rag": "c"}
    )
    again = Tokenizer.from_gguf(tokenizer.gguf_metadata())
    assert again.chat_template == "a"
    assert again.named_chat_templates == {"tool_use": "b", "rag": "c"}


@pytest.mark.parametrize("kind", KINDS)
def test_flags_and_ends_equal_llama_cpp(kind, tokenizer_of, tmp_path):
    pytest.importorskip("llama_cpp")
    tokenizer = tokenizer_of(kind)
    oracle = LlamaVocabulary(write_vocabulary(tmp_path / "v.gguf", tokenizer))
    assert oracle.eog_ids(tokenizer.vocab_size) == tokenizer.eog_ids
    flags = oracle.flags()
    assert flags["bos"] == tokenizer.bos_id
    assert flags["eos"] == tokenizer.eos_id
    assert flags["get_add_bos"] == tokenizer.add_bos
    assert flags["get_add_eos"] == tokenizer.add_eos


@pytest.mark.parametrize("pre", [None, *known_pre("gpt2")])
def test_defaults_equal_llama_cpp(pre, tmp_path):
    pytest.importorskip("llama_cpp")
    keys = ("bos_token_id", "eos_token_id", "add_bos_token", "add_eos_token")
    metadata = _metadata(pre=pre, **dict.fromkeys(keys))
    tokenizer = Tokenizer.from_gguf(metadata)
    gguf.write(tmp_path / "v.gguf", {"general.architecture": "llama", **metadata}, [])
    flags = LlamaVocabulary(tmp_path / "v.gguf").flags()
    assert flags["bos"] == tokenizer.bos_id == 11
    assert flags["eos"] == tokenizer.eos_id == 11
    assert flags["get_add_bos"] == tokenizer.add_bos == (pre == "llama-bpe")
    assert flags["get_add_eos"] == tokenizer.add_eos


def test_sentencepiece_defaults():
    tokenizer = Tokenizer.from_gguf(_sentencepiece(["▁", "a"]))
    assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2)
    assert tokenizer.add_bos and tokenizer.add_space_prefix and not tokenizer.add_eos
    assert tokenizer.encode("a", add_special=True) == [1, 259, 260]
    assert tokenizer.decode([1, 259, 260], skip_special=True) == "a"
    assert tokenizer.decode([259, 260], text_start=False) == " a"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_special_tokens_equal_llama_cpp(kind, flags, tokenizer_of, tmp_path):
    pytest.importorskip("llama_cpp")
    tokenizer = dataclasses.replace(
        tokenizer_of(kind), add_bos=flags[0], add_eos=flags[1]
    )
    oracle = LlamaVocabulary(write_vocabulary(tmp_path / "v.gguf", tokenizer))
    for text in TEXTS:
        for parse_special in (False, True):
            expected = oracle.encode(text, True, parse_special)
            assert tokenizer.encode(text, True, parse_special) == expected, text


@pytest.mark.parametrize("kind", list(TokenType)[:4])
def test_overlapping_whole_tokens_equal_llama_cpp(kind, tmp_path):
    """The longest wins wherever it stands; user-defined tokens always count."""
    pytest.importorskip("llama_cpp")
    plain = byte_level_tokenizer()
    extra = ("<aab>", "b>cc", ">cc<aab", "U1 U2", "  ", "    ", "é€")
    types = np.append(plain.token_types, [kind] * len(extra))
    tokenizer = dataclasses.replace(
        plain, tokens=(*plain.tokens, *extra), token_types=types
    )
    oracle = LlamaVocabulary(write_vocabulary(tmp_path / "v.gguf", tokenizer))
    for text in ("x<aab>cc<aab>ccU1 U2y", "a" + " " * 11 + "b", "é€<aab>é"):
        for parse_special in (False, True):
            expected = oracle.encode(text, False, parse_special)
            assert tokenizer.encode(text, parse_special=parse_special) == expected
            assert tokenizer.decode(expected) == text


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_equal_llama_cpp(kind, tokenizer_of, tmp_path):
    pytest.importorskip("llama_cpp")
    tokenizer = tokenizer_of(kind)
    oracle = LlamaVocabulary(write_vocabulary(tmp_path / "v.gguf", tokenizer))
    for token_id in range(0, tokenizer.vocab_size, 7):
        ours = tokenizer.decode_bytes([token_id], text_start=False)
        assert ours == oracle.decode([token_id]), tokenizer.tokens[token_id]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_decode_inverts_encode(kind, text, tokenizer_of):
    tokenizer = tokenizer_of(kind)
    for parse_special in (False, True):
        ids = tokenizer.encode(text, parse_special=parse_special)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode_bytes(ids) == text.encode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("skip_special", [False, True])
def test_stream_equals_whole(kind, skip_special, tokenizer_of):
    tokenizer = tokenizer_of(kind)
    ids = [i for t in TEXTS for i in tokenizer.encode(t, parse_special=True)]
    ids += tokenizer.encode("👩")[:-1]
    for end in range(len(ids) + 1):
        stream = StreamDecoder(tokenizer, skip_special=skip_special)
        parts = [stream.push(i) for i in ids[:end]]
        whole = tokenizer.decode(ids[:end], skip_special=skip_special)
        assert "".join(parts) + stream.finish() == whole


def test_characters_spread_over_tokens_come_whole():
    tokenizer = byte_level_tokenizer()
    ids = tokenizer.encode("é世👩")
    assert len(ids) == 9
    stream = StreamDecoder(tokenizer)
    assert [stream.push(i) for i in ids] == ["", "é", "", "", "世", "", "", "", "👩"]
    assert stream.finish() == ""
    assert stream.push(ids[0]) == "" and stream.finish() == "\ufffd"


def test_unused_tokens_decode_to_nothing():
    plain = byte_level_tokenizer()
    types = np.append(plain.token_types, TokenType.UNUSED)
    tokenizer = dataclasses.replace(
        plain, tokens=(*plain.tokens, "[PAD0]"), token_types=types
    )
    assert tokenizer.decode([plain.vocab_size]) == ""
    assert "[PAD0]" == tokenizer.decode(tokenizer.encode("[PAD0]", parse_special=True))


def test_known_texts_are_control_tokens_whatever_the_file_says():
    plain = byte_level_tokenizer()
    types = np.full(plain.vocab_size, TokenType.NORMAL)
    tokenizer = dataclasses.replace(plain, token_types=types)
    end = tokenizer.tokens.index("<|im_end|>")
    assert tokenizer.token_types[end] == TokenType.CONTROL
    assert tokenizer.eog_ids == {end, tokenizer.eos_id}
    assert end not in tokenizer.encode("<|im_end|>")
    assert tokenizer.encode("<|im_end|>", parse_special=True) == [end]


def test_bytes_without_tokens_separate_their_neighbours():
    plain = byte_level_tokenizer()
    gone = plain.tokens.index("!")
    tokens = ("[PAD0]" if i == gone else t for i, t in enumerate(plain.tokens))
    tokenizer = dataclasses.replace(plain, tokens=tuple(tokens))
    # "!" goes, and "he" is not made of the letters around it.
    h, e = tokenizer.tokens.index("h"), tokenizer.tokens.index("e")
    assert tokenizer.encode("he") == [tokenizer.tokens.index("he")]
    assert tokenizer.encode("h!e") == [h, e]


_N = byte_level_tokenizer().vocab_size
_TOKENS = list(byte_level_tokenizer().tokens)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "no 'tokenizer.ggml.model'"),
        (_metadata(tokens=None), "no 'tokenizer.ggml.tokens'"),
        (_metadata(tokens=[]), "tokens is empty"),
        (_metadata(model="bert"), "model='bert' is not a known.*gpt2.*llama"),
        (_metadata(pre="tekken"), "pre='tekken' is not known.*smollm, qwen2"),
        (_metadata(tokens=[*_TOKENS[:-1], "he"]), "are both 'he'.*aborts"),
        (_metadata(token_type=np.ones(3, np.int32)), r"token_types has shape \(3,\)"),
        (_metadata(token_type=np.full(_N, 9)), r"token_types\[0\]=9 is no token type"),
        (_metadata(merges=None), "needs merges"),
        (_metadata(merges=["h x"]), r"merges\[0\]='h x'"),
        (_metadata(merges=["hello"]), r"merges\[0\]='hello'"),
        (_metadata(bos_token_id=np.uint32(_N)), f"bos_id={_N} is not one of the {_N}"),
        (_metadata(padding_token_id=np.uint32(2**32 - 1)), "pad_id=4294967295"),
        (_sentencepiece(["a"], scores=None), "needs scores"),
        (_sentencepiece(["a"], scores=np.zeros(5)), r"scores has shape \(5,\)"),
    ],
)
def test_unusable_metadata(metadata, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_gguf(metadata)


def test_missing_byte_token():
    metadata = _sentencepiece(["a"])
    tokens = metadata["tokenizer.ggml.tokens"]
    tokens[tokens.index("<0x41>")] = "x"
    with pytest.raises(ValueError, match="'<0x41>' is missing"):
        Tokenizer.from_gguf(metadata)


def test_flags_need_their_ids():
    with pytest.raises(ValueError, match="add_bos=True needs bos_id"):
        byte_level_tokenizer(add_bos=True, bos_id=None)


@pytest.mark.parametrize("token_id", [-1, _N])
def test_decoding_unknown_ids(token_id):
    with pytest.raises(ValueError, match=f"token id {token_id} is not in"):
        byte_level_tokenizer().decode([token_id])


def test_lone_surrogates():
    with pytest.raises(ValueError, match="lone surrogate"):
        byte_level_tokenizer().encode("a\ud800b")
