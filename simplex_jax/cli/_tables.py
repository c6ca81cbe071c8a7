"""Results as tables in the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from ..export import Verification


def verification_table(result: "Verification") -> None:
    """Print a comparison with llama.cpp, a line a prompt, and the verdict."""
    table = Table(
        title=f"{escape(result.path)} ({result.file_type}): JAX and llama.cpp",
        box=SIMPLE,
    )
    table.add_column("prompt", no_wrap=True)
    headings = ("tokens", "ids", "max Δ", "KL, nats", "top 1", "greedy")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for check in result.checks:
        equal = check.first_difference
        if equal is None:
            equal = check.greedy_tokens
        table.add_row(
            escape(_short(repr(check.prompt), 15)),
            str(check.tokens),
            "equal" if check.ids_equal else "differ",
            f"{check.max_logit_difference:.1e}",
            f"{check.mean_kl_nats:.1e}",
            f"{check.top1_agreement:.0%}",
            f"{equal} of {check.greedy_tokens}",
        )
    console = Console()
    console.print(table)
    for problem in result.problems:
        console.print(f"[red]{escape(problem)}")
    console.print("[green]verified" if result.passed else "[red]not verified")


def figures_table(title: str, evaluations: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what evaluations measured, a column each."""
    table = Table(title=escape(title), box=SIMPLE)
    table.add_column("held-out data")
    rows: dict[str, list[str]] = {}
    for name, figures in evaluations.items():
        table.add_column(name, justify="right")
        for label, text in _figures(figures):
            rows.setdefault(label, []).append(text)
    for label, texts in rows.items():
        table.add_row(label, *texts)
    Console().print(table)


def _figures(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "bits_per_byte" in figures:
        return [
            ("loss, nats a token", f"{figures['nll']:.4f}"),
            ("bits a byte", f"{figures['bits_per_byte']:.4f}"),
        ]
    if "nll" in figures:
        return [
            ("loss, nats a token", f"{figures['nll']:.4f}"),
            ("token accuracy", f"{figures['token_accuracy']:.3f}"),
        ]
    accuracy = f"{figures['accuracy']:.3f}"
    if "accuracy_interval" in figures:
        low, high = figures["accuracy_interval"]
        accuracy += f" ({low:.3f} to {high:.3f})"
    calibration = figures["calibration"] or {}
    stated = f"{calibration.get('count', 0)} of {figures['prompts']}"
    ece, brier = calibration.get("ece"), calibration.get("brier")
    return [
        ("accuracy (95 %, by template)", accuracy),
        ("readable answers", f"{figures['parsed']} of {figures['prompts']}"),
        ("with a stated confidence", stated),
        ("calibration error (ECE)", "none" if ece is None else f"{ece:.3f}"),
        ("Brier score", "none" if brier is None else f"{brier:.3f}"),
    ]


def run_table(manifest: Mapping[str, Any], out: Path) -> None:
    """Print what a run measured, whether it is proven, and what to do with it."""
    figures_table(manifest["name"], manifest["evaluation"])
    console = Console()
    trained = manifest["training"]
    console.print(
        f"trained {manifest['base']['trainable']:,} parameters "
        f"({manifest['base']['percent']:.2f} %) for {trained['steps']} steps, "
        f"{trained['tokens']:,} tokens, {trained['seconds']:.0f} s",
        highlight=False,
        soft_wrap=True,
    )
    proof = manifest.get("verification")
    if proof is not None:
        chat = manifest["chat"]
        worst = max(check["mean_kl_nats"] for check in proof["checks"])
        answer = "" if chat is None else _answered(chat)
        console.print(
            "[green]verified in llama.cpp[/]"
            if proof["passed"]
            else "[red]not verified",
            f"({proof['file_type']}, mean KL at most {worst:.1e} nats){answer}",
            highlight=False,
            soft_wrap=True,
        )
    for file in manifest["files"]:
        if file.endswith(".gguf"):
            console.print(escape(f"{out / file}"), highlight=False, soft_wrap=True)
    last = [f"report: {out / 'report.html'}"]
    if "Modelfile" in manifest["files"]:
        last.insert(0, f"ollama create {manifest['name']} -f {out / 'Modelfile'}")
    elif manifest["config"]["training"]["full"]:
        last.insert(0, f"model: {out / 'model'}")
    console.print(*map(escape, last), sep="\n", highlight=False, soft_wrap=True)


def _answered(chat: Mapping[str, Any]) -> str:
    text = escape(repr(chat["text"]))
    return f"; it answers {text} and ends by {chat['finish_reason']}"


def summary_tables(summary: dict) -> None:
    """Print a GGUF file's ``summary`` as tables of facts, metadata and tensors."""
    console = Console()
    facts = {k: v for k, v in summary.items() if k not in ("metadata", "tensors")}
    for title, mapping in (("file", facts), ("metadata", summary["metadata"])):
        table = Table(title=title, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for key, value in mapping.items():
            table.add_row(key, escape(_short(str(value), 300)))
        console.print(table)
    table = Table(title="tensors")
    for heading in ("name", "shape", "type", "bytes"):
        table.add_column(heading, justify="right" if heading == "bytes" else "left")
    for tensor in summary["tensors"]:
        shape = " x ".join(str(n) for n in tensor["shape"])
        table.add_row(
            escape(tensor["name"]), shape, tensor["type"], f"{tensor['nbytes']:,}"
        )
    console.print(table)


def parity_table(found: Mapping[str, Any]) -> None:
    """Print how far an exported file is from its source."""
    table = Table(box=SIMPLE)
    table.add_column(f"over {found['tokens']:,} tokens")
    for heading in ("perplexity", "KL, nats", "same top token"):
        table.add_column(heading, justify="right")
    table.add_row("source", f"{found['source']['perplexity']:.3f}", "", "")
    sides = {"file, in JAX": "here", "file, in llama.cpp": "llama_cpp"}
    for name, side in sides.items():
        figures = found[side]
        if figures is None:
            table.add_row(name, "not installed", "", "")
            continue
        table.add_row(
            name,
            f"{figures['perplexity']:.3f}",
            f"{figures['mean_kl_nats']:.4f}",
            f"{figures['top1_agreement']:.1%}",
        )
    console = Console()
    console.print(table)
    ids = found["token_ids"]
    kept = "equal" if found["template_equal"] else "[red]different[/]"
    console.print(
        f"token ids: {ids['differing']} of {ids['texts']} texts differ; a conversation "
        f"begins with {found['bos_tokens']} BOS; chat template {kept}",
        highlight=False,
        soft_wrap=True,
    )


def plan_table(plan: Mapping[str, Any]) -> None:
    """Print what quantizing would make of a file, a line a tensor, and the sums."""
    table = Table(title="tensors", box=SIMPLE)
    for heading in ("name", "shape", "before", "after"):
        table.add_column(heading, no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    for tensor in plan["tensors"]:
        table.add_row(
            escape(tensor["name"]),
            " x ".join(str(n) for n in tensor["shape"]),
            tensor["type_before"],
            tensor["type_after"],
            f"{tensor['bytes_after']:,}",
        )
    console = Console()
    console.print(table)
    bits = plan.get("bits_per_weight")
    console.print(
        f"{plan['bytes_before']:,} bytes become {plan['bytes_after']:,}"
        + ("" if bits is None else f", {bits:.2f} bits a weight"),
        highlight=False,
        soft_wrap=True,
    )


def _short(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
