"""Vocabularies to folders that transformers loads."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
)

from ._backend import score_merges
from ._splits import byte_level_split
from ._vocabulary import TokenType, Vocabulary

_ROLES = ("bos", "eos", "unk", "sep", "pad", "mask")


def write_folder(vocabulary: Vocabulary, folder: str | os.PathLike[str]) -> None:
    """Write a vocabulary as transformers' fast tokenizers save it.

    What transformers encodes equals ``encode(text, add_special=True,
    parse_special=True)``, except around bytes that a byte-level vocabulary
    lacks and where special tokens overlap.

    Args:
        vocabulary: The vocabulary.
        folder: Where to write; made if it is not there.

    Raises:
        OSError: The folder cannot be written.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    _portable(vocabulary).save(str(path / "tokenizer.json"))
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": vocabulary.add_bos,
        "add_eos_token": vocabulary.add_eos,
    }
    for role in _ROLES:
        token_id = getattr(vocabulary, f"{role}_id")
        if token_id is not None:
            config[f"{role}_token"] = vocabulary.tokens[token_id]
    text = json.dumps(config, indent=2, ensure_ascii=False, sort_keys=True)
    (path / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
    if vocabulary.chat_template is not None:
        template = path / "chat_template.jinja"
        template.write_text(vocabulary.chat_template, encoding="utf-8", newline="")
    if vocabulary.named_chat_templates:
        others = path / "additional_chat_templates"
        others.mkdir(exist_ok=True)
        for name, source in vocabulary.named_chat_templates.items():
            target = others / f"{name}.jinja"
            target.write_text(source, encoding="utf-8", newline="")


def _portable(vocabulary: Vocabulary) -> Tokenizer:
    ids = dict(vocabulary.ids_by_token)
    if vocabulary.model == "gpt2":
        pairs = (merge.partition(" ") for merge in vocabulary.merges)
        merges = [(left, right) for left, _, right in pairs]
        ignore_merges = vocabulary.pre == "llama-bpe"
        tokenizer = Tokenizer(
            models.BPE(vocab=ids, merges=merges, ignore_merges=ignore_merges)
        )
        tokenizer.pre_tokenizer = byte_level_split(vocabulary.pre)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer = Tokenizer(
            models.BPE(
                vocab=ids,
                merges=score_merges(vocabulary),
                byte_fallback=True,
                unk_token=vocabulary.tokens[vocabulary.unk_id or 0],
            )
        )
        prefix = [normalizers.Prepend("▁")] if vocabulary.add_space_prefix else []
        to_pieces = normalizers.Sequence([*prefix, normalizers.Replace(" ", "▁")])
        tokenizer.normalizer = to_pieces
        to_text = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        strip = [decoders.Strip(" ", 1, 0)] if vocabulary.add_space_prefix else []
        tokenizer.decoder = decoders.Sequence([*to_text, *strip])
    for token, kind in zip(
        vocabulary.tokens, vocabulary.token_types.tolist(), strict=True
    ):
        if kind in (TokenType.CONTROL, TokenType.UNKNOWN):
            tokenizer.add_special_tokens([AddedToken(token, normalized=False)])
        elif kind == TokenType.USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, normalized=False)])
    processor = _post_processor(vocabulary)
    if processor is not None:
        tokenizer.post_processor = processor
    return tokenizer


def _post_processor(vocabulary: Vocabulary) -> processors.TemplateProcessing | None:
    around = {
        "bos": vocabulary.bos_id if vocabulary.add_bos else None,
        "eos": vocabulary.eos_id if vocabulary.add_eos else None,
    }
    special = [(vocabulary.tokens[i], i) for i in around.values() if i is not None]
    if not special:
        return None

    def template(part: str, segment: int) -> list[str]:
        before, after = (
            [] if i is None else [f"{vocabulary.tokens[i]}:{segment}"]
            for i in around.values()
        )
        return [*before, f"${part}:{segment}", *after]

    return processors.TemplateProcessing(
        single=template("A", 0),
        pair=[*template("A", 0), *template("B", 1)],
        special_tokens=special,
    )
