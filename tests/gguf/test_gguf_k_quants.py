"""Quantized bytes equal libggml's; golden hashes stand in where it is missing.

The inputs are built from raw bits by exact arithmetic, so that they are the
same on every machine. ``python tests/gguf/test_gguf_k_quants.py`` writes the
hashes anew, from libggml's bytes.
"""

import ctypes
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType

GOLDEN = Path(__file__).with_name("golden_quantize.json")
TYPES = [
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
]
WEIGHTED = [name for name in TYPES if name != "Q8_0"]
COLUMNS = 768
SMALLEST = 2.0**-149


class Bits:
    """Numbers from raw bits; NumPy promises the bits, not its distributions."""

    def __init__(self, seed: int) -> None:
        self._source = np.random.PCG64(seed)

    def integers(self, shape: tuple[int, ...], bits: int) -> np.ndarray:
        """Return int64 from 0 to 2^bits - 1."""
        raw = self._source.random_raw(int(np.prod(shape)))
        return (raw >> np.uint64(64 - bits)).astype(np.int64).reshape(shape)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return sums of six uniforms, of variance 1/2."""
        parts = self.integers((6, *shape), 20).sum(axis=0) - 6 * 2**19
        return parts / 2.0**20

    def geometric(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return k with probability 2^-(k+1)."""
        raw = self.integers(shape, 40) | 1 << 40
        return np.frexp(raw & -raw)[1] - 1

    def laplace(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return numbers of either sign that halve in density at every unit."""
        sign = 1 - 2 * self.integers(shape, 1)
        return sign * (self.geometric(shape) + self.integers(shape, 20) / 2.0**20)

    def chance(self, shape: tuple[int, ...], in_256: int) -> np.ndarray:
        return self.integers(shape, 8) < in_256


def distributions(seed: int, rows: int) -> dict[str, np.ndarray]:
    """Return float32 (rows, COLUMNS) of each distribution."""
    bits = Bits(seed)
    shape, column, groups = (rows, COLUMNS), (rows, 1), (rows, COLUMNS // 16)

    def spread(x: np.ndarray) -> np.ndarray:
        return np.repeat(x, 16, axis=1)

    def power(shape: tuple[int, ...], low: int, bits_: int) -> np.ndarray:
        return 2.0 ** (low + bits.integers(shape, bits_))

    normal = bits.normal(shape)
    doubles = {
        "normal": normal / 16,
        "laplace": bits.laplace(shape) / 32,
        "outlier": normal * np.where(bits.chance(shape, 3), 64, 1),
        "positive": bits.integers(shape, 24) / 2.0**24,
        "negative": bits.integers(shape, 24) / -(2.0**24) - 0.5,
        "offset": bits.normal(column) * 128 + normal / 64,
        # The product keeps the sign of what it erases: zeros of both signs.
        "sparse": normal * bits.chance(shape, 24),
        "sparse groups": normal * spread(bits.chance(groups, 128)),
        "negative offset": normal / 2**20 - power(column, -8, 4),
        "constant": np.broadcast_to(bits.normal(column), shape),
        "constant groups": spread(bits.normal(groups)),
        "ties": (bits.integers(shape, 4) - 8) / 8,
        "scaled groups": normal * spread(power(groups, -24, 5)),
        "tiny": normal * power(column, -34, 4),
        "no scale": normal * power(column, -64, 5),
        "subnormal": normal * power(column, -149, 5),
        "smallest": (bits.integers(shape, 3) - 4) * SMALLEST,
        "zero": np.zeros(shape),
        "negative zero": -np.zeros(shape),
    }
    singles = {name: x.astype(np.float32) for name, x in doubles.items()}
    grid = singles["normal"].view(np.uint32) & np.uint32(0xFFFF0000)
    return {**singles, "bf16 grid": grid.view(np.float32)}


def importances(seed: int) -> dict[str, np.ndarray | None]:
    """Return none, and float32 (COLUMNS,) with a heavy tail, all and few used.

    Where few weights of a group are not 0, they leave its scale open, and the
    searches meet negative scales and codes.
    """
    bits, shape = Bits(seed), (COLUMNS,)
    values = np.ldexp(np.abs(bits.laplace(shape)), bits.geometric(shape))
    usual = values * bits.chance(shape, 224)
    # Odd seeds: a whole super-block.
    usual[256 : 512 if seed % 2 else 288] = 0
    few = values * bits.chance(shape, 16)
    return {
        "plain": None,
        "usual": usual.astype(np.float32),
        "few": few.astype(np.float32),
    }


class Reference:
    """The quantizers of the library inside llama-cpp-python."""

    def __init__(self, folder: Path) -> None:
        self._lib = ctypes.CDLL(str(folder / "libggml-base.so"))
        self._lib.ggml_quantize_chunk.restype = ctypes.c_size_t

    def quantize_array(
        self, x: np.ndarray, type: str, importance: np.ndarray | None
    ) -> np.ndarray:
        elements, nbytes = gguf.block_size(GGMLType[type])
        rows, columns = x.shape
        out = np.empty((rows, columns // elements * nbytes), np.uint8)
        written = self._lib.ggml_quantize_chunk(
            ctypes.c_int(GGMLType[type]),
            ctypes.c_void_p(np.ascontiguousarray(x).ctypes.data),
            ctypes.c_void_p(out.ctypes.data),
            ctypes.c_int64(0),
            ctypes.c_int64(rows),
            ctypes.c_int64(columns),
            None if importance is None else ctypes.c_void_p(importance.ctypes.data),
        )
        assert written == out.size
        return out


@pytest.fixture(scope="module")
def reference() -> Reference:
    llama_cpp = pytest.importorskip("llama_cpp")
    return Reference(Path(str(llama_cpp.__file__)).parent / "lib")


Quantize = Callable[[np.ndarray, str, np.ndarray | None], np.ndarray]


def hashes(quantize: Quantize, type: str) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of the bytes by distribution and importances."""
    inputs = distributions(seed=1, rows=2)
    rows = np.concatenate(list(inputs.values()))
    found: dict[str, dict[str, str]] = {name: {} for name in inputs}
    for how, importance in importances(3).items():
        pieces = quantize(rows, type, importance).reshape(len(inputs), 2, -1)
        for name, piece in zip(inputs, pieces, strict=True):
            found[name][how] = hashlib.sha256(piece.tobytes()).hexdigest()
    return found


@pytest.mark.parametrize("type", TYPES)
def test_bytes_have_the_golden_hashes(type: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert hashes(gguf.quantize_array, type) == golden[type]


def differing_blocks(
    reference: Reference, type: str, seeds: Iterator[int], rows: int
) -> tuple[int, int]:
    """Return how many blocks were compared, and how many differ."""
    _, nbytes = gguf.block_size(GGMLType[type])
    compared = differing = 0
    for seed in seeds:
        for x in distributions(seed, rows).values():
            for importance in importances(seed).values():
                expected = reference.quantize_array(x, type, importance)
                got = gguf.quantize_array(x, type, importance)
                unlike = (got != expected).reshape(-1, nbytes).any(axis=1)
                compared += unlike.size
                differing += int(unlike.sum())
    return compared, differing


@pytest.mark.parametrize("type", TYPES)
def test_blocks_equal_libggml(reference: Reference, type: str) -> None:
    compared, differing = differing_blocks(reference, type, iter([3]), rows=4)
    assert compared >= 700
    assert differing == 0


@pytest.mark.nightly
@pytest.mark.parametrize("type", TYPES)
def test_half_a_million_blocks_equal_libggml(reference: Reference, type: str) -> None:
    elements, _ = gguf.block_size(GGMLType[type])
    rows = 128
    # 20 distributions, three importances.
    seeds = -(-500_000 // (60 * rows * COLUMNS // elements))
    compared, differing = differing_blocks(
        reference, type, iter(range(100, 100 + seeds)), rows
    )
    assert compared >= 500_000
    assert differing == 0


@pytest.mark.slow
@pytest.mark.parametrize("type", TYPES)
def test_golden_hashes_are_libggml_s(reference: Reference, type: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert hashes(reference.quantize_array, type) == golden[type]


@pytest.mark.parametrize("how", ["plain", "usual"])
@pytest.mark.parametrize("type", TYPES)
def test_many_rows_quantize_as_each_does_alone(type: str, how: str) -> None:
    elements, _ = gguf.block_size(GGMLType[type])
    importance = importances(4)[how]
    if importance is not None:
        importance = importance[:elements]
    # A lone block is where NumPy would sum in another order.
    x = distributions(5, 150)["normal"][:, :elements]
    x = np.concatenate([x] * (1 + (1 << 16) // x.size))
    together = gguf.quantize_array(x, type, importance)
    for index in (0, 1, len(x) // 2, len(x) - 1):
        alone = gguf.quantize_array(x[index], type, importance)
        np.testing.assert_array_equal(together[index], alone)


@pytest.mark.parametrize(
    ("type", "bound"),
    [(name, {"Q2_K": 0.0075, "Q3_K": 0.004}.get(name, 0.002)) for name in TYPES],
)
def test_a_cosine_errs_within_llama_cpp_s_bounds(type: str, bound: float) -> None:
    n = 4096
    x = (0.1 + 2 * np.cos(np.arange(n))).astype(np.float32)
    y = gguf.dequantize_array(gguf.quantize_array(x, type), type, x.shape)
    assert np.sqrt(np.sum((y - x).astype(np.float64) ** 2)) / n < bound


@pytest.mark.parametrize("type", WEIGHTED)
def test_importances_lessen_the_error_they_weigh(type: str) -> None:
    x = distributions(6, 32)["normal"]
    importance = importances(7)["usual"]
    assert importance is not None

    def error(given: np.ndarray | None) -> float:
        raw = gguf.quantize_array(x, type, given)
        y = gguf.dequantize_array(raw, type, x.shape)
        return float(np.sum(importance * (y - x).astype(np.float64) ** 2))

    assert error(importance) < 0.95 * error(None)


@pytest.mark.parametrize(
    ("type", "lowest", "highest"),
    [
        ("Q4_0", -8, 7),
        ("Q5_0", -16, 15),
        ("Q4_1", 0, 15),
        ("Q5_1", 0, 31),
        ("Q4_K", 0, 15),
        ("Q5_K", 0, 31),
        ("Q6_K", -32, 31),
    ],
)
def test_a_ladder_of_codes_comes_back(type: str, lowest: int, highest: int) -> None:
    # Every group holds its lowest code, so that d and the scales are exact.
    elements, _ = gguf.block_size(GGMLType[type])
    ladder = lowest + np.arange(elements) % (highest - lowest + 1)
    group = 16 if type == "Q6_K" else 32
    ladder[::group] = lowest
    ladder[1::group] = highest
    x = ladder.astype(np.float32)
    y = gguf.dequantize_array(gguf.quantize_array(x, type), type, x.shape)
    np.testing.assert_allclose(y, x, atol=1e-3 * (highest - lowest))


def with_value(value: float) -> np.ndarray:
    x = np.ones(256, np.float32)
    x[3] = value
    return x


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (with_value(np.nan), "1 or more values are not finite, such as .*nan"),
        (with_value(-np.inf), "not finite"),
        (with_value(1e9), "float16 scale of Q.* is beyond 65504"),
        (with_value(-1e30), "float16 scale of Q.* is beyond 65504"),
        (np.ones((2, 48), np.float32), "rows of 48 elements"),
        (np.ones(256, np.int64), "int64"),
    ],
)
def test_weights_that_cannot_be_quantized(
    type: str, x: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gguf.quantize_array(x, type)


@pytest.mark.parametrize("type", ["F32", *TYPES])
@pytest.mark.parametrize(
    ("importance", "message"),
    [
        (with_value(np.nan), r"importance\[3\] is .*nan.*finite"),
        (with_value(np.inf), r"importance\[3\] is .*inf"),
        (np.full(256, 1e300), r"importance\[0\] is .*1e\+300"),
        (with_value(-0.5), r"importance\[3\] is .*-0\.5.*not below 0"),
        (np.ones(255, np.float32), r"shape \(255,\); give .* shape \(256,\)"),
        (np.ones((1, 256), np.float32), r"shape \(1, 256\)"),
        (np.ones(256, np.int32), "importance is int32"),
    ],
)
def test_importances_that_cannot_weigh(
    type: str, importance: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gguf.quantize_array(np.ones((2, 256), np.float32), type, importance)


def test_types_are_named_or_given() -> None:
    x = distributions(8, 2)["normal"]
    raw = gguf.quantize_array(x, "Q4_K")
    assert raw.dtype == np.uint8
    assert raw.shape == (2, 3 * 144)
    for same in (GGMLType.Q4_K, "q4_k"):
        np.testing.assert_array_equal(raw, gguf.quantize_array(x, same))
    y = gguf.dequantize_array(raw, "Q4_K", x.shape)
    np.testing.assert_array_equal(
        y, gguf.dequantize_array(raw.reshape(-1), GGMLType.Q4_K, x.shape)
    )
    assert gguf.quantize_array(x[:0], "Q6_K").shape == (0, 630)
    for call in (
        lambda: gguf.quantize_array(x, "q4_k_m"),
        lambda: gguf.dequantize_array(raw, "Q4_X", x.shape),
    ):
        with pytest.raises(ValueError, match="type is 'q4_k_m'|type is 'Q4_X'.*Q4_K"):
            call()


if __name__ == "__main__":
    import llama_cpp

    ggml = Reference(Path(str(llama_cpp.__file__)).parent / "lib")
    golden = {type: hashes(ggml.quantize_array, type) for type in TYPES}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
