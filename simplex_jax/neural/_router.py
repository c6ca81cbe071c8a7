"""Which experts an input goes to."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from .._checks import positive_or_nan, refuse
from ._mode import Mode
from ._straight_through import straight_through


class Routing(NamedTuple):
    """What a router decided.

    Attributes:
        weights: (..., E), in [0, 1] and 1 in sum; in HARD and STRAIGHT_THROUGH 0 for
            all but top_k experts.
        experts: (..., top_k), their indices, the best first.
        load_balance_loss: 1 where experts are used evenly, E / top_k at the worst.
        z_loss: mean square of the logits' logsumexp; keeps logits small.
    """

    weights: Float[Array, "*rows E"]
    experts: Int[Array, "*rows K"]
    load_balance_loss: Float[Array, ""]
    z_loss: Float[Array, ""]


class Router(nnx.Module):
    r"""Choose ``top_k`` of E experts for each row: $p = \mathrm{softmax}(x W / T)$.

    SOFT weighs all experts by p. HARD keeps the top_k and divides by their sum; only
    they get a gradient. STRAIGHT_THROUGH has HARD's weights and SOFT's derivative, so
    the losers learn too.

    Args:
        in_features: width of a row.
        experts: E.
        top_k: from 1 to E.
        rngs: for the weights, of variance 1 / in_features: no two experts start alike.

    Raises:
        ValueError: for a top_k outside 1 to E.

    Source: Simplex's ``MultiGate``; deviation: weights start different, top-k leaves a
    way for gradients to the losers.
    """

    def __init__(self, *, in_features: int, experts: int, top_k: int, rngs: nnx.Rngs):
        """Draw the weights, (in_features, E)."""
        if not 1 <= top_k <= experts:
            refuse("top_k", top_k, f"give 1 to experts, of which there are {experts}")
        self.top_k = top_k
        init = nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(init(rngs.params(), (in_features, experts)))

    def __call__(
        self,
        x: Float[Array, "*rows I"],
        *,
        mode: Mode = Mode.STRAIGHT_THROUGH,
        temperature: Float[ArrayLike, ""] = 1.0,
    ) -> Routing:
        r"""Return weights, experts and the two auxiliary losses.

        Load balance is $E \sum_e f_e \bar p_e$, with f the share of choices that fell
        on e and $\bar p$ the mean probability.

        Args:
            x: rows.
            mode: see ``Router``.
            temperature: T > 0; may be traced.

        Returns:
            A ``Routing``.

        Raises:
            ValueError: for a concrete temperature that is not positive.

        Differentiable: jvp, vjp and vmap by x, kernel and temperature; the choice and f
        have no derivative.
        """
        logits = x @ self.kernel[...].astype(x.dtype)
        logits = logits / positive_or_nan("temperature", temperature)
        probs = jax.nn.softmax(logits)
        count = probs.shape[-1]
        experts = jax.lax.top_k(probs, self.top_k)[1]
        chosen = jax.nn.one_hot(experts, count, dtype=probs.dtype).sum(-2)
        kept = probs * chosen
        weights = kept / kept.sum(-1, keepdims=True)
        if mode is Mode.SOFT:
            weights = probs
        elif mode is Mode.STRAIGHT_THROUGH:
            weights = straight_through(weights, probs)
        rows = tuple(range(probs.ndim - 1))
        share = chosen.mean(rows) / self.top_k
        return Routing(
            weights,
            experts,
            count * jnp.sum(share * probs.mean(rows)),
            jnp.mean(jax.nn.logsumexp(logits, axis=-1) ** 2),
        )
