"""Progress on standard error, so that standard output stays clean."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Show a spinner while something of unknown length runs."""
    with Console(stderr=True).status(f"{what} …"):
        yield


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[float], None]]:
    """Show a bar with the time that remains.

    Yields:
        A function that takes the share done so far, in [0, 1].
    """
    columns = (TextColumn(what), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share: bar.update(task, completed=share)
