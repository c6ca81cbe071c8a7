"""What an evaluation measured, as rows for the report and the model card."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SHARES = {
    "accuracy": "Accuracy",
    "score": "Score",
    "readable": "Readable answers",
    "stated": "Answers with a stated confidence",
    "token_accuracy": "Token accuracy",
}
_LOSSES = {"nll": "Loss, nats per token", "bits_per_byte": "Bits per byte"}
_CALIBRATION = {
    "ece": "Expected calibration error",
    "mce": "Maximum calibration error",
    "brier": "Brier score",
}


@dataclass(frozen=True)
class Result:
    """One measure, before and after training.

    Attributes:
        name: what was measured, with its unit where it is no share.
        share: whether it lies between 0 and 1.
        higher_is_better: which way is good.
        before: of the base model; None where it was not computed.
        after: of the trained model; None where it was not computed.
        before_interval: its lower and upper end, or None.
        after_interval: its lower and upper end, or None.
    """

    name: str
    share: bool
    higher_is_better: bool
    before: float | None
    after: float | None
    before_interval: tuple[float, float] | None = None
    after_interval: tuple[float, float] | None = None

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Name, better direction, and both values with their intervals, as text."""
        return (
            self.name,
            "higher" if self.higher_is_better else "lower",
            _value(self.before, self.before_interval),
            _value(self.after, self.after_interval),
        )


def results(manifest: Mapping) -> tuple[Result, ...]:
    """Return the measures on held-out data that either evaluation holds.

    Args:
        manifest: of a run.

    Returns:
        One result a measure, calibration apart.
    """
    evaluation = manifest.get("evaluation") or {}
    before, after = (_measures(evaluation.get(k) or {}) for k in ("before", "after"))
    return _pair(before, after, {**_SHARES, **_LOSSES})


def calibration_results(manifest: Mapping) -> tuple[Result, ...]:
    """Return the measures of calibration that either evaluation holds.

    Args:
        manifest: of a run.

    Returns:
        One result a measure; none where no confidences were stated.
    """
    return _pair(*calibrations(manifest), _CALIBRATION)


def calibrations(manifest: Mapping) -> tuple[Mapping, Mapping]:
    """Return the calibration before and after training.

    Args:
        manifest: of a run.

    Returns:
        Both, empty where not computed.
    """
    evaluation = manifest.get("evaluation") or {}
    before, after = (evaluation.get(k) or {} for k in ("before", "after"))
    return before.get("calibration") or {}, after.get("calibration") or {}


def basis(manifest: Mapping) -> str:
    """Say what the measures rest on.

    Args:
        manifest: of a run.

    Returns:
        Such as ``Held-out data: 420 prompts from 24 templates.``, with a word on
        intervals where there are any.
    """
    evaluation = manifest.get("evaluation") or {}
    found = evaluation.get("after") or evaluation.get("before") or {}
    units = (
        ("prompts", "from", "templates"),
        ("tokens", "in", "sequences"),
        ("tokens", "in", "documents"),
    )
    size = "size not computed"
    for unit, link, group in units:
        if found.get(unit) is None:
            continue
        if found.get(group) is not None:
            size = f"{found[unit]} {unit} {link} {found[group]} {group}"
            break
        size = f"{found[unit]} {unit}"
    text = f"Held-out data: {size}."
    if any(row.before_interval or row.after_interval for row in results(manifest)):
        text += " Intervals: 95 % bootstrap over templates."
    return text


def _measures(evaluation: Mapping) -> dict[str, Any]:
    prompts, parsed = evaluation.get("prompts"), evaluation.get("parsed")
    readable = parsed / prompts if prompts and parsed is not None else None
    stated = (evaluation.get("calibration") or {}).get("count")
    stated = stated / prompts if prompts and stated is not None else None
    return {**evaluation, "readable": readable, "stated": stated}


def _pair(before: Mapping, after: Mapping, names: dict) -> tuple[Result, ...]:
    return tuple(
        Result(
            name=name,
            share=key not in _LOSSES,
            higher_is_better=key in _SHARES,
            before=before.get(key),
            after=after.get(key),
            before_interval=_interval(before, key),
            after_interval=_interval(after, key),
        )
        for key, name in names.items()
        if before.get(key) is not None or after.get(key) is not None
    )


def _interval(evaluation: Mapping, key: str) -> tuple[float, float] | None:
    found = evaluation.get(f"{key}_interval")
    return None if found is None else (float(found[0]), float(found[1]))


def _value(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "not computed"
    ends = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return f"{value:.3f}{ends}"
