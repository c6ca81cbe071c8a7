"""Say how far an exported file is from the model that it was made of."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .. import data, gguf, models
from ..text import Tokenizer, chat_tokens
from ._llamacpp import LlamaCpp
from ._verify import MESSAGES, PROMPTS

_TEXT_TOKENS = 512
_CHAT_TOKENS = 2048


def parity(
    path: str | os.PathLike,
    model: models.Decoder,
    tokenizer: Tokenizer,
    texts: Sequence[Sequence[int]],
    *,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    r"""Compare a GGUF file with its source, in JAX and, where installed, in llama.cpp.

    Divergence is the mean over positions of $\sum_v p_v \log(p_v / q_v)$ with p the
    source's next-token distribution and q the file's; perplexity is $e^{\mathrm{NLL}}$
    of each text's second and later tokens.

    Args:
        path: of the file.
        model: what it was made of, in floats and without adapters.
        tokenizer: the model's.
        texts: token ids of texts that were not trained on, each within the context.
        progress: called with the share that is done.

    Returns:
        JSON values: ``file``, ``size_bytes``, ``bits_per_weight``, ``types``,
        ``file_type``, ``metadata`` (of the file), ``token_ids`` (texts compared and
        texts that differ), ``bos_tokens`` (how many begin a conversation; None without
        a template), ``template_equal``, ``tokens`` (positions compared), ``source``
        (``perplexity``), ``here`` (``perplexity``, ``mean_kl_nats``,
        ``top1_agreement`` of the file), and ``llama_cpp`` with the same and
        ``differing_token_ids`` and ``bos_tokens``; None where it is not installed.

    Raises:
        ValueError: on a text of fewer than two tokens, or no text.
    """
    if not texts or min(map(len, texts)) < 2:
        raise ValueError("texts: give at least one, each of at least two tokens")
    with gguf.open(path) as file:
        summary = gguf.summary(file)
    loaded, read_back = models.load_gguf(path)
    width = max(map(len, texts))
    rows = np.zeros((len(texts), width), np.int32)
    for row, ids in zip(rows, texts, strict=True):
        row[: len(ids)] = ids
    sums: dict[str, Counter] = {"here": Counter(), "llama_cpp": Counter()}
    with _reference(path, width) as reference:
        for at, (row, ids) in enumerate(zip(rows, texts, strict=True)):
            segments = (np.arange(width) < len(ids))[None].astype(np.int32)
            source = _logits(model, row[None], segments)
            sides = {"here": _logits(loaded, row[None], segments)}
            if reference is not None:
                theirs = np.zeros(source.shape, np.float32)
                theirs[: len(ids)] = reference.logits([*ids])
                sides["llama_cpp"] = jnp.asarray(theirs)
            for side, logits in sides.items():
                found = _compare(source, logits, row, len(ids))
                sums[side].update({k: float(v) for k, v in found.items()})
            progress((at + 1) / len(texts))
        prompts = _ids(tokenizer)
        chat = tokenizer.chat_template is not None
        result = {
            "file": Path(path).name,
            **{k: summary[k] for k in ("size_bytes", "bits_per_weight", "types")},
            "file_type": _file_type(summary),
            "metadata": summary["metadata"],
            "token_ids": {
                "texts": len(prompts),
                "differing": _differing(prompts, _ids(read_back)),
            },
            "bos_tokens": _bos(tokenizer, prompts[-1]) if chat else None,
            "template_equal": read_back.chat_template == tokenizer.chat_template,
            "tokens": sum(map(len, texts)),
            "source": {"perplexity": _perplexity(sums["here"], "source_nll")},
            "here": _figures(sums["here"]),
            "llama_cpp": None,
        }
        if reference is not None:
            theirs = [
                reference.tokenize(text, True, special)
                for text, special in _texts(tokenizer)
            ]
            result["llama_cpp"] = {
                **_figures(sums["llama_cpp"]),
                "differing_token_ids": _differing(prompts, theirs),
                "bos_tokens": _bos(tokenizer, theirs[-1]) if chat else None,
            }
    return result


def text_rows(
    model: models.Decoder, tokenizer: Tokenizer, text: str
) -> list[list[int]]:
    """Cut a text into rows for ``parity``.

    Args:
        model: says how long a row may be; at most 512 tokens.
        tokenizer: its own.
        text: at least two tokens long.

    Returns:
        Token ids; each row is read as if it began a text.
    """
    ids = tokenizer.encode(text, add_special=True)
    size = min(_TEXT_TOKENS, model.config.max_position_embeddings)
    rows = [ids[i : i + size] for i in range(0, len(ids), size)]
    return [row for row in rows if len(row) > 1]


def chat_rows(
    model: models.Decoder, tokenizer: Tokenizer, examples: Sequence[data.Example]
) -> list[list[int]]:
    """Encode examples, answers included, as rows for ``parity``.

    Args:
        model: says how long a row may be; longer examples are left out.
        tokenizer: with a chat template.
        examples: that were not trained on.

    Returns:
        Token ids of the first examples, about 2,048 in all.
    """
    rows: list[list[int]] = []
    for example in examples:
        ids = chat_tokens(example, tokenizer)[0].tolist()
        if len(ids) <= model.config.max_position_embeddings:
            rows.append(ids)
        if sum(map(len, rows)) >= _CHAT_TOKENS:
            break
    return rows


@jax.jit
def _logits(model, tokens, segments) -> Float[Array, "T V"]:
    return model(tokens, None, segments)[0]


@jax.jit
def _compare(
    source: Float[Array, "T V"],
    other: Float[Array, "T V"],
    ids: Int[Array, " T"],
    count: Int[Array, ""],
) -> dict[str, Array]:
    """Return sums over the first ``count`` positions and the tokens after them."""
    p, q = jax.nn.log_softmax(source), jax.nn.log_softmax(other)
    here = jnp.arange(len(ids))
    among, before = here < count, here < count - 1
    following = jnp.roll(ids, -1)[:, None]

    def nll(logprobs):
        chosen = jnp.take_along_axis(logprobs, following, axis=1)[:, 0]
        return -jnp.sum(jnp.where(before, chosen, 0))

    divergence = jnp.sum(jnp.exp(p) * (p - q), axis=1)
    same = jnp.argmax(p, axis=1) == jnp.argmax(q, axis=1)
    return {
        "positions": jnp.sum(among),
        "targets": jnp.sum(before),
        "kl": jnp.sum(jnp.where(among, divergence, 0)),
        "same": jnp.sum(among & same),
        "nll": nll(q),
        "source_nll": nll(p),
    }


def _figures(sums: Counter) -> dict[str, float]:
    return {
        "perplexity": _perplexity(sums, "nll"),
        "mean_kl_nats": sums["kl"] / sums["positions"],
        "top1_agreement": sums["same"] / sums["positions"],
    }


def _perplexity(sums: Counter, nll: str) -> float:
    return float(np.exp(sums[nll] / sums["targets"]))


def _reference(path: str | os.PathLike, width: int) -> Any:
    try:
        return LlamaCpp(path, context_tokens=width)
    except ModuleNotFoundError:
        return contextlib.nullcontext()


def _texts(tokenizer: Tokenizer) -> list[tuple[str, bool]]:
    """Return texts and whether special tokens in them are meant; the last is a chat."""
    found = [(prompt, False) for prompt in PROMPTS]
    if tokenizer.chat_template is not None:
        found.append((tokenizer.apply_chat_template([*MESSAGES]), True))
    return found


def _ids(tokenizer: Tokenizer) -> list[list[int]]:
    return [
        tokenizer.encode(text, add_special=True, parse_special=special)
        for text, special in _texts(tokenizer)
    ]


def _bos(tokenizer: Tokenizer, ids: Sequence[int]) -> int:
    if tokenizer.bos_id is None:
        return 0
    return next((i for i, x in enumerate(ids) if x != tokenizer.bos_id), len(ids))


def _differing(ours: list[list[int]], theirs: list[list[int]]) -> int:
    return sum(a != b for a, b in zip(ours, theirs, strict=True))


def _file_type(summary: dict[str, Any]) -> str:
    number = summary["metadata"].get("general.file_type")
    return gguf.FileType(number).name if number is not None else "unknown"
