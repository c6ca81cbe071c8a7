"""One specialist from end to end: data, training, file, proof, report."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .. import lora, models, train
from .._files import replacing
from ..export import open_model, parity, verify, write_modelfile
from ..report import model_card, read_manifest, report_html, write_manifest
from ..text import Tokenizer
from ._config import RunConfig, differences, make_config
from ._examples import make_examples
from ._material import Material
from ._texts import make_texts, train_tokenizer

_PACKAGES = (
    "simplex_jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "gguf",
    "tokenizers",
    "llama-cpp-python",
)


class Interrupted(Exception):
    """Say that a run was stopped from outside, and how it goes on."""


@dataclasses.dataclass(frozen=True)
class Listener:
    """What a run tells while it works, and what it asks.

    Args:
        say: called with a line for the user.
        stage: called with the name of what begins.
        share: called with the share of it that is done, in [0, 1].
        record: called with every record of training, and the number of steps in all.
        should_stop: asked often; where true, the run saves and raises ``Interrupted``.
    """

    say: Callable[[str], None] = lambda text: None
    stage: Callable[[str], None] = lambda name: None
    share: Callable[[float], None] = lambda share: None
    record: Callable[[Mapping[str, Any], int], None] = lambda record, steps: None
    should_stop: Callable[[], bool] = lambda: False


def run(
    config: RunConfig, out: str | os.PathLike, listener: Listener | None = None
) -> dict[str, Any]:
    """Train a specialist and leave its folder, or go on with an unfinished one.

    The folder holds ``manifest.json``, ``metrics.jsonl``, ``data/``, ``checkpoints/``,
    ``adapter/`` (or ``model/`` after training in full), ``tokenizer/`` where one was
    trained, a GGUF file, ``Modelfile`` where there is a chat template, ``report.html``
    and ``README.md``. A governed model ends as ``model/`` and has no GGUF file; a
    learned learning rate leaves ``schedule.json``, for
    ``training.lr_schedule_file`` of other runs.

    Args:
        config: all that decides the run.
        out: the folder; absent, empty, or that of the same run, unfinished.
        listener: what to tell, and whether to stop.

    Returns:
        The manifest.

    Raises:
        ValueError: where the folder holds something else, the data cannot be used, or
            as ``models.load`` and ``lora.attach``.
        FileNotFoundError: where base or data are not there.
        OSError: where something cannot be written.
        FloatingPointError: where training does not stay finite.
        Interrupted: where it was told to stop.
    """
    return _Run(config, Path(out), listener or Listener())()


class _Run:
    """The stages of one run, which share its folder and its manifest."""

    def __init__(self, config: RunConfig, out: Path, listener: Listener):
        self.config, self.out, self.listener = config, out, listener
        self.manifest = _open(out, config)

    def __call__(self) -> dict[str, Any]:
        config, manifest = self.config, self.manifest
        # A schedule's file that cannot be read is better told before an hour's work.
        train.learning_rate_schedule(config.training, 1)
        self.save()
        model, tokenizer = self.timed("load", lambda: _load(config))
        material = self.timed("data", lambda: self.material(model, tokenizer))
        student = model
        if not config.training.full:
            key = jax.random.key(config.training.seed)
            student = lora.attach(model, config.lora, key=key)
        if "before" not in manifest["evaluation"]:
            self.examine("before", model, tokenizer, material)
        counts = lora.parameter_counts(student)
        trainable = counts.total if config.training.full else counts.trainable
        manifest["base"] = {
            "source": config.base or "none, from scratch",
            "hub_name": models.hub_name(config.base) if config.base else None,
            "parameters": counts.total - counts.trainable,
            "trainable": trainable,
            "percent": 100 * trainable / counts.total,
        }
        fitted = self.timed("training", lambda: self.fit(student, material))
        trained = self.keep_weights(fitted.model, tokenizer)
        self.examine("after", trained, tokenizer, material)
        exported = []
        if trained.config.governance is None:
            exported = self.publish(trained, tokenizer, material)
        else:
            self.listener.say("no GGUF file: llama.cpp has no governance heads")
        manifest["samples"] = material.samples(manifest.pop("answers"))
        manifest["files"] = {
            file.relative_to(self.out).as_posix(): {
                "bytes": file.stat().st_size,
                "sha256": _sha256(file),
            }
            for file in (*exported, *_weights(self.out))
        }
        manifest["status"] = "finished"
        for name, text in (
            ("report.html", report_html(manifest, fitted.history)),
            ("README.md", model_card(manifest)),
        ):
            with replacing(self.out / name) as put:
                put(text.encode())
        # Last, so that a run that says it is finished is a whole one.
        self.save()
        return manifest

    def save(self) -> None:
        write_manifest(self.out, self.manifest)

    def share(self, share: float) -> None:
        """Tell how far a stage is that has nothing to save when it is stopped."""
        self.listener.share(share)
        if self.listener.should_stop():
            raise Interrupted("stopped; the same command goes on")

    def timed(self, stage: str, work: Callable[[], Any]) -> Any:
        """Do a stage, and write down what it left in the manifest."""
        if self.listener.should_stop():
            raise Interrupted(f"stopped before {stage}; the same command goes on")
        self.listener.stage(stage)
        began = time.monotonic()
        found = work()
        self.manifest["seconds"][stage] = time.monotonic() - began
        self.save()
        return found

    def material(self, model: models.Decoder, tokenizer: Tokenizer) -> Material:
        found = _make_material(self.config, model, tokenizer)
        began_with = self.manifest.setdefault("data", found.facts)
        if changed := differences(began_with, found.facts, "data"):
            raise ValueError(
                f"{self.out} was begun with other data ({'; '.join(changed)}); bring "
                "it back, or train into another folder"
            )
        (self.out / "data").mkdir(exist_ok=True)
        found.write(self.out / "data")
        if self.config.model is not None:
            tokenizer.save_hf(self.out / "tokenizer")
        report = found.packed.batches.report
        if report.too_long:
            self.listener.say(str(report))
        return found

    def examine(
        self,
        when: str,
        model: models.Decoder,
        tokenizer: Tokenizer,
        material: Material,
    ) -> None:
        figures, texts = self.timed(
            when,
            lambda: material.examine(model, tokenizer, self.share),
        )
        self.manifest["evaluation"][when] = figures
        self.manifest["answers"][when] = texts
        self.save()

    def fit(self, model: models.Decoder, material: Material) -> train.Fit:
        listener, packed = self.listener, material.packed
        steps = packed.steps
        fitted = train.fit(
            model,
            packed.batches,
            self.config.training,
            steps=steps,
            folder=self.out,
            heldout=packed.once.get("validation", ()),
            report=lambda record: listener.record(record, steps),
            say=listener.say,
            should_stop=listener.should_stop,
        )
        if fitted.stopped_by == "interrupt":
            raise Interrupted(
                f"stopped after step {fitted.steps} of {steps}, which is saved; the "
                "same command goes on"
            )
        self.manifest["training"] = {
            "steps": fitted.steps,
            "epochs": fitted.tokens / packed.batches.report.positions,
            "tokens": fitted.tokens,
            "loss_tokens": fitted.loss_tokens,
            "seconds": fitted.seconds,
            "tokens_per_second": fitted.tokens / fitted.seconds,
            "skipped_steps": fitted.skipped_steps,
            "best_step": fitted.best_step,
            "best_eval_loss": fitted.best_eval_loss,
            "stopped_by": fitted.stopped_by,
        }
        if fitted.learned_rate is not None:
            self.manifest["learned_rate"] = _learned(fitted.learned_rate, fitted)
        return fitted

    def keep_weights(
        self, model: models.Decoder, tokenizer: Tokenizer
    ) -> models.Decoder:
        """Write down what was trained, and return the model without adapters."""
        full = self.config.training.full
        folder = self.out / ("model" if full else "adapter")
        # Left by a run that was killed after it had trained.
        shutil.rmtree(folder, ignore_errors=True)
        if full:
            models.save_hf(model, tokenizer, folder)
            return model
        assert self.config.base is not None
        name = models.hub_name(self.config.base) or self.config.base
        lora.save_peft(model, folder, name)
        return lora.merge(model)

    def publish(
        self, model: models.Decoder, tokenizer: Tokenizer, material: Material
    ) -> list[Path]:
        """Write the GGUF file and prove it; return it with what stands beside it."""
        path = self.timed("export", lambda: self.export(model, tokenizer))
        self.manifest["parity"] = self.timed(
            "parity",
            lambda: parity(
                path,
                model,
                tokenizer,
                material.rows(model, tokenizer),
                progress=self.share,
            ),
        )
        self.timed("verify", lambda: self.prove(path, material))
        recipe = path.with_name("Modelfile")
        return [path, recipe] if tokenizer.chat_template is not None else [path]

    def export(self, model: models.Decoder, tokenizer: Tokenizer) -> Path:
        kind, name = self.config.export.type, self.manifest["name"]
        path = self.out / f"{name}-{kind}.gguf"
        models.save_gguf(model, tokenizer, path, kind, name=name, progress=self.share)
        if tokenizer.chat_template is not None:
            # As it was judged: greedy.
            greedy = {"temperature": 0}
            write_modelfile(
                path.with_name("Modelfile"), model, tokenizer, path.name, greedy
            )
        return path

    def prove(self, path: Path, material: Material) -> None:
        """Compare the file with llama.cpp, and let llama.cpp answer by itself."""
        try:
            verification = verify(path)
        except ModuleNotFoundError as error:
            self.listener.say(f"not verified: {error}")
            return
        self.manifest["verification"] = verification.to_json()
        self.manifest["verification"]["path"] = path.name
        self.manifest["chat"] = material.chat(path)
        for problem in verification.problems:
            self.listener.say(f"verification: {problem}")


def evaluate(
    folder: str | os.PathLike, listener: Listener | None = None
) -> dict[str, Any]:
    """Judge a finished run's model on the run's held-out data once more.

    Args:
        folder: of the run.
        listener: what to tell.

    Returns:
        The figures, as in the manifest under ``evaluation``.

    Raises:
        ValueError: where there is no finished run.
    """
    listener = listener or Listener()
    manifest = read_manifest(folder)
    if manifest is None:
        raise ValueError(f"{os.fspath(folder)} is not the folder of a run")
    config = make_config(manifest["config"])
    listener.stage("load")
    model, tokenizer = open_model(folder)
    listener.stage("data")
    material = _make_material(config, model, tokenizer)
    if changed := differences(manifest["data"], material.facts, "data"):
        raise ValueError(
            f"{os.fspath(folder)} was judged on other data ({'; '.join(changed)}); "
            "bring it back"
        )
    listener.stage("answers")
    return material.examine(model, tokenizer, listener.share)[0]


def _open(out: Path, config: RunConfig) -> dict[str, Any]:
    """Return the manifest to go on with, or a new one."""
    values = json.loads(json.dumps(config.to_json()))
    manifest = read_manifest(out)
    begun = manifest is not None
    # Before its first answers a run has nothing to lose, and can be put right.
    if manifest is not None and manifest["evaluation"]:
        if changed := differences(manifest["config"], values):
            raise ValueError(
                f"{out} holds a run of another configuration ({'; '.join(changed)}); "
                "give that one to go on with it, or another --out"
            )
        if manifest["status"] == "finished":
            raise ValueError(f"{out} holds this run, finished; give another --out")
        return manifest
    if out.exists() and not begun and (not out.is_dir() or _holds_something(out)):
        raise ValueError(f"{out} is there and holds no run; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    return {
        "format": 1,
        "status": "running",
        "name": config.export.name or out.resolve().name,
        "specialist": config.specialist,
        "task": config.task,
        "config": values,
        "versions": _versions(),
        "machine": {
            "cpu_count": os.cpu_count(),
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
        },
        "evaluation": {},
        "answers": {},
        "seconds": {},
    }


def _holds_something(folder: Path) -> bool:
    # A process that was killed while it wrote its first file leaves that one.
    names = (file.name for file in folder.iterdir())
    return any(not (n.startswith(".") and n.endswith(".tmp")) for n in names)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _make_material(
    config: RunConfig, model: models.Decoder, tokenizer: Tokenizer
) -> Material:
    make = make_texts if config.task == "lm" else make_examples
    return make(config, tokenizer, model.config.max_position_embeddings)


def _load(config: RunConfig) -> tuple[models.Decoder, Tokenizer]:
    training = config.training
    remat = "projections" if training.gradient_checkpointing else "none"
    if config.model is not None:
        tokenizer = train_tokenizer(config)
        sizes = dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size)
        rngs = nnx.Rngs(training.seed)
        return models.Decoder(sizes, remat=remat, rngs=rngs), tokenizer
    assert config.base is not None
    # In full training, float32 weights are cast in every step instead.
    narrow = training.bf16 and not training.full
    return models.load(
        config.base,
        dtype=jnp.bfloat16 if narrow else jnp.float32,
        remat=remat,
    )


def _learned(rate: train.LearnedRate, fitted: train.Fit) -> dict[str, Any]:
    numbers = {
        when: {name: np.asarray(x).tolist() for name, x in schedule.params.items()}
        for when, schedule in (("start", rate.start), ("end", rate.end))
    }
    return {
        "adaptations": rate.adaptations,
        "seconds": rate.seconds,
        "share_of_training": rate.seconds / fitted.seconds,
        **numbers,
    }


def _weights(out: Path) -> list[Path]:
    folders = [out / "adapter", out / "model"]
    return sorted(f for folder in folders for f in folder.rglob("*") if f.is_file())


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
