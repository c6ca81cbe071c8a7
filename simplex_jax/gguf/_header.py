"""Parse a file's header; nothing here trusts a number that it read."""

import codecs
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap

import numpy as np

from . import _types as t
from ._types import GGMLType, GGUFError, MetadataValue, short_repr

_u32 = struct.Struct("<I").unpack_from
_i32 = struct.Struct("<i").unpack_from
_u64 = struct.Struct("<Q").unpack_from
_i64 = struct.Struct("<q").unpack_from

# The fewest bytes of an entry: key length, one byte of key, type, one of value;
# name length, one byte of name, dimensions, type, offset.
_MIN_KV_BYTES = 8 + 1 + 4 + 1
_MIN_TENSOR_BYTES = 8 + 1 + 4 + 4 + 8

# Strings above it are looked through before they are decoded: what is not text may
# take four bytes a character until Python finds out.
_LONG_BYTES = 1024


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies in a file, and how to read it: see ``Tensor``."""

    name: str
    shape: tuple[int, ...]
    type: GGMLType
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Header:
    """Everything in front of the tensor data."""

    version: int
    alignment: int
    metadata: dict[str, MetadataValue]
    tensors: list[TensorInfo]


class _Cursor:
    """A position in a buffer that refuses to pass its end."""

    def __init__(self, buffer: bytes | mmap) -> None:
        self.buffer = buffer
        self.position = 0
        self.end = len(buffer)

    @property
    def remaining(self) -> int:
        return self.end - self.position

    def take(self, nbytes: int, what: str) -> int:
        """Pass over ``nbytes`` and return where they start."""
        if nbytes > self.remaining:
            raise GGUFError(
                f"{what} needs {nbytes} bytes at byte {self.position}, and the file "
                f"ends after {self.remaining}; it is truncated or damaged"
            )
        start = self.position
        self.position += nbytes
        return start

    def u32(self, what: str) -> int:
        return _u32(self.buffer, self.take(4, what))[0]

    def i32(self, what: str) -> int:
        return _i32(self.buffer, self.take(4, what))[0]

    def u64(self, what: str) -> int:
        return _u64(self.buffer, self.take(8, what))[0]

    def i64(self, what: str) -> int:
        return _i64(self.buffer, self.take(8, what))[0]

    def count(self, min_bytes: int, limit: int, what: str) -> int:
        """Read a count of things that take at least ``min_bytes`` each."""
        value = self.i64(what)
        if not 0 <= value <= min(limit, self.remaining // min_bytes):
            raise GGUFError(
                f"{what} is {value}, and the {self.remaining} bytes left hold at most "
                f"{self.remaining // min_bytes} (limit {limit}); the file is damaged"
            )
        return value

    def string(self, what: str) -> str:
        return self.strings(1, what)[0]

    def strings(self, count: int, what: str) -> list[str]:
        """Read strings: a tight loop, a vocabulary has 10^5 of them."""
        buffer, position, end = self.buffer, self.position, self.end
        limit = t.MAX_STRING_BYTES
        texts: list[str] = []
        append = texts.append
        try:
            for _ in range(count):
                (length,) = _u64(buffer, position)
                start = position + 8
                position = start + length
                if length > limit or position > end:
                    raise GGUFError(
                        f"{what}: a string of {length} bytes at byte {start}, and "
                        f"{end - start} are left (limit {limit}); the file is "
                        "truncated or damaged"
                    )
                if length > _LONG_BYTES:
                    _check_text(buffer, start, position)
                append(str(buffer[start:position], "utf-8"))
        except struct.error:
            raise GGUFError(
                f"{what}: the file ends inside a string's length at byte {position}; "
                "it is truncated"
            ) from None
        except UnicodeDecodeError as error:
            raise GGUFError(f"{what}: a string is not UTF-8: {error}") from None
        self.position = position
        return texts


def _check_text(buffer: bytes | mmap, start: int, end: int) -> None:
    """Decode a string bit by bit, so that nothing large is made of what is no text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for at in range(start, end, _LONG_BYTES):
        decoder.decode(buffer[at : min(at + _LONG_BYTES, end)])
    decoder.decode(b"", final=True)


def _numbers(cursor: _Cursor, type_id: int, count: int, what: str) -> np.ndarray:
    dtype = t.NUMBERS[0] if type_id == t.BOOL else t.NUMBERS[type_id]
    start = cursor.take(count * dtype.itemsize, what)
    if not count:
        values = np.empty(0, dtype)
    else:
        # A copy: metadata outlives the memory map.
        values = np.frombuffer(cursor.buffer, dtype, count, start).copy()
    if type_id != t.BOOL:
        return values.astype(dtype.newbyteorder("="), copy=False)
    if values.max(initial=0) > 1:
        raise GGUFError(f"{what}: a bool is stored as {values.max()}, not as 0 or 1")
    return values.astype(np.bool_)


def _value(cursor: _Cursor, what: str) -> MetadataValue:
    type_id = cursor.i32(f"{what}: value type")
    if type_id == t.STRING:
        return cursor.string(what)
    if type_id == t.BOOL:
        return bool(_numbers(cursor, type_id, 1, what)[0])
    if type_id in t.NUMBERS:
        return _numbers(cursor, type_id, 1, what)[0]
    if type_id != t.ARRAY:
        raise GGUFError(f"{what}: value type {type_id} does not exist")
    element_id = cursor.i32(f"{what}: element type")
    if element_id == t.ARRAY:
        raise GGUFError(f"{what}: an array of arrays, which no reader supports")
    if element_id == t.STRING:
        return cursor.strings(cursor.count(8, cursor.end, f"{what}: length"), what)
    if element_id != t.BOOL and element_id not in t.NUMBERS:
        raise GGUFError(f"{what}: element type {element_id} does not exist")
    width = 1 if element_id == t.BOOL else t.NUMBERS[element_id].itemsize
    count = cursor.count(width, cursor.end, f"{what}: length")
    return _numbers(cursor, element_id, count, what)


def _name(cursor: _Cursor, kind: str, limit_bytes: int, taken: dict) -> str:
    name = cursor.string(kind)
    t.check_name(name, kind, limit_bytes)
    if name in taken:
        raise GGUFError(f"{kind} {short_repr(name)} occurs twice")
    return name


def _tensor(cursor: _Cursor, name: str) -> tuple[tuple[int, ...], GGMLType, int]:
    what = f"tensor {name!r}"
    n_dims = cursor.u32(f"{what}: dimensions")
    if n_dims > t.MAX_DIMS:
        raise GGUFError(f"{what}: {n_dims} dimensions; the format has at most 4")
    shape = [cursor.i64(f"{what}: a dimension") for _ in range(n_dims)][::-1]
    type_id = cursor.i32(f"{what}: type")
    offset = cursor.u64(f"{what}: offset")
    try:
        type = GGMLType(type_id)
    except ValueError:
        raise GGUFError(
            f"{what}: type {type_id} is unknown to the installed gguf package; a newer "
            "one may know it"
        ) from None
    return tuple(shape), type, offset


def _place(
    entries: Sequence[tuple[str, tuple[int, ...], GGMLType, int]],
    data_start: int,
    alignment: int,
    end: int,
) -> list[TensorInfo]:
    tensors: list[TensorInfo] = []
    expected = 0
    for name, shape, type, offset in entries:
        try:
            nbytes = t.tensor_nbytes(shape, type)
        except ValueError as error:
            raise GGUFError(f"tensor {name!r}: {error}") from None
        if offset != expected:
            raise GGUFError(
                f"tensor {name!r}: offset {offset}, and the tensors before it end at "
                f"{expected}; the file is damaged"
            )
        start = data_start + offset
        # The padding after the last tensor may be missing: no reader needs it.
        if nbytes and start + nbytes > end:
            raise GGUFError(
                f"tensor {name!r}: bytes {start} to {start + nbytes}, and the file has "
                f"{end}; it is truncated or damaged"
            )
        tensors.append(TensorInfo(name, shape, type, start, nbytes))
        expected += t.padded(nbytes, alignment)
    return tensors


def _version(cursor: _Cursor) -> int:
    magic = bytes(cursor.buffer[: cursor.take(4, "the magic") + 4])
    if magic != t.MAGIC:
        raise GGUFError(f"it starts with {magic!r}; a GGUF file starts with b'GGUF'")
    version = cursor.u32("the version")
    if version in (2, 3):
        return version
    if version and version & 0xFFFF == 0:
        raise GGUFError("it is big endian; convert it to little endian first")
    if version == 1:
        raise GGUFError("version 1 is obsolete; convert the model again to version 3")
    raise GGUFError(f"version {version} is unknown; versions 2 and 3 are read")


def parse_header(buffer: bytes | mmap) -> Header:
    """Parse and check everything in front of the tensor data.

    Every count is bounded by what the bytes left could hold before anything
    of that size is allocated; lengths, types, names, alignment, shapes and
    offsets are checked, so that each tensor lies inside the buffer. Time and
    memory grow with the bytes of the header alone; one of nothing but the
    shortest entries becomes objects of ten times its size.

    Args:
        buffer: a whole file. Bytes after the last tensor are not looked at.

    Returns:
        The header; its values hold no reference to ``buffer``.

    Raises:
        GGUFError: the bytes break a rule of the format.

    Source: llama.cpp ``ggml/src/gguf.cpp`` (v3, and v2, which has the same
    layout). Stricter: bool bytes are 0 or 1, names are not empty and contain
    no NUL, strings are UTF-8, keys have at most 65535 bytes.
    """
    try:
        cursor = _Cursor(buffer)
        version = _version(cursor)
        # Both counts stand before the first entry.
        n_tensors = cursor.count(_MIN_TENSOR_BYTES, t.MAX_ENTRIES, "the tensor count")
        n_kv = cursor.count(_MIN_KV_BYTES, t.MAX_ENTRIES, "the metadata count")

        metadata: dict[str, MetadataValue] = {}
        for _ in range(n_kv):
            key = _name(cursor, "metadata key", t.MAX_KEY_BYTES, metadata)
            metadata[key] = _value(cursor, f"metadata key {short_repr(key)}")
        alignment = t.DEFAULT_ALIGNMENT
        if t.ALIGNMENT_KEY in metadata:
            alignment = t.check_alignment(metadata[t.ALIGNMENT_KEY])

        entries: dict[str, tuple[tuple[int, ...], GGMLType, int]] = {}
        for _ in range(n_tensors):
            name = _name(cursor, "tensor name", t.MAX_TENSOR_NAME_BYTES, entries)
            entries[name] = _tensor(cursor, name)
    except GGUFError:
        raise
    except ValueError as error:
        raise GGUFError(str(error)) from None
    data_start = t.padded(cursor.position, alignment)
    rows = [(name, *entry) for name, entry in entries.items()]
    return Header(
        version, alignment, metadata, _place(rows, data_start, alignment, cursor.end)
    )
