"""Worker processes that encode; they load NumPy, never JAX.

A worker is a fresh interpreter that reads pieces from its standard input and
writes their bytes to its standard output. So nothing of the caller's script runs
twice, and nothing is left behind where a process is killed: a worker whose pipe
ends, ends.
"""

import contextlib
import os
import pickle
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from .._checks import at_least
from ._piece import Piece, encode

# Below this, workers would still be starting when one process is through.
_WORTH_ELEMENTS = 1 << 22

_MAIN = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from simplex_jax.gguf._pool import serve; serve()"
)


def worker_count(workers: int | None, elements: int) -> int:
    """Return how many processes should encode.

    Args:
        workers: what the caller wants; None: one a core that this process may use.
        elements: to be encoded in block types.

    Returns:
        At least 1, which is this process.

    Raises:
        ValueError: ``workers`` is below 1.
    """
    if workers is not None:
        at_least("workers", workers)
    if elements < _WORTH_ELEMENTS:
        return 1
    if workers is not None:
        return workers
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def encoding(
    pieces: Iterable[Piece], workers: int
) -> Iterator[Iterator[tuple[Piece, np.ndarray]]]:
    """Encode pieces, and give them back in their order.

    Args:
        pieces: taken a few ahead of what was given back.
        workers: processes; 1 is this one.

    Yields:
        An iterator over the pieces and their bytes, uint8 (nbytes,). At the end of
        the context all workers are gone.

    Raises:
        ValueError: as ``encode``.
        RuntimeError: a worker cannot be started, or died.
    """
    if workers == 1:
        yield ((piece, encode(piece)) for piece in pieces)
        return
    processes: list[subprocess.Popen[bytes]] = []
    idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
    threads = ThreadPoolExecutor(workers)

    def start(_: int) -> None:
        process = _start()
        processes.append(process)
        idle.put(process)

    try:
        # Ctrl-C strikes the main thread only, so none is started and not known.
        with ThreadPoolExecutor(workers) as starters:
            list(starters.map(start, range(workers)))
        yield _in_order(pieces, threads, idle, ahead=2 * workers)
    finally:
        for process in processes:
            process.kill()
        # Threads that wait for a worker have met the end of its pipe.
        threads.shutdown(cancel_futures=True)
        for process in processes:
            with contextlib.suppress(BrokenPipeError), process:
                pass


def serve() -> None:
    """Encode what comes on standard input, until it ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            piece = pickle.load(source)
            try:
                answer: np.ndarray | Exception = encode(piece)
            except Exception as error:
                answer = error
            pickle.dump(answer, sink, protocol=5)
            sink.flush()


def _in_order(
    pieces: Iterable[Piece],
    threads: ThreadPoolExecutor,
    idle: queue.SimpleQueue,
    ahead: int,
) -> Iterator[tuple[Piece, np.ndarray]]:
    pending: deque[tuple[Piece, Future | None]] = deque()

    def first() -> tuple[Piece, np.ndarray]:
        piece, future = pending.popleft()
        return piece, encode(piece) if future is None else future.result()

    for piece in pieces:
        future = threads.submit(_ask, idle, piece) if piece.is_work else None
        pending.append((piece, future))
        if len(pending) > ahead:
            yield first()
    while pending:
        yield first()


def _start() -> subprocess.Popen[bytes]:
    if not sys.executable:
        raise RuntimeError(
            "sys.executable is empty, so no worker can be started; give workers=1"
        )
    return subprocess.Popen(
        [sys.executable, "-c", _MAIN, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Nothing here multiplies matrices, and each BLAS thread takes memory.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        # Ctrl-C is for this process, which ends the others.
        start_new_session=True,
    )


def _ask(idle: queue.SimpleQueue, piece: Piece) -> np.ndarray:
    process = idle.get()
    assert process.stdin is not None and process.stdout is not None
    try:
        pickle.dump(piece, process.stdin, protocol=5)
        process.stdin.flush()
        answer = pickle.load(process.stdout)
    except (OSError, EOFError, pickle.UnpicklingError):
        status = process.wait()
        raise RuntimeError(
            f"the process that encoded tensor {piece.tensor!r} ended with status "
            f"{status}, for want of memory perhaps; give fewer workers"
        ) from None
    finally:
        # Even a dead one: threads that wait for the last would wait for ever.
        idle.put(process)
    if isinstance(answer, Exception):
        raise answer
    return answer
