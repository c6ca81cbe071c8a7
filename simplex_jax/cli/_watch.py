"""A run as it is seen from the terminal: its progress, and how to stop it."""

import contextlib
import os
import signal
import statistics
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from ..pipeline import Listener

_STAGES = {
    "load": "loading the base model",
    "data": "preparing the data",
    "before": "answering before training",
    "training": "training (compiling first)",
    "after": "answering after training",
    "export": "writing the GGUF file",
    "parity": "comparing the file with its source",
    "verify": "comparing with llama.cpp",
    "answers": "answering",
}
# Steps that the time left is judged by.
_RECENT = 20


class Stop:
    """Whether a signal has asked the run to end, and the exit status then."""

    status = 0

    def asked(self) -> bool:
        """Return whether the run should save and end."""
        return bool(self.status)


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a request, and the second into an end.

    Yields:
        What the request is read from.
    """
    stop = Stop()

    def ask(number: int, frame: object) -> None:
        if stop.status:
            raise KeyboardInterrupt
        stop.status = 128 + number
        # Not print: the signal may have come while something was being printed.
        with contextlib.suppress(OSError):
            os.write(
                2, b"\nsimplex-jax: saving after this step; once more to stop at once\n"
            )

    kept = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def watching() -> Iterator["Listener"]:
    """Show the stages of a run on standard error, with the time that remains.

    Yields:
        What to give to the run.
    """
    from ..pipeline import Listener

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[more]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=not console.is_terminal) as bar:
        task = None
        shown = _Remaining()

        def stage(name: str) -> None:
            nonlocal task
            if task is not None:
                bar.update(task, completed=1.0, total=1.0)
            task = bar.add_task(_STAGES.get(name, name), total=None, more="")
            if not console.is_terminal:
                console.print(_STAGES.get(name, name))

        def share(done: float) -> None:
            if task is not None:
                bar.update(task, completed=done, total=1.0)

        def record(record: Mapping[str, Any], steps: int) -> None:
            text = shown(record, steps)
            if task is not None:
                done = record["step"] / steps
                bar.update(
                    task, completed=done, total=1.0, description="training", more=text
                )
            if not console.is_terminal:
                console.print(text, highlight=False, soft_wrap=True)

        def say(text: str) -> None:
            # Not as markup: [llamacpp] is part of what is said.
            console.print(text, markup=False, highlight=False, soft_wrap=True)

        yield Listener(say=say, stage=stage, share=share, record=record)


class _Remaining:
    """A line on a record: step, losses, speed, and the time that remains."""

    def __init__(self):
        self._seconds: list[float] = []
        self._last: Mapping[str, Any] | None = None
        self._eval = ""

    def __call__(self, record: Mapping[str, Any], steps: int) -> str:
        if "eval_loss" in record:
            self._eval = f" | validation {record['eval_loss']:.4f}"
            return f"step {record['step']}/{steps}{self._eval}"
        if self._last is not None:
            taken = record["step"] - self._last["step"]
            self._seconds.append((record["seconds"] - self._last["seconds"]) / taken)
        self._last = record
        left = ""
        if self._seconds:
            # The mean of the last steps, evaluations and all; the first compiles.
            each = statistics.mean(self._seconds[-_RECENT:])
            seconds = round(each * (steps - record["step"]))
            left = f" | {seconds // 60}:{seconds % 60:02d} left"
        return (
            f"step {record['step']}/{steps} | loss {record['loss']:.4f}{self._eval} | "
            f"{record['tokens_per_second']:.0f} tokens/s{left}"
        )
