"""The material of a language model: documents of plain text."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import data, models, text
from .._files import replacing
from ..export import text_rows
from ..text import Tokenizer
from ._config import RunConfig
from ._material import Material, pack, require_fits, token_figures

_SAMPLES = 6
_PROMPT_TOKENS = 48
_NEW_TOKENS = 96
_TEMPERATURE = 0.8
# As many tokens as examples are compared on.
_PARITY_ROWS = 4

Splits = dict[str, list[data.Document]]


class Opening(NamedTuple):
    """A piece of a held-out document, for a model to go on from.

    Args:
        ids: of its tokens.
        prompt: the same as text.
        expected: the text that follows in the document.
    """

    ids: list[int]
    prompt: str
    expected: str


@dataclasses.dataclass(frozen=True)
class Texts(Material):
    """Documents, whole ones in each split.

    Args:
        splits: documents by the name of their split.
        openings: at least one, all of as many tokens.
        new_tokens: how many to make up after them.
    """

    splits: Splits
    openings: list[Opening]
    new_tokens: int

    def write(self, folder: Path) -> None:
        """Write which document is in which split; the texts stay where they are."""
        lines = [
            {
                "split": split,
                "document": document.name,
                "bytes": document.size_bytes,
                "sha256": document.sha256,
            }
            for split, documents in self.splits.items()
            for document in documents
        ]
        with replacing(folder / "documents.jsonl") as put:
            for line in lines:
                put(f"{json.dumps(line, ensure_ascii=False)}\n".encode())

    def examine(
        self,
        model: models.Decoder,
        tokenizer: Tokenizer,
        progress: Callable[[float], None] = lambda share: None,
    ) -> tuple[dict[str, Any], list[str]]:
        r"""Measure what the held-out documents cost, and let the model go on.

        With L the NLL of all their tokens, ends included, in nats: ``nll`` is L a
        token, ``bits_per_byte`` is $L / (\ln 2 \cdot \mathrm{bytes})$. Every token
        counts once, and is predicted from what stands before it in its row.
        """
        found = token_figures(model, self.packed.once["heldout"], progress)
        documents = self.splits["heldout"]
        size = sum(document.size_bytes for document in documents)
        figures = {
            "nll": found["nll"],
            "bits_per_byte": found["nll"] * found["tokens"] / math.log(2) / size,
            "tokens": found["tokens"],
            "bytes": size,
            "documents": len(documents),
        }
        prompts = np.array([opening.ids for opening in self.openings], np.int32)
        made = models.generate(
            model,
            prompts,
            max_new_tokens=self.new_tokens,
            key=jax.random.key(0),
            temperature=_TEMPERATURE,
            stop_ids=tokenizer.eog_ids,
        )
        rows = zip(np.asarray(made.tokens), np.asarray(made.lengths), strict=True)
        return figures, [_plain(tokenizer, ids[:count]) for ids, count in rows]

    def samples(self, answers: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """Return openings with the texts that follow, true and made up."""
        made_up = zip(answers["before"], answers["after"], strict=True)
        return [
            {"prompt": o.prompt, "expected": o.expected, "before": b, "after": a}
            for o, (b, a) in zip(self.openings, made_up, strict=True)
        ]

    def rows(self, model: models.Decoder, tokenizer: Tokenizer) -> list[list[int]]:
        """Return the beginnings of the first held-out documents."""
        rows: list[list[int]] = []
        for document in self.splits["heldout"]:
            rows += text_rows(model, tokenizer, document.text)[:_PARITY_ROWS]
        return rows[:_PARITY_ROWS]

    def chat(self, path: Path) -> None:
        """Return nothing: no one is asked."""


def read_splits(config: RunConfig) -> Splits:
    """Read a run's documents and split them.

    Args:
        config: of the run.

    Returns:
        Documents by the name of their split, exact duplicates left out; the same
        configuration and texts give the same.

    Raises:
        ValueError: naming the file that is no text, or where there are too few.
        OSError: where a file cannot be read.
    """
    chosen = config.data
    assert chosen.file is not None
    documents = data.distinct_documents(data.read_documents(chosen.file))
    needed = 3 if chosen.validation_fraction else 2
    if len(documents) < needed:
        raise ValueError(
            f"data.file: {chosen.file} holds {len(documents)} distinct documents, and "
            f"{needed} are needed, as training, validation and held-out data share "
            "none; cut long files into several, such as chapters"
        )
    rest, heldout = data.split_documents(
        documents, chosen.heldout_fraction, seed=chosen.seed
    )
    if not chosen.validation_fraction:
        return {"train": rest, "heldout": heldout}
    if len(rest) < 2:
        raise ValueError(
            f"data.heldout_fraction is {chosen.heldout_fraction}, which leaves "
            f"{len(rest)} of {len(documents)} documents for training and validation; "
            "hold out less"
        )
    training, validation = data.split_documents(
        rest, chosen.validation_fraction, seed=chosen.seed + 1
    )
    return {"train": training, "validation": validation, "heldout": heldout}


def train_tokenizer(config: RunConfig) -> Tokenizer:
    """Train the tokenizer of a run that begins from scratch.

    Args:
        config: of the run; ``config.model.vocab_size`` tokens at most.

    Returns:
        The tokenizer; nothing of validation and held-out documents is in it.

    Raises:
        ValueError: as ``read_splits`` and ``text.train_bpe``.
        OSError: where a file cannot be read.
    """
    assert config.model is not None
    documents = read_splits(config)["train"]
    try:
        return text.train_bpe((d.text for d in documents), config.model.vocab_size)
    except ValueError as error:
        raise ValueError(f"model.{error}") from error


def make_texts(config: RunConfig, tokenizer: Tokenizer, context: int) -> Texts:
    """Read the documents, split, encode and pack them.

    Args:
        config: of the run.
        tokenizer: with a token that ends a text.
        context: the most tokens that the model can look at.

    Returns:
        The material; the same configuration, texts and tokenizer give the same.

    Raises:
        ValueError: as ``read_splits``, or where there is too little text.
        OSError: where a file cannot be read.
    """
    require_fits(config, context)
    length, splits = config.training.max_length, read_splits(config)
    facts: dict[str, Any] = {"tokenizer": _fingerprint(tokenizer)}
    encoded = {
        split: [text.document_tokens(d.text, tokenizer) for d in documents]
        for split, documents in splits.items()
    }
    for split, documents in splits.items():
        facts[split] = {
            "documents": len(documents),
            "bytes": sum(d.size_bytes for d in documents),
            "tokens": sum(len(ids) - 1 for ids in encoded[split]),
            "sha256": _digest(documents),
        }
    if facts["train"]["tokens"] < length:
        raise ValueError(
            f"data.file: {facts['train']['tokens']} tokens of training text do not "
            f"fill a single row of {length}; give more text, or lower "
            "training.max_length"
        )
    windows = {
        split: [piece for ids in found for piece in text.token_windows(ids, length)]
        for split, found in encoded.items()
    }
    packed = pack(config, windows)
    # Of the longest documents, so that the openings are not cut short by others.
    longest = sorted(encoded["heldout"], key=len, reverse=True)[:_SAMPLES]
    shown = min(_PROMPT_TOKENS, context // 3, len(longest[-1]) // 2)
    new = min(_NEW_TOKENS, context - shown)
    return Texts(
        packed=packed,
        facts=facts | packed.facts,
        splits=splits,
        openings=[_opening(tokenizer, ids, shown, new) for ids in longest],
        new_tokens=new,
    )


def _opening(tokenizer: Tokenizer, ids: np.ndarray, shown: int, new: int) -> Opening:
    at = len(ids) // 2
    before, after = ids[at - shown : at], ids[at : at + new]
    return Opening(before.tolist(), _plain(tokenizer, before), _plain(tokenizer, after))


def _plain(tokenizer: Tokenizer, ids: Sequence[int] | np.ndarray) -> str:
    return tokenizer.decode(map(int, ids), skip_special=True, text_start=False)


def _fingerprint(tokenizer: Tokenizer) -> dict[str, Any]:
    content = repr((tokenizer.tokens, tokenizer.merges)).encode()
    return {
        "tokens": tokenizer.vocab_size,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _digest(documents: Sequence[data.Document]) -> str:
    named = [(document.name, document.sha256) for document in documents]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()
