"""Pack token sequences into batches of one shape, with an exact position."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._checks import at_least

# Rows that are open at once. More of them waste less space, and hold more memory.
_OPEN_ROWS = 64


@dataclass(frozen=True)
class PackingReport:
    """What goes into the batches, and what does not.

    Attributes:
        sequences: how many are packed.
        positions: cells that they fill in an epoch: all their tokens but the
            last of each, which is only a target.
        loss_tokens: how many targets carry loss in an epoch.
        too_long: index and number of tokens of each sequence left out because
            it has more than ``length + 1`` tokens.
    """

    sequences: int
    positions: int
    loss_tokens: int
    too_long: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        text = f"{self.sequences} sequences, {self.loss_tokens} tokens with loss"
        if not self.too_long:
            return text
        return f"{text}; {len(self.too_long)} left out as too long: {self._listed}"

    @property
    def _listed(self) -> str:
        shown = [f"#{index} ({tokens} tokens)" for index, tokens in self.too_long[:10]]
        more = len(self.too_long) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")


class PackedBatches(Iterator[dict[str, np.ndarray]]):
    """An iterator over packed batches that can be stopped and taken up again.

    Built by ``pack``. Every epoch holds every sequence once, in an order that
    the seed and the epoch give; no batch spans two epochs, and the last one of
    an epoch is filled up with empty rows.

    Attributes:
        report: what goes into the batches.
    """

    def __init__(
        self,
        rows: list[dict[str, np.ndarray]],
        report: PackingReport,
        *,
        batch_size: int,
        length: int,
        seed: int,
        epochs: int | None,
        shuffle: bool,
        max_segments: int | None,
    ):
        self.report = report
        self._rows = rows
        self._batch_size = batch_size
        self._length = length
        self._seed = seed
        self._epochs = epochs
        self._shuffle = shuffle
        self._max_segments = max_segments
        self._digest: str | None = None
        self._epoch = 0
        self._iterator = self._start(0)

    @property
    def epoch(self) -> int:
        """The epoch of the batch returned last, from 0."""
        return self._epoch

    def __iter__(self) -> "PackedBatches":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        """Return the next batch.

        Returns:
            Arrays of shape (B, T): ``tokens`` and ``targets`` (int32; the
            target is the next token of the same sequence), ``loss_mask``
            (float32, of the target), ``segment_ids`` (int32, from 1 in every
            row) and ``positions`` (int32, from 0 in every segment). Padding is
            0 in all of them.

        Raises:
            StopIteration: after the last epoch.
        """
        while True:
            if self._epochs is not None and self._epoch >= self._epochs:
                raise StopIteration
            batch = next(self._iterator, None)
            if batch is not None:
                return self._padded(batch)
            # Kept at the end of the last epoch, so that ``epoch`` stays below.
            if self._epoch + 1 == self._epochs:
                raise StopIteration
            self._epoch += 1
            self._iterator = self._start(self._epoch)

    def batches_in_epoch(self, epoch: int = 0) -> int:
        """Count the batches of an epoch by packing it; the position stays.

        Args:
            epoch: from 0. Epochs differ in order, so by a batch at times.

        Returns:
            The number of batches.
        """
        return sum(1 for _ in self._start(epoch))

    def get_state(self) -> dict[str, Any]:
        """Return the position as JSON values, for ``set_state``."""
        return {
            "epoch": self._epoch,
            "position": self._iterator.get_state(),
            "digest": self.digest,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go to a position that ``get_state`` gave.

        Args:
            state: of an iterator over the same data, seed and shape.

        Raises:
            ValueError: the state is of other data, seed or shape, or is no
                state at all.
        """
        if set(state) != {"epoch", "position", "digest"}:
            raise ValueError(
                f"state has the keys {sorted(state)}; give what get_state returned"
            )
        if state["digest"] != self.digest:
            raise ValueError(
                "state is of other sequences, seed or shape; pack the same data with "
                "the same settings, or start at the beginning"
            )
        iterator = self._start(state["epoch"])
        iterator.set_state(json.loads(json.dumps(state["position"])))
        self._epoch, self._iterator = state["epoch"], iterator

    @property
    def digest(self) -> str:
        """SHA-256 of the sequences, the seed and the shape of the batches."""
        if self._digest is None:
            settings = (self._batch_size, self._length, self._seed, self._shuffle)
            digest = hashlib.sha256(repr((*settings, self._max_segments)).encode())
            for row in self._rows:
                digest.update(len(row["tokens"]).to_bytes(8, "little"))
                for name in ("tokens", "targets", "loss_mask"):
                    digest.update(row[name].tobytes())
            self._digest = digest.hexdigest()
        return self._digest

    def _start(self, epoch: int) -> Any:
        # Here, because grain brings in jax.
        import grain

        text = f"{self._seed}/{epoch}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        source = grain.MapDataset.source(self._rows)
        if self._shuffle:
            source = source.shuffle(seed=seed)
        # Without threads: the rows are in memory, and packing one takes microseconds.
        rows = source.to_iter_dataset(
            grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        )
        packed = grain.experimental.FirstFitPackIterDataset(
            rows,
            length_struct=dict.fromkeys(self._rows[0], self._length),
            num_packing_bins=-(-_OPEN_ROWS // self._batch_size) * self._batch_size,
            seed=seed,
            shuffle_bins=self._shuffle,
            max_sequences_per_bin=self._max_segments,
        )
        return iter(packed.batch(self._batch_size, drop_remainder=False))

    def _padded(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays = {
            "tokens": batch["tokens"],
            "targets": batch["targets"],
            "loss_mask": batch["loss_mask"],
            "segment_ids": batch["tokens_segment_ids"],
            "positions": batch["tokens_positions"],
        }
        missing = self._batch_size - len(batch["tokens"])
        return {
            name: np.pad(array, ((0, missing), (0, 0)))
            for name, array in arrays.items()
        }


def pack(
    sequences: Iterable[tuple[Sequence[Any] | np.ndarray, Sequence[Any] | np.ndarray]],
    *,
    batch_size: int,
    length: int,
    seed: int = 0,
    epochs: int | None = None,
    shuffle: bool = True,
    max_segments: int | None = None,
    strict: bool = False,
) -> PackedBatches:
    """Pack token sequences into batches of shape (batch_size, length).

    Sequences share rows, the first row with room taking the next sequence,
    and are told apart by segment ids; none is cut. A sequence of n tokens
    takes n - 1 cells: its last token is only a target.

    Args:
        sequences: token ids, and for each token the loss it carries as a
            target: 1 or True for an assistant's tokens with the one that ends
            the turn, 0 for all others, or the weight of the example. The first
            token is never a target.
        batch_size: rows in a batch.
        length: cells in a row.
        seed: of the order.
        epochs: how often to go through the sequences; None for ever.
        shuffle: whether the order changes; False keeps it up to what first-fit
            packing moves.
        max_segments: the most sequences in a row; 1 for rows that are only
            padded. None for any number.
        strict: whether a sequence that is too long is an error, instead of
            being left out and listed in the report.

    Returns:
        An iterator over the batches.

    Raises:
        ValueError: an argument is out of range, a sequence is malformed or
            carries no loss, ``strict`` and a sequence is too long, or none is
            left.
    """
    sizes = {"batch_size": batch_size, "length": length}
    sizes |= {"epochs": epochs, "max_segments": max_segments}
    for name, value in sizes.items():
        if value is not None:
            at_least(name, value)
    rows, too_long = [], []
    for i, (ids, loss) in enumerate(sequences):
        row = _row(i, ids, loss)
        if len(row["tokens"]) > length:
            too_long.append((i, len(row["tokens"]) + 1))
        else:
            rows.append(row)
    report = PackingReport(
        sequences=len(rows),
        positions=sum(len(row["tokens"]) for row in rows),
        loss_tokens=sum(int(np.count_nonzero(row["loss_mask"])) for row in rows),
        too_long=tuple(too_long),
    )
    if too_long and (strict or not rows):
        raise ValueError(
            f"{len(too_long)} of {len(rows) + len(too_long)} sequences have more than "
            f"{length + 1} tokens: {report._listed}; raise length, or shorten or "
            "remove them"
        )
    if not rows:
        raise ValueError("sequences is empty; nothing to pack")
    return PackedBatches(
        rows,
        report,
        batch_size=batch_size,
        length=length,
        seed=seed,
        epochs=epochs,
        shuffle=shuffle,
        max_segments=max_segments,
    )


def _row(i: int, ids: Any, loss: Any) -> dict[str, np.ndarray]:
    tokens, mask = np.asarray(ids), np.asarray(loss, np.float32)
    if tokens.ndim != 1 or tokens.shape != mask.shape or len(tokens) < 2:
        raise ValueError(
            f"sequence {i}: token ids of shape {tokens.shape} and loss of shape "
            f"{mask.shape}; give two lists of one length, of 2 tokens at least"
        )
    limit = np.iinfo(np.int32).max
    if tokens.dtype.kind not in "iu" or tokens.min() < 0 or tokens.max() > limit:
        raise ValueError(f"sequence {i}: token ids must be integers from 0 to {limit}")
    valid = np.isfinite(mask) & (mask >= 0)
    if not valid.all():
        raise ValueError(
            f"sequence {i}: the loss of token {int(np.argmin(valid))} is "
            f"{mask[np.argmin(valid)]}; give a finite number of at least 0"
        )
    if not mask[1:].any():
        raise ValueError(
            f"sequence {i}: no target carries loss; leave it out, or mark the "
            "assistant's tokens"
        )
    tokens = tokens.astype(np.int32)
    return {"tokens": tokens[:-1], "targets": tokens[1:], "loss_mask": mask[1:]}
