"""A write that fails leaves the old file, and nothing else."""

import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType, TensorSource

OLD = b"the old file"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(OLD)
    return path


def zeros() -> np.ndarray:
    return np.zeros((1000, 32), np.float32)


def write(path: Path, load: Callable[[], np.ndarray] = zeros) -> None:
    gguf.write(
        path,
        {"general.architecture": "llama"},
        [
            TensorSource("first", (1000, 32), GGMLType.F32, zeros),
            TensorSource("second", (1000, 32), GGMLType.F32, load),
        ],
    )


def assert_untouched(target: Path) -> None:
    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


def test_success_leaves_one_file(target: Path) -> None:
    write(target)
    assert list(target.parent.iterdir()) == [target]
    with gguf.open(target) as file:
        assert list(file.tensors) == ["first", "second"]


def test_old_file_stands_until_the_end(target: Path) -> None:
    def load() -> np.ndarray:
        assert target.read_bytes() == OLD
        return zeros()

    write(target, load)
    assert target.read_bytes() != OLD


@pytest.mark.parametrize(
    "failure", [RuntimeError("boom"), KeyboardInterrupt(), SystemExit(3), MemoryError()]
)
def test_failure_to_load(target: Path, failure: BaseException) -> None:
    def load() -> np.ndarray:
        raise failure

    with pytest.raises(type(failure)) as caught:
        write(target, load)
    assert caught.value is failure
    assert_untouched(target)


def test_values_that_cannot_be_encoded(target: Path) -> None:
    with pytest.raises(ValueError, match="'second'"):
        write(target, lambda: zeros().astype(np.int32))
    assert_untouched(target)


def test_full_disk(target: Path) -> None:
    # The kernel refuses bytes past the limit, as it does on a full disk.
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(OSError, match="model.gguf") as caught:
            write(target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old_handler)
    assert caught.value.errno == errno.EFBIG
    assert_untouched(target)


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_failure_at_the_end(
    target: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def fail(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(PermissionError):
        write(target)
    monkeypatch.undo()
    assert_untouched(target)


def test_folder_that_cannot_be_flushed_is_no_failure(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, calls = os.fsync, []

    def fail_on_folder(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.EINVAL, "not for folders")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_on_folder)
    write(target)
    assert len(calls) == 2
    assert target.read_bytes() != OLD


def test_missing_folder_and_folder_as_target(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write(tmp_path / "nowhere" / "model.gguf")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bad_metadata_touches_nothing(target: Path) -> None:
    with pytest.raises(ValueError, match="float16"):
        gguf.write(target, {"n": np.float16(3)}, [])
    assert_untouched(target)


def test_symbolic_link_keeps_pointing(target: Path) -> None:
    link = target.with_name("link.gguf")
    link.symlink_to(target)
    write(link)
    assert link.is_symlink()
    assert target.read_bytes()[:4] == b"GGUF"


def test_new_file_obeys_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write(tmp_path / "model.gguf")
    finally:
        os.umask(old)
    assert (tmp_path / "model.gguf").stat().st_mode & 0o777 == 0o640
