"""Let a model answer prompts, and judge the answers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from .. import data, evals, models, train
from ..text import Tokenizer
from ._config import RunConfig
from ._material import Material

_ROWS = 32


def answer(
    model: models.Decoder,
    tokenizer: Tokenizer,
    examples: Sequence[data.Example],
    *,
    max_new_tokens: int,
    progress: Callable[[float], None] = lambda share: None,
) -> list[str]:
    """Return a model's greedy answers to the last question of each conversation.

    Args:
        model: without adapters, or with.
        tokenizer: its own; with a chat template.
        examples: what to answer; their last turn is not shown.
        max_new_tokens: where an answer is cut off, at the latest.
        progress: called with the share of answers so far.

    Returns:
        One text an example, special tokens left out.
    """
    prompts = [tokenizer.encode_chat(e.chat()[:-1]) for e in examples]
    width = max(map(len, prompts))
    room = max(model.config.max_position_embeddings - width, 1)
    max_new_tokens = min(max_new_tokens, room)
    texts: list[str] = []
    for start in range(0, len(prompts), _ROWS):
        some = prompts[start : start + _ROWS]
        # The last batch is filled up, so that one program serves all.
        rows = some + [some[0]] * (_ROWS - len(some))
        tokens = np.zeros((_ROWS, width), np.int32)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        found = models.generate(
            model,
            tokens,
            np.array([len(ids) for ids in rows]),
            max_new_tokens=max_new_tokens,
            stop_ids=tokenizer.eog_ids,
        )
        ids, lengths = np.asarray(found.tokens), np.asarray(found.lengths)
        for row in range(len(some)):
            kept = ids[row, : lengths[row]].tolist()
            texts.append(tokenizer.decode(kept, skip_special=True, text_start=False))
        progress(len(texts) / len(prompts))
    return texts


def examine(
    config: RunConfig,
    model: models.Decoder,
    tokenizer: Tokenizer,
    material: Material,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[dict[str, Any], list[str]]:
    """Measure a model on a run's held-out data.

    A specialist's answers are judged by its verifier; on a user's own data the loss and
    the token accuracy of the given answers are measured.

    Args:
        config: of the run.
        model: without adapters.
        tokenizer: its own.
        material: of the run.
        progress: called with the share that is done.

    Returns:
        The figures as JSON values, and the answers to ``material.samples``.
    """
    limit = material.max_new_tokens
    heldout = material.splits["heldout"]
    shown = [heldout[i] for i in material.samples]
    if config.specialist is None:
        figures = _token_figures(model, material)
        return figures, answer(
            model, tokenizer, shown, max_new_tokens=limit, progress=progress
        )
    texts = answer(model, tokenizer, heldout, max_new_tokens=limit, progress=progress)
    figures = judge(config.specialist, heldout, texts)
    return figures, [texts[i] for i in material.samples]


def samples(
    config: RunConfig, material: Material, answers: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Return held-out prompts with what was expected and what was answered.

    Args:
        config: of the run.
        material: of the run.
        answers: ``before`` and ``after``, to ``material.samples``.

    Returns:
        JSON values, one mapping a prompt; with verdicts where there is a verifier.
    """
    found = []
    for i, before, after in zip(
        material.samples, answers["before"], answers["after"], strict=True
    ):
        example = material.splits["heldout"][i]
        sample = {"prompt": example.prompt, "expected": example.response}
        sample |= {"before": before, "after": after}
        if config.specialist is not None:
            verdicts = [
                data.verify(config.specialist, example.prompt, text)
                for text in (before, after)
            ]
            sample |= {
                "expected": verdicts[0].expected,
                "expected_confidence": verdicts[0].expected_confidence,
                "before_correct": verdicts[0].correct,
                "after_correct": verdicts[1].correct,
            }
        found.append(sample)
    return found


def _token_figures(model: models.Decoder, material: Material) -> dict[str, Any]:
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    evaluate = train.make_evaluation(graphdef)
    batches = material.heldout_batches
    return {
        **train.mean_over(evaluate, params, rest, batches),
        "tokens": sum(int((b["loss_mask"] > 0).sum()) for b in batches),
        "sequences": sum(int(b["segment_ids"].max(axis=1).sum()) for b in batches),
    }


def judge(
    name: str, examples: Sequence[data.Example], answers: Sequence[str]
) -> dict[str, Any]:
    """Score answers to generated prompts with the generator's verifier.

    Accuracy is measured against the most probable answer, an answer that cannot be read
    is wrong. Calibration is measured against the hidden truth that the prompt was drawn
    from, over the answers that state a confidence.

    Args:
        name: of the generator.
        examples: generated by it.
        answers: one an example.

    Returns:
        The figures as JSON values.
    """
    verdicts = [
        data.verify(name, example.prompt, text)
        for example, text in zip(examples, answers, strict=True)
    ]
    correct = np.array([v.correct for v in verdicts], float)
    templates = [e.metadata["template"] for e in examples]
    stated = [
        (v.confidence, v.answer == e.metadata["truth"])
        for v, e in zip(verdicts, examples, strict=True)
        if v.confidence is not None
    ]
    figures = {
        "prompts": len(verdicts),
        "parsed": sum(v.parsed for v in verdicts),
        "accuracy": float(correct.mean()),
        "score": float(np.mean([v.score for v in verdicts])),
        "templates": len(set(templates)),
        "calibration": _calibration(stated) if stated else None,
    }
    if figures["templates"] > 1:
        interval = evals.cluster_interval(correct, templates)
        figures["accuracy_interval"] = list(interval)
    return figures


def _calibration(stated: list[tuple[float, bool]]) -> dict[str, Any]:
    confidence, true = (np.array(column, float) for column in zip(*stated, strict=True))
    bins = evals.reliability(confidence, true)
    return {
        "count": len(stated),
        "accuracy": float(true.mean()),
        "mean_confidence": float(confidence.mean()),
        "ece": evals.expected_calibration_error(confidence, true),
        "mce": evals.maximum_calibration_error(confidence, true),
        "brier": evals.brier_score(confidence, true),
        "bins": [dataclasses.asdict(one) for one in bins],
    }
