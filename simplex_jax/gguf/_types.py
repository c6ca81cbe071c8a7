"""The words of the format: types, sizes, limits and the one error."""

import math
import reprlib
from collections.abc import Sequence

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as GGMLType
from gguf import LlamaFileType as FileType  # noqa: F401

from .._checks import refuse

MetadataValue = str | bool | np.generic | list[str] | np.ndarray
"""A metadata value: text, bool, a NumPy scalar, texts, or a 1-D array.

Numbers carry their NumPy dtype, because the file does: reading a file and
writing it back changes no type. Arrays are of int8 to int64, uint8 to uint64,
float32, float64 or bool.
"""

MAGIC = b"GGUF"
VERSION = 3
DEFAULT_ALIGNMENT = 32
ALIGNMENT_KEY = "general.alignment"
ARCHITECTURE_KEY = "general.architecture"

MAX_ALIGNMENT = 1 << 20
MAX_DIMS = 4
# Eight bytes an element stay addressable by NumPy, zero dimensions set aside.
MAX_ELEMENTS = 1 << 59
MAX_ENTRIES = 1 << 20
MAX_KEY_BYTES = (1 << 16) - 1
MAX_STRING_BYTES = 1 << 26
MAX_TENSOR_NAME_BYTES = 63

# Value type ids of the container.
BOOL, STRING, ARRAY = 7, 8, 9
NUMBERS: dict[int, np.dtype] = {
    0: np.dtype("<u1"),
    1: np.dtype("<i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100
short_repr = _short.repr


class GGUFError(ValueError):
    """The bytes of a file are not a GGUF file that can be used."""


def as_type(type: GGMLType | str) -> GGMLType:
    """Return the type that a name stands for.

    Args:
        type: a type, or its name, upper or lower case.

    Returns:
        The type.

    Raises:
        ValueError: no type has this name.
    """
    if isinstance(type, GGMLType):
        return type
    if type.upper() not in GGMLType.__members__:
        refuse("type", type, f"give one of {', '.join(GGMLType.__members__)}")
    return GGMLType[type.upper()]


def block_size(type: GGMLType) -> tuple[int, int]:
    """Return how a type groups the elements of a row.

    Args:
        type: a tensor type.

    Returns:
        Elements in a block, bytes in a block.
    """
    elements, nbytes = GGML_QUANT_SIZES[type]
    return elements, nbytes


def tensor_nbytes(shape: Sequence[int], type: GGMLType) -> int:
    """Return the bytes that a tensor occupies, padding not counted.

    Args:
        shape: NumPy order; the last axis is the one cut into blocks.
        type: a tensor type.

    Returns:
        The size in bytes.

    Raises:
        ValueError: a tensor of this shape cannot have this type.
    """
    if len(shape) > MAX_DIMS:
        raise ValueError(f"{len(shape)} dimensions; the format has at most {MAX_DIMS}")
    if any(n < 0 for n in shape):
        raise ValueError(f"a negative dimension in {tuple(shape)}")
    if math.prod(max(n, 1) for n in shape) > MAX_ELEMENTS:
        raise ValueError(f"more than 2^59 elements in {tuple(shape)}")
    elements, nbytes = block_size(type)
    width = shape[-1] if shape else 1
    if width % elements:
        raise ValueError(
            f"rows of {width} elements do not divide into {type.name} blocks of "
            f"{elements}; use F16, or pad the rows"
        )
    return math.prod(shape) // elements * nbytes


def padded(size_bytes: int, alignment: int) -> int:
    """Return the next multiple of an alignment.

    Args:
        size_bytes: a length or position.
        alignment: bytes, a power of two.

    Returns:
        The least multiple of ``alignment`` that is not below ``size_bytes``.
    """
    return -(-size_bytes // alignment) * alignment


def check_alignment(value: object) -> int:
    """Return the alignment that ``general.alignment`` asks for.

    Args:
        value: the metadata value.

    Returns:
        The alignment in bytes.

    Raises:
        ValueError: not a uint32, not a power of two, or above 2^20.
    """
    if not isinstance(value, np.generic) or value.dtype != np.uint32:
        raise ValueError(
            f"{ALIGNMENT_KEY} is {short_repr(value)}; it must be a "
            "uint32: np.uint32(32)"
        )
    alignment = int(value.item())
    if alignment.bit_count() != 1 or alignment > MAX_ALIGNMENT:
        raise ValueError(
            f"{ALIGNMENT_KEY} is {alignment}; it must be a power of two up to 2^20"
        )
    return alignment


def check_name(name: str, kind: str, limit_bytes: int) -> bytes:
    """Return the UTF-8 bytes of a key or a tensor name.

    Args:
        name: the text.
        kind: what it names, for the message.
        limit_bytes: the most bytes it may have.

    Returns:
        The encoded text.

    Raises:
        ValueError: empty, too long, not encodable, or with a NUL in it: C
            readers end the text there and would see another name.
    """
    encoded = encode_text(name, kind)
    if not encoded:
        raise ValueError(f"a {kind} is empty; every {kind} needs at least one byte")
    if len(encoded) > limit_bytes:
        raise ValueError(
            f"{kind} {short_repr(name)} has {len(encoded)} bytes; the format allows "
            f"{limit_bytes}"
        )
    if b"\0" in encoded:
        raise ValueError(f"{kind} {short_repr(name)} contains a NUL; remove it")
    return encoded


def encode_text(text: str, kind: str) -> bytes:
    """Return the UTF-8 bytes of a text.

    Args:
        text: any text.
        kind: what it is, for the message.

    Returns:
        The encoded text.

    Raises:
        ValueError: a lone surrogate, or more than 64 MiB.
    """
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{kind} {short_repr(text)} is not encodable as UTF-8 ({error.reason}); "
            "replace its lone surrogates"
        ) from None
    if len(encoded) > MAX_STRING_BYTES:
        raise ValueError(f"{kind} has {len(encoded)} bytes; the limit is 64 MiB")
    return encoded
