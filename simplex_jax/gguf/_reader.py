"""Read a file through a memory map."""

import builtins
import mmap
import os
from dataclasses import dataclass, field
from types import TracebackType
from typing import NoReturn

import numpy as np

from ._codecs import dequantize_array
from ._header import TensorInfo, parse_header
from ._types import GGUFError, MetadataValue


@dataclass(eq=False)
class _Map:
    """The mapped file, None once it is closed."""

    path: str
    bytes: mmap.mmap | None


@dataclass(frozen=True, eq=False, slots=True)
class Tensor(TensorInfo):
    """A tensor in an open file; its values are read when asked for.

    Attributes:
        name: at most 63 bytes of UTF-8.
        shape: NumPy order: the file's ``ne``, reversed.
        type: how its elements are stored.
        offset: position of the first byte, from the start of the file.
        nbytes: bytes occupied, padding not counted.
    """

    _map: _Map = field(repr=False)

    def raw(self) -> np.ndarray:
        """Return the bytes as they lie in the file.

        Returns:
            uint8 of shape (nbytes,), read-only, on the memory map; it stays
            valid after ``close``, and keeps the file mapped while it lives.

        Raises:
            ValueError: the file is closed.
        """
        if self._map.bytes is None:
            raise ValueError(f"{self._map.path} is closed; read tensors before close()")
        if not self.nbytes:
            return np.empty(0, np.uint8)
        return np.frombuffer(self._map.bytes, np.uint8, self.nbytes, self.offset)

    def dequantize(self) -> np.ndarray:
        """Return the values.

        Returns:
            float32 of ``shape``, a new array; see ``dequantize_array``.

        Raises:
            GGUFError: the type cannot be decoded.
            ValueError: the file is closed.
        """
        raw = self.raw()
        try:
            return dequantize_array(raw, self.type, self.shape)
        except ValueError as error:
            raise GGUFError(
                f"{self._map.path}: tensor {self.name!r}: {error}"
            ) from None


class _Tensors(dict[str, Tensor]):
    """Tensors by name; a name that is missing is told which file lacks it."""

    def __init__(self, path: str, tensors: list[Tensor]) -> None:
        super().__init__((tensor.name, tensor) for tensor in tensors)
        self._path = path

    def __missing__(self, name: str) -> NoReturn:
        raise KeyError(
            f"{self._path} has no tensor {name!r}; the keys of .tensors are its "
            f"{len(self)} names"
        )


@dataclass(eq=False)
class GGUFFile:
    """An open file: its header, and its tensors on demand.

    Use it as a context manager, or call ``close``.

    Attributes:
        path: as given to ``open``.
        size_bytes: length of the file.
        version: 2 or 3.
        alignment: of the tensor data, in bytes.
        metadata: key to value, in the file's order.
        tensors: name to tensor, in the file's order.
    """

    path: str
    size_bytes: int
    version: int
    alignment: int
    metadata: dict[str, MetadataValue] = field(repr=False)
    tensors: dict[str, Tensor] = field(repr=False)
    _map: _Map = field(repr=False)

    def release(self) -> None:
        """Give back the memory that the tensors read so far occupy.

        Whoever passes through a file once needs a tensor in memory, not the file.
        Arrays from ``raw`` stay valid: their bytes are read anew when used.
        """
        if self._map.bytes is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.bytes.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Let go of the file; arrays from ``Tensor.raw`` stay valid."""
        # Dropping the reference unmaps now, or with the last view from raw();
        # mmap.close() would raise while such a view lives.
        self._map.bytes = None

    def __enter__(self) -> "GGUFFile":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open(path: str | os.PathLike[str]) -> GGUFFile:
    """Open a GGUF file and check its header.

    The tensor data is mapped, not read. A file that lacks only the padding
    after its last tensor is accepted, as llama.cpp accepts it; every other
    truncation is refused, and bytes after the padding are ignored.

    Args:
        path: a GGUF file, version 2 or 3, little endian.

    Returns:
        The open file.

    Raises:
        GGUFError: the bytes are not a usable GGUF file; the message names the
            key, the tensor or the position.
        OSError: the file cannot be opened.

    >>> with gguf.open("model.gguf") as f:  # doctest: +SKIP
    ...     weights = f.tensors["output_norm.weight"].dequantize()
    """
    name = os.fspath(path)
    with builtins.open(name, "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if not size_bytes:
            raise GGUFError(f"{name}: the file is empty")
        mapped = mmap.mmap(file.fileno(), size_bytes, access=mmap.ACCESS_READ)
    try:
        header = parse_header(mapped)
    except GGUFError as error:
        mapped.close()
        raise GGUFError(f"{name}: {error}") from None
    held = _Map(name, mapped)
    tensors = [
        Tensor(info.name, info.shape, info.type, info.offset, info.nbytes, held)
        for info in header.tensors
    ]
    return GGUFFile(
        path=name,
        size_bytes=size_bytes,
        version=header.version,
        alignment=header.alignment,
        metadata=header.metadata,
        tensors=_Tensors(name, tensors),
        _map=held,
    )
