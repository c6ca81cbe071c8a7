"""Traced codecs: the bits of the NumPy decoders, the error of its encoders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gguf_helpers import assert_same_bits, random_blocks

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType, traced
from simplex_jax.gguf._codecs import ENCODABLE

pytestmark = pytest.mark.optimized

TYPES = sorted(ENCODABLE - {GGMLType.F32, GGMLType.F16, GGMLType.BF16})
SHAPE = (128, 2048)


@pytest.mark.parametrize("type", TYPES)
def test_random_bytes_decode_to_the_same_bits(type: GGMLType) -> None:
    elements, _ = gguf.block_size(type)
    raw, shape = random_blocks(type, 6000), (2, 3000, elements)
    expected = gguf.dequantize_array(raw, type, shape)
    assert np.isnan(expected).any() and np.isinf(expected).any()
    assert_same_bits(np.asarray(traced.dequantize(raw, type, shape)), expected)
    assert_same_bits(
        np.asarray(traced.dequantize(raw.reshape(-1), type.name, shape)), expected
    )


def test_every_float16_scale_decodes_to_the_same_bits() -> None:
    raw = np.ones((65536, 34), np.uint8)
    raw[:, :2] = np.arange(65536, dtype="<u2")[:, None].view(np.uint8)
    expected = gguf.dequantize_array(raw, "Q8_0", (65536, 32))
    assert_same_bits(
        np.asarray(traced.dequantize(raw, "Q8_0", expected.shape)), expected
    )


def values(name: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    normal = rng.normal(size=SHAPE)
    scales = {
        "normal": 1.0,
        "outlier columns": np.where(rng.random((1, SHAPE[1])) < 0.01, 30, 1),
        "outlier rows": np.where(rng.random((SHAPE[0], 1)) < 0.1, 100, 1),
        "outliers": np.where(rng.random(SHAPE) < 0.003, 50, 1),
        "small": 1e-3,
    }
    x = {
        **{key: normal * scale for key, scale in scales.items()},
        "laplace": rng.laplace(size=SHAPE) * 0.02,
        "positive": rng.random(SHAPE) + 0.5,
        "sparse": normal * (rng.random(SHAPE) < 0.05),
        "constant": np.full(SHAPE, 0.3),
    }[name]
    return x.astype(np.float32)


def rmse(encoded: np.ndarray, type: GGMLType, x: np.ndarray) -> float:
    error = gguf.dequantize_array(encoded, type, x.shape).astype(np.float64) - x
    return float(np.sqrt(np.mean(error**2)))


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(
    "name",
    [
        "normal",
        pytest.param("laplace", marks=pytest.mark.slow),
        pytest.param("outlier columns", marks=pytest.mark.slow),
        pytest.param("outlier rows", marks=pytest.mark.slow),
        "outliers",
        pytest.param("small", marks=pytest.mark.slow),
        pytest.param("positive", marks=pytest.mark.slow),
        "sparse",
        "constant",
    ],
)
def test_encoding_errs_as_little_as_the_exact_one(name: str, type: GGMLType) -> None:
    x = values(name)
    exact = rmse(gguf.quantize_array(x, type), type, x)
    ours = rmse(np.asarray(traced.quantize(x, type)), type, x)
    assert exact > 0
    # Of nearly nothing, many fits are without error, and rounding chooses.
    assert ours <= (1.04 if name == "sparse" else 1.02) * exact


@pytest.mark.parametrize("type", TYPES)
def test_zeros_stay_zeros(type: GGMLType) -> None:
    encoded = traced.quantize(jnp.zeros((2, 256)), type)
    np.testing.assert_array_equal(traced.dequantize(encoded, type, (2, 256)), 0)


@pytest.mark.parametrize("type", TYPES)
def test_shapes_are_those_of_the_numpy_codecs(type: GGMLType) -> None:
    for shape in [(256,), (2, 3, 512), (0, 256), (2, 0)]:
        x = jnp.ones(shape, jnp.bfloat16)
        encoded = traced.quantize(x, type)
        assert encoded.shape == gguf.quantize_array(np.ones(shape, "f4"), type).shape
        decoded = traced.dequantize(encoded, type, shape)
        assert decoded.shape == shape
        np.testing.assert_allclose(decoded, 1, rtol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("type", TYPES)
def test_vmap_changes_nothing(type: GGMLType) -> None:
    x = jax.random.normal(jax.random.key(type), (3, 2, 256))
    encoded = traced.quantize(x, type)
    np.testing.assert_array_equal(
        jax.vmap(lambda row: traced.quantize(row, type))(x), encoded
    )
    decoded = traced.dequantize(encoded, type, x.shape)
    np.testing.assert_array_equal(
        jax.vmap(lambda row: traced.dequantize(row, type, (2, 256)))(encoded), decoded
    )


def test_weights_may_stay_in_their_blocks() -> None:
    x = np.random.default_rng(0).normal(size=(16, 512)).astype(np.float32)
    blocks = gguf.quantize_array(x, "Q4_K")

    @jax.jit
    def loss(activations: jax.Array, blocks: jax.Array) -> jax.Array:
        return jnp.sum(traced.dequantize(blocks, "Q4_K", x.shape) @ activations)

    expected = gguf.dequantize_array(blocks, "Q4_K", x.shape).sum(axis=0)
    gradient = jax.grad(loss)(jnp.ones(512), jnp.asarray(blocks))
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize("type", TYPES)
def test_a_scale_beyond_float16_is_not_finite(type: GGMLType) -> None:
    x = jnp.linspace(-1e9, 1e9, 256)
    decoded = traced.dequantize(traced.quantize(x, type), type, (256,))
    assert not np.isfinite(decoded).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: traced.dequantize(np.zeros(34, np.uint8), "Q8_1", (32,)), "'Q8_1'"),
        (lambda: traced.dequantize(np.zeros(4, np.uint8), "F32", (1,)), "'F32'.*Q6_K"),
        (lambda: traced.dequantize(np.zeros(33, np.uint8), "Q8_0", (32,)), "33 bytes"),
        (lambda: traced.dequantize(np.zeros(34, np.uint8), "Q8_0", (33,)), "of 33"),
        (lambda: traced.quantize(jnp.zeros((2, 100)), "Q4_0"), "rows of 100"),
        (lambda: traced.quantize(jnp.zeros(32), "Q4_K"), "rows of 32"),
        (lambda: traced.quantize(jnp.zeros(256), GGMLType.IQ4_XS), "'IQ4_XS'"),
    ],
)
def test_refused_arguments_are_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
