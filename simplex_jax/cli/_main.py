"""Parse the command line and call the library; one dataclass a subcommand."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import tyro

from ._progress import progress_bar, working

Positional = tyro.conf.Positional


@dataclasses.dataclass(frozen=True)
class Generate:
    """Continue a prompt, printing the text as it comes."""

    source: Positional[str]
    """Base model name, .gguf file or Hugging Face folder."""
    prompt: str
    """The text to continue."""
    chat: bool = False
    """Wrap the prompt in the model's chat template, as the user's message."""
    system: str | None = None
    """System message; only with --chat."""
    max_new_tokens: int = 64
    """Stop after this many tokens."""
    temperature: float = 0.0
    """0 is greedy."""
    top_k: int = 0
    """Draw from the k most probable tokens; 0 is all."""
    top_p: float = 1.0
    """Draw from the smallest set that has this probability."""
    min_p: float = 0.0
    """Drop tokens less probable than this share of the most probable one."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that were there already become less probable."""
    stop: tuple[str, ...] = ()
    """End before any of these strings."""
    seed: int = 0
    """Seed of the draws."""

    def __call__(self) -> int:
        """Run the command and return the exit status."""
        from .. import pipeline

        options = dataclasses.asdict(self)
        with working("loading"):
            pieces = pipeline.complete(**options)
        if not self.chat:
            print(self.prompt, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
        return 0


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a model as one GGUF file, with a Modelfile for Ollama beside it."""

    source: Positional[str]
    """Base model name, .gguf file or Hugging Face folder."""
    out: Path
    """The GGUF file to write."""
    type: str = "q8_0"
    """f32, f16, bf16, q8_0 or q4_0."""
    name: str | None = None
    """The model's name inside the file; the file's stem if left out."""

    def __call__(self) -> int:
        """Run the command and return the exit status."""
        from .. import pipeline

        with progress_bar("exporting") as progress:
            modelfile = pipeline.export(
                self.source, self.out, self.type, name=self.name, progress=progress
            )
        print(f"{self.out}: {self.out.stat().st_size / 1e6:.1f} MB, {self.type}")
        if modelfile is None:
            print("the model has no chat template, so there is no Modelfile")
        else:
            print(f"{modelfile}: ollama create {self.out.stem} -f {modelfile.name}")
        return 0


@dataclasses.dataclass(frozen=True)
class Verify:
    """Compare a GGUF file in JAX and in llama.cpp: token ids, logits, greedy text."""

    path: Positional[Path]
    """The GGUF file."""
    greedy_tokens: int = 32
    """How many tokens to generate for each prompt."""
    json: Path | None = None
    """Also write the comparison here."""

    def __call__(self) -> int:
        """Run the command and return the exit status: 1 where the sides differ."""
        from .. import pipeline
        from ._tables import verification_table

        with working("comparing"):
            result = pipeline.verify(self.path, greedy_tokens=self.greedy_tokens)
        verification_table(result)
        if self.json is not None:
            self.json.write_text(json.dumps(result.to_json(), indent=2) + "\n", "utf-8")
        return 0 if result.passed else 1


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Show what is in a GGUF file: metadata, tensors, types and sizes."""

    path: Positional[Path]
    """The GGUF file."""
    json: bool = False
    """Print JSON instead of tables."""

    def __call__(self) -> int:
        """Run the command and return the exit status."""
        from .. import pipeline
        from ._tables import summary_tables

        summary = pipeline.inspect(self.path)
        if self.json:
            print(json.dumps(summary, indent=2, ensure_ascii=False))
        else:
            summary_tables(summary)
        return 0


Command = (
    Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
)


def main(arguments: list[str] | None = None) -> None:
    """Run the ``simplex-jax`` command and exit with its status.

    Args:
        arguments: words after the command's name; None: those of the process.

    Raises:
        SystemExit: 0 where all went well, 1 where the result is negative, 2 where
            something that was given cannot be used; the reason goes to standard error.
    """
    command = tyro.cli(Command, prog="simplex-jax", args=arguments)
    try:
        status = command()
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"simplex-jax: error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("\nsimplex-jax: interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
