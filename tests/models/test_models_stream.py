"""Text piece by piece: whole characters, and never a part of a stop string."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_helpers import VOCAB, make, prompts, row_config

from simplex_jax import models
from simplex_jax.models import Decoder, DecoderConfig
from simplex_jax.models._generate import _settled
from simplex_jax.text import Tokenizer

END = 2


def scripted(script: list[int]) -> Decoder:
    """Return a decoder that follows each token of a script by the next one.

    Its blocks add nothing, its embedding is the identity and its head a table of
    successors, so no token may occur twice.
    """
    assert len(set(script)) == len(script)
    config = DecoderConfig(
        model_type="llama",
        vocab_size=VOCAB,
        hidden_size=VOCAB,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=1,
        max_position_embeddings=256,
    )
    model = make(config)
    successors = np.zeros((VOCAB, VOCAB), np.float32)
    successors[script[:-1], script[1:]] = 1
    model.embed_tokens.embedding[...] = jax.numpy.eye(VOCAB)
    assert model.lm_head is not None
    model.lm_head.kernel[...] = jax.numpy.asarray(successors)
    for part in (model.layers.self_attn.o_proj, model.layers.mlp.down_proj):
        part.kernel[...] = jax.numpy.zeros_like(part.kernel[...])
    return model


def byte_ids(tokenizer: Tokenizer, data: bytes) -> list[int]:
    alone = {tokenizer.decode_bytes([i]): i for i in range(3, 259)}
    return [alone[bytes([b])] for b in data]


def pieces(model, tokenizer, start: int, **options) -> list[str]:
    options = {"max_new_tokens": 64, **options}
    return list(models.stream(model, tokenizer, [start], **options))


ALPHABET = bytes(range(0x21, 0x4D)).decode()


@pytest.fixture(scope="module")
def alphabet(tokenizer):
    """A model that writes 44 characters, one a token, and ends."""
    ids = byte_ids(tokenizer, ALPHABET.encode())
    return scripted([0, *ids, END])


def test_pieces_join_to_the_whole_text(alphabet, tokenizer):
    found = pieces(alphabet, tokenizer, 0)
    assert "".join(found) == ALPHABET
    assert len(found) > 3 and all(found)


def test_stream_ends_after_the_tokens_asked_for(alphabet, tokenizer):
    for count in (7, 9):
        found = pieces(alphabet, tokenizer, 0, max_new_tokens=count)
        assert "".join(found) == ALPHABET[:count]


@pytest.mark.parametrize("size", [1, 2, 5, 11])
def test_stop_string_cuts_exactly_wherever_it_lies(alphabet, tokenizer, size):
    for at in range(0, len(ALPHABET) - size, 3):
        stop = ALPHABET[at : at + size]
        found = pieces(alphabet, tokenizer, 0, stop=(stop,))
        assert "".join(found) == ALPHABET[:at], stop


def test_beginning_of_a_stop_string_that_never_ends_is_not_lost(alphabet, tokenizer):
    stops = [ALPHABET[at : at + 4] + "zz" for at in range(0, 40, 3)]
    assert "".join(pieces(alphabet, tokenizer, 0, stop=stops)) == ALPHABET
    ending = ALPHABET[-2:] + "zz"
    assert "".join(pieces(alphabet, tokenizer, 0, stop=[ending])) == ALPHABET


def test_earliest_of_several_stop_strings_cuts(alphabet, tokenizer):
    stops = [ALPHABET[20:22], ALPHABET[9:15], "", ALPHABET[11:13]]
    found = pieces(alphabet, tokenizer, 0, stop=stops)
    assert "".join(found) == ALPHABET[:9]


def test_characters_of_many_bytes_are_never_broken(tokenizer):
    # The bytes of each differ, and the blocks of eight tokens cut characters.
    text = "abcdefgé日hijk\U0001f680lm"
    data = text.encode()
    assert len(set(data)) == len(data)
    model = scripted([0, *byte_ids(tokenizer, data), END])
    for count in (9, 12, 64):
        found = pieces(model, tokenizer, 0, max_new_tokens=count)
        whole = data[:count].decode("utf-8", "replace")
        assert "".join(found) == whole
        assert not any("\ufffd" in piece for piece in found[:-1])
    assert pieces(model, tokenizer, 0, stop=["日h"])[-1].endswith("é")


def test_invalid_bytes_come_out_as_decode_gives_them(tokenizer):
    data = b"ab\xc3cd\xff\xfeefghi\xe6"
    model = scripted([0, *byte_ids(tokenizer, data), END])
    assert "".join(pieces(model, tokenizer, 0)) == data.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("name", "options"),
    [("llama", {}), ("qwen3", {"temperature": 1.0, "top_p": 0.9})],
    ids=str,
)
def test_stream_writes_what_generate_generates(name, options, tokenizer):
    model = make(row_config(name))
    if options:
        options = {**options, "key": jax.random.key(3)}
    tokens, _, _ = prompts(lengths=(9,))
    streamed = "".join(
        models.stream(
            model, tokenizer, tokens[0].tolist(), max_new_tokens=30, **options
        )
    )
    found = models.generate(
        model, tokens, max_new_tokens=30, stop_ids=tokenizer.eog_ids, **options
    )
    ids = found.tokens[0, : int(found.lengths[0])].tolist()
    shown = [i for i in ids if i not in tokenizer.eog_ids]
    assert streamed == tokenizer.decode(shown) and len(streamed) > 20


def test_leading_space_of_a_sentencepiece_continuation_is_kept():
    words = ["▁one", "▁two", "▁three"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *words]
    kinds = [2, 3, 3, *[6] * 256, *[1] * 3]
    tokens += [f"x{i}" for i in range(VOCAB - len(tokens))]
    kinds += [5] * (VOCAB - len(kinds))
    tokenizer = Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": np.array(kinds, np.int32),
            "tokenizer.ggml.scores": np.zeros(VOCAB, np.float32),
            "tokenizer.ggml.bos_token_id": np.uint32(1),
            "tokenizer.ggml.eos_token_id": np.uint32(2),
        }
    )
    model = scripted([tokens.index(word) for word in words] + [2])
    assert "".join(pieces(model, tokenizer, tokens.index("▁one"))) == " two three"


def test_errors_come_before_the_first_piece(alphabet, tokenizer):
    with pytest.raises(ValueError, match="needs a key"):
        next(models.stream(alphabet, tokenizer, [0], temperature=1.0))
    with pytest.raises(ValueError, match="rows and columns"):
        next(models.stream(alphabet, tokenizer, []))
    with pytest.raises(ValueError, match="exceed the model's context of 256"):
        next(models.stream(alphabet, tokenizer, [0] * 250))


@given(
    st.text("ab\ufffd", max_size=8),
    st.text("ab", max_size=8),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_settled_text_is_never_cut_by_what_follows(text, rest, stops):
    settled = _settled(text, stops)
    assert 0 <= settled <= len(text)
    if any(stop in text for stop in stops):
        return
    cuts = [at for stop in stops if (at := (text + rest).find(stop)) >= 0]
    assert settled <= min(cuts, default=len(text))
    # Nothing is held back without a reason.
    if not stops and not text.endswith("\ufffd"):
        assert settled == len(text)
