"""One HTML page about a run: what was trained, how good it is, and the proof."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from . import _plots as plots
from ._html import details, facts, figure, missing, page, paragraph, table
from ._results import basis, calibration_results, calibrations, results

_LOSS_ROWS = 20
_RESULTS = ("Measure", "Better", "Before", "After")
_METRICS = {
    "step": "Step",
    "loss": "Training loss",
    "eval_loss": "Held-out loss",
    "eval_token_accuracy": "Held-out token accuracy",
    "learning_rate": "Learning rate",
    "grad_norm": "Gradient norm",
    "tokens_per_second": "Tokens per second",
}
_BASE = {
    "source": "Base model",
    "parameters": "Parameters",
    "trainable": "Trained parameters",
    "percent": "Trained share, %",
}
_TRAINING = {
    "steps": "Steps",
    "epochs": "Epochs",
    "tokens": "Tokens",
    "loss_tokens": "Tokens with loss",
    "seconds": "Seconds",
    "tokens_per_second": "Tokens per second",
    "skipped_steps": "Skipped steps",
    "best_step": "Best step",
    "best_eval_loss": "Best held-out loss, nats per token",
    "stopped_by": "Stopped by",
}
_SPLIT = {
    "examples": "Examples",
    "documents": "Documents",
    "bytes": "Bytes",
    "tokens": "Tokens",
    "sha256": "SHA-256",
}
_CHAT = {
    "prompt": "Prompt",
    "text": "Answer",
    "finish_reason": "Finish reason",
    "completion_tokens": "Tokens of the answer",
}


def report_html(manifest: Mapping, metrics: Sequence[Mapping]) -> str:
    """Write the report of a run as one page that loads nothing.

    What the manifest lacks is named as not computed. Texts of the manifest are
    escaped, as prompts and answers may hold anything.

    Args:
        manifest: of the run; ``status``, ``name``, ``config`` and ``versions`` must
            be there.
        metrics: records of the training, each with its ``step``; losses in nats per
            token.

    Returns:
        HTML with inline styles and, where matplotlib is installed, inline plots; the
        same bytes for the same arguments and versions.

    Raises:
        KeyError: on a manifest without one of the four keys.
    """
    metrics = _merged(metrics)
    drawn = plots.available()
    top = _verdict(manifest) + ("" if drawn else paragraph(plots.MISSING, "missing"))
    sections = [
        ("Before and after", _evaluation(manifest, drawn)),
        ("Calibration", _calibration(manifest, drawn)),
        ("Sample answers", _samples(manifest)),
        ("Rounding", _parity(manifest)),
        ("Proof", _verification(manifest) + _chat(manifest)),
        ("Training", _training(manifest, metrics, drawn)),
        ("Data", _data(manifest)),
        ("Files", _files(manifest)),
        ("Timings", _timings(manifest)),
        ("Configuration", _settings(manifest["config"], "Setting")),
        ("Versions", _versions(manifest)),
    ]
    return page(manifest["name"], top, sections)


def _verdict(manifest: Mapping) -> str:
    verification = manifest.get("verification") or {}
    passed = verification.get("passed")
    measured = results(manifest)
    parts = [f"Status: {manifest['status']}"]
    if measured:
        name, _, before, after = measured[0].cells
        parts.append(f"{name.lower()} on held-out data: {before} before, {after} after")
    else:
        parts.append("not evaluated")
    if passed is None:
        parts.append("not compared with llama.cpp")
    else:
        outcome = "agrees" if passed else "does not agree"
        prompts = len(verification.get("checks") or ())
        parts.append(f"llama.cpp {outcome} with JAX on {prompts} prompts")
    kind = "good" if passed else "bad" if passed is False else ""
    if manifest["status"] != "finished":
        kind = "bad"
    return paragraph("; ".join(parts) + ".", kind)


def _evaluation(manifest: Mapping, drawn: bool) -> str:
    rows, caption = results(manifest), basis(manifest)
    evaluation = manifest.get("evaluation") or {}
    absent = [f"evaluation {k}" for k in ("before", "after") if not evaluation.get(k)]
    if not rows:
        return missing(absent or ["measures on held-out data"])
    plot = figure(plots.before_and_after(rows), caption) if drawn else ""
    lines = table(_RESULTS, [r.cells for r in rows], None if drawn else caption)
    return plot + lines + missing(absent)


def _calibration(manifest: Mapping, drawn: bool) -> str:
    if manifest.get("task") == "lm":
        return paragraph("A language model states no confidences.")
    rows = calibration_results(manifest)
    named = dict(zip(("before", "after"), calibrations(manifest), strict=True))
    absent = missing(f"calibration {k}" for k, found in named.items() if not found)
    if not rows:
        return absent
    bins = {side: found.get("bins") or [] for side, found in named.items()}
    caption = "Answers with a stated confidence: " + ", ".join(
        f"{found['count']} {side}"
        for side, found in named.items()
        if found.get("count") is not None
    )
    plot = ""
    if drawn and any(bins.values()):
        plot = figure(plots.reliability(bins["before"], bins["after"]), caption)
    lines = [
        (side, f"{b['low']:g} to {b['high']:g}", b["count"])
        + tuple(b[k] if b["count"] else "" for k in ("confidence", "accuracy"))
        for side, found in bins.items()
        for b in found
    ]
    header = ("", "Confidence", "Answers", "Mean confidence", "Accuracy")
    return (
        plot
        + table(_RESULTS, [r.cells for r in rows], None if plot else caption)
        + details("Bins", table(header, lines))
        + absent
    )


def _samples(manifest: Mapping) -> str:
    samples = manifest.get("samples")
    if not samples:
        return missing(["sample answers"])
    rows = []
    for sample in samples:
        expected, confidence = sample.get("expected"), sample.get("expected_confidence")
        if expected is not None and confidence is not None:
            expected = f"{expected} ({confidence:.2f})"
        answers = [_judged(sample, side) for side in ("before", "after")]
        rows.append((sample.get("prompt"), expected, *answers))
    return table(("Prompt", "Expected", "Before", "After"), rows)


def _judged(sample: Mapping, side: str) -> str | None:
    answer, correct = sample.get(side), sample.get(f"{side}_correct")
    if answer is None or correct is None:
        return answer
    return f"{'✓' if correct else '✗'} {answer}"


def _verification(manifest: Mapping) -> str:
    found = manifest.get("verification")
    if not found:
        return missing(["the comparison with llama.cpp"])
    rows = [
        (
            check["prompt"],
            check["tokens"],
            check["ids_equal"],
            check["max_logit_difference"],
            check["mean_kl_nats"],
            check["top1_agreement"],
            _greedy(check),
        )
        for check in found["checks"]
    ]
    tolerance = found["tolerance"]
    rule = (
        "the mean divergence decides"
        if tolerance is None
        else f"logits may differ by {tolerance:g}"
    )
    name = PurePath(found["path"]).name
    caption = f"{name} ({found['file_type']}) in llama.cpp and in JAX; {rule}."
    header = (
        "Prompt",
        "Tokens",
        "Ids equal",
        "Largest logit difference",
        "Mean KL, nats",
        "Same top token",
        "Greedy text",
    )
    problems = "".join(paragraph(problem, "bad") for problem in found["problems"])
    return table(header, rows, caption) + problems


def _parity(manifest: Mapping) -> str:
    found = manifest.get("parity")
    if not found:
        return missing(["the comparison of the file with its source"])
    rows = [("source", found["source"]["perplexity"], "", "")]
    for name, side in (("file in JAX", "here"), ("file in llama.cpp", "llama_cpp")):
        if figures := found[side]:
            keys = ("perplexity", "mean_kl_nats", "top1_agreement")
            rows.append((name, *(figures[key] for key in keys)))
    types = ", ".join(f"{count} {name}" for name, count in found["types"].items())
    caption = (
        f"{found['file']}: {types}; {found['bits_per_weight']:.2f} bits a weight; over "
        f"{found['tokens']} tokens of held-out text."
    )
    ids = found["token_ids"]
    llama = found["llama_cpp"]
    texts = [f"Token ids differ in {ids['differing']} of {ids['texts']} texts"]
    if llama is not None:
        texts[0] += f" here, in {llama['differing_token_ids']} in llama.cpp"
    if found["bos_tokens"] is not None:
        texts.append(f"a conversation begins with {found['bos_tokens']} BOS")
    equal = "the same" if found["template_equal"] else "NOT the same"
    texts.append(f"the chat template is {equal}")
    header = ("Model", "Perplexity", "Mean KL, nats", "Same top token")
    absent = missing([] if llama else ["the file in llama.cpp"])
    return table(header, rows, caption) + paragraph("; ".join(texts) + ".") + absent


def _greedy(check: Mapping) -> str:
    tokens, first = check["greedy_tokens"], check["first_difference"]
    if first is None:
        return f"equal over {tokens} tokens"
    gap = check["gap_at_difference"]
    where = "" if gap is None else f", where the top two are {gap:.3g} apart"
    return f"parts at token {first} of {tokens}{where}"


def _chat(manifest: Mapping) -> str:
    if manifest.get("task") == "lm":
        return ""
    if not manifest.get("chat"):
        return missing(["a chat completion by llama.cpp"])
    return "<h3>A chat completion by llama.cpp</h3>" + facts(manifest["chat"], _CHAT)


def _training(manifest: Mapping, metrics: list[dict], drawn: bool) -> str:
    parts = []
    losses = any(m.get(k) is not None for m in metrics for k in ("loss", "eval_loss"))
    if losses and drawn:
        caption = "Loss by step, and the learning rate."
        parts.append(figure(plots.loss_curves(metrics), caption))
    if metrics:
        kept = _spread(metrics)
        columns = {k: n for k, n in _METRICS.items() if any(k in m for m in kept)}
        rows = [[m.get(key, "") for key in columns] for m in kept]
        records = f"{len(kept)} of {len(metrics)} recorded steps"
        lines = table(list(columns.values()), rows, records)
        parts.append(details("Numbers", lines) if losses and drawn else lines)
    parts.append("" if losses else missing(["loss curves"]))
    return (
        "".join(parts)
        + facts(
            {**(manifest.get("base") or {}), **(manifest.get("training") or {})},
            {**_BASE, **_TRAINING},
        )
        + _learned_rate(manifest.get("learned_rate"))
    )


def _learned_rate(found: Mapping | None) -> str:
    if not found:
        return ""
    rows = [[name, x, found["end"][name]] for name, x in found["start"].items()]
    times = f"{found['adaptations']} adaptations, {found['seconds']:.1f} seconds"
    return details(
        "Learned learning rate",
        table(("Number", "At the start", "At the end"), rows, times),
    )


def _spread(metrics: list[dict]) -> list[dict]:
    # Half of the rows for evaluations, which even steps over all would miss.
    kept: list[dict] = []
    for evaluated in (True, False):
        some = [m for m in metrics if (m.get("eval_loss") is not None) is evaluated]
        count = min(len(some), _LOSS_ROWS // 2 if evaluated else _LOSS_ROWS - len(kept))
        kept += [
            some[round(i * (len(some) - 1) / max(count - 1, 1))] for i in range(count)
        ]
    return sorted(kept, key=lambda m: m["step"])


def _merged(metrics: Sequence[Mapping]) -> list[dict]:
    # A resumed run records some steps twice; the later record holds.
    steps: dict[Any, dict] = {}
    for record in metrics:
        steps.setdefault(record["step"], {}).update(record)
    return [steps[step] for step in sorted(steps)]


def _data(manifest: Mapping) -> str:
    data = manifest.get("data") or {}
    parts = {split: data.get(split) for split in ("train", "heldout")}
    columns = {
        key: name
        for key, name in _SPLIT.items()
        if any(key in (part or {}) for part in parts.values())
    }
    rows = [
        (split, *(part.get(key) for key in columns))
        for split, part in parts.items()
        if part
    ]
    shown = table(("Split", *columns.values()), rows) if rows else ""
    absent = missing(f"{split} data" for split, part in parts.items() if not part)
    too_long = data.get("too_long")
    counts = {**data, "too_long": None if too_long is None else len(too_long)}
    names = {
        "loss_tokens": "Tokens with loss",
        "too_long": "Examples left out, too long",
    }
    return shown + absent + facts(counts, names)


def _files(manifest: Mapping) -> str:
    files = manifest.get("files")
    if not files:
        return missing(["files"])
    rows = [(name, f.get("bytes"), f.get("sha256")) for name, f in files.items()]
    return table(("File", "Bytes", "SHA-256"), rows)


def _timings(manifest: Mapping) -> str:
    seconds = manifest.get("seconds")
    if not seconds:
        return missing(["timings"])
    rows = [(stage, f"{taken:.1f}") for stage, taken in seconds.items()]
    return table(("Stage", "Seconds"), [*rows, ("all", f"{sum(seconds.values()):.1f}")])


def _versions(manifest: Mapping) -> str:
    machine = manifest.get("machine")
    shown = _settings(machine, "Machine") if machine else missing(["the machine"])
    return _settings(manifest["versions"], "Software") + shown


def _settings(settings: Mapping, header: str) -> str:
    return table((header, "Value"), _flat(settings))


def _flat(settings: Mapping, prefix: str = "") -> list[tuple[str, Any]]:
    rows = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, "none" if value is None else value))
    return rows
