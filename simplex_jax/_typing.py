"""Shared type aliases; letters in shapes are those of docs/design.md."""

from typing import TypeAlias

import jax
from jaxtyping import Array, Float, Int, Key

Tokens: TypeAlias = Int[Array, "B T"]
"""Token ids, one row a sequence."""

Logits: TypeAlias = Float[Array, "B T V"]
"""Unnormalised log-probabilities of the next token."""

PRNGKey: TypeAlias = Key[Array, ""] | jax.Array
"""A typed JAX key, or an old-style uint32 pair."""
