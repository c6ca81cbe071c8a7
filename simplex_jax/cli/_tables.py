"""Results as tables in the terminal."""

from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from ..pipeline import Verification


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


def _short(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
