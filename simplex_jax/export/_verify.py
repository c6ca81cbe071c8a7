"""Prove that llama.cpp computes from a GGUF file what this library computes."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .. import gguf, models
from .._checks import at_least
from ._llamacpp import LlamaCpp

PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "In 1969, 2 of the 3 astronauts of Apollo 11 walked on the Moon. They",
    "Grüße aus Köln, naïve café, 東京タワー, Привет, 🙂🙃 e\u0301",
    "  two  spaces,\ttab,\n\n\nnewlines   and 3.14159 + 2718281828",
    "I'll say it's what they've done, we'd think; HE'S HERE!!! (really?)",
)
"""Texts that a tokenizer, a template and a model stumble over, if they do."""

MESSAGES = ({"role": "user", "content": "Name three primary colours."},)
"""One conversation, for files that have a chat template."""

F32_TOLERANCE = 1e-3
"""Largest logit difference that rounding explains in an F32 file."""

KL_TOLERANCE_NATS = 0.1
"""Largest mean divergence of next-token distributions in files of other types, nats.

The mean is over all positions of all prompts: where a model is sure of itself, rounding
can turn a single position (0.15 on one prompt of a fine-tuned Q4_K_M file, 0.02 at most
on the others, whose F32 file agrees to 1.4e-4), and a wrong file is wrong on every one.

llama.cpp multiplies F16 and BF16 weights by activations rounded to the same type, and
quantized weights by activations quantized to 8 bits, where this library decodes the
weights and computes in float32. That moves logits by an amount that grows with them;
what it does to the distribution is comparable between models. Measured on SmolLM2:
rounding costs up to 0.06 (Q4_0), rotary rows in the wrong order 0.3 to 1.4.
"""


@dataclasses.dataclass(frozen=True)
class PromptCheck:
    """How both sides fared on one prompt.

    Args:
        prompt: the text.
        tokens: its length in tokens.
        ids_equal: whether both tokenizers gave the same ids.
        max_logit_difference: over all positions and the whole vocabulary.
        mean_kl_nats: mean over positions of KL(llama.cpp || JAX), nats.
        top1_agreement: share of positions with the same most probable token.
        greedy_tokens: how many tokens were generated.
        first_difference: step at which greedy texts part, or None.
        gap_at_difference: the larger of both sides' top-two logit gaps there.
        text: what JAX generated.
    """

    prompt: str
    tokens: int
    ids_equal: bool
    max_logit_difference: float
    mean_kl_nats: float
    top1_agreement: float
    greedy_tokens: int
    first_difference: int | None
    gap_at_difference: float | None
    text: str


@dataclasses.dataclass(frozen=True)
class Verification:
    """The comparison of one file.

    Args:
        path: of the file.
        file_type: its ``general.file_type`` by name.
        tolerance: largest logit difference allowed, or None where the mean divergence
            over all prompts decides.
        checks: one a prompt.
        problems: what went beyond rounding; empty where the file is verified.
    """

    path: str
    file_type: str
    tolerance: float | None
    checks: tuple[PromptCheck, ...]
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Return whether nothing went beyond rounding."""
        return not self.problems

    def to_json(self) -> dict:
        """Return a JSON-able mapping of every field and the verdict."""
        return {**dataclasses.asdict(self), "passed": self.passed}


def verify(
    path: str | os.PathLike,
    *,
    prompts: Sequence[str] = PROMPTS,
    greedy_tokens: int = 32,
) -> Verification:
    """Compare token ids, logits and greedy text of a GGUF file with llama.cpp.

    Both sides read the same file. The KV cache is float32 on both.

    Args:
        path: the file.
        prompts: texts to compare on; one with the chat template is added where the
            file has one.
        greedy_tokens: how far to generate, >= 1; at most half of the context.

    Returns:
        The comparison, with what failed by name.

    Raises:
        ModuleNotFoundError: where llama-cpp-python is not installed.
        ValueError: where either side refuses the file.
    """
    at_least("greedy_tokens", greedy_tokens)
    model, tokenizer = models.load_gguf(path)
    with gguf.open(path) as file:
        file_type = _file_type(file)
    texts = [(prompt, False) for prompt in prompts]
    if tokenizer.chat_template is not None:
        texts.append((tokenizer.apply_chat_template([*MESSAGES]), True))
    ids = [
        tokenizer.encode(text, add_special=True, parse_special=special)
        for text, special in texts
    ]
    # What a short context has no room for is compared as ids alone.
    room = model.config.max_position_embeddings
    greedy_tokens = min(greedy_tokens, room // 2)
    whole, ids = ids, [row[: room - greedy_tokens] for row in ids]
    # One padded batch, so that each program compiles once for all prompts.
    lengths = np.array([len(row) for row in ids])
    tokens = np.zeros((len(ids), lengths.max()), np.int32)
    for row, row_ids in zip(tokens, ids, strict=True):
        row[: len(row_ids)] = row_ids
    segments = (np.arange(tokens.shape[1]) < lengths[:, None]).astype(np.int32)
    ours = np.asarray(_forward(model, tokens, segments))
    generated = np.asarray(
        models.generate(model, tokens, lengths, max_new_tokens=greedy_tokens).tokens
    )
    tolerance = F32_TOLERANCE if file_type == gguf.FileType.ALL_F32 else None
    checks = []
    with LlamaCpp(path, context_tokens=tokens.shape[1] + greedy_tokens) as reference:
        for row, (text, special) in enumerate(texts):
            checks.append(
                PromptCheck(
                    prompt=text,
                    tokens=len(ids[row]),
                    ids_equal=reference.tokenize(text, True, special) == whole[row],
                    text=tokenizer.decode(generated[row].tolist()),
                    **_compare_logits(reference, ids[row], ours[row, : lengths[row]]),
                    **_compare_greedy(model, reference, ids[row], generated[row]),
                )
            )
    problems = _problems(checks, tolerance)
    return Verification(
        path=os.fspath(path),
        file_type="unknown" if file_type is None else file_type.name,
        tolerance=tolerance,
        checks=tuple(checks),
        problems=problems,
    )


_forward = jax.jit(lambda model, tokens, segments: model(tokens, None, segments))


def _compare_logits(
    reference: LlamaCpp, ids: list[int], ours: np.ndarray
) -> dict[str, Any]:
    theirs = reference.logits(ids)
    return {
        "max_logit_difference": float(np.abs(ours - theirs).max()),
        "mean_kl_nats": float(_kl(theirs, ours).mean()),
        "top1_agreement": float((ours.argmax(-1) == theirs.argmax(-1)).mean()),
    }


def _compare_greedy(
    model: models.Decoder, reference: LlamaCpp, ids: list[int], ours: np.ndarray
) -> dict[str, Any]:
    theirs = reference.greedy_logits(ids, len(ours))
    parts = np.flatnonzero(ours != theirs.argmax(axis=-1))
    first = gap = None
    if parts.size:
        first = int(parts[0])
        prefix = np.asarray([ids + ours[:first].tolist()])
        our_row = np.asarray(_forward(model, prefix, np.ones_like(prefix)))[0, -1]
        gap = max(_gap(our_row), _gap(theirs[first]))
    return {
        "greedy_tokens": len(ours),
        "first_difference": first,
        "gap_at_difference": gap,
    }


def _problems(
    checks: Sequence[PromptCheck], tolerance: float | None
) -> tuple[str, ...]:
    found = [p for check in checks for p in _problems_of(check, tolerance)]
    kl = np.average(
        [check.mean_kl_nats for check in checks],
        weights=[check.tokens for check in checks],
    )
    # Written so that NaN on either side fails.
    if tolerance is None and not kl <= KL_TOLERANCE_NATS:
        found.append(f"mean KL over all prompts is {kl:.3g} > {KL_TOLERANCE_NATS} nats")
    return tuple(found)


def _problems_of(check: PromptCheck, tolerance: float | None) -> list[str]:
    name = repr(check.prompt[:30])
    found = []
    if not check.ids_equal:
        found.append(f"{name}: token ids differ")
    # Written so that NaN on either side fails.
    if tolerance is not None and not check.max_logit_difference <= tolerance:
        found.append(
            f"{name}: logits differ by {check.max_logit_difference:.3g} > {tolerance}"
        )
    gap = check.gap_at_difference
    # Two logits may each be off by the tolerance before their order changes.
    if tolerance is not None and gap is not None and gap > 2 * tolerance:
        found.append(
            f"{name}: greedy texts part at step {check.first_difference}, "
            f"where the top two are {gap:.3g} apart"
        )
    return found


def _gap(row: np.ndarray) -> float:
    second, first = np.partition(row, -2)[-2:]
    return float(first - second)


def _kl(p_logits: np.ndarray, q_logits: np.ndarray) -> np.ndarray:
    p, q = (x.astype(np.float64) for x in (p_logits, q_logits))
    p, q = (x - x.max(-1, keepdims=True) for x in (p, q))
    p, q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (p, q))
    return (np.exp(p) * (p - q)).sum(-1)


def _file_type(file: gguf.GGUFFile) -> gguf.FileType | None:
    number = file.metadata.get("general.file_type")
    try:
        return gguf.FileType(int(number))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
