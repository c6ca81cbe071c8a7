"""Plant faults in a copy of the repository, one at a time, and say what notices them.

    python tests/faults/run.py [--only TEXT] [--workers N] [--json FILE] [...]

The suite has to be green before: a test that fails anyway would seem to notice every
fault, and only one file is run without a fault. Tests that are skipped, for want of a
package or of weights, notice nothing. A hang counts as noticed, so that --limit has to
be far above what a room's tests take. The exit status is 1 if a fault survived, or is
broken: no fault that tests can judge.
"""

import argparse
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from planted import FAULTS, Fault, problems

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("simplex_jax", "tests", "benchmarks", "examples", "configs", "docs")
FILES = ("README.md", "pyproject.toml", "Makefile")
# The test of the list itself would notice whatever is planted.
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".hypothesis", "test_faults.py")
PASSED, FAILED, NOTHING_RAN = 0, 1, 5
TIMEOUT = "timeout"
# How much longer than a room's tests the whole suite may take.
WHOLE_SUITE = 4


class Verdict(NamedTuple):
    """Whether tests noticed a fault, by which one, or why not; the time it took."""

    name: str
    caught: bool
    by: str
    seconds: float


class Outcome(NamedTuple):
    """What one call of pytest found; ``by`` is empty where nothing was wrong."""

    caught: bool = False
    by: str = ""
    ran: bool = True


class Copy:
    """A copy of the checkout that faults are planted in, and pytest is run in."""

    def __init__(self, folder: Path, options: argparse.Namespace):
        self.folder, self.options = folder, options
        self.root = folder / "repository"
        self.root.mkdir(parents=True)
        for name in filter(lambda name: (ROOT / name).exists(), FOLDERS):
            source = options.tests if name == "tests" else ROOT / name
            shutil.copytree(source, self.root / name, ignore=LEFT_OUT)
        for name in filter(lambda name: (ROOT / name).exists(), FILES):
            shutil.copy(ROOT / name, self.root)
        paths = filter(None, (str(self.root), os.environ.get("PYTHONPATH")))
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        self._require_imported()

    def _require_imported(self) -> None:
        """Refuse to judge an installed package in place of the copy."""
        code = "import simplex_jax; print(simplex_jax.__file__)"
        # From elsewhere, as the tests that start processes do.
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = Path(done.stdout.strip()).resolve()
        if not found.is_relative_to(self.root.resolve()):
            sys.exit(f"import simplex_jax gives {found}, which is not the copy's")

    @contextlib.contextmanager
    def planted(self, fault: Fault) -> Iterator[None]:
        """Have the fault in the copy for a while."""
        path = self.root / fault.file
        text = path.read_text()
        try:
            _write(path, fault.plant(text))
            yield
        finally:
            _write(path, text)
            # Examples that were found for one fault would be tried on the next.
            shutil.rmtree(self.root / ".hypothesis", ignore_errors=True)

    def pytest(self, words: Sequence[str], limit: float) -> Outcome:
        """Run pytest until a test fails."""
        report, output = self.folder / "report.xml", self.folder / "output.txt"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0"]
        command += ["-p", "no:cacheprovider", f"--junitxml={report}"]
        command += ["-m", self.options.select, *words]
        with output.open("wb") as file:
            status = _status(
                subprocess.Popen(
                    command,
                    cwd=self.root,
                    env=self.environment,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    # So that what a test has started ends with it.
                    start_new_session=True,
                ),
                limit,
            )
        if status is None:
            return Outcome(True, f"{TIMEOUT}: no end in {limit:.0f} s")
        if status in (PASSED, NOTHING_RAN):
            return Outcome(ran=status == PASSED)
        test, collecting = _first_failure(report)
        if status == FAILED and not collecting:
            return Outcome(True, test or "a test that the report does not name")
        last = output.read_text(errors="replace").strip().splitlines()[-1:]
        return Outcome(by=f"broken: exit status {status}: {test or ''.join(last)}")


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    # Python knows a stale one by its size and whole seconds only.
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


_running: set[subprocess.Popen] = set()


def _status(process: subprocess.Popen, limit: float) -> int | None:
    """Return the exit status, or None where it took too long."""
    _running.add(process)
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _running.discard(process)
        _end(process)


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _first_failure(report: Path) -> tuple[str, bool]:
    """Return the test that failed, and whether it could not even be collected."""
    cases = ElementTree.parse(report).iter("testcase") if report.exists() else ()
    for case in cases:
        for problem in case:
            if problem.tag in ("failure", "error"):
                name = f"{case.get('classname')}::{case.get('name')}".strip(":")
                return name, problem.get("message") == "collection failure"
    return "", False


def judge(copy: Copy, fault: Fault, options: argparse.Namespace) -> Verdict:
    """Run the tests that should notice a fault first, then the others."""
    began, ran = time.monotonic(), False
    found, done = Outcome(), list[str]()
    # An earlier suite may lack some.
    tests = [name for name in fault.tests if (copy.root / name).exists()]
    rounds = [(tests[:1], options.limit), (tests[1:], options.limit)]
    if options.everywhere:
        rounds.append((["tests"], WHOLE_SUITE * options.limit))
    with copy.planted(fault):
        for names, limit in rounds:
            if not names:
                continue
            found = copy.pytest([*names, *(f"--ignore={n}" for n in done)], limit)
            if found.by:
                break
            ran |= found.ran
            done += names
    by = found.by or ("" if ran else "broken: no test was selected")
    return Verdict(fault.name, found.caught, by, round(time.monotonic() - began, 1))


def run(
    faults: Sequence[Fault], options: argparse.Namespace, folder: Path
) -> list[Verdict]:
    """Judge every fault, each worker in a copy of its own."""
    count = min(options.workers, len(faults))
    free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    for i in range(count):
        copy = Copy(folder / str(i), options)
        free.put(copy)
        if not i:
            control = copy.pytest([options.control], options.limit)
            if control.by or not control.ran:
                sys.exit(f"{options.control} fails without a fault: {control.by}")

    def one(fault: Fault) -> Verdict:
        copy = free.get()
        try:
            return judge(copy, fault, options)
        finally:
            free.put(copy)

    began, found = time.monotonic(), dict[str, Verdict]()
    with ThreadPoolExecutor(count) as pool:
        try:
            for future in as_completed([pool.submit(one, fault) for fault in faults]):
                verdict = future.result()
                found[verdict.name] = verdict
                _tell(verdict, len(found), len(faults), time.monotonic() - began)
        except BaseException:
            # The threads would wait for what they have started.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(_running):
                _end(process)
            raise
    return [found[fault.name] for fault in faults]


def _tell(verdict: Verdict, done: int, total: int, seconds: float) -> None:
    left = round(seconds / done * (total - done))
    print(
        f"{done}/{total} {verdict.name}: {verdict.by or 'SURVIVED'} "
        f"({verdict.seconds:.0f} s; {left // 60}:{left % 60:02d} left)",
        file=sys.stderr,
        flush=True,
    )


def _table(verdicts: Sequence[Verdict]) -> str:
    width = max(len(verdict.name) for verdict in verdicts)
    lines = [
        f"{v.name:{width}}  {v.by or 'SURVIVED'}  {v.seconds:.1f} s" for v in verdicts
    ]
    caught = sum(v.caught for v in verdicts)
    late = sum(v.caught and v.by.startswith(TIMEOUT) for v in verdicts)
    total = f"{caught} of {len(verdicts)} faults were noticed, {late} by the time alone"
    return "\n".join([*lines, total])


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Plant faults, and see what notices.")
    add = parser.add_argument
    add("--only", default="", help="the faults that have this in their name")
    add("--select", default="not nightly and not network", help="pytest's -m")
    add("--everywhere", action="store_true", help="the whole suite on what survives")
    add("--tests", type=Path, default=ROOT / "tests", help="another suite's folder")
    add("--control", default="tests/test_imports.py", help="passes without a fault")
    add("--workers", type=int, choices=range(1, 65), default=1, metavar="N")
    add("--limit", type=float, default=900, help="seconds for a room's tests")
    add("--json", type=Path, help="file to write the verdicts to")
    add("--check", action="store_true", help="only whether every fault still applies")
    return parser.parse_args()


def main() -> int:
    """Do what the command line asks for, and return the exit status."""
    options = _options()
    found = problems(FAULTS, ROOT)
    if found or options.check:
        print(*(found or [f"{len(FAULTS)} faults apply"]), sep="\n")
        return 1 if found else 0
    faults = [fault for fault in FAULTS if options.only in fault.name]
    if not faults:
        sys.exit(f"--only: no fault has {options.only!r} in its name")
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        verdicts = run(faults, options, Path(folder))
    if options.json is not None:
        content = {
            "commit": _commit(),
            "select": options.select,
            "faults": [verdict._asdict() for verdict in verdicts],
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    print(_table(verdicts))
    return 0 if all(verdict.caught for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
