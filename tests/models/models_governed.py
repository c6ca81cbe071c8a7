"""Governed decoders for the tests, all parameters off what they start at."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
from flax import nnx
from models_helpers import TINY, make

from simplex_jax.models import Decoder, DecoderConfig, GovernanceConfig

MEMORIES = ("none", "forget", "delta", "both")
FLAGS = {
    f"{'policy-' * policy}{'veto-' * veto}{memory}": GovernanceConfig(
        policy=policy, policy_rank=3, veto_gate=veto, memory=memory, memory_dim=4
    )
    for policy, veto, memory in itertools.product(
        (True, False), (True, False), MEMORIES
    )
    if policy or veto or memory != "none"
}
ALL = FLAGS["policy-veto-both"]


def governed(heads: GovernanceConfig = ALL, kind: str = "llama") -> DecoderConfig:
    """Return the configuration of a tiny governed model."""
    return dataclasses.replace(TINY[kind], governance=heads)


def shaken(config: DecoderConfig, seed: int = 0, **options) -> Decoder:
    """Return a random model whose governance parameters are as large as the others."""
    graphdef, state = nnx.split(make(config, seed, **options))
    rng = np.random.default_rng(seed)
    flat = dict(nnx.to_flat_state(state))
    for path, variable in flat.items():
        if "governance" in path:
            size = 0.3 if path[-1] == "kernel" else 1.0
            draw = size * rng.standard_normal(variable.shape)
            flat[path] = variable.replace(jnp.asarray(draw, variable.dtype))
    return nnx.merge(graphdef, nnx.from_flat_state(flat))
