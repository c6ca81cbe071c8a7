"""Read a file through a memory map."""

import mmap
import os
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from ._codecs import dequantize_array
from ._header import TensorInfo, parse_header
from ._types import GGUFError, MetadataValue


@dataclass(eq=False)
class GGUFFile:
    """An open file: its header, and its tensors on demand.

    Use it as a context manager, or call ``close``.

    Attributes:
        path: as given to ``read``.
        size_bytes: length of the file.
        version: 2 or 3.
        alignment: of the tensor data, in bytes.
        metadata: key to value, in the file's order.
        tensors: name to place, in the file's order.
    """

    path: str
    size_bytes: int
    version: int
    alignment: int
    metadata: dict[str, MetadataValue] = field(repr=False)
    tensors: dict[str, TensorInfo] = field(repr=False)
    _map: mmap.mmap | None = field(repr=False)

    def raw(self, name: str) -> np.ndarray:
        """Return a tensor's bytes as they lie in the file.

        Args:
            name: a key of ``tensors``.

        Returns:
            uint8 of shape (nbytes,), read-only, on the memory map; it stays
            valid after ``close``, and keeps the file mapped while it lives.

        Raises:
            KeyError: no such tensor.
            ValueError: the file is closed.
        """
        if self._map is None:
            raise ValueError(f"{self.path} is closed; read tensors before close()")
        info = self._info(name)
        if not info.nbytes:
            return np.empty(0, np.uint8)
        return np.frombuffer(self._map, np.uint8, info.nbytes, info.offset)

    def load(self, name: str) -> np.ndarray:
        """Return a tensor's values.

        Args:
            name: a key of ``tensors``.

        Returns:
            float32 of ``tensors[name].shape``, a new array.

        Raises:
            KeyError: no such tensor.
            GGUFError: the tensor has a type that cannot be decoded.
            ValueError: the file is closed.
        """
        raw, info = self.raw(name), self._info(name)
        try:
            return dequantize_array(raw, info.type, info.shape)
        except ValueError as error:
            raise GGUFError(f"{self.path}: tensor {name!r}: {error}") from None

    def release(self) -> None:
        """Give back the memory that the tensors read so far occupy.

        Whoever passes through a file once needs a tensor in memory, not the file.
        Arrays from ``raw`` stay valid: their bytes are read anew when used.
        """
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Let go of the file; arrays from ``raw`` stay valid."""
        # Dropping the reference unmaps now, or with the last view from raw();
        # mmap.close() would raise while such a view lives.
        self._map = None

    def __enter__(self) -> "GGUFFile":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _info(self, name: str) -> TensorInfo:
        if name not in self.tensors:
            raise KeyError(
                f"{self.path} has no tensor {name!r}; the keys of .tensors "
                f"are its {len(self.tensors)} names"
            )
        return self.tensors[name]


def read(path: str | os.PathLike[str]) -> GGUFFile:
    """Open a GGUF file and check its header.

    The tensor data is mapped, not read. A file that lacks only the padding
    after its last tensor is accepted, as llama.cpp accepts it; every other
    truncation is refused, and bytes after the padding are ignored.

    Args:
        path: a GGUF file, version 2 or 3, little endian.

    Returns:
        The open file.

    Raises:
        GGUFError: the bytes are not a usable GGUF file.
        OSError: the file cannot be opened.
    """
    name = os.fspath(path)
    with open(name, "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if not size_bytes:
            raise GGUFError(f"{name}: the file is empty")
        mapped = mmap.mmap(file.fileno(), size_bytes, access=mmap.ACCESS_READ)
    try:
        header = parse_header(mapped)
    except GGUFError as error:
        mapped.close()
        raise GGUFError(f"{name}: {error}") from None
    return GGUFFile(
        path=name,
        size_bytes=size_bytes,
        version=header.version,
        alignment=header.alignment,
        metadata=header.metadata,
        tensors=header.tensors,
        _map=mapped,
    )
