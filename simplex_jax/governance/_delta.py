"""An associative state that is written by the gated delta rule."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from ._dense import Dense
from ._last_real import last_real
from ._running_sum import running_sum

# Longer chunks do more work a token, shorter ones take more steps.
_CHUNK = 32


def delta_rule(
    q: Float[Array, "B T K M"],
    k: Float[Array, "B T K M"],
    v: Float[Array, "B T K P"],
    log_decay: Float[Array, "B T K"],
    write: Float[Array, "B T K"],
    fresh: Bool[Array, "B T"],
    state: Float[Array, "B K M P"],
) -> tuple[Float[Array, "B T K P"], Float[Array, "B K M P"]]:
    r"""Write and read an associative memory, token by token.

    $S_t = \alpha_t S_{t-1} + \beta_t k_t (v_t - \alpha_t S_{t-1}^\top k_t)^\top$ and
    $o_t = S_t^\top q_t$; $S_{t-1} = 0$ where the token begins a document.

    Tokens are taken in chunks, and each in one piece: with
    $D_{ts} = \prod_{s < j \le t} \alpha_j$ the rows
    $u_t = \beta_t (v_t - \alpha_t S_{t-1}^\top k_t)$ solve the triangular system
    $u_t + \beta_t \sum_{s<t} D_{ts} \langle k_t, k_s\rangle u_s = \beta_t (v_t -
    D_{t0} S_0^\top k_t)$, and everything else is a product of matrices.

    Args:
        q: what is looked up.
        k: where it was written; of norm 1 or less, or the state may grow.
        v: what is written.
        log_decay: $\log \alpha \le 0$.
        write: $\beta$ in [0, 1]; 0 writes nothing.
        fresh: True for the first token of a document.
        state: before the first token.

    Returns:
        One vector a token and head, and the state after the last token. Differentiable
        by jvp, vjp and vmap in all floats.

    Source: gated delta networks (arXiv 2412.06464), in our own derivation; deviation:
    a reset is a mask, not a decay of 0, whose logarithm is not finite.
    """
    length = q.shape[1]
    size = min(length, _CHUNK)
    padding = -length % size

    def chunks(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (0, padding)) + ((0, 0),) * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)

    inputs = jax.tree.map(chunks, (q, k, v, log_decay, write, fresh))
    if length == size:
        out, state = _chunk(state, *(x[0] for x in inputs))
        return out, state

    def step(state, x):
        out, state = _chunk(state, *x)
        return state, out

    state, out = jax.lax.scan(step, state, inputs)
    out = jnp.moveaxis(out, 0, 1)
    return out.reshape(out.shape[0], -1, *out.shape[3:])[:, :length], state


def _chunk(state, q, k, v, log_decay, write, fresh):
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    total = running_sum(log_decay, fresh).swapaxes(1, 2)
    write = write.swapaxes(1, 2)
    document = jnp.cumsum(fresh, axis=1)
    together = document[:, :, None] == document[:, None, :]
    together = jnp.tril(together)[:, None]
    # Masked before the exponential too: what is above the diagonal would overflow.
    gaps = jnp.where(together, total[..., :, None] - total[..., None, :], 0)
    decay = jnp.where(together, jnp.exp(gaps), 0)
    carried = jnp.where(document[:, None] == 0, jnp.exp(total), 0)[..., None]
    system = write[..., None] * decay * (k @ k.mT)
    right = write[..., None] * (v - carried * (k @ state))
    u = unit_lower_inverse(system) @ right
    out = carried * (q @ state) + (decay * (q @ k.mT)) @ u
    written = k * decay[..., -1, :, None]
    state = carried[..., -1:, :] * state + written.mT @ u
    return out.swapaxes(1, 2), state


def unit_lower_inverse(x: Float[Array, "*B C C"]) -> Float[Array, "*B C C"]:
    r"""Invert what is below the diagonal of x, with ones on the diagonal.

    From blocks of 1 on, two neighbours A and D with what lies below, B, are inverted as
    one: below is then $-D^{-1} B A^{-1}$.

    Args:
        x: what is on and above the diagonal is not looked at.

    Returns:
        The inverse, lower triangular. Differentiable by jvp, vjp and vmap.

    Precision: as substitution's. Deviation from ``jax.lax.linalg.triangular_solve``:
    on CPU two of those in one program can wait for each other for good, as each takes a
    thread of the pool and asks it for another (jaxlib 0.10.2, two cores).
    """
    size = x.shape[-1]
    at = jnp.arange(size)
    inverse = jnp.broadcast_to(jnp.eye(size, dtype=x.dtype), x.shape)
    block = 1
    while block < size:
        pair, half = at // (2 * block), at // block
        below = (pair[:, None] == pair[None]) & (half[:, None] > half[None])
        between = jnp.where(jnp.broadcast_to(below, x.shape), x, 0)
        inverse = inverse - inverse @ between @ inverse
        block *= 2
    return inverse


class DeltaState(NamedTuple):
    """What a delta memory keeps of the tokens so far.

    Args:
        matrix: the associative state.
        key: map of the last token, which the next token's value is written under.
    """

    matrix: Float[Array, "*L B K M M"]
    key: Float[Array, "*L B K M"]

    @classmethod
    def zeros(
        cls, leading: tuple[int, ...], heads: int, width: int, dtype
    ) -> "DeltaState":
        """Return the state before any token.

        Args:
            leading: layers, if any, and rows B.
            heads: K.
            width: M.
            dtype: float32 or wider.

        Returns:
            Zeros.
        """
        sizes = (*leading, heads, width, width), (*leading, heads, width)
        return cls(*(jnp.zeros(size, dtype) for size in sizes))


class DeltaMemory(nnx.Module):
    r"""Remember in a state what attention's window no longer holds.

    With $k'_t = x_t W_k$ and $t'$ the token before $t$ in its document, a token's value
    $x_t W_v$ is written under the key $a \odot k'_t + b \odot k'_{t'}$, and looked up
    is $x_t W_q$; both are scaled to norm 1. At the start $a = 0$, $b = 1$ and
    $W_q = W_k$: a token reads what followed it last. The decay
    $\alpha = \sigma(x W_\alpha + b_\alpha)$ and the write gate
    $\beta = \sigma(x W_\beta + b_\beta)$ those of ``delta_rule``; what is read is
    multiplied by a gate of one number a channel, 0 at the start, and mapped to the
    stream's width.

    Args:
        features: width D of a token.
        heads: K, states.
        width: M, of a state's keys and values.
        leading: axes in front of every parameter, for layers that a scan slices.
        param_dtype: of the parameters.
        rngs: draws the weights.

    Source: SIM-ONE's memory head, whose weights are one number a query and cancel in
    softmax; deviation: a state that is carried through time. Published delta networks
    mix four tokens by convolutions of queries, keys and values, at random at the start;
    here the keys alone mix two.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        width: int,
        *,
        leading: tuple[int, ...] = (),
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Draw the maps; half of a memory is left after 700 tokens."""
        common = {"leading": leading, "param_dtype": param_dtype, "rngs": rngs}
        self.query, self.key, self.value = (
            Dense(features, heads * width, **common) for _ in range(3)
        )
        # A copy: the same buffer twice could not be donated.
        self.query.kernel[...] = self.key.kernel[...].copy()
        self.now = nnx.Param(jnp.zeros((*leading, heads * width), param_dtype))
        self.before = nnx.Param(jnp.ones((*leading, heads * width), param_dtype))
        self.decay = Dense(features, heads, bias=7.0, **common)
        self.write = Dense(features, heads, bias=0.0, **common)
        self.gate = nnx.Param(jnp.zeros((*leading, heads * width), param_dtype))
        self.output = Dense(heads * width, features, **common)
        self.width = width

    def __call__(
        self,
        x: Float[Array, "B T D"],
        real: Bool[Array, "B T"],
        fresh: Bool[Array, "B T"],
        state: DeltaState | None = None,
    ) -> tuple[Float[Array, "B T D"], DeltaState]:
        """Return what each token reads, and the state after the last one.

        Args:
            x: normalised stream.
            real: False for padding, which writes nothing and reads zeros.
            fresh: True where a document begins: the state starts from 0.
            state: before the first token, in float32 or wider; None: 0.

        Returns:
            A summand of the stream in the dtype of x, and the state. Differentiable by
            jvp, vjp and vmap, by x, the state and the parameters.
        """
        b, t, _ = x.shape
        q, k, v = (
            dense(x).reshape(b, t, -1, self.width)
            for dense in (self.query, self.key, self.value)
        )
        if state is None:
            state = DeltaState.zeros((b,), k.shape[2], self.width, k.dtype)
        ahead = last_real(k, real, state.key)
        previous = jnp.where(fresh[..., None, None], 0, ahead[:, :-1])
        now, before = (
            scale[...].astype(k.dtype).reshape(1, 1, *k.shape[2:])
            for scale in (self.now, self.before)
        )
        q, k = _unit(q), _unit(now * k + before * previous)
        here = real[..., None]
        log_decay = jnp.where(here, jax.nn.log_sigmoid(self.decay(x)), 0)
        write = jnp.where(here, self.write_prob(x), 0)
        read, matrix = delta_rule(q, k, v, log_decay, write, fresh & real, state.matrix)
        read = jnp.where(here, read.reshape(b, t, -1), 0)
        read = read * self.gate[...].astype(read.dtype)[None, None]
        out = self.output(read.astype(x.dtype)).astype(x.dtype)
        return out, DeltaState(matrix, ahead[:, -1])

    def write_prob(self, x: Float[Array, "B T D"]) -> Float[Array, "B T K"]:
        r"""Return the write gates $\beta$, in (0, 1)."""
        return jax.nn.sigmoid(self.write(x))


def _unit(x: Float[Array, "B T K M"]) -> Float[Array, "B T K M"]:
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)
