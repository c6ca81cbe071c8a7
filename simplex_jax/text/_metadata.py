"""Vocabularies from and to the ``tokenizer.*`` keys of a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._vocabulary import TokenType, Vocabulary

_PREFIX = "tokenizer.ggml."
# The format spells the separator's key this way.
_ID_KEYS = {
    "bos_id": "bos_token_id",
    "eos_id": "eos_token_id",
    "eot_id": "eot_token_id",
    "eom_id": "eom_token_id",
    "unk_id": "unknown_token_id",
    "sep_id": "seperator_token_id",
    "pad_id": "padding_token_id",
    "mask_id": "mask_token_id",
}
# What llama.cpp assumes where a key is missing.
_DEFAULT_IDS = {
    "gpt2": {"bos_id": 11, "eos_id": 11},
    "llama": {"bos_id": 1, "eos_id": 2, "unk_id": 0},
}


def vocabulary_from_metadata(metadata: Mapping[str, Any]) -> Vocabulary:
    """Read a vocabulary from a GGUF file's metadata.

    Missing keys take llama.cpp's defaults: ``bos_id`` and ``eos_id`` 11 for
    model ``"gpt2"``, 1 and 2 for ``"llama"``; ``add_bos`` where the model is
    ``"llama"`` or ``pre`` is ``"llama-bpe"``; every token normal.

    Args:
        metadata: All keys of the file; those outside ``tokenizer.`` are ignored.

    Returns:
        The vocabulary.

    Raises:
        ValueError: A required key is missing, or a value is unusable.
    """
    model = str(_required(metadata, "model"))
    tokens = tuple(_required(metadata, "tokens"))
    # A sentencepiece file's `pre` decides nothing: llama.cpp does not read it.
    pre = str(metadata.get(_PREFIX + "pre", "default")) if model != "llama" else ""
    sentencepiece = model == "llama"
    types = metadata.get(_PREFIX + "token_type")
    ids: dict[str, int | None] = {}
    for field, key in _ID_KEYS.items():
        value = metadata.get(_PREFIX + key)
        if value is None:
            value = _DEFAULT_IDS.get(model, {}).get(field)
            ids[field] = value if value is None or value < len(tokens) else None
        else:
            ids[field] = int(value)
    names = metadata.get("tokenizer.chat_templates", ())
    template_key = "tokenizer.chat_template"
    return Vocabulary(
        model=model,
        pre=pre or "default",
        tokens=tokens,
        token_types=np.full(len(tokens), TokenType.NORMAL) if types is None else types,
        merges=tuple(metadata.get(_PREFIX + "merges", ())),
        scores=metadata.get(_PREFIX + "scores"),
        **ids,
        add_bos=_flag(metadata, "add_bos_token", sentencepiece or pre == "llama-bpe"),
        add_eos=_flag(metadata, "add_eos_token", False),
        add_space_prefix=sentencepiece and _flag(metadata, "add_space_prefix", True),
        chat_template=metadata.get(template_key),
        named_chat_templates={
            name: metadata[f"{template_key}.{name}"]
            for name in names
            if f"{template_key}.{name}" in metadata
        },
    )


def metadata_from_vocabulary(vocabulary: Vocabulary) -> dict[str, Any]:
    """Give the ``tokenizer.*`` keys that describe a vocabulary.

    Args:
        vocabulary: The vocabulary.

    Returns:
        Keys to strings, bools, lists of strings and NumPy scalars or arrays of
        the types that llama.cpp requires. ``bos_token_id`` is there whenever
        known, because readers assume 11 otherwise.
    """
    metadata: dict[str, Any] = {
        _PREFIX + "model": vocabulary.model,
        _PREFIX + "pre": vocabulary.pre,
        _PREFIX + "tokens": list(vocabulary.tokens),
        _PREFIX + "token_type": vocabulary.token_types.astype(np.int32),
    }
    if vocabulary.scores is not None:
        metadata[_PREFIX + "scores"] = vocabulary.scores.astype(np.float32)
    if vocabulary.model == "gpt2":
        metadata[_PREFIX + "merges"] = list(vocabulary.merges)
    for field, key in _ID_KEYS.items():
        token_id = getattr(vocabulary, field)
        if token_id is not None:
            metadata[_PREFIX + key] = np.uint32(token_id)
    metadata[_PREFIX + "add_bos_token"] = vocabulary.add_bos
    metadata[_PREFIX + "add_eos_token"] = vocabulary.add_eos
    metadata[_PREFIX + "add_space_prefix"] = vocabulary.add_space_prefix
    if vocabulary.chat_template is not None:
        metadata["tokenizer.chat_template"] = vocabulary.chat_template
    if vocabulary.named_chat_templates:
        metadata["tokenizer.chat_templates"] = list(vocabulary.named_chat_templates)
        for name, source in vocabulary.named_chat_templates.items():
            metadata[f"tokenizer.chat_template.{name}"] = source
    return metadata


def _required(metadata: Mapping[str, Any], key: str) -> Any:
    value = metadata.get(_PREFIX + key)
    if value is None:
        raise ValueError(
            f"metadata has no {_PREFIX + key!r}; give the metadata of a GGUF model"
            " file that contains its tokenizer."
        )
    return value


def _flag(metadata: Mapping[str, Any], key: str, default: bool) -> bool:
    return bool(metadata.get(_PREFIX + key, default))
