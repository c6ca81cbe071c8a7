"""Say of every test of an earlier commit where it is now.

    python tests/inventory.py COMMIT

Tests are compared by name: first in the same file, then anywhere, then without their
parameters, where there are still as many of them. What is gone has to be named in
docs/testing.md, with its reason; the exit status is 1 where it is not.
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PASSES = {"make test": "not nightly and not network", "make nightly": "not network"}


def collected(root: Path, select: str) -> set[str]:
    """Return the ids of the tests that pytest finds in a checkout."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-m", select],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {line for line in done.stdout.splitlines() if "::" in line}


def earlier(commit: str) -> set[str]:
    """Return the ids of a commit's tests."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        command = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*command, "add", "-q", "--detach", tree, commit], check=True)
        try:
            return collected(tree, "not network")
        finally:
            subprocess.run([*command, "remove", "--force", tree], check=True)


def function(test: str) -> str:
    """Return the name of a test without its file and parameters."""
    return test.split("::")[-1].split("[")[0]


def main(commit: str) -> int:
    """Print a table, a line a file, and what is gone."""
    before = earlier(commit)
    now = {name: collected(ROOT, select) for name, select in PASSES.items()}
    anywhere = {t.split("::")[-1]: t for t in now["make nightly"]}
    cases = {function(t): t for t in now["make nightly"]}
    fewer = Counter(map(function, before)) - Counter(map(function, now["make nightly"]))
    told = (ROOT / "docs" / "testing.md").read_text()
    table: dict[str, Counter[str]] = {}
    gone = []
    for test in sorted(before):
        file, name = test.split("::", 1)
        row = table.setdefault(file, Counter())
        row["before"] += 1
        same = test if test in now["make nightly"] else anywhere.get(name)
        if same is None and not fewer[function(test)]:
            same = cases.get(function(test))
        if same is None:
            row["gone"] += 1
            gone.append(test)
            continue
        row["make test" if same in now["make test"] else "nightly"] += 1
        row["moved"] += same != test
    columns = ("before", "make test", "nightly", "moved", "gone")
    print(f"{'file':<55}" + "".join(f"{name:>10}" for name in columns))
    for file, row in {**table, "all": sum(table.values(), Counter())}.items():
        print(f"{file:<55}" + "".join(f"{row[name]:>10}" for name in columns))
    for name, tests in now.items():
        print(f"{name}: {len(tests)} tests now")
    unnamed = [test for test in gone if function(test) not in told]
    for test in gone:
        print("gone:", test, "" if test not in unnamed else "(not in docs/testing.md)")
    return 1 if unnamed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
