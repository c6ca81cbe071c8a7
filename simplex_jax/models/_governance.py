"""The governance heads of attention, folded into further channels of q and k."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from .. import governance
from ._config import DecoderConfig

_HF_NAME = "model.layers.{i}.self_attn.governance"
_GGUF_NAME = "blk.{i}.governance"


class Marks(NamedTuple):
    """What the heads know of each token beside its vector.

    Args:
        real: False for padding.
        fresh: True for the first token of a document.
    """

    real: Bool[Array, "B T"]
    fresh: Bool[Array, "B T"]


def marks_of(
    segment_ids: Int[Array, "B T"], before: Int[Array, " B"]
) -> tuple[Marks, Int[Array, " B"]]:
    """Return the marks of packed rows, and the last document of each row.

    Args:
        segment_ids: document of each token; 0 is padding, which ends no document.
        before: document that the row's first token may go on with; 0: none.

    Returns:
        The marks, and the id of each row's last token that is not padding.
    """
    real = segment_ids != 0
    last = governance.last_real(segment_ids, real, before)
    return Marks(real, real & (segment_ids != last[:, :-1])), last[:, -1]


def key_width(config: DecoderConfig, dtype) -> int:
    """Return how many channels a key has, the governance heads' included.

    Args:
        config: the decoder's.
        dtype: of the stream.

    Returns:
        ``head_dim``, plus the policy's rank, plus one for veto and forgetting, which
        in half precision is split in three.
    """
    heads, width = config.governance, config.head_width
    if heads is not None and heads.policy:
        width += heads.policy_rank
    if heads is not None and (heads.veto_gate or heads.forgets):
        width += _pieces(dtype)
    return width


def empty_state(
    config: DecoderConfig, leading: tuple[int, ...], dtype
) -> governance.DeltaState:
    """Return the state of a delta memory before any token.

    Args:
        config: with an associative memory.
        leading: layers, if any, and rows.
        dtype: of the stream; the state is float32 or wider.

    Returns:
        Zeros.
    """
    heads = config.governance
    assert heads is not None
    dtype = jnp.promote_types(dtype, jnp.float32)
    return governance.DeltaState.zeros(
        leading, config.num_key_value_heads, heads.memory_dim, dtype
    )


class Governance(nnx.Module):
    """Policy, veto, forgetting and memory of one layer's attention.

    The biases of the first three are products of a vector a query and one a key, so
    they become further channels of q and k: attention and its cache stay as they are,
    and cached keys carry what governs them.

    Args:
        config: of the decoder; says which heads there are.
        leading: axes in front of every parameter.
        param_dtype: of the parameters.
        rngs: draws the weights.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        leading: tuple[int, ...] = (),
        param_dtype,
        rngs: nnx.Rngs,
    ):
        """Build the heads that the configuration names."""
        heads = config.governance
        assert heads is not None
        hidden, kv_heads = config.hidden_size, config.num_key_value_heads
        common = {"leading": leading, "param_dtype": param_dtype, "rngs": rngs}
        self.policy = self.veto = self.forget = self.memory = nnx.data(None)
        if heads.policy:
            query_heads = config.num_attention_heads
            self.policy = governance.Policy(
                hidden, query_heads, kv_heads, heads.policy_rank, **common
            )
        if heads.veto_gate:
            self.veto = governance.Veto(hidden, kv_heads, **common)
        if heads.forgets:
            self.forget = governance.Forget(hidden, kv_heads, **common)
        if heads.associates:
            self.memory = governance.DeltaMemory(
                hidden, kv_heads, heads.memory_dim, **common
            )
        for path, variable in nnx.to_flat_state(nnx.state(self)):
            # What a kernel or bias is part of has the name; the suffix comes later.
            parts = path[:-1] if path[-1] in ("kernel", "bias") else path
            name = ".".join(map(str, parts))
            variable.set_metadata(
                hf_name=f"{_HF_NAME}.{name}", gguf_name=f"{_GGUF_NAME}.{name}"
            )

    def widen(
        self,
        x: Float[Array, "B T D"],
        q: Float[Array, "B T N H"],
        k: Float[Array, "B T K H"],
        marks: Marks,
        past: Float[Array, "B K"] | None = None,
    ) -> tuple[Float[Array, "B T N C"], Float[Array, "B T K C"], Array | None]:
        r"""Return q and k with the channels whose product is the heads' bias.

        Attention divides products by $\sqrt H$, so every bias is multiplied by it.

        Args:
            x: normalised stream.
            q: queries.
            k: keys.
            marks: padding and beginnings.
            past: what ``governance.Forget`` returned for the tokens before; None: 0.

        Returns:
            q and k in their dtypes, and what to give as ``past`` for the tokens after,
            None without forgetting.
        """
        scale = q.shape[-1] ** 0.5
        queries, keys = [q], [k]
        if self.policy is not None:
            u, w = self.policy(x)
            queries.append((u * scale).astype(q.dtype))
            keys.append(w.astype(k.dtype))
        bias = None
        if self.veto is not None:
            bias = self.veto(x)
        if self.forget is not None:
            fading, past = self.forget(x, *marks, past)
            bias = fading if bias is None else bias + fading
        if bias is not None:
            keys += split(bias * scale, k.dtype)
            queries.append(jnp.ones((*q.shape[:3], _pieces(k.dtype)), q.dtype))
        return jnp.concatenate(queries, axis=-1), jnp.concatenate(keys, axis=-1), past

    def gates(self, x: Float[Array, "B T D"]) -> dict[str, Float[Array, "B T K"]]:
        """Return the gates of the heads that have one, in (0, 1).

        Args:
            x: normalised stream.

        Returns:
            ``veto``, ``forget`` and ``write``, as far as there are such heads.
        """
        heads = {"veto": self.veto, "forget": self.forget}
        found = {n: head.gate_prob(x) for n, head in heads.items() if head is not None}
        if self.memory is not None:
            found["write"] = self.memory.write_prob(x)
        return found


def _pieces(dtype) -> int:
    return 3 if jnp.finfo(dtype).bits < 32 else 1


def split(x: Float[Array, "B T K"], dtype) -> list[Float[Array, "B T K _"]]:
    """Return channels of a dtype whose sum is x to the precision of float32.

    Args:
        x: numbers in float32 or wider.
        dtype: of the channels; half precision needs three.

    Returns:
        Each the rounded rest of what those before it leave. The first has the
        derivative of x, the others none.
    """
    bits = jnp.finfo(dtype)
    channels, rest = [], x
    for _ in range(_pieces(dtype)):
        channels.append(rest.astype(dtype)[..., None])
        # XLA would take a conversion there and back for no conversion.
        rounded = jax.lax.reduce_precision(rest, bits.nexp, bits.nmant)
        rest = jax.lax.stop_gradient(rest - rounded)
    return channels
