"""Compiled programs, kept from one run of the tests to the next.

Most of a cold run is compiling, of programs that have not changed. JAX can keep them,
but it writes an entry in place, so that a process which is killed leaves half of it and
another one may read half of it, and its key does not hold the processor. So a process
works in a folder of its own that begins as links to what earlier runs left; what it
adds is linked back when it ends well. A link is there whole or not at all, and nobody
writes where somebody else reads.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from simplex_jax.models import cache_folder

# A whole run leaves a tenth of it.
_MOST_BYTES = 4 * 2**30
_DAY_SECONDS = 24 * 60 * 60


def options(folder: Path) -> dict[str, str | float]:
    """Return JAX's options for keeping every program, however small, in a folder."""
    return {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        # They are a GPU's, and their folder's name would be in every key.
        "jax_persistent_cache_enable_xla_caches": "none",
    }


def shared_folder() -> Path:
    """Return the folder of what earlier runs compiled for this jaxlib and processor."""
    about = f"{platform.machine()} {platform.processor()}"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about += next((x for x in lines if x.startswith(("flags", "Features"))), "")
    features = hashlib.sha256(about.encode()).hexdigest()[:12]
    return cache_folder() / "programs" / f"jaxlib-{version('jaxlib')}-{features}"


def borrow(source: Path | None = None) -> Path:
    """Return a new folder of links to what another one holds, the shared one if None.

    Nobody may be writing to the other one meanwhile.
    """
    # Beside the shared one, where links can reach.
    root = shared_folder().parent / "running"
    root.mkdir(parents=True, exist_ok=True)
    for left in root.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _DAY_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=root))
    _link_all(source or shared_folder(), folder)
    return folder


def share(folder: Path) -> None:
    """Link what a process compiled into the shared folder, the oldest making room."""
    shared = shared_folder()
    _link_all(folder, shared)
    entries = []
    for entry in os.scandir(shared):
        with contextlib.suppress(FileNotFoundError):
            facts = entry.stat()
            entries.append((facts.st_mtime, facts.st_size, entry.path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= _MOST_BYTES:
            return
        Path(path).unlink(missing_ok=True)
        total -= size


def _link_all(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        return
    for entry in os.scandir(source):
        # Another process may have linked it, or have made room.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.link(entry.path, target / entry.name)
