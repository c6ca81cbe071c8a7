"""Worker processes: order, errors, and nothing left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType, TensorSource, _pool
from simplex_jax.gguf._piece import Piece, encode
from simplex_jax.gguf._pool import encoding, worker_count

ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen]:
    """Every worker that the test starts."""
    found: list[subprocess.Popen] = []
    start = _pool._start

    def recording() -> subprocess.Popen:
        found.append(start())
        return found[-1]

    monkeypatch.setattr(_pool, "_start", recording)
    return found


def assert_gone(started: list[subprocess.Popen], count: int) -> None:
    assert len(started) == count
    for process in started:
        assert process.returncode is not None
        assert process.stdin is not None and process.stdin.closed
        assert process.stdout is not None and process.stdout.closed


def piece(
    index: int,
    type: GGMLType = GGMLType.Q4_K,
    stored: GGMLType | None = None,
    rows: int = 8,
) -> Piece:
    values = np.random.default_rng(index).normal(size=(rows, 256)).astype(np.float32)
    if stored is not None:
        values = gguf.quantize_array(values, stored)
    importance = np.arange(1, 257, dtype=np.float32) if index % 2 else None
    return Piece(f"t{index}", (rows, 256), values, stored, type, importance, 0)


def several() -> Iterator[Piece]:
    yield piece(0)
    yield piece(1)
    yield piece(2, GGMLType.F16)
    yield piece(3, GGMLType.Q6_K, GGMLType.BF16)
    yield piece(4, GGMLType.Q4_0, GGMLType.Q4_0)
    yield piece(5, GGMLType.Q8_0, GGMLType.Q5_K, rows=100)
    for index in range(6, 20):
        yield piece(index, GGMLType.Q3_K)


@pytest.mark.parametrize("workers", [1, 3])
def test_pieces_come_back_in_order(
    workers: int, started: list[subprocess.Popen]
) -> None:
    with encoding(several(), workers) as ready:
        found = list(ready)
    for (got, data), wanted in zip(found, several(), strict=True):
        assert got.tensor == wanted.tensor
        np.testing.assert_array_equal(data, encode(wanted))
    assert_gone(started, 0 if workers == 1 else 3)


def test_few_pieces_are_taken_ahead(started: list[subprocess.Popen]) -> None:
    taken = []

    def counting() -> Iterator[Piece]:
        for index in range(30):
            taken.append(index)
            yield piece(index)

    with encoding(counting(), 2) as ready:
        next(ready)
        assert len(taken) == 5
    assert_gone(started, 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_is_raised_here(
    workers: int, started: list[subprocess.Popen]
) -> None:
    bad = piece(1)
    bad.values[3, 3] = np.nan
    with pytest.raises(ValueError, match="tensor 't1': .* not finite"):
        with encoding(iter([piece(0), bad, piece(2)]), workers) as ready:
            list(ready)
    assert_gone(started, 0 if workers == 1 else 2)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import os; os._exit(3)", 3),
        ("import os, sys; sys.stdin.buffer.read(99); os.kill(os.getpid(), 9)", -9),
        ("import os; os.write(1, b'not a pickle'); os._exit(0)", 0),
    ],
)
def test_a_worker_that_dies_is_an_error(
    code: str,
    status: int,
    started: list[subprocess.Popen],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(_pool, "_MAIN", code)
    monkeypatch.setattr(_pool, "_WORTH_ELEMENTS", 0)
    sources = [
        TensorSource(
            f"t{i}", (64, 256), GGMLType.Q4_K, lambda: np.ones((64, 256), np.float32)
        )
        for i in range(20)
    ]
    with pytest.raises(RuntimeError, match=f"'t0' ended with status {status}, "):
        gguf.write(tmp_path / "m.gguf", {}, sources, workers=2)
    assert_gone(started, 2)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_consumer_ends_the_workers(
    started: list[subprocess.Popen],
) -> None:
    with pytest.raises(OSError, match="disk full"):
        with encoding(several(), 2) as ready:
            next(ready)
            raise OSError("disk full")
    assert_gone(started, 2)


def test_an_interpreter_without_a_path_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(RuntimeError, match="give workers=1"):
        with encoding(several(), 2):
            pass


def test_how_many_workers() -> None:
    large = 1 << 30
    assert worker_count(None, 1000) == worker_count(8, 1000) == 1
    assert worker_count(1, large) == 1
    assert worker_count(8, large) == 8
    assert worker_count(None, large) == len(os.sched_getaffinity(0))
    with pytest.raises(ValueError, match="workers is 0"):
        worker_count(0, large)


def test_bytes_do_not_depend_on_the_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_pool, "_WORTH_ELEMENTS", 0)
    draws = np.random.default_rng(0)
    # The last rows of the first tensor are a smaller piece.
    arrays = {
        "a": draws.normal(size=(5000, 256)).astype(np.float32),
        "b": draws.normal(size=(3, 5, 256)),
        "c": draws.normal(size=()).astype(np.float16),
        "d": np.empty((0, 256), np.float32),
        "e": np.asfortranarray(draws.normal(size=(40, 512)).astype(np.float32)),
    }
    types = [GGMLType[t] for t in ("Q5_K", "Q4_1", "F32", "Q8_0", "Q2_K")]
    sources = [
        TensorSource(name, array.shape, type, lambda a=array: a)
        for (name, array), type in zip(arrays.items(), types, strict=True)
    ]
    for workers in (1, 2):
        gguf.write(tmp_path / f"{workers}.gguf", {}, sources, workers=workers)
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "2.gguf").read_bytes()
    with gguf.open(tmp_path / "2.gguf") as file:
        for source in sources:
            expected = gguf.quantize_array(arrays[source.name], source.type)
            np.testing.assert_array_equal(
                file.tensors[source.name].raw(), expected.reshape(-1)
            )


SCRIPT = """
    import signal
    import sys
    import numpy as np
    from simplex_jax import gguf
    from simplex_jax.gguf import GGMLType, TensorSource, _pool

    # A shell's background processes, and what they start, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("script", flush=True)
    _pool._WORTH_ELEMENTS = 0
    {change}
    array = np.ones((4096, 256), np.float32)
    sources = [
        TensorSource(f"t{{i}}", array.shape, GGMLType.Q4_K, lambda: array)
        for i in range({tensors})
    ]
    gguf.write(sys.argv[1], {{}}, sources, workers=2)
    print("done", "jax" in sys.modules, flush=True)
"""


def script(tmp_path: Path, change: str, tensors: int) -> list[str]:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT).format(change=change, tensors=tensors))
    return [sys.executable, str(path), str(tmp_path / "m.gguf")]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_script_without_a_main_guard_runs_once(tmp_path: Path) -> None:
    done = subprocess.run(
        script(tmp_path, "", 3),
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["script", "done", "False"]
    assert (tmp_path / "m.gguf").exists()


def test_workers_do_not_load_jax(tmp_path: Path) -> None:
    code = _pool._MAIN.replace("serve()", "sys.exit('jax' in sys.modules)")
    assert "serve()" not in code
    done = subprocess.run([sys.executable, "-c", code, *sys.path], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("stuck", [True, False])
def test_ctrl_c_stops_at_once(stuck: bool, tmp_path: Path) -> None:
    # Workers that never answer, and ones at work.
    change = '_pool._MAIN = "import time; time.sleep(600)"' if stuck else ""
    process = subprocess.Popen(
        script(tmp_path, change, 200),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "script\n"
        workers = two_children(process)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert out == ""
    assert error.strip().endswith("KeyboardInterrupt")
    assert not any(map(is_running, workers))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["script.py"]


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    process = subprocess.Popen(
        script(tmp_path, "", 200), env=environment(), stdout=subprocess.DEVNULL
    )
    with process:
        workers = two_children(process)
        process.kill()
    for _ in range(1000):
        if not any(map(is_running, workers)):
            break
        time.sleep(0.02)
    assert not any(map(is_running, workers))


def two_children(parent: subprocess.Popen) -> list[int]:
    listing = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    while parent.poll() is None:
        found = [int(word) for word in listing.read_text().split()]
        if len(found) == 2:
            return found
        time.sleep(0.01)
    raise AssertionError("the script ended before its workers were there")


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    # What nobody waits for stays behind as a name.
    return state != "Z"
