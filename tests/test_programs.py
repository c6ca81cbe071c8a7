"""Compiled programs are kept whole, whoever is killed or writes at the same time."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import programs
import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMPLEX_JAX_CACHE", str(tmp_path))
    return tmp_path


def test_what_one_process_shares_the_next_one_finds():
    first = programs.borrow()
    assert list(first.iterdir()) == []
    (first / "a").write_bytes(b"one")
    programs.share(first)
    second = programs.borrow()
    assert (second / "a").read_bytes() == b"one"
    # An entry that is there stays as it is.
    (first / "a").unlink()
    (first / "a").write_bytes(b"two")
    programs.share(first)
    assert (programs.borrow() / "a").read_bytes() == b"one"


def test_what_is_half_written_reaches_nobody():
    killed = programs.borrow()
    (killed / "a").write_bytes(b"hal")
    assert list(programs.borrow().iterdir()) == []


def test_many_share_and_borrow_at_once():
    def one(i):
        folder = programs.borrow()
        for name in range(20):
            path = folder / str(name)
            if not path.exists():
                path.write_bytes(b"x" * 1000)
        programs.share(folder)
        return {path.stat().st_size for path in programs.borrow().iterdir()}

    with ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(one, range(40))) == {1000}


def test_the_oldest_make_room_and_old_folders_go(monkeypatch):
    monkeypatch.setattr(programs, "_MOST_BYTES", 25)
    folder = programs.borrow()
    for age, name in enumerate("abcd"):
        (folder / name).write_bytes(b"x" * 10)
        os.utime(folder / name, (age, age))
    programs.share(folder)
    kept = {path.name for path in programs.shared_folder().iterdir()}
    assert kept == {"c", "d"}
    long_ago = time.time() - 2 * programs._DAY_SECONDS
    os.utime(folder, (long_ago, long_ago))
    programs.borrow()
    assert not folder.exists()


def test_jax_finds_what_another_process_compiled():
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import programs, jax\n"
        "folder = programs.borrow()\n"
        "for name, value in programs.options(folder).items():\n"
        "    jax.config.update(name, value)\n"
        "before = len(list(folder.iterdir()))\n"
        "jax.jit(lambda x: x * 3 + 1)(2.0).block_until_ready()\n"
        "print(before, len(list(folder.iterdir())))\n"
        "programs.share(folder)\n"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    (nothing, some), (same, still) = found
    assert nothing == "0" and int(some) > 0
    # Where a folder's name were part of a key, nothing would be found.
    assert same == still == some
