"""Encoded bytes equal llama.cpp's; errors stay within the quantum."""

import ctypes
import math
from pathlib import Path

import gguf as gguf_py
import numpy as np
import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType

Q8_0, Q4_0 = GGMLType.Q8_0, GGMLType.Q4_0
QUANTIZED = [Q8_0, Q4_0, GGMLType.Q5_0]
BLOCKS = 1500


def rows(name: str) -> np.ndarray:
    """Return float32 (BLOCKS, 32) of the named distribution."""
    rng = np.random.default_rng(7)
    shape, tail = (BLOCKS, 32), (BLOCKS, 31)
    normal = rng.normal(size=shape)
    top = np.full((BLOCKS, 1), 127.0)
    half = np.float32(0.5)
    values = {
        "normal": lambda: normal,
        "laplace": lambda: rng.laplace(size=shape) * 0.02,
        "outliers": lambda: normal * np.where(rng.random(shape) < 0.03, 50, 1),
        "positive": lambda: rng.random(shape),
        "grid": lambda: rng.integers(-8, 9, shape) / 8,
        "ties": lambda: rng.choice([-1.0, 1.0, 0.5, -0.5, 0.0, -0.0], shape),
        "sparse": lambda: normal * (rng.random(shape) < 0.05),
        "zero": lambda: np.zeros(shape),
        "negative zero": lambda: -np.zeros(shape),
        "subnormal scale": lambda: normal * 1e-7,
        "scale below float16": lambda: normal * 1e-30,
        "inverse overflows": lambda: (
            normal
            * (rng.random(shape) < 0.7)
            * 2.0 ** rng.integers(-149, -110, (BLOCKS, 1))
        ),
        "halves": lambda: np.hstack([top, rng.integers(-127, 127, tail) + 0.5]),
        "next to a half": lambda: np.hstack(
            [top, np.nextafter(half, rng.integers(0, 2, tail).astype(np.float32))]
        ),
        "largest": lambda: normal / np.abs(normal).max() * 5e5,
    }
    return values[name]().astype(np.float32)


NAMES = [
    "normal",
    "laplace",
    "outliers",
    "positive",
    "grid",
    "ties",
    "sparse",
    "zero",
    "negative zero",
    "subnormal scale",
    "scale below float16",
    "inverse overflows",
    "halves",
    "next to a half",
    "largest",
]


@pytest.fixture(scope="module")
def ggml() -> ctypes.CDLL:
    """The reference quantizers, from the library inside llama-cpp-python."""
    llama_cpp = pytest.importorskip("llama_cpp")
    folder = Path(str(llama_cpp.__file__)).parent / "lib"
    lib = ctypes.CDLL(str(folder / "libggml-base.so"))
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    return lib


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@pytest.mark.parametrize("type", QUANTIZED)
@pytest.mark.parametrize("name", NAMES)
def test_bytes_equal_llama_cpp(ggml: ctypes.CDLL, name: str, type: GGMLType) -> None:
    x = rows(name)
    expected = np.empty(BLOCKS * gguf.block_size(type)[1], np.uint8)
    written = ggml.ggml_quantize_chunk(
        ctypes.c_int(type),
        pointer(x),
        pointer(expected),
        ctypes.c_int64(0),
        ctypes.c_int64(BLOCKS),
        ctypes.c_int64(32),
        None,
    )
    assert written == expected.size
    np.testing.assert_array_equal(gguf.quantize_array(x, type).reshape(-1), expected)


@pytest.mark.parametrize(
    ("type", "function"),
    [
        (GGMLType.F16, "ggml_fp32_to_fp16_row"),
        (GGMLType.BF16, "ggml_fp32_to_bf16_row_ref"),
    ],
)
def test_narrow_floats_equal_llama_cpp(
    ggml: ctypes.CDLL, type: GGMLType, function: str
) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2**32, 200_000, np.uint32).view(np.float32)
    if type == GGMLType.F16:
        # Float16 has many NaNs; NumPy and llama.cpp choose different ones.
        x = x[(np.abs(x) <= 65504) | np.isinf(x)]
    else:
        x = x[~(np.abs(x) > 3.38e38) | np.isinf(x)]
    expected = np.empty(x.size, np.uint16)
    getattr(ggml, function)(pointer(x), pointer(expected), ctypes.c_int64(x.size))
    np.testing.assert_array_equal(
        gguf.quantize_array(x, type).view(np.uint16), expected
    )


@pytest.mark.parametrize("type", list(gguf_py.GGML_QUANT_SIZES))
def test_every_type_decodes_or_says_that_it_cannot(type: GGMLType) -> None:
    elements, nbytes = gguf.block_size(type)
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, 6 * nbytes, np.uint8)
    try:
        with np.errstate(all="ignore"):
            expected = gguf_py.dequantize(raw.reshape(1, -1), type)
    except NotImplementedError:
        expected = None
    plain = {"F64": "<f8", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
    if type.name in plain:
        with np.errstate(over="ignore"):
            expected = raw.view(plain[type.name]).astype(np.float32)
    shape = (2, 3, elements)
    if expected is None:
        with pytest.raises(ValueError, match=type.name):
            gguf.dequantize_array(raw, type, shape)
    else:
        got = gguf.dequantize_array(raw, type, shape)
        assert got.dtype == np.float32
        assert got.flags.writeable
        np.testing.assert_array_equal(got, expected.reshape(shape))


@pytest.mark.parametrize("type", QUANTIZED)
def test_many_blocks_quantize_as_each_does_alone(type: GGMLType) -> None:
    x = np.random.default_rng(5).normal(size=(9001, 32)).astype(np.float32)
    together = gguf.quantize_array(x, type)
    for index in (0, 2047, 2048, 9000):
        np.testing.assert_array_equal(
            together[index], gguf.quantize_array(x[index], type)
        )
    decoded = gguf.dequantize_array(together, type, x.shape)
    one = gguf.dequantize_array(together[9000], type, (32,))
    np.testing.assert_array_equal(decoded[9000], one)


def half_bits(value: float) -> list[int]:
    return list(np.array([value], "<f2").view(np.uint8))


def block(*first: float) -> np.ndarray:
    return np.array([*first, *[0.0] * (32 - len(first))], np.float32)


@pytest.mark.parametrize(
    ("x", "scale", "codes"),
    [
        (block(), 0.0, [0] * 32),
        (block(-0.0), 0.0, [0] * 32),
        # d = 1: codes are the rounded values, halves away from zero.
        (block(127, 0.5, -0.5, 1.5, -2.5), 1.0, [127, 1, -1, 2, -3]),
        (block(-127, 0.49999997, -0.49999997), 1.0, [-127, 0, 0]),
        (block(1e-40, -1e-40), 0.0, [0] * 32),
    ],
)
def test_q8_0_by_hand(x: np.ndarray, scale: float, codes: list[int]) -> None:
    encoded = gguf.quantize_array(x, Q8_0)
    assert encoded[:2].tolist() == half_bits(scale)
    expected = codes + [0] * (32 - len(codes))
    assert encoded[2:].view(np.int8).tolist() == expected


@pytest.mark.parametrize(
    ("x", "scale", "codes"),
    [
        (block(), -0.0, []),
        (block(-0.0), -0.0, []),
        # The first of the largest magnitudes gives the sign of d.
        (block(-8, 8, 1, -1), 1.0, [0, 15, 9, 7]),
        (block(8, -8, 1, -1), -1.0, [0, 15, 7, 9]),
        # d = 1: halves go up, since 8.5 is added before truncation.
        (block(-8, 0.5, -0.5, 7.4, 7.6), 1.0, [0, 9, 8, 15, 15]),
    ],
)
def test_q4_0_by_hand(x: np.ndarray, scale: float, codes: list[int]) -> None:
    encoded = gguf.quantize_array(x, Q4_0)
    assert encoded[:2].tolist() == half_bits(scale)
    expected = codes + [8] * (16 - len(codes))
    assert (encoded[2:] & 15).tolist() == expected
    assert (encoded[2:] >> 4).tolist() == [8] * 16


def test_q4_0_packs_the_halves_of_a_block() -> None:
    x = np.arange(32, dtype=np.float32) % 16 - 8
    encoded = gguf.quantize_array(x, Q4_0)
    assert encoded[2:].tolist() == [q | q << 4 for q in range(16)]
    np.testing.assert_array_equal(gguf.dequantize_array(encoded, Q4_0, (32,)), x)


# Every float32 whose scale float16 can hold, subnormal ones included.
blocks_of_floats = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.just(32)),
    elements=st.floats(-5e5, 5e5, width=32) | st.floats(-1, 1, width=32),
)


def scale_rounding(scale: np.ndarray) -> np.ndarray:
    """Return how far float16 may lie from a scale."""
    return np.maximum(np.abs(scale) * 2.0**-11, 2.0**-25)


@draws(200)
@given(blocks_of_floats)
def test_q8_0_errs_by_half_a_step(x: np.ndarray) -> None:
    y = gguf.dequantize_array(gguf.quantize_array(x, Q8_0), Q8_0, x.shape).astype(
        np.float64
    )
    step = np.abs(x.astype(np.float64)).max(axis=1, keepdims=True) / 127
    bound = step * (0.5 + 1e-5) + 127 * scale_rounding(step)
    assert (np.abs(y - x) <= bound).all()


@draws(200)
@given(blocks_of_floats)
def test_q4_0_errs_by_half_a_step_but_at_its_short_end(x: np.ndarray) -> None:
    y = gguf.dequantize_array(gguf.quantize_array(x, Q4_0), Q4_0, x.shape).astype(
        np.float64
    )
    exact = x.astype(np.float64)
    largest = np.abs(exact).argmax(axis=1, keepdims=True)
    step = np.take_along_axis(exact, largest, axis=1) / -8
    size = np.abs(step)
    short_end = exact * np.sign(step) > 7.5 * size
    bound = np.where(short_end, size, size / 2) + size * 1e-5
    assert (np.abs(y - exact) <= bound + 8 * scale_rounding(step)).all()


def test_f16_and_bf16_round_to_nearest_even() -> None:
    x = np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, 65519, 2.0**-24, 2.0**-25], "f4")
    half = gguf.dequantize_array(
        gguf.quantize_array(x, GGMLType.F16), GGMLType.F16, x.shape
    )
    np.testing.assert_array_equal(half, [1, 1 + 2.0**-9, 65504, 2.0**-24, 0])
    x = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, -0.0, 2.0**-140], np.float32)
    brain = gguf.dequantize_array(
        gguf.quantize_array(x, GGMLType.BF16), GGMLType.BF16, x.shape
    )
    np.testing.assert_array_equal(brain, [1, 1 + 2.0**-6, 0, 0])
    assert math.copysign(1, brain[2]) == -1


@pytest.mark.parametrize("type", [GGMLType.F32, GGMLType.F16, GGMLType.BF16])
def test_plain_types_keep_what_is_not_finite(type: GGMLType) -> None:
    x = np.array([np.inf, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(
        gguf.dequantize_array(gguf.quantize_array(x, type), type, (3,)), x
    )


@pytest.mark.parametrize(
    ("x", "type", "message"),
    [
        (np.zeros(256), GGMLType.IQ4_XS, "IQ4_XS.*use one of F32, F16, Q4_0, Q4_1, Q5"),
        (np.zeros((2, 31)), Q8_0, "rows of 31"),
        (np.zeros(32, np.int32), GGMLType.F32, "int32"),
        (np.zeros(32, bool), Q8_0, "bool"),
        (np.full(32, 65520.0), GGMLType.F16, "overflow F16"),
        (np.full(32, 3.4e38), GGMLType.BF16, "overflow BF16"),
        (np.full(32, 1e39), GGMLType.F32, "overflow float32"),
        (block(np.nan), Q8_0, "not finite"),
        (block(-np.inf), Q4_0, "not finite"),
        (block(8.4e6), Q8_0, "float16 scale of Q8_0.*66141"),
        (block(-5.3e5), Q4_0, "float16 scale of Q4_0.*66250"),
    ],
)
def test_quantize_array_refuses(x: np.ndarray, type: GGMLType, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gguf.quantize_array(x, type)


@pytest.mark.parametrize(
    ("raw", "shape"),
    [
        (np.zeros(33, np.uint8), (32,)),
        (np.zeros(34, np.int8), (32,)),
        (np.zeros(34, np.uint8), (33,)),
    ],
)
def test_dequantize_array_refuses(raw: np.ndarray, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="blocks is|rows of 33"):
        gguf.dequantize_array(raw, Q8_0, shape)
