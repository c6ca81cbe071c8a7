"""Generate text: chunked prefill, then a jitted loop of one token a row."""

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._checks import at_least, refuse, within
from .._typing import PRNGKey
from ..text import Tokenizer
from ._cache import Cache, empty_cache, extend, unstack_layers
from ._decoder import Decoder
from ._layers import wide
from ._sample import Sampling, choose

_STREAM_BLOCK = 8
_SLOT_MULTIPLE = 64


class Generated(NamedTuple):
    """What ``generate`` returns; the prompt is not repeated.

    Args:
        tokens: (B, max_new_tokens); 0 after a row's end.
        lengths: (B,) generated tokens of each row, the stop token included.
        logprobs: (B, max_new_tokens), natural logarithm of the model's probability of
            each token before temperature and filters; 0 after a row's end.
    """

    tokens: Int[Array, "B G"]
    lengths: Int[Array, " B"]
    logprobs: Float[Array, "B G"]


class _State(NamedTuple):
    # The newest token of ``out`` is not in the cache yet, so that the last one of all
    # never runs through the model.
    cache: Cache
    seen: Bool[Array, "B V"]
    done: Bool[Array, " B"]
    step: Int[Array, ""]
    out: Generated


def generate(
    model: Decoder,
    tokens: Int[Array, "B T"] | np.ndarray,
    lengths: Int[Array, " B"] | np.ndarray | None = None,
    *,
    max_new_tokens: int = 64,
    key: PRNGKey | None = None,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    stop_ids: Iterable[int] = (),
    chunk_tokens: int = 256,
) -> Generated:
    """Continue each row of tokens.

    Args:
        model: the decoder.
        tokens: prompts, one a row, padded on the right.
        lengths: real tokens of each row, >= 1; None: every row is full.
        max_new_tokens: at most this many a row, >= 1.
        key: needed where temperature > 0.
        temperature: see ``Sampling``, as the four that follow.
        top_k: number of tokens.
        top_p: probability.
        min_p: relative probability.
        repetition_penalty: factor.
        stop_ids: a row ends with the first of these, ``tokenizer.eog_ids`` as a rule.
        chunk_tokens: the prompt runs through the model in pieces of this many tokens,
            which bounds the memory of attention.

    Returns:
        Tokens, lengths and log-probabilities of what was generated.

    Raises:
        ValueError: where the prompt and the new tokens exceed the model's context, or
            an argument is out of range.
    """
    sampling = Sampling(repetition_penalty, temperature, top_k, top_p, min_p)
    key, stops = _key_and_stops(key, stop_ids, sampling)
    state = _start(
        model, tokens, lengths, max_new_tokens, key, stops, sampling, chunk_tokens
    )
    target = jnp.int32(max_new_tokens)
    layers = unstack_jit(model)
    return _decode(model, layers, state, target, key, stops, sampling=sampling).out


def stream(
    model: Decoder,
    tokenizer: Tokenizer,
    prompt_ids: list[int],
    *,
    max_new_tokens: int = 64,
    key: PRNGKey | None = None,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    stop: Iterable[str] = (),
    chunk_tokens: int = 256,
) -> Iterator[str]:
    """Yield the continuation of one prompt piece by piece, as it is generated.

    Args:
        model: the decoder.
        tokenizer: turns tokens into text; its ``eog_ids`` end the text.
        prompt_ids: the prompt.
        max_new_tokens: at most this many, >= 1.
        key: needed where temperature > 0.
        temperature: see ``Sampling``, as the four that follow.
        top_k: number of tokens.
        top_p: probability.
        min_p: relative probability.
        repetition_penalty: factor.
        stop: strings that end the text; they are not yielded, nor is anything after.
        chunk_tokens: as for ``generate``.

    Yields:
        Pieces of text; joined, they are the whole continuation.

    Raises:
        ValueError: as ``generate``, before the first piece.
    """
    stops = [text for text in stop if text]
    sampling = Sampling(repetition_penalty, temperature, top_k, top_p, min_p)
    tokens = np.asarray([prompt_ids], np.int32)
    key, ends = _key_and_stops(key, tokenizer.eog_ids, sampling)
    state = _start(
        model, tokens, None, max_new_tokens, key, ends, sampling, chunk_tokens
    )
    unstacked = unstack_jit(model)
    sent = target = 0
    while True:
        target = min(target + _STREAM_BLOCK, max_new_tokens)
        state = _decode(
            model, unstacked, state, jnp.int32(target), key, ends, sampling=sampling
        )
        ids = [int(t) for t in state.out.tokens[0, : int(state.out.lengths[0])]]
        finished = bool(state.done[0]) or target >= max_new_tokens
        shown = [i for i in ids if i not in tokenizer.eog_ids]
        text = tokenizer.decode(shown, text_start=False)
        cut = min((at for s in stops if (at := text.find(s)) >= 0), default=-1)
        if cut >= 0:
            yield text[sent:cut]
            return
        end = len(text) if finished else _settled(text, stops)
        if end > sent:
            yield text[sent:end]
            sent = end
        if finished:
            return


def _settled(text: str, stops: list[str]) -> int:
    """Return how much of a text later tokens can no longer change or cut."""
    # Bytes of a character whose rest is still to come decode to U+FFFD.
    end = len(text.rstrip("\ufffd"))
    for stop in stops:
        for size in range(min(len(stop) - 1, end), 0, -1):
            if text[:end].endswith(stop[:size]):
                end -= size
                break
    return end


def _key_and_stops(
    key: PRNGKey | None, stop_ids: Iterable[int], sampling: Sampling
) -> tuple[PRNGKey, Int[Array, " stops"]]:
    if sampling.temperature > 0 and key is None:
        raise ValueError(
            f"temperature={sampling.temperature} needs a key: key=jax.random.key(0)"
        )
    stops = jnp.asarray(sorted(stop_ids) or [-1], jnp.int32)
    return jax.random.key(0) if key is None else key, stops


def _start(
    model: Decoder,
    tokens,
    lengths,
    max_new_tokens: int,
    key: PRNGKey,
    stops: Int[Array, " stops"],
    sampling: Sampling,
    chunk_tokens: int,
) -> _State:
    batch, width = tokens.shape
    context = model.config.max_position_embeddings
    if width < 1 or batch < 1:
        refuse("tokens.shape", tokens.shape, "give rows and columns")
    at_least("max_new_tokens", max_new_tokens)
    at_least("chunk_tokens", chunk_tokens)
    if width + max_new_tokens > context:
        raise ValueError(
            f"{width} prompt tokens and max_new_tokens={max_new_tokens} exceed the "
            f"model's context of {context}; shorten the prompt or ask for fewer tokens"
        )
    if lengths is None:
        lengths = jnp.full(batch, width, jnp.int32)
    lengths = jnp.asarray(lengths, jnp.int32)
    if lengths.shape != (batch,):
        refuse("lengths.shape", lengths.shape, f"give ({batch},), a length a row")
    within("lengths", lengths, f"[1, {width}]")
    # Few distinct shapes, so that prompts of other lengths reuse compiled code.
    step = min(chunk_tokens, -(-width // 16) * 16)
    padded = -(-width // step) * step
    slots = -(-(padded + max_new_tokens) // _SLOT_MULTIPLE) * _SLOT_MULTIPLE
    tokens = jnp.pad(jnp.asarray(tokens, jnp.int32), ((0, 0), (0, padded - width)))
    cache = empty_cache(model, batch, slots)
    dtype = model.embed_tokens.embedding.dtype
    last = jnp.zeros((batch, model.config.hidden_size), dtype)
    for at in range(0, padded, step):
        last, cache = _prefill(
            model, tokens[:, at : at + step], lengths, jnp.int32(at), last, cache
        )
    real = jnp.arange(padded)[None, :] < lengths[:, None]
    out = Generated(
        jnp.zeros((batch, max_new_tokens), jnp.int32),
        jnp.zeros(batch, jnp.int32),
        jnp.zeros((batch, max_new_tokens), wide(last.dtype)),
    )
    # Only the repetition penalty looks at it: without one, it stays empty.
    vocab = model.config.vocab_size if sampling.repetition_penalty != 1 else 0
    seen = jnp.zeros((batch, vocab), bool)
    rows = jnp.arange(batch)[:, None]
    seen = seen.at[rows, jnp.where(real, tokens, vocab)].set(True, mode="drop")
    state = _State(cache, seen, jnp.zeros(batch, bool), jnp.int32(0), out)
    return _first(model, last, state, key, stops, sampling=sampling)


@functools.partial(jax.jit, donate_argnames=("last", "cache"))
def _prefill(model, tokens, lengths, at, last, cache):
    columns = at + jnp.arange(tokens.shape[1])
    hidden, cache = extend(model, tokens, columns[None, :] < lengths[:, None], cache)
    ends_here = columns[None, :] == lengths[:, None] - 1
    picked = jnp.einsum("bt,btd->bd", ends_here.astype(hidden.dtype), hidden)
    return jnp.where(jnp.any(ends_here, axis=1)[:, None], picked, last), cache


@functools.partial(jax.jit, static_argnames="sampling", donate_argnames="state")
def _first(model, hidden, state, key, stops, *, sampling):
    return _append(model.logits(hidden[:, None]), state, key, stops, sampling)


@functools.partial(jax.jit, static_argnames="sampling", donate_argnames="state")
def _decode(model, unstacked, state, target, key, stops, *, sampling):
    def running(state):
        return (state.step < target) & ~jnp.all(state.done)

    def step(state):
        token = state.out.tokens[:, state.step - 1, None]
        live = ~state.done[:, None]
        hidden, cache = extend(model, token, live, state.cache, unstacked)
        state = state._replace(cache=cache)
        return _append(model.logits(hidden), state, key, stops, sampling)

    return jax.lax.while_loop(running, step, state)


def _append(logits, state: _State, key, stops, sampling: Sampling) -> _State:
    """Choose each row's next token and write it down."""
    logits = logits[:, 0]
    cache, seen, done, at, out = state
    token = choose(logits, seen, key, at, sampling).astype(jnp.int32)
    chosen = jnp.take_along_axis(logits, token[:, None], axis=1)[:, 0]
    logprob = chosen - jax.nn.logsumexp(logits, axis=-1)
    live = ~done
    out = Generated(
        out.tokens.at[:, at].set(jnp.where(live, token, 0)),
        out.lengths + live,
        out.logprobs.at[:, at].set(jnp.where(live, logprob, 0)),
    )
    done = done | jnp.any(token[:, None] == stops[None, :], axis=1)
    rows = jnp.arange(token.shape[0])
    seen = seen.at[rows, token].set(True, mode="drop")
    return _State(cache, seen, done, at + 1, out)


unstack_jit = jax.jit(unstack_layers)
