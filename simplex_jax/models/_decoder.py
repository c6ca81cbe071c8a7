"""The decoder-only transformer: one class for Llama, Qwen2 and Qwen3."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from .._checks import one_of
from .._typing import Logits, PRNGKey, Tokens
from ..governance import DeltaState
from ._config import DecoderConfig
from ._governance import Governance, empty_state, marks_of
from ._governance_config import GovernanceConfig
from ._layers import _INIT_STD, KEPT, DecoderLayer, LayerCache, Linear, RMSNorm, wide
from ._rope import rope_tables

REMAT_POLICIES = {
    "none": jax.checkpoint_policies.everything_saveable,
    "projections": jax.checkpoint_policies.save_only_these_names(KEPT),
    "full": jax.checkpoint_policies.nothing_saveable,
}
"""What the backward pass keeps of each layer.

``none`` recomputes nothing; ``projections`` keeps what the linear maps give, adapters
included, and recomputes attention, norms and activations; ``full`` recomputes all.
"""


class Embedding(nnx.Module):
    """Look token vectors up; the transpose is the head of a tied model."""

    def __init__(self, config: DecoderConfig, *, param_dtype, rngs: nnx.Rngs):
        """Draw the table (V, D) from N(0, 0.02^2)."""
        shape = (config.vocab_size, config.hidden_size)
        table = jax.random.normal(rngs.params(), shape, param_dtype) * _INIT_STD
        self.embedding = nnx.Param(
            table.astype(param_dtype),
            hf_name="model.embed_tokens",
            gguf_name="token_embd",
        )

    def __call__(self, tokens: Tokens) -> Float[Array, "B T D"]:
        """Return one row a token; an id outside the table gives the nearest row."""
        # Indexing alone would count negative ids from the end.
        return self.embedding[...].at[jnp.maximum(tokens, 0)].get(mode="clip")


class Memory(NamedTuple):
    """What a window of tokens leaves to the next one of the same document.

    Args:
        states: associative states of all layers.
        segments: document of the last token of each row; 0: none.
    """

    states: DeltaState
    segments: Int[Array, " B"]


class Decoder(nnx.Module):
    """Predict the next token: embedding, L pre-norm blocks, RMS norm, head.

    Shapes: int (B, T) -> float (B, T, V). The blocks' Variables are stacked on a
    leading axis and run by ``lax.scan``, so compile time does not grow with depth.

    Args:
        config: sizes and kind.
        param_dtype: of the weights, and of the stream between the blocks.
        remat: a key of ``REMAT_POLICIES``; what reverse mode saves of each block.
        rngs: draws the initial weights.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        param_dtype=jnp.float32,
        remat: str = "projections",
        rngs: nnx.Rngs,
    ):
        """Draw random weights; ``models.load`` fills in real ones."""
        one_of("remat", remat, REMAT_POLICIES)
        self.config = config
        self.remat = remat
        self.embed_tokens = Embedding(config, param_dtype=param_dtype, rngs=rngs)
        self.layers = DecoderLayer(
            config,
            leading=(config.num_hidden_layers,),
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.norm = RMSNorm(
            config.hidden_size,
            config.rms_norm_eps,
            param_dtype=param_dtype,
            hf_name="model.norm",
            gguf_name="output_norm",
        )
        self.lm_head = nnx.data(None)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(
                config.hidden_size,
                config.vocab_size,
                param_dtype=param_dtype,
                rngs=rngs,
                hf_name="lm_head",
                gguf_name="output",
            )
        if config.governance is not None:
            # Last, so that the rest draws the weights of the plain decoder.
            self.layers.self_attn.governance = Governance(
                config,
                leading=(config.num_hidden_layers,),
                param_dtype=param_dtype,
                rngs=rngs,
            )

    def __call__(
        self,
        tokens: Tokens,
        positions: Int[Array, "B T"] | None = None,
        segment_ids: Int[Array, "B T"] | None = None,
        *,
        key: PRNGKey | None = None,
    ) -> Logits:
        """Return next-token logits.

        Args:
            tokens: ids in [0, V).
            positions: for RoPE, >= 0; None: counted from each segment's start.
            segment_ids: which document a token belongs to; 0 is padding. A token looks
                at earlier tokens of its own segment only. None: one document a row.
            key: for dropout in adapters; None: no dropout.

        Returns:
            (B, T, V) in float32, or float64 for a float64 model. Differentiable in the
            weights by jvp and vjp. The logits of padding mean nothing.

        Raises:
            ValueError: where a row is longer than the model's context.
        """
        hidden = self.hidden(tokens, positions, segment_ids, key=key)
        return self.logits(hidden)

    def hidden(
        self,
        tokens: Tokens,
        positions: Int[Array, "B T"] | None = None,
        segment_ids: Int[Array, "B T"] | None = None,
        *,
        key: PRNGKey | None = None,
    ) -> Float[Array, "B T D"]:
        """Return the normalised last hidden state; arguments as for the call."""
        x = self.embed_tokens(tokens)
        return self.from_embeddings(x, positions, segment_ids, key=key)[0]

    def from_embeddings(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "B T"] | None = None,
        segment_ids: Int[Array, "B T"] | None = None,
        *,
        memory: Memory | None = None,
        key: PRNGKey | None = None,
    ) -> tuple[Float[Array, "B T D"], Memory | None]:
        """Return the normalised last hidden state of given embeddings, and a memory.

        Args:
            x: one vector a token.
            positions: as for the call.
            segment_ids: as for the call.
            memory: of the window before, ``models.empty_memory`` for the first one. A
                row whose document goes on reads its associative states; attention
                sees this window alone. None: no window before, and none after.
            key: as for the call.

        Returns:
            Hidden states; the memory for the next window, None where none was given.

        Raises:
            ValueError: where a row is longer than the model's context.
        """
        batch, length, _ = x.shape
        if length > self.config.max_position_embeddings:
            raise ValueError(
                f"tokens: {length} in a row, but the model's context is "
                f"{self.config.max_position_embeddings}; shorten or split the rows"
            )
        if segment_ids is None:
            segment_ids = jnp.ones((batch, length), jnp.int32)
        if positions is None:
            positions = segment_positions(segment_ids)
        before = jnp.zeros(batch, segment_ids.dtype)
        caches = None
        if memory is not None:
            before = memory.segments.astype(segment_ids.dtype)
            caches = LayerCache(memory=memory.states)
        marks, last = marks_of(segment_ids, before)
        rope = rope_tables(self.config, positions, wide(x.dtype))
        mask = segment_mask(segment_ids)
        graphdef, stacked = nnx.split(self.layers)
        keys = None
        if key is not None:
            keys = jax.random.split(key, self.config.num_hidden_layers)

        def block(x, inputs):
            state, cache, layer_key = inputs
            layer = nnx.merge(graphdef, state)
            return layer(x, rope, mask, marks=marks, cache=cache, key=layer_key)

        policy = REMAT_POLICIES[self.remat]
        body = jax.checkpoint(block, policy=policy, prevent_cse=False)
        x, caches = jax.lax.scan(body, x, (stacked, caches, keys))
        if caches is not None:
            memory = Memory(caches.memory, last)
        return self.norm(x), memory

    def logits(self, hidden: Float[Array, "B T D"]) -> Logits:
        """Return the head's logits of hidden states, in float32 or wider."""
        return self.head.logits(hidden)

    @property
    def head(self) -> "Head":
        """Return the part of the model that turns hidden states into logits."""
        return Head(self.embed_tokens if self.lm_head is None else self.lm_head)


class Head(nnx.Module):
    """The map from hidden states to logits, without the rest of the model.

    Args:
        module: the head, or the embedding of a model where they are tied.
    """

    def __init__(self, module: nnx.Module):
        """Share the module's Variables."""
        self.module = module

    @property
    def table(self) -> Float[Array, "V D"] | None:
        """Return the tied table, whose product with a hidden state is all there is."""
        module = self.module
        return module.embedding[...] if isinstance(module, Embedding) else None

    def logits(self, hidden: Float[Array, "B T D"]) -> Logits:
        """Return the logits of hidden states, in float32 or wider."""
        dtype, table = wide(hidden.dtype), self.table
        if table is None:
            return self.module(hidden).astype(dtype)  # pyright: ignore[reportCallIssue]
        return jnp.einsum("btd,vd->btv", hidden, table, preferred_element_type=dtype)


def GovernedDecoder(
    config: DecoderConfig,
    *,
    param_dtype=jnp.float32,
    remat: str = "projections",
    rngs: nnx.Rngs,
) -> Decoder:
    """Return a decoder with governance heads; untrained, they change no logit.

    Args:
        config: with ``governance``; without, all heads at their defaults are taken.
        param_dtype: as for ``Decoder``.
        remat: as for ``Decoder``.
        rngs: draws the initial weights, those of the plain decoder among them.

    Returns:
        The ``Decoder`` with ``config.governance`` set.
    """
    if config.governance is None:
        config = dataclasses.replace(config, governance=GovernanceConfig())
    return Decoder(config, param_dtype=param_dtype, remat=remat, rngs=rngs)


def empty_memory(model: Decoder, batch: int) -> Memory:
    """Return the memory before the first window of any document.

    Args:
        model: a decoder with associative memory.
        batch: rows, B.

    Returns:
        Zeros.

    Raises:
        ValueError: where the model has no associative memory.
    """
    config = model.config
    heads = config.governance
    if heads is None or not heads.associates:
        raise ValueError(
            "model has no associative memory; give its config "
            "governance=GovernanceConfig(memory='delta') or 'both'"
        )
    dtype = model.embed_tokens.embedding.dtype
    states = empty_state(config, (config.num_hidden_layers, batch), dtype)
    return Memory(states, jnp.zeros(batch, jnp.int32))


def segment_positions(segment_ids: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """Return each token's distance from the start of its run of equal ids.

    Args:
        segment_ids: document of each token.

    Returns:
        Counts from 0 that restart where the id changes.
    """
    index = jnp.arange(segment_ids.shape[1])[None, :]
    starts = segment_ids[:, 1:] != segment_ids[:, :-1]
    starts = jnp.pad(starts, ((0, 0), (1, 0)), constant_values=True)
    return index - jax.lax.cummax(jnp.where(starts, index, 0), axis=1)


def segment_mask(segment_ids: Int[Array, "B T"]) -> Bool[Array, "B T T"]:
    """Return where query t may look at key s: s <= t, same segment, not padding.

    Args:
        segment_ids: document of each token; 0 is padding.

    Returns:
        Boolean (B, query, key); rows of padding are False throughout.
    """
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    index = jnp.arange(segment_ids.shape[1])
    causal = index[:, None] >= index[None, :]
    return same & causal[None] & (segment_ids != 0)[:, None, :]
