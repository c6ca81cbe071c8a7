"""Blocks and comparisons that several tests of the codecs use."""

import numpy as np

from simplex_jax import gguf
from simplex_jax.gguf import GGMLType

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
