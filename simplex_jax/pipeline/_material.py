"""What a run trains on and is judged by: examples, packed batches, and their hashes."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import data, train
from ..text import Tokenizer
from ._config import RunConfig

_SAMPLES = 12
Sequences = list[tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Material:
    """The data of a run, ready for use.

    Args:
        batches: endless, of the training examples.
        steps: how many the configuration asks for.
        validation: batches to evaluate on while training; may be empty.
        splits: examples by the name of their split; ``heldout`` is never trained on.
        heldout_batches: the held-out examples, packed.
        samples: indices of held-out examples to show.
        max_new_tokens: long enough for any answer as long as those of the examples.
        facts: counts and hashes as JSON values; equal where the data is.
    """

    batches: data.PackedBatches
    steps: int
    validation: list[dict[str, np.ndarray]]
    splits: dict[str, list[data.Example]]
    heldout_batches: list[dict[str, np.ndarray]]
    samples: list[int]
    max_new_tokens: int
    facts: dict[str, Any]


def make_material(config: RunConfig, tokenizer: Tokenizer, context: int) -> Material:
    """Generate or read the examples, split, encode and pack them.

    Args:
        config: of the run.
        tokenizer: with a chat template.
        context: the most tokens that the model can look at.

    Returns:
        The material; the same configuration and file give the same.

    Raises:
        ValueError: naming the file and line, or the example, that cannot be used.
        OSError: where a file cannot be read.
    """
    training = config.training
    if training.max_length > context:
        raise ValueError(
            f"training.max_length is {training.max_length}, and the model's context is "
            f"{context}; give that or less"
        )
    found, removed = _splits(config)
    splits = {split: examples for split, examples in found.items() if examples}
    facts: dict[str, Any] = {"duplicates_removed": removed}
    sequences: dict[str, Sequences] = {}
    for split, examples in splits.items():
        facts[split] = {"examples": len(examples), "sha256": _digest(examples)}
        sequences[split] = _encode(split, examples, tokenizer)
    batches = _pack(config, "train", sequences["train"], seed=training.seed)
    once = {
        split: _pack(config, split, found, epochs=1, shuffle=False)
        for split, found in sequences.items()
        if split != "train"
    }
    facts |= {
        "loss_tokens": batches.report.loss_tokens,
        "positions": batches.report.positions,
        "too_long": [list(one) for one in batches.report.too_long],
    }
    for split, found in once.items():
        facts[f"{split}_too_long"] = [list(one) for one in found.report.too_long]
    steps = training.max_steps
    if steps < 0:
        micro = training.num_train_epochs * batches.batches_in_epoch()
        steps = max(round(micro / training.gradient_accumulation_steps), 1)
    answers = [int(np.count_nonzero(loss)) for _, loss in sequences["train"]]
    fits = [
        i
        for i, (ids, _) in enumerate(sequences["heldout"])
        if len(ids) <= training.max_length + 1
    ]
    chosen = np.linspace(0, len(fits) - 1, min(_SAMPLES, len(fits))).round()
    return Material(
        batches=batches,
        steps=steps,
        validation=list(once.get("validation", ())),
        splits=splits,
        heldout_batches=list(once["heldout"]),
        samples=[fits[int(i)] for i in chosen],
        max_new_tokens=min(max(answers) * 3 // 2 + 8, context // 2),
        facts=facts,
    )


def _splits(config: RunConfig) -> tuple[dict[str, list[data.Example]], int]:
    """Return the examples of each split, and how many duplicates were left out."""
    chosen, name = config.data, config.specialist
    if name is not None:
        count = chosen.train_examples
        found = data.generate(
            name, count + chosen.validation_examples, seed=chosen.seed
        )
        heldout = data.generate(
            name, chosen.heldout_examples, seed=chosen.seed, split="heldout"
        )
        # The generator leaves duplicates out by itself.
        splits = {"train": found[:count], "validation": found[count:]}
        return {**splits, "heldout": heldout}, 0
    assert chosen.file is not None
    read = data.read_jsonl(chosen.file)
    examples = data.deduplicate(read)
    try:
        rest, heldout = data.split_by_hash(
            examples, chosen.heldout_fraction, seed=chosen.seed
        )
        splits = {"train": rest, "validation": []}
        if chosen.validation_fraction:
            splits["train"], splits["validation"] = data.split_by_hash(
                rest, chosen.validation_fraction, seed=chosen.seed + 1
            )
    except ValueError as error:
        raise ValueError(
            f"{chosen.file}: {error} (training, validation and held-out data share no "
            "prompt; data.validation_fraction=0 does without the second)"
        ) from error
    return {**splits, "heldout": heldout}, len(read) - len(examples)


def _encode(
    split: str, examples: Sequence[data.Example], tokenizer: Tokenizer
) -> Sequences:
    found = []
    for i, example in enumerate(examples):
        try:
            if all(turn.role != "user" for turn in example.messages):
                raise ValueError("no user turn; give the assistant something to answer")
            found.append(train.chat_tokens(example, tokenizer))
        except ValueError as error:
            opening = repr(example.messages[0].content[:40])
            raise ValueError(f"{split} example {i}, {opening}: {error}") from error
    return found


def _pack(
    config: RunConfig, split: str, sequences: Sequences, **order: Any
) -> data.PackedBatches:
    training = config.training
    try:
        return data.pack(
            sequences,
            batch_size=training.per_device_train_batch_size
            * training.data_parallel_size,
            length=training.max_length,
            strict=config.data.strict,
            **order,
        )
    except ValueError as error:
        raise ValueError(f"{split} data, training.max_length: {error}") from error


def _digest(examples: Sequence[data.Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        text = repr((example.messages, example.weight))
        digest.update(text.encode())
    return digest.hexdigest()
