"""The model card of a run, as a Hugging Face repository shows it."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ._results import Result, basis, calibration_results, results


def model_card(manifest: Mapping) -> str:
    """Return the README of a model repository.

    What the manifest lacks is named as not computed. A base model that is no known
    repository, such as a local path, is not named.

    Args:
        manifest: of the run; ``name`` and ``config`` must be there.

    Returns:
        Markdown with YAML front matter.

    Raises:
        KeyError: on a manifest without one of the two keys.
    """
    name = _line(manifest["name"])
    hub_name = (manifest.get("base") or {}).get("hub_name") or ""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", hub_name):
        hub_name = None
    files = [_line(file) for file in manifest.get("files") or ()]
    front = {"base_model": hub_name} if hub_name else {}
    front |= {"library_name": "gguf", "pipeline_tag": "text-generation"}
    full = (manifest["config"].get("training") or {}).get("full")
    kind = [] if full else ["lora"]
    front |= {"tags": ["gguf", *kind, "llama.cpp", "jax"]}
    sections = {
        "How to run": _how_to_run(name, files),
        "Results": f"{_table(results(manifest), 'results')}\n\n{basis(manifest)}",
        "Calibration": _table(calibration_results(manifest), "calibration"),
        "Training data": _data(manifest),
        "Training": _training(manifest),
        "Limits": _limits(manifest),
        "Verification": _verification(manifest),
    }
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {name}\n\n"
        f"{_origin(manifest, hub_name)}\n\n"
        + "\n".join(f"## {title}\n\n{text}\n" for title, text in sections.items())
    )


def _origin(manifest: Mapping, hub_name: str | None) -> str:
    task, config = manifest.get("specialist"), manifest["config"]
    purpose = f"the task `{_line(task)}`" if task else "examples from a file"
    if manifest.get("task") == "lm":
        purpose = "plain text"
    if config.get("model"):
        return (
            f"A small language model, trained from scratch on {purpose} with a "
            "tokenizer of its own, made with simplex_jax."
        )
    full = (config.get("training") or {}).get("full")
    return (
        f"A {'full' if full else 'LoRA'} fine-tune of "
        f"{hub_name or 'a base model that is not named here'} for {purpose}, made with "
        "simplex_jax. The base model's licence applies to its weights."
    )


def _how_to_run(name: str, files: list[str]) -> str:
    parts = []
    for file in files:
        if file.endswith("Modelfile"):
            parts.append(
                f"Ollama: `{shlex.join(['ollama', 'create', name, '-f', file])}`"
            )
        elif file.endswith(".gguf"):
            parts.append(f"llama.cpp: `{shlex.join(['llama-cli', '-m', file])}`")
    if any(file.startswith("adapter/") for file in files):
        parts.append("PEFT: the adapter for the base model is in `adapter/`.")
    if any(file.startswith("model/") for file in files):
        parts.append("simplex_jax: `simplex-jax generate model --prompt ...`")
    return "\n\n".join(parts) or "Not computed: files."


def _table(rows: Sequence[Result], what: str) -> str:
    lines = ["| Measure | Better | Before | After |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row.cells)} |" for row in rows]
    return "\n".join(lines) if rows else f"Not computed: {what}."


def _data(manifest: Mapping) -> str:
    data = manifest.get("data") or {}
    if manifest.get("task") == "lm":
        return _documents(data)
    sizes = [(data.get(split) or {}).get("examples") for split in ("train", "heldout")]
    train, heldout = ("not computed" if size is None else size for size in sizes)
    origin = "Examples from a file, split by the hash of the prompt"
    if manifest.get("specialist"):
        origin = "Generated, not collected; no template is on both sides of the split"
    return f"{origin}. Training examples: {train}; held out: {heldout}."


def _documents(data: Mapping) -> str:
    text = "Plain text, split by the hash of each document; exact duplicates left out."
    for split, name in (("train", "Training"), ("heldout", "Held out")):
        if part := data.get(split):
            text += (
                f" {name}: {part['documents']} documents, {part['bytes']} bytes, "
                f"{part['tokens']} tokens."
            )
    return text


def _training(manifest: Mapping) -> str:
    measured = manifest.get("training") or {"steps": "not computed"}
    # Of the configuration only these parts: the others may hold paths.
    training = manifest["config"].get("training") or {}
    what = "model" if training.get("full") else "lora"
    shown = (manifest["config"].get(what) or {}) | training | measured
    return "\n".join(f"- {k}: {_line(v)}" for k, v in shown.items() if v is not None)


def _limits(manifest: Mapping) -> str:
    text = "Only what is listed above was measured, on this kind of input alone."
    if manifest.get("specialist"):
        text += " All data is synthetic; text from elsewhere was not tested."
    if not calibration_results(manifest):
        text += " Calibration was not measured: do not rely on confidences."
    return text


def _verification(manifest: Mapping) -> str:
    found, chat = manifest.get("verification") or {}, manifest.get("chat") or {}
    text = "Not computed: a comparison with llama.cpp."
    if checks := found.get("checks"):
        equal = sum(check["ids_equal"] for check in checks)
        divergence = max(check["mean_kl_nats"] for check in checks)
        text = (
            f"{_line(found['file_type'])} file in llama.cpp and in JAX, {len(checks)} "
            f"prompts: token ids equal on {equal}, mean KL up to {divergence:.2g} "
            f"nats; {'' if found['passed'] else 'NOT '}within rounding."
        )
        text += "".join(f"\n- {_line(problem)}" for problem in found["problems"])
    if parity := manifest.get("parity"):
        source, file = parity["source"], parity["here"]
        text += (
            f"\n\nRounding to {parity['bits_per_weight']:.2f} bits a weight moved the "
            f"perplexity of held-out text from {source['perplexity']:.3f} to "
            f"{file['perplexity']:.3f} (mean KL {file['mean_kl_nats']:.2g} nats; the "
            f"most probable token stayed in {file['top1_agreement']:.1%})."
        )
    if reason := chat.get("finish_reason"):
        text += f"\n\nA chat completion in llama.cpp ended with `{_line(reason)}`."
    return text


def _line(value: Any) -> str:
    # One line without the characters that would begin markup or end a span.
    return " ".join(str(value).split()).translate(str.maketrans("`|<>", "'/‹›"))
