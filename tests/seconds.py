"""What the passes of `make test` spent on each package, as a table.

    python tests/seconds.py .stamps/seconds-*.json

Seconds are those of the tests, set-up and tear-down included, added up over the
processes that ran them side by side: with two of them a pass takes half as long.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def by_package(reports: Iterable[Any]) -> dict[str, Any]:
    """Return the seconds of each package's tests, and how many tests were run."""
    seconds, ran = Counter(), 0
    for report in reports:
        # tests/<package>/test_x.py::test_y, or tests/test_x.py::test_y
        folders = Path(report.nodeid.split("::")[0]).parts[1:-1]
        seconds[folders[0] if folders else "simplex_jax"] += report.duration
        ran += report.when == "call"
    return {"tests": ran, "seconds": dict(seconds)}


def table(passes: dict[str, dict[str, Any]]) -> str:
    """Return a line a package and a column a pass."""
    seconds = {name: Counter(found["seconds"]) for name, found in passes.items()}
    rows = [["seconds", *seconds, "all"]]
    for package in sorted(set().union(*seconds.values())):
        rows.append([package, *_rounded([each[package] for each in seconds.values()])])
    rows.append(["all", *_rounded([each.total() for each in seconds.values()])])
    counts = [found["tests"] for found in passes.values()]
    rows.append(["tests", *map(str, [*counts, sum(counts)])])
    return "\n".join(
        f"{row[0]:<12}" + "".join(f"{entry:>12}" for entry in row[1:]) for row in rows
    )


def _rounded(figures: list[float]) -> list[str]:
    """Return figures and their sum in whole seconds."""
    return [f"{figure:.0f}" for figure in [*figures, sum(figures)]]


def main(paths: list[str]) -> None:
    """Print the table of the files that pytest's --seconds has written."""
    passes = {}
    for path in sorted(map(Path, paths), key=lambda path: path.stat().st_mtime):
        name = path.stem.removeprefix("seconds-")
        passes[name] = json.loads(path.read_text())
    print(table(passes))


if __name__ == "__main__":
    main(sys.argv[1:])
