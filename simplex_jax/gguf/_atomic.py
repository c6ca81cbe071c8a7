"""Replace a file in one step, or leave it as it was."""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

Put = Callable[[bytes | memoryview], None]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Put]:
    """Collect bytes in a temporary file that becomes ``path`` at the end.

    The temporary file lies in the target's folder, is flushed to the disk,
    and takes the target's place by one rename. If the body raises anything,
    or the disk fills up, it is removed and the target keeps its old bytes;
    only a killed process leaves it behind (``.<hex>.gguf.tmp``).

    Args:
        path: the file to replace or create; a symbolic link keeps pointing to
            the file behind it.

    Yields:
        A function that appends bytes, or a memory view of bytes.

    Raises:
        OSError: the file cannot be written; ``filename`` says which.
    """
    target = Path(path).resolve()
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}.gguf.tmp")
    try:
        with open(temporary, "xb", buffering=0) as file:

            def put(data: bytes | memoryview) -> None:
                rest = memoryview(data)
                with _naming(path):
                    while rest:
                        rest = rest[file.write(rest) :]

            yield put
            with _naming(path):
                os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        # The new file is in place: a folder that cannot be flushed only
        # means that a power cut may bring the old one back.
        with contextlib.suppress(OSError):
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    # Errors of an open descriptor, a full disk above all, name no file.
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
