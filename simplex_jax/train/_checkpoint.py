"""Checkpoints of a run: written in the background, whole or not at all."""

import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from .._files import replacing

_METRIC = "eval_loss"
# Orbax takes a checkpoint for whole where its folder has its final name, and reads what
# was damaged later without end of messages. A run that was killed leaves its last
# checkpoint without a seal, which Orbax reads.
_SEAL = "sha256.json"


class Checkpoints:
    """The last checkpoints of a run, and its best one, in one folder.

    Arrays are written by Orbax in the background; a checkpoint appears under its step
    when all of it is on the disk.

    Args:
        folder: made if it is not there.
        keep: how many of the last ones stay; the one of lowest loss stays anyway.
    """

    def __init__(self, folder: str | os.PathLike, keep: int):
        """Open the folder and remove what a killed process left half written."""
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as managers

        # Orbax tells of every save; what went wrong it raises.
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._ocp = ocp
        last = managers.LatestN(keep)
        best = managers.BestN(
            get_metric_fn=lambda metrics: -metrics[_METRIC],
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy([last, best]),
            # Without it the losses are not on the disk, and a run that goes on would
            # not know which of its checkpoints is the best.
            best_fn=lambda metrics: -metrics[_METRIC],
            cleanup_tmp_directories=True,
        )
        self._folder = Path(folder).resolve()
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def steps(self) -> list[int]:
        """Return the steps that there are checkpoints of, in order."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        step: int,
        arrays: Any,
        progress: Mapping[str, Any],
        eval_loss: float | None = None,
    ) -> None:
        """Begin to write a checkpoint; the arrays are copied before this returns.

        Args:
            step: what it is of.
            arrays: a pytree of arrays.
            progress: JSON values.
            eval_loss: what decides which is the best; None or not finite: it cannot be
                that.

        Raises:
            OSError: where it, or the one before it, cannot be written.
        """
        save = self._ocp.args
        args = save.Composite(
            arrays=save.StandardSave(arrays), progress=save.JsonSave(dict(progress))
        )
        metrics = None
        if eval_loss is not None and math.isfinite(eval_loss):
            # Orbax would sort by NaN, and take any checkpoint for the best.
            metrics = {_METRIC: eval_loss}
        self._seal()
        self._manager.save(step, args=args, metrics=metrics, force=True)

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Read a checkpoint.

        Args:
            step: which.
            like: arrays of the shapes, dtypes and places that are wanted.

        Returns:
            The arrays and the progress.

        Raises:
            ValueError: where the checkpoint is not whole, or of something else.
        """
        self._manager.wait_until_finished()
        folder = self._folder / str(step)
        if (folder / _SEAL).exists() and not _is_whole(folder):
            raise ValueError(
                f"checkpoint {step} in {self._folder.name} cannot be read: files are "
                "missing, or not as they were written"
            )
        load = self._ocp.args
        abstract = jax.tree.map(self._ocp.utils.to_shape_dtype_struct, like)
        args = load.Composite(
            arrays=load.StandardRestore(abstract), progress=load.JsonRestore()
        )
        try:
            found = self._manager.restore(step, args=args)
        except Exception as error:
            # What a damaged file raises depends on where the damage is.
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(
                f"checkpoint {step} in {self._folder.name} cannot be read: {reason[0]}"
            ) from error
        return found["arrays"], found["progress"]

    def restore_latest(
        self, like: Any
    ) -> tuple[tuple[Any, dict[str, Any]] | None, list[str]]:
        """Read the newest checkpoint that is whole, and remove newer ones.

        Args:
            like: as for ``restore``.

        Returns:
            Arrays and progress, or None where there is none; and what was wrong with
            each one that was passed over.
        """
        problems = []
        for step in reversed(self.steps()):
            try:
                return self.restore(step, like), problems
            except ValueError as error:
                problems.append(str(error))
                self._manager.delete(step)
        return None, problems

    def _seal(self) -> None:
        """Wait for what is being written, and write down what its files hold."""
        self._manager.wait_until_finished()
        for step in self.steps():
            folder = self._folder / str(step)
            if not (folder / _SEAL).exists():
                with replacing(folder / _SEAL) as put:
                    put(json.dumps(_digests(folder)).encode())

    def close(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            OSError: where it cannot be written.
        """
        self._seal()
        self._manager.close()


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    # Orbax still writes to its own metadata beside them.
    for path in sorted(folder.glob("*/**/*")):
        if path.is_file():
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = digest
    return found


def _is_whole(folder: Path) -> bool:
    try:
        return json.loads((folder / _SEAL).read_bytes()) == _digests(folder)
    except (ValueError, OSError):
        return False
