"""Vocabularies from Hugging Face folders, decided by structure alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._backend import score_merges
from ._splits import GPT2_SPLIT, SPLITS
from ._vocabulary import TokenType, Vocabulary

_ROLES = ("bos", "eos", "unk", "sep", "pad", "mask")
# The contractions as Qwen2's and Llama-3's files spell them.
_FOLDED = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UNFOLDED = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
_CONTIGUOUS_PUNCTUATION = SPLITS["default"][0]


def read_folder(
    folder: str | os.PathLike[str], vocab_size: int | None, *, pre: str | None
) -> Vocabulary:
    """Read a vocabulary from a Hugging Face folder.

    Special token texts come from ``tokenizer_config.json`` or
    ``special_tokens_map.json``, ids that neither names from ``config.json``.
    ``lstrip``, ``rstrip`` and ``single_word`` of added tokens are left out, as
    GGUF has no place for them.

    Args:
        folder: Where ``tokenizer.json`` lies.
        vocab_size: Rows of the model's embedding, or None for the tokenizer's
            own size.
        pre: Kind of split, instead of the one read from its structure.

    Returns:
        The vocabulary.

    Raises:
        ValueError: A file is missing or unusable, or the split is not known.
    """
    path = Path(folder)
    tokenizer = _json(path / "tokenizer.json")
    if not tokenizer:
        raise ValueError(
            f"folder={str(folder)!r} has no tokenizer.json; save the tokenizer with"
            " transformers' fast tokenizers first."
        )
    config = _json(path / "special_tokens_map.json")
    config.update(_json(path / "tokenizer_config.json"))
    model = _checked_model(tokenizer)
    tokens, types = _tokens(tokenizer, vocab_size)
    ids = {token: i for i, token in enumerate(tokens)}
    special = {f"{role}_id": _special_id(config, role, ids) for role in _ROLES}
    model_config = _json(path / "config.json")
    for role in _ROLES:
        token_id = model_config.get(f"{role}_token_id")
        if special[f"{role}_id"] is None and isinstance(token_id, int):
            special[f"{role}_id"] = token_id
    template, named = _chat_templates(path, config)
    merges = _merges(model)
    common: dict[str, Any] = {
        "tokens": tokens,
        "token_types": types,
        **special,
        "eot_id": ids.get("<|eot_id|>"),
        "eom_id": ids.get("<|eom_id|>"),
        "add_bos": _adds(tokenizer, config, "bos", special["bos_id"], tokens),
        "add_eos": _adds(tokenizer, config, "eos", special["eos_id"], tokens),
        "chat_template": template,
        "named_chat_templates": named,
    }
    if not model.get("byte_fallback"):
        return Vocabulary(
            model="gpt2",
            pre=pre or _detect_pre(tokenizer, model),
            merges=tuple(map(" ".join, merges)),
            **common,
        )
    vocabulary = Vocabulary(
        model="llama",
        pre=pre or "default",
        scores=_rank_scores(merges, ids, len(tokens)),
        add_space_prefix=_sentencepiece_prefix(tokenizer),
        **common,
    )
    if set(score_merges(vocabulary)) != set(merges):
        raise ValueError(
            "the merges in tokenizer.json are not every way to cut its tokens in two,"
            " as a sentencepiece vocabulary in GGUF implies, so ids would differ; train"
            " with sentencepiece, or train a byte-level BPE."
        )
    return vocabulary


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path.name} is not JSON ({error}); copy it again from its source."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a JSON object; copy it again.")
    return content


def _checked_model(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    model = tokenizer.get("model") or {}
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        raise ValueError(
            f"tokenizer.json has a {model.get('type')!r} model; only BPE models can"
            " be exported to GGUF here."
        )
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise ValueError(
                f"tokenizer.json has model.{key}={model[key]!r}, which GGUF cannot"
                " express; retrain without it."
            )
    return model


def _merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
    return [(left, right) for left, right in pairs]


def _tokens(
    tokenizer: Mapping[str, Any], vocab_size: int | None
) -> tuple[tuple[str, ...], np.ndarray]:
    model = tokenizer["model"]
    sentencepiece = bool(model.get("byte_fallback"))
    texts: dict[int, str] = {i: token for token, i in model["vocab"].items()}
    types = dict.fromkeys(texts, TokenType.NORMAL)
    if sentencepiece:
        for byte in range(256):
            token_id = model["vocab"].get(f"<0x{byte:02X}>")
            if token_id is not None:
                types[token_id] = TokenType.BYTE
    for added in tokenizer.get("added_tokens", ()):
        content, token_id = added["content"], added["id"]
        special = added.get("special")
        # llama.cpp looks for user-defined tokens before it turns spaces into ▁.
        if sentencepiece and not special:
            content = content.replace("▁", " ")
        texts[token_id] = content
        types[token_id] = TokenType.CONTROL if special else TokenType.USER_DEFINED
    unknown = model["vocab"].get(model.get("unk_token"))
    if sentencepiece and unknown is not None:
        types[unknown] = TokenType.UNKNOWN
    size = max(texts) + 1 if vocab_size is None else vocab_size
    if size <= max(texts):
        raise ValueError(
            f"vocab_size={vocab_size} is smaller than the tokenizer, whose last id is"
            f" {max(texts)}; resize the model's embedding to {max(texts) + 1} rows."
        )
    return (
        tuple(texts.get(i, f"[PAD{i}]") for i in range(size)),
        np.array([types.get(i, TokenType.UNUSED) for i in range(size)], np.int32),
    )


def _special_id(
    config: Mapping[str, Any], role: str, ids: Mapping[str, int]
) -> int | None:
    token = config.get(f"{role}_token")
    text = token.get("content") if isinstance(token, Mapping) else token
    if not text:
        return None
    if text not in ids:
        raise ValueError(
            f"{role}_token={text!r} of the tokenizer's configuration is not among its"
            " tokens; add it to tokenizer.json or remove it from the configuration."
        )
    return ids[text]


def _adds(
    tokenizer: Mapping[str, Any],
    config: Mapping[str, Any],
    role: str,
    token_id: int | None,
    tokens: tuple[str, ...],
) -> bool:
    if token_id is None:
        return False
    flag = config.get(f"add_{role}_token")
    if isinstance(flag, bool):
        return flag
    at = 0 if role == "bos" else -1
    for step in _steps(tokenizer.get("post_processor"), "processors"):
        if step.get("type") == "TemplateProcessing" and step.get("single"):
            piece = step["single"][at].get("SpecialToken") or {}
            return piece.get("id") == tokens[token_id]
    return False


def _steps(node: Mapping[str, Any] | None, key: str) -> Iterator[Mapping[str, Any]]:
    if node is None:
        return
    if node.get("type") == "Sequence":
        for inner in node[key]:
            yield from _steps(inner, key)
    else:
        yield node


def _detect_pre(tokenizer: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    steps = list(_steps(tokenizer.get("pre_tokenizer"), "pretokenizers"))
    splits = tuple(filter(None, map(_split_of, steps)))
    ignores = bool(model.get("ignore_merges"))
    for pre, known in SPLITS.items():
        if splits == known and any(s.get("type") == "ByteLevel" for s in steps):
            if ignores != (pre == "llama-bpe"):
                raise ValueError(
                    f"tokenizer.json splits like {pre!r} but has ignore_merges="
                    f"{ignores}, the opposite of what llama.cpp does for it; change"
                    f" model.ignore_merges, or pass pre={pre!r} to accept its ids."
                )
            return pre
    raise ValueError(
        f"the pre_tokenizer of tokenizer.json is none that is known ({list(splits)!r});"
        f" pass pre= as one of {', '.join(SPLITS)} if one of them cuts text alike."
    )


def _split_of(step: Mapping[str, Any]) -> str | None:
    """Give the expression that a step cuts by, as ``SPLITS`` spells it."""
    kind = step.get("type")
    if kind == "Split" and step.get("behavior") == "Isolated":
        if not step.get("invert") and "Regex" in step["pattern"]:
            regex = step["pattern"]["Regex"].replace(_FOLDED, _UNFOLDED)
            # The last alternative only names what would stay uncut anyway.
            return GPT2_SPLIT if regex == GPT2_SPLIT + r"|\s+" else regex
    if kind == "Digits":
        return r"\p{N}" if step.get("individual_digits") else r"\p{N}+"
    if kind == "Punctuation" and step.get("behavior") == "Contiguous":
        return _CONTIGUOUS_PUNCTUATION
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return GPT2_SPLIT if step.get("use_regex", True) else None
    return f"{kind}: {json.dumps(step)}"


def _rank_scores(
    merges: list[tuple[str, str]], ids: Mapping[str, int], count: int
) -> np.ndarray:
    # Characters and bytes are never the result of a merge: any score will do.
    scores = np.full(count, -float(len(merges)), np.float32)
    for rank in range(len(merges) - 1, -1, -1):
        left, right = merges[rank]
        if left + right in ids:
            scores[ids[left + right]] = -float(rank)
    return scores


def _sentencepiece_prefix(tokenizer: Mapping[str, Any]) -> bool:
    """Tell whether a space is put before text, refusing what cannot be kept."""
    prefix = False
    space_replaced = False
    for step in _steps(tokenizer.get("normalizer"), "normalizers"):
        if step == {"type": "Prepend", "prepend": "▁"}:
            prefix = True
        elif step.get("type") == "Replace" and step.get("content") == "▁":
            space_replaced = step.get("pattern") == {"String": " "}
        elif step.get("type") != "NFC":
            raise ValueError(
                f"tokenizer.json has the normalizer {dict(step)!r}, which GGUF cannot"
                " express; train without it."
            )
    for step in _steps(tokenizer.get("pre_tokenizer"), "pretokenizers"):
        if step.get("type") != "Metaspace" or step.get("split", True):
            raise ValueError(
                f"tokenizer.json has the pre_tokenizer {dict(step)!r}; a sentencepiece"
                " vocabulary in GGUF is never split before merging."
            )
        space_replaced = True
        prefix = step.get("prepend_scheme", "always") != "never"
    if not space_replaced:
        raise ValueError(
            "tokenizer.json has byte_fallback but does not turn spaces into '▁', so it"
            " is no sentencepiece vocabulary; train a byte-level BPE instead."
        )
    return prefix


def _chat_templates(
    path: Path, config: Mapping[str, Any]
) -> tuple[str | None, dict[str, str]]:
    declared = config.get("chat_template")
    named: dict[str, str] = {}
    if isinstance(declared, list):
        named = {entry["name"]: entry["template"] for entry in declared}
    elif declared is not None:
        named = {"default": declared}
    if (path / "chat_template.jinja").is_file():
        source = (path / "chat_template.jinja").read_text(encoding="utf-8")
        named["default"] = source
    for file in sorted((path / "additional_chat_templates").glob("*.jinja")):
        named[file.stem] = file.read_text(encoding="utf-8")
    return named.pop("default", None), named
