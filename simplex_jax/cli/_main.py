"""Parse the command line and call the library; one dataclass a subcommand."""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ._progress import progress_bar, working

if TYPE_CHECKING:
    from .. import pipeline

Positional = tyro.conf.Positional


@dataclasses.dataclass(frozen=True)
class Generate:
    """Continue a prompt, printing the text as it comes."""

    source: Positional[str]
    """Base model name, .gguf file, Hugging Face folder, or folder of a run."""
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
        from .. import export

        options = dataclasses.asdict(self)
        with working("loading"):
            pieces = export.complete(**options)
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
    """Base model name, .gguf file, Hugging Face folder, or folder of a run."""
    out: Path
    """The GGUF file to write."""
    type: str = "q4_k_m"
    """f32, f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s, q4_k_m, q4_k_s, q3_k_l, q3_k_m,
    q3_k_s, q2_k, q5_0, q5_1, q4_0 or q4_1."""
    name: str | None = None
    """The model's name inside the file; the file's stem if left out."""
    text: Path | None = None
    """UTF-8, to compare the file with its source on; a run's held-out examples, or a
    short story, if left out."""

    def __call__(self) -> int:
        """Run the command and return the exit status."""
        from .. import export
        from ._tables import parity_table

        with progress_bar("exporting") as progress:
            written = export.export(
                self.source,
                self.out,
                self.type,
                name=self.name,
                text_file=self.text,
                progress=progress,
            )
        parity_table(written.found)
        print(f"{self.out}: {self.out.stat().st_size / 1e6:.1f} MB, {self.type}")
        print(f"{written.parity}: the whole comparison")
        path = written.modelfile
        if path is None:
            print("the model has no chat template, so there is no Modelfile")
        else:
            print(f"{path}: ollama create {self.out.stem} -f {path.name}")
        return 0


@dataclasses.dataclass(frozen=True)
class Quantize:
    """Write a GGUF file anew with smaller types, byte for byte as llama.cpp does."""

    path: Positional[Path]
    """The GGUF file, best of F32, F16 or BF16."""
    out: Positional[Path | None] = None
    """The GGUF file to write; only a dry run can do without."""
    type: str = "q4_k_m"
    """As for export."""
    imatrix: Path | None = None
    """Importance matrix of the same model, GGUF."""
    tensor_type: tuple[str, ...] = ()
    """Other types for tensors whose name has a regular expression in it, such as
    'attn_v=q6_k'; the first that is found decides."""
    pure: bool = False
    """The file's own type everywhere."""
    output_tensor_type: str | None = None
    """Type of the matrix that makes the logits."""
    token_embedding_type: str | None = None
    """Type of the embedding."""
    leave_output_tensor: bool = False
    """Keep the type of output.weight."""
    dry_run: bool = False
    """Show what would be written, and write nothing."""
    workers: int | None = None
    """Processes; one a core if left out."""

    def __call__(self) -> int:
        """Run the command and return the exit status."""
        from .. import export
        from ._tables import plan_table

        options = {
            "imatrix": self.imatrix,
            "tensor_type": [_pattern_and_type(words) for words in self.tensor_type],
            "pure": self.pure,
            "output_tensor_type": self.output_tensor_type,
            "token_embedding_type": self.token_embedding_type,
            "leave_output_tensor": self.leave_output_tensor,
        }
        if self.dry_run:
            plan_table(export.plan_quantization(self.path, self.type, **options))
            return 0
        if self.out is None:
            raise ValueError("out is missing; name the file to write, or ask --dry-run")
        with progress_bar("quantizing") as progress:
            export.quantize(
                self.path,
                self.out,
                self.type,
                workers=self.workers,
                progress=progress,
                **options,
            )
        before, after = (path.stat().st_size / 1e6 for path in (self.path, self.out))
        print(f"{self.out}: {after:.1f} MB of {before:.1f} MB, {self.type}")
        return 0


@dataclasses.dataclass(frozen=True)
class Imatrix:
    """Measure over a text which columns of a model's weights matter.

    Use a text of the kind that the model is for, and start from F32, F16 or BF16.
    """

    source: Positional[str]
    """Base model name, .gguf file, Hugging Face folder, or folder of a run."""
    data: Path
    """The text, UTF-8."""
    out: Path
    """The GGUF file to write, for quantize --imatrix."""
    chunk_tokens: int = 512
    """The text is read in pieces of so many tokens."""
    max_chunks: int | None = None
    """Stop after so many pieces."""

    def __call__(self) -> int:
        """Run the command and return the exit status."""
        from .. import export

        with progress_bar("reading") as progress:
            matrix = export.imatrix(
                self.source,
                self.data,
                self.out,
                chunk_tokens=self.chunk_tokens,
                max_chunks=self.max_chunks,
                progress=progress,
            )
        print(f"{self.out}: {len(matrix.mean_squares)} tensors, {matrix.tokens} tokens")
        return 0


def _pattern_and_type(words: str) -> tuple[str, str]:
    pattern, equals, type = words.rpartition("=")
    if not pattern or not equals or not type:
        raise ValueError(
            f"tensor_type is {words!r}; give an expression and a type, such as "
            "'attn_v=q6_k'"
        )
    return pattern, type


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
        from .. import export
        from ._tables import verification_table

        with working("comparing"):
            result = export.verify(self.path, greedy_tokens=self.greedy_tokens)
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
        from .. import export
        from ._tables import summary_tables

        summary = export.inspect(self.path)
        if self.json:
            print(json.dumps(summary, indent=2, ensure_ascii=False))
        else:
            summary_tables(summary)
        return 0


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a specialist or a language model, and leave a file that llama.cpp runs.

    The same command on an unfinished run goes on with it.
    """

    specialist: Positional[str | None] = None
    """What to learn: sentiment_analysis, document_extraction or neural_ir."""
    task: str | None = None
    """lm: the plain text below the folder --data; left out: answers."""
    base: str | None = None
    """Base model name, .gguf file or Hugging Face folder. If left out: smollm2-135m,
    or with --task lm a small model from scratch."""
    data: Path | None = None
    """Your own examples instead of a specialist's, JSONL; with --task lm a folder of
    .txt and .md files, one a document."""
    out: Path | None = None
    """Folder of the run; runs/ and the specialist's or the file's name if left out."""
    config: Path | None = None
    """YAML with the sections model, lora, training, data and export."""
    set: tuple[str, ...] = ()
    """Settings over those of the file, such as training.max_steps=300."""
    full: bool = False
    """Train every weight instead of adapters."""
    strict: bool = False
    """Refuse examples that are too long, instead of leaving them out."""
    local_test: bool = False
    """Try everything in a minute, and learn nothing."""

    def __call__(self) -> int:
        """Run the command and return the exit status."""
        from .. import pipeline
        from ._tables import run_table
        from ._watch import stopping, watching

        config = self.resolve()
        out = self.out
        if out is None and self.local_test:
            out = Path("runs") / f"local-test-{time.strftime('%Y%m%d-%H%M%S')}"
        elif out is None:
            out = Path("runs") / (config.specialist or Path(str(config.data.file)).stem)
        with stopping() as stop, watching() as listener:
            listener = dataclasses.replace(listener, should_stop=stop.asked)
            try:
                manifest = pipeline.run(config, out, listener)
            except pipeline.Interrupted as interrupted:
                listener.say(f"simplex-jax: {interrupted}")
                return stop.status
        run_table(manifest, out)
        verification = manifest.get("verification")
        return 0 if verification is None or verification["passed"] else 1

    def resolve(self) -> "pipeline.RunConfig":
        """Return the configuration that file, settings and options add up to."""
        from .. import pipeline

        file = {} if self.config is None else pipeline.load_yaml(self.config)
        settings = pipeline.assignments(self.set)
        options: dict[str, Any] = {"data": {}, "training": {}}
        if self.specialist is not None:
            options["specialist"] = self.specialist
        if self.task is not None:
            options["task"] = self.task
        if self.base is not None:
            options["base"] = self.base
        if self.data is not None:
            options["data"]["file"] = str(self.data)
        if self.strict:
            options["data"]["strict"] = True
        if self.full:
            options["training"]["full"] = True
        layers: list[Mapping[str, Any]] = [file, settings, options]
        if self.local_test:
            layers.insert(1, pipeline.LOCAL_TEST)
            named = [layer.get("specialist") for layer in layers]
            sections = [layer.get("data") for layer in layers]
            named += [s.get("file") for s in sections if isinstance(s, Mapping)]
            if not any(named):
                layers.insert(0, {"specialist": "sentiment_analysis"})
        return pipeline.make_config(*layers)


@dataclasses.dataclass(frozen=True)
class Eval:
    """Judge a finished run's model on its held-out data once more."""

    run: Positional[Path]
    """Folder of the run."""
    json: Path | None = None
    """Also write the figures here."""

    def __call__(self) -> int:
        """Run the command and return the exit status."""
        from .. import pipeline
        from ._tables import figures_table
        from ._watch import watching

        with watching() as listener:
            figures = pipeline.evaluate(self.run, listener)
        figures_table(str(self.run), {"now": figures})
        if self.json is not None:
            self.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
        return 0


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Eval, tyro.conf.subcommand("eval")]
    | Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Quantize, tyro.conf.subcommand("quantize")]
    | Annotated[Imatrix, tyro.conf.subcommand("imatrix")]
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
    except (ValueError, OSError, ModuleNotFoundError, FloatingPointError) as error:
        print(f"simplex-jax: error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("\nsimplex-jax: interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
