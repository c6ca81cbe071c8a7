"""Files and folders that appear whole, or not at all."""

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

Put = Callable[[bytes | memoryview], None]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Put]:
    """Collect bytes in a temporary file that becomes ``path`` at the end.

    The temporary file lies in the target's folder, is flushed to the disk,
    and takes the target's place by one rename. If the body raises anything,
    or the disk fills up, it is removed and the target keeps its old bytes;
    only a killed process leaves it behind (``.<hex>.tmp``).

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
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with _naming(path):
            opened = open(temporary, "xb", buffering=0)
        with opened as file:

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
    # The system names the temporary file, or none where the disk is full.
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """Fill a temporary folder that becomes ``folder`` at the end.

    Args:
        folder: must not exist yet, or be empty.

    Yields:
        The temporary folder, beside the target. It is removed if the body raises.

    Raises:
        FileExistsError: where the folder has something in it, or is a file.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            f"{target} exists and is not empty; name a new folder, nothing was written"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield scratch
        # mkdtemp makes the folder private; what is saved is an ordinary folder.
        mask = os.umask(0)
        os.umask(mask)
        scratch.chmod(0o777 & ~mask)
        scratch.replace(target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
