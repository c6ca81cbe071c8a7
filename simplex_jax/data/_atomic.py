"""Replace a file in one step, or leave it as it was."""

import contextlib
import errno
import os
import secrets
from pathlib import Path


def replace_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file, which appears complete or not at all.

    The bytes go to a temporary file in the same folder, are flushed to the
    disk, and take the target's place by one rename; on any failure the target
    keeps its old bytes.

    Args:
        path: the file to create or replace; a symbolic link keeps pointing to
            the file behind it.
        data: the new content.

    Raises:
        OSError: the file cannot be written; ``filename`` says which.
    """
    target = Path(path).resolve()
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        # A full disk names no file, and a missing folder names the temporary one.
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None
        raise
