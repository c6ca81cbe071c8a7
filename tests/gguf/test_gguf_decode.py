"""Decoded values have the bits of gguf-py's and of libggml's."""

import ctypes
from pathlib import Path

import gguf as gguf_py
import numpy as np
import pytest
from gguf_helpers import HALVES, assert_same_bits, random_blocks

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType

PLAIN = ["F32", "F16", "BF16"]
COUNT = 4000


def blocks(name: str) -> np.ndarray:
    """Return uint8 (B, nbytes): every 16-bit float, odd scales, any bytes."""
    if name in ("F16", "BF16"):
        return np.arange(65536, dtype="<u2")[:, None].view(np.uint8)
    if name == "F32":
        return np.random.default_rng(0).integers(0, 256, (65536, 4), np.uint8)
    return random_blocks(GGMLType[name], COUNT)


@pytest.mark.parametrize("name", [*PLAIN, *HALVES])
def test_bits_equal_gguf_py(name: str) -> None:
    raw, (elements, _) = blocks(name), gguf.block_size(GGMLType[name])
    with np.errstate(all="ignore"):
        expected = gguf_py.dequantize(raw.reshape(1, -1), GGMLType[name])
    shape = (len(raw), elements)
    got = gguf.dequantize_array(raw, name, shape)
    assert_same_bits(got, expected.astype(np.float32).reshape(shape))


class _Traits(ctypes.Structure):
    _fields_ = [
        ("type_name", ctypes.c_char_p),
        ("block_elements", ctypes.c_int64),
        ("interleaved", ctypes.c_int64),
        ("block_nbytes", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        (
            "to_float",
            ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64),
        ),
    ]


@pytest.mark.parametrize("name", [*PLAIN[1:], *HALVES])
def test_bits_equal_libggml(name: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    folder = Path(str(llama_cpp.__file__)).parent / "lib"
    lib = ctypes.CDLL(str(folder / "libggml-base.so"))
    lib.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    traits = lib.ggml_get_type_traits(ctypes.c_int(GGMLType[name])).contents
    sizes = traits.block_elements, traits.block_nbytes
    assert sizes == gguf.block_size(GGMLType[name])
    raw = blocks(name)
    expected = np.empty((len(raw), sizes[0]), np.float32)
    traits.to_float(raw.ctypes.data, expected.ctypes.data, expected.size)
    assert_same_bits(gguf.dequantize_array(raw, name, expected.shape), expected)
