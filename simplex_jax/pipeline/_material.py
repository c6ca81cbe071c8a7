"""What a run trains on and is judged by, whatever its task is."""

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from .. import data, models, train
from ..text import Tokenizer
from ._config import RunConfig

Sequences = list[tuple[np.ndarray, np.ndarray]]
Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Packed:
    """Token sequences as batches.

    Args:
        batches: endless, of the training sequences.
        steps: how many the configuration asks for.
        once: every other split, once and in order.
        facts: counts as JSON values.
    """

    batches: data.PackedBatches
    steps: int
    once: dict[str, list[Batch]]
    facts: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Material(abc.ABC):
    """The data of a run, ready for use, and what its task makes of it.

    Args:
        packed: what is trained on, and the other splits: ``validation`` chooses the
            weights, ``heldout`` judges them and is never trained on.
        facts: counts and hashes as JSON values; equal where the data is.
    """

    packed: Packed
    facts: dict[str, Any]

    @abc.abstractmethod
    def write(self, folder: Path) -> None:
        """Write down into a folder what is in which split."""

    @abc.abstractmethod
    def examine(
        self,
        model: models.Decoder,
        tokenizer: Tokenizer,
        progress: Callable[[float], None] = lambda share: None,
    ) -> tuple[dict[str, Any], list[str]]:
        """Measure a model, without adapters, on the held-out data.

        Args:
            model: what is judged.
            tokenizer: its own.
            progress: called with the share that is done.

        Returns:
            The figures as JSON values, and what the model wrote for ``samples``.
        """

    @abc.abstractmethod
    def samples(self, answers: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """Return held-out prompts with what was expected and what was written.

        Args:
            answers: ``before`` and ``after``, the texts of ``examine``.

        Returns:
            JSON values, one mapping a prompt.
        """

    @abc.abstractmethod
    def rows(self, model: models.Decoder, tokenizer: Tokenizer) -> list[list[int]]:
        """Return token ids of held-out data, for ``parity``."""

    @abc.abstractmethod
    def chat(self, path: Path) -> dict[str, Any] | None:
        """Let llama.cpp answer a held-out prompt from a GGUF file, or return None."""


def require_fits(config: RunConfig, context: int) -> None:
    """Raise ValueError where rows are longer than the model's context."""
    if config.training.max_length > context:
        raise ValueError(
            f"training.max_length is {config.training.max_length}, and the model's "
            f"context is {context}; give that or less"
        )


def pack(config: RunConfig, sequences: Mapping[str, Sequences]) -> Packed:
    """Pack the sequences of every split, and count the steps that were asked for.

    Args:
        config: of the run.
        sequences: ids and loss by split, ``train`` among them.

    Returns:
        The batches.

    Raises:
        ValueError: naming the split whose sequences cannot be packed.
    """
    training = config.training
    batches = _pack(config, "train", sequences["train"], seed=training.seed)
    once = {
        split: _pack(config, split, found, epochs=1, shuffle=False)
        for split, found in sequences.items()
        if split != "train"
    }
    facts: dict[str, Any] = {
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
    return Packed(batches, steps, {k: list(v) for k, v in once.items()}, facts)


def token_figures(
    model: models.Decoder,
    batches: Sequence[Batch],
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Measure loss and accuracy of the targets in batches, every token alike.

    Args:
        model: without adapters.
        batches: at least one.
        progress: called with the share that is done.

    Returns:
        ``nll`` in nats a token, ``token_accuracy``, and the number of ``tokens``.
    """
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def told() -> Iterator[Batch]:
        for at, batch in enumerate(batches):
            progress(at / len(batches))
            yield batch

    found = train.mean_over(train.make_evaluation(graphdef), params, rest, told())
    tokens = sum(int((batch["loss_mask"] > 0).sum()) for batch in batches)
    return {**found, "tokens": tokens}


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
