"""Hugging Face folders: what transformers reads, and what is read from them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from text_templates import CHATML
from text_vocabularies import BYTE_LEVEL_PRE, KINDS
from tokenizers import (
    AddedToken,
    Regex,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import Tokenizer as Backend

from simplex_jax.text import Tokenizer, TokenType

FLAGS = [(False, False), (True, False), (True, True)]
TEXTS = [
    "Hello, world! It's 12345 o'clock; DON'T.",
    " leading and trailing  ",
    "<|im_start|>user\nnaïve 日本語 👩‍👩‍👧<|im_end|>",
    "<s>one</s> two<tool>three",
    "\t\r\n\n x = 10_000",
]
_MODERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBER"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(use_regex: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _split(regex: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(regex), "isolated")


# As the models' own tokenizer.json files have them.
PRE_TOKENIZERS = {
    "smollm": [pre_tokenizers.Digits(individual_digits=True), _byte_level(True)],
    "gpt-2": [_byte_level(True)],
    "qwen2": [_split(_MODERN.replace("NUMBER", r"\p{N}")), _byte_level(False)],
    "llama-bpe": [_split(_MODERN.replace("NUMBER", r"\p{N}{1,3}")), _byte_level(False)],
    "default": [
        pre_tokenizers.Punctuation("contiguous"),
        _byte_level(True),
        pre_tokenizers.Digits(individual_digits=False),
        _split("[0-9][0-9][0-9]"),
    ],
}


def _trained(pre: str) -> Backend:
    backend = Backend(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(PRE_TOKENIZERS[pre])
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<bos>", "<eos>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([" ".join(TEXTS)] * 3 + TEXTS, trainer)
    backend.add_tokens([AddedToken("<tool>", normalized=False)])
    if pre == "llama-bpe":
        backend.model.ignore_merges = True
    return backend


def _save(backend: Backend, folder: Path, **config) -> Path:
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_structure_decides_the_split(pre, tmp_path):
    backend = _trained(pre)
    tokenizer = Tokenizer.from_hf(_save(backend, tmp_path))
    assert (tokenizer.model, tokenizer.pre) == ("gpt2", pre)
    for text in TEXTS:
        assert tokenizer.encode(text, parse_special=True) == backend.encode(text).ids
    kinds = tokenizer.token_types[[tokenizer.tokens.index(t) for t in _ADDED]]
    assert kinds.tolist() == [TokenType.CONTROL, TokenType.USER_DEFINED]


_ADDED = ("<bos>", "<tool>")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flags", FLAGS[1:], ids=str)
def test_transformers_encodes_alike(kind, flags, tokenizer_of, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = dataclasses.replace(
        tokenizer_of(kind),
        add_bos=flags[0],
        add_eos=flags[1],
        chat_template=CHATML,
        named_chat_templates={"short": "{{ messages | length }}"},
    )
    tokenizer.save_hf(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert theirs.encode(text) == tokenizer.encode(text, True, True)
        plain = tokenizer.encode(text, False, True)
        assert theirs.encode(text, add_special_tokens=False) == plain
    assert theirs.bos_token_id == tokenizer.bos_id
    assert theirs.eos_token_id == tokenizer.eos_id
    talk = [{"role": "user", "content": "hi"}]
    prompt = theirs.apply_chat_template(
        talk, tokenize=False, add_generation_prompt=True
    )
    assert prompt == tokenizer.apply_chat_template(talk)
    ids = tokenizer.encode("plain text, naïve 日本語.")
    assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flags", FLAGS[:2], ids=str)
def test_folder_gives_the_tokenizer_back(kind, flags, tokenizer_of, tmp_path):
    tokenizer = dataclasses.replace(
        tokenizer_of(kind),
        add_bos=flags[0],
        add_eos=flags[1],
        chat_template="a\nb",
        named_chat_templates={"short": "c"},
    )
    tokenizer.save_hf(tmp_path)
    again = Tokenizer.from_hf(tmp_path)
    for field in dataclasses.fields(tokenizer):
        # The scores of pieces that no merge makes are of no consequence.
        if field.name != "scores":
            before, after = getattr(tokenizer, field.name), getattr(again, field.name)
            np.testing.assert_array_equal(after, before, err_msg=field.name)
    for text in TEXTS:
        assert again.encode(text, True) == tokenizer.encode(text, True)


def test_padding_up_to_the_embedding(tmp_path):
    backend = _trained("qwen2")
    count = backend.get_vocab_size()
    tokenizer = Tokenizer.from_hf(_save(backend, tmp_path), vocab_size=count + 2)
    assert tokenizer.tokens[count:] == (f"[PAD{count}]", f"[PAD{count + 1}]")
    assert tokenizer.token_types[count:].tolist() == [TokenType.UNUSED] * 2
    with pytest.raises(ValueError, match=f"vocab_size={count - 1} is smaller"):
        Tokenizer.from_hf(tmp_path, vocab_size=count - 1)


@pytest.mark.parametrize("bos", ["<bos>", {"content": "<bos>"}])
def test_special_tokens_of_the_configuration(bos, tmp_path):
    folder = _save(_trained("qwen2"), tmp_path, bos_token=bos, add_bos_token=True)
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": "<|im_end|>"}')
    (tmp_path / "config.json").write_text('{"pad_token_id": 1, "bos_token_id": 3}')
    tokenizer = Tokenizer.from_hf(folder)
    assert tokenizer.add_bos and not tokenizer.add_eos
    ids = (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id)
    assert ids == (0, 3, 1, None)


@pytest.mark.parametrize("declared", [None, False])
def test_post_processor_tells_whether_bos_is_added(declared, tmp_path):
    backend = _trained("qwen2")
    template = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", 0)]
    )
    backend.post_processor = processors.Sequence([processors.ByteLevel(), template])
    flags = {} if declared is None else {"add_bos_token": declared}
    folder = _save(backend, tmp_path, bos_token="<bos>", eos_token="<eos>", **flags)
    tokenizer = Tokenizer.from_hf(folder)
    assert tokenizer.add_bos == (declared is None)
    assert not tokenizer.add_eos


@pytest.mark.parametrize(
    ("declared", "file", "expected"),
    [
        ("a", None, ("a", {})),
        ("a", "b", ("b", {})),
        (None, "b", ("b", {})),
        (None, None, (None, {})),
        (
            [{"name": "default", "template": "a"}, {"name": "rag", "template": "c"}],
            None,
            ("a", {"rag": "c"}),
        ),
    ],
)
def test_chat_templates(declared, file, expected, tmp_path):
    config = {} if declared is None else {"chat_template": declared}
    folder = _save(_trained("qwen2"), tmp_path, **config)
    if file is not None:
        (tmp_path / "chat_template.jinja").write_text(file)
    tokenizer = Tokenizer.from_hf(folder)
    assert (tokenizer.chat_template, tokenizer.named_chat_templates) == expected


def test_explicit_split(tmp_path):
    backend = _trained("gpt-2")
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = _save(backend, tmp_path)
    with pytest.raises(ValueError, match="pass pre= as one of smollm"):
        Tokenizer.from_hf(folder)
    for pre in BYTE_LEVEL_PRE:
        assert Tokenizer.from_hf(folder, pre=pre).pre == pre
    with pytest.raises(ValueError, match="pre='gpt2' is not known"):
        Tokenizer.from_hf(folder, pre="gpt2")


def test_ignored_merges_must_fit_the_split(tmp_path):
    backend = _trained("llama-bpe")
    backend.model.ignore_merges = False
    folder = _save(backend, tmp_path)
    with pytest.raises(ValueError, match="ignore_merges=False"):
        Tokenizer.from_hf(folder)
    assert Tokenizer.from_hf(folder, pre="llama-bpe").pre == "llama-bpe"


def _edited(tokenizer: Tokenizer, folder: Path, edit) -> Path:
    tokenizer.save_hf(folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return folder


def test_metaspace_is_the_same_prefix(sentencepiece_tokenizer, tmp_path):
    def edit(content):
        content["normalizer"] = None
        content["pre_tokenizer"] = {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "first",
            "split": False,
        }

    folder = _edited(sentencepiece_tokenizer, tmp_path, edit)
    tokenizer = Tokenizer.from_hf(folder)
    assert tokenizer.model == "llama" and tokenizer.add_space_prefix
    for text in TEXTS:
        assert tokenizer.encode(text) == sentencepiece_tokenizer.encode(text)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["model"]["merges"].pop(), "not every way to cut"),
        (lambda c: c.update(normalizer=None), "does not turn spaces"),
        (lambda c: c.update(normalizer={"type": "Lowercase"}), "normalizer.*Lowercase"),
        (lambda c: c.update(pre_tokenizer={"type": "Whitespace"}), "never split"),
        (lambda c: c["model"].update(dropout=0.1), "model.dropout=0.1"),
        (lambda c: c["model"].update(type="Unigram"), "'Unigram' model"),
    ],
)
def test_unusable_sentencepiece(edit, message, sentencepiece_tokenizer, tmp_path):
    folder = _edited(sentencepiece_tokenizer, tmp_path, edit)
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_hf(folder)


def test_unusable_folders(tmp_path):
    with pytest.raises(ValueError, match="has no tokenizer.json"):
        Tokenizer.from_hf(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json is not JSON"):
        Tokenizer.from_hf(tmp_path)
    _save(_trained("qwen2"), tmp_path, bos_token="<none>")
    with pytest.raises(ValueError, match="bos_token='<none>'"):
        Tokenizer.from_hf(tmp_path)
