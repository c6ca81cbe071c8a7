"""Files made by hand, blocks and comparisons that several tests use."""

import struct
from pathlib import Path

import numpy as np

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType, MetadataValue, TensorSource

# Where a block keeps its float16 fields.
HALVES = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
    "MXFP4": (),
}


def random_blocks(type: GGMLType, count: int) -> np.ndarray:
    """Return uint8 (count, nbytes): any bytes, and scales of every odd kind.

    A fifth of the scales are 0, -0, the least subnormals, infinite or NaN.
    """
    rng = np.random.default_rng(type)
    raw = rng.integers(0, 256, (count, gguf.block_size(type)[1]), np.uint8)
    odd = np.array([0, 0x8000, 1, 0x8001, 0x3FF, 0x7C00, 0xFC00, 0x7E00], "<u2")
    for start in HALVES[type.name]:
        where = rng.random(count) < 0.2
        chosen = rng.choice(odd, where.sum())
        raw[where, start : start + 2] = chosen[:, None].view(np.uint8)
    return raw


def assert_same_bits(got: np.ndarray, expected: np.ndarray) -> None:
    """Compare the bits of float32; a NaN may have any payload."""
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(
        got.view(np.uint32)[~nan], expected.view(np.uint32)[~nan]
    )


U32, ARRAY, STRING, BOOL = 4, 9, 8, 7
F32, Q8_0 = 0, 8
HUGE = 2**63 - 1


def text(value: str | bytes, length: int | None = None) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data) if length is None else length) + data


def kv(key: str, type_id: int = U32, value: bytes = b"\7\0\0\0") -> bytes:
    return text(key) + struct.pack("<i", type_id) + value


def array(element_id: int, count: int, data: bytes = b"") -> bytes:
    return struct.pack("<iQ", element_id, count & (2**64 - 1)) + data


def tensor(
    name: str = "a.weight",
    ne: tuple[int, ...] = (4, 2),
    type_id: int = F32,
    offset: int = 0,
    n_dims: int | None = None,
) -> bytes:
    n_dims = len(ne) if n_dims is None else n_dims
    return (
        text(name)
        + struct.pack(f"<I{len(ne)}q", n_dims, *ne)
        + struct.pack("<iQ", type_id, offset)
    )


def container(
    *kvs: bytes,
    tensors: tuple[bytes, ...] = (),
    data: bytes = b"",
    magic: bytes = b"GGUF",
    version: int = 3,
    n_tensors: int | None = None,
    n_kv: int | None = None,
    alignment: int = 32,
) -> bytes:
    head = magic + struct.pack(
        "<Iqq",
        version,
        len(tensors) if n_tensors is None else n_tensors,
        len(kvs) if n_kv is None else n_kv,
    )
    head += b"".join(kvs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


def load_all(path: Path) -> None:
    """Read a file and decode all of it."""
    with gguf.open(path) as file:
        gguf.summary(file)
        for tensor in file.tensors.values():
            assert tensor.raw().nbytes == tensor.nbytes
            assert tensor.dequantize().shape == tensor.shape


NUMBER_DTYPES = [
    np.dtype(name)
    for name in (
        "uint8 int8 uint16 int16 uint32 int32 float32 uint64 int64 float64".split()
    )
]


def same(a: MetadataValue, b: MetadataValue) -> bool:
    """Whether type, dtype and bits are equal; NaN equals itself."""
    if isinstance(a, np.ndarray | np.generic):
        return (
            isinstance(b, np.ndarray | np.generic)
            and type(a) is type(b)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and a.tobytes() == b.tobytes()
        )
    return type(a) is type(b) and a == b


def source(name: str, array: np.ndarray, type: GGMLType = GGMLType.F32) -> TensorSource:
    return TensorSource(name, array.shape, type, lambda: array)
