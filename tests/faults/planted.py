"""Faults as somebody might make them, each of which the tests should notice.

A fault has to change what the code does: one that no caller can see says nothing about
the tests. Nor may it break an import, since any test notices that.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

LEAST_IN_A_ROOM = 3


@dataclass(frozen=True)
class Fault:
    """A text of a file, once there, and what is planted in its place.

    Attributes:
        name: the room, and what is wrong.
        file: relative to the repository's root.
        old: what the fault replaces.
        new: what it puts there.
        tests: files and folders that should notice, the most likely one first.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def room(self) -> str:
        """The package that the fault is in."""
        return Path(self.file).parts[1]

    def plant(self, text: str) -> str:
        """Return a file's text with the fault in it, refusing any other text."""
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.file} has its text {found} times")
        return text.replace(self.old, self.new)


def problems(faults: tuple[Fault, ...], root: Path) -> list[str]:
    """Say which faults no longer fit the code, and which rooms have too few."""
    found = []
    for fault in faults:
        found += [
            f"{fault.name}: {path} is not there"
            for path in fault.tests
            if not (root / path).exists()
        ]
        try:
            text = (root / fault.file).read_text()
            planted = fault.plant(text)
            compile(planted, fault.file, "exec")
        except (OSError, SyntaxError, ValueError) as error:
            found.append(f"{fault.name}: {error}")
            continue
        if planted == text:
            found.append(f"{fault.name}: it changes nothing")
    names = Counter(fault.name for fault in faults)
    found += [
        f"{name}: there are {n} of the name" for name, n in names.items() if n > 1
    ]
    counts = Counter(fault.room for fault in faults)
    starts = (root / "simplex_jax").glob("*/__init__.py")
    rooms = sorted(start.parent.name for start in starts)
    found += [
        f"{room}: {counts[room]} faults, and {LEAST_IN_A_ROOM} are needed"
        for room in rooms
        if counts[room] < LEAST_IN_A_ROOM
    ]
    return found


def _fault(
    room: str, wrong: str, module: str, old: str, new: str, *files: str
) -> Fault:
    """Spell out the paths, most of which follow from the room."""
    return Fault(
        name=f"{room}: {wrong}",
        file=f"simplex_jax/{room}/{module}.py",
        old=old,
        new=new,
        tests=(*(f"tests/{file}.py" for file in files), f"tests/{room}"),
    )


FAULTS = (
    # dual
    _fault(
        "dual",
        "the slope of a power has the power's own exponent",
        "_safe",
        "y * _power(jnp.where(flat, 1, x), y - 1)",
        "y * _power(jnp.where(flat, 1, x), y)",
        "dual/test_dual_safe",
    ),
    _fault(
        "dual",
        "Taylor coefficients are divided by k, not by k!",
        "_taylor",
        "d / math.factorial(k)",
        "d / max(k, 1)",
        "dual/test_dual_taylor",
    ),
    _fault(
        "dual",
        "the tangent of a number that is closed over is dropped",
        "_lift",
        "primal.der + tangent.val",
        "tangent.val",
        "dual/test_dual_nesting",
    ),
    _fault(
        "dual",
        "many tangents come out on the first axis",
        "_dual",
        "in_axes=-1, out_axes=-1",
        "in_axes=-1, out_axes=0",
        "dual/test_dual_number",
    ),
    _fault(
        "dual",
        "a root's derivative solves with transposed slopes",
        "_solve",
        "_solved(jax.jacfwd(linear)(jnp.zeros_like(y)), y)",
        "_solved(jax.jacfwd(linear)(jnp.zeros_like(y)).T, y)",
        "dual/test_dual_solve",
    ),
    # gguf
    _fault(
        "gguf",
        "Q6_K codes its scales by 127",
        "_k_signed",
        "inverse = np.float32(-128) / largest",
        "inverse = np.float32(-127) / largest",
        "gguf/test_gguf_k_quants",
    ),
    _fault(
        "gguf",
        "Q8_0 rounds halves down",
        "_blocks",
        "whole += (magnitude - whole) >= np.float32(0.5)",
        "whole += (magnitude - whole) > np.float32(0.5)",
        "gguf/test_gguf_codecs",
    ),
    _fault(
        "gguf",
        "BF16 rounds ties away from even",
        "_bf16",
        "(bits + (0x7FFF + ((bits >> 16) & 1))) >> 16",
        "(bits + 0x8000) >> 16",
        "gguf/test_gguf_codecs",
    ),
    _fault(
        "gguf",
        "Q2_K's importances have twice their sigma squared",
        "_importance",
        "GGMLType.Q2_K: 1,",
        "GGMLType.Q2_K: 2,",
        "gguf/test_gguf_k_quants",
    ),
    _fault(
        "gguf",
        "a minimum is read with the high bits of its scale",
        "_k_affine",
        "rest >> 4 | m >> 6 << 4",
        "rest >> 4 | s >> 6 << 4",
        "gguf/test_gguf_k_quants",
    ),
    _fault(
        "gguf",
        "a scale beyond float16 is stored as infinite",
        "_layout",
        "lost = values[~np.isfinite(half)]",
        "lost = values[np.isnan(half)]",
        "gguf/test_gguf_codecs",
    ),
    _fault(
        "gguf",
        "gaps between tensors are not refused",
        "_header",
        "if offset != expected:",
        "if offset < expected:",
        "gguf/test_gguf_hostile",
    ),
    _fault(
        "gguf",
        "other layers than llama.cpp's get more bits",
        "_placement",
        "(i - n // 8) % 3 == 2",
        "(i - n // 8) % 3 == 0",
        "gguf/test_gguf_placement",
    ),
    # lora
    _fault(
        "lora",
        "rsLoRA divides by the rank, not by its root",
        "_config",
        "alpha / (math.sqrt(rank) if self.use_rslora else rank)",
        "alpha / rank",
        "lora/test_lora_attach",
    ),
    _fault(
        "lora",
        "what dropout keeps is not scaled up",
        "_layer",
        "x * (2**16 / kept), 0)",
        "x, 0)",
        "lora/test_lora_train",
    ),
    _fault(
        "lora",
        "every module draws its adapter with one key",
        "_attach",
        "name_key = jax.random.fold_in(key, zlib.crc32(site.hf_name.encode()))",
        "name_key = key",
        "lora/test_lora_attach",
    ),
    _fault(
        "lora",
        "unmerge adds the adapter again",
        "_merge",
        "_with_adapter(module, layer, -1)",
        "_with_adapter(module, layer, 1)",
        "lora/test_lora_attach",
    ),
    _fault(
        "lora",
        "a PEFT folder without a dropout gets the preset's",
        "_peft",
        'fields.setdefault("lora_dropout", 0.0)',
        'fields.setdefault("lora_dropout", 0.05)',
        "lora/test_lora_peft",
    ),
    # models
    _fault(
        "models",
        "RMSNorm forgets its epsilon",
        "_layers",
        "keepdims=True) + self.eps)",
        "keepdims=True))",
        "models/test_models_forward",
    ),
    _fault(
        "models",
        "attention divides by the root of the widened keys",
        "_layers",
        "scores * width**-0.5",
        "scores * channels**-0.5",
        "models/test_models_governance",
    ),
    _fault(
        "models",
        "up_proj drops the same inputs as gate_proj",
        "_layers",
        "self.up_proj(x, key=fold(key, 5))",
        "self.up_proj(x, key=fold(key, 4))",
        "lora/test_lora_train",
        "train/test_train_step",
    ),
    _fault(
        "models",
        "the cache takes padding for tokens",
        "_cache",
        "cache.filled, real, cache.used, axis=1",
        "cache.filled, jnp.ones_like(real), cache.used, axis=1",
        "models/test_models_cache",
    ),
    _fault(
        "models",
        "positions count the padding of a prompt",
        "_cache",
        "jnp.maximum(cache.lengths[:, None] + offsets, 0)",
        "jnp.maximum(cache.used + offsets, 0)",
        "models/test_models_cache",
    ),
    _fault(
        "models",
        "every step draws with the same key",
        "_sample",
        "jax.random.fold_in(jax.random.fold_in(key, row), step)",
        "jax.random.fold_in(key, row)",
        "models/test_models_sample",
    ),
    _fault(
        "models",
        "rotary rows are interleaved across heads",
        "_outside",
        "rows.reshape(heads, 2, -1, *rows.shape[1:])",
        "rows.reshape(2, heads, -1, *rows.shape[1:])",
        "models/test_models_gguf",
    ),
    # neural
    _fault(
        "neural",
        "ALiBi's further slopes are the wrong half",
        "_positions",
        "np.arange(1, 2 * power, 2)",
        "np.arange(1, 2 * power)",
        "neural/test_neural_attention",
    ),
    _fault(
        "neural",
        "straight through keeps the hard derivative too",
        "_straight_through",
        "jax.lax.stop_gradient(hard) + smooth",
        "hard + smooth",
        "neural/test_neural_attention",
    ),
    _fault(
        "neural",
        "a router's winners are not renormalised",
        "_router",
        "weights = kept / kept.sum(-1, keepdims=True)",
        "weights = kept",
        "neural/test_neural_gates",
    ),
    # circuits
    _fault(
        "circuits",
        "a soft gate takes its pins in the other order",
        "_circuit",
        "t0 + (t2 - t0) * a + b * (t1 - t0 +",
        "t0 + (t1 - t0) * a + b * (t2 - t0 +",
        "circuits/test_circuits_programs",
    ),
    _fault(
        "circuits",
        "a committee leaves pins on the first gate where they were",
        "_committee",
        "a + before * (a >= first)",
        "a + before * (a > first)",
        "circuits/test_circuits_committee",
    ),
    _fault(
        "circuits",
        "tau does not divide the votes",
        "_readout",
        "log_softmax(self.votes(out) / self.tau)",
        "log_softmax(self.votes(out))",
        "circuits/test_circuits_learn",
    ),
    # governance
    _fault(
        "governance",
        "a document reads the memory of the one before",
        "_delta",
        "jnp.where(document[:, None] == 0, jnp.exp(total), 0)[..., None]",
        "jnp.exp(total)[..., None]",
        "governance/test_governance_heads",
    ),
    _fault(
        "governance",
        "the concept loss counts padding",
        "_concepts",
        "missed = jnp.sum(weight * jnp.square(",
        "missed = jnp.sum(jnp.square(",
        "models/test_models_trace",
    ),
    _fault(
        "governance",
        "a document forgets what the one before it summed",
        "_forget",
        "jnp.where(fresh[:, :1], 0, past)",
        "past",
        "governance/test_governance_heads",
        "models/test_models_governance",
    ),
    # anneal
    _fault(
        "anneal",
        "PES forgets the noise of earlier windows",
        "_pes",
        "summed = summed + noise",
        "summed = noise",
        "anneal/test_anneal_gradients",
    ),
    _fault(
        "anneal",
        "every step of a process has the same key",
        "_process",
        "jax.vmap(jax.random.fold_in, (0, None))(run_keys, t)",
        "run_keys",
        "anneal/test_anneal_gradients",
    ),
    _fault(
        "anneal",
        "the score function's advantage is differentiated",
        "_score_function",
        "advantage = jax.lax.stop_gradient(losses - others)",
        "advantage = losses - others",
        "anneal/test_anneal_gradients",
    ),
    _fault(
        "anneal",
        "tempering never tries the odd pairs",
        "_tempering",
        "tried = pairs % 2 == parity",
        "tried = pairs % 2 == 0",
        "anneal/test_anneal_tempering",
    ),
    _fault(
        "anneal",
        "a restarted chain has waited one step already",
        "_chain",
        "stagnation = jnp.where(again, 0, stagnation)",
        "stagnation = jnp.where(again, 1, stagnation)",
        "anneal/test_anneal_chain",
    ),
    _fault(
        "anneal",
        "a cosine rises again after its end",
        "_schedules",
        "jnp.cos(jnp.pi * jnp.minimum(step / steps, 1))",
        "jnp.cos(jnp.pi * step / steps)",
        "anneal/test_anneal_schedules",
    ),
    # schedules
    _fault(
        "schedules",
        "between two points the first one's rate stays",
        "_piecewise_lr",
        "share * logs[before + 1]",
        "share * logs[before]",
        "schedules/test_schedules_curves",
    ),
    _fault(
        "schedules",
        "a ramp does not arrive at its end",
        "_run",
        "jnp.expm1(-rate * at) / jnp.expm1(-rate)",
        "-jnp.expm1(-rate * at)",
        "schedules/test_schedules_curves",
    ),
    _fault(
        "schedules",
        "a bundle keeps its length when it is scaled",
        "_bundle",
        "name: part.scaled(steps=steps) for",
        "name: part for",
        "schedules/test_schedules_curves",
    ),
    # text
    _fault(
        "text",
        "a conversation begins with two BOS",
        "_tokenizer",
        "[self.bos_id] * wanted + ids[start:]",
        "[self.bos_id] * wanted + ids",
        "text/test_text_chat",
    ),
    _fault(
        "text",
        "short whole tokens are cut out before long ones",
        "_tokenizer",
        "key=lambda pair: len(pair[0].encode()), reverse=True",
        "key=lambda pair: len(pair[0].encode())",
        "text/test_text_tokenizer",
    ),
    _fault(
        "text",
        "the byte 0xAD stands for itself",
        "_pieces",
        "*range(0xA1, 0xAD), *range(0xAE, 0x100)",
        "*range(0xA1, 0x100)",
        "text/test_text_tokenizer",
    ),
    _fault(
        "text",
        "the end of an answer carries no loss",
        "_sequences",
        "loss += [example.weight] * (ends[-1] + 1)",
        "loss += [example.weight] * ends[-1]",
        "text/test_text_sequences",
    ),
    # train
    _fault(
        "train",
        "the loss takes every weight for 1",
        "_loss",
        "score(logits, targets) * weights.astype(dtype)",
        "score(logits, targets) * (weights != 0).astype(dtype)",
        "train/test_train_loss",
    ),
    _fault(
        "train",
        "the mean over the vocabulary keeps an old maximum",
        "_vocabulary",
        "mean * shrink[:, None] + part",
        "mean + part",
        "train/test_train_loss",
    ),
    _fault(
        "train",
        "every step has the same dropout",
        "_step",
        "state.step + ahead",
        "ahead",
        "train/test_train_step",
    ),
    _fault(
        "train",
        "micro-batches share their dropout",
        "_step",
        "micro, jax.random.fold_in(key, at))",
        "micro, key)",
        "train/test_train_step",
    ),
    _fault(
        "train",
        "a resumed run begins with fresh moments",
        "_fit",
        "state, kept = found\n",
        "kept = found[1]\n"
        "            state = found[0]._replace(opt_state=state.opt_state)\n",
        "train/test_train_fit",
    ),
    _fault(
        "train",
        "a checkpoint's seal is compared by names alone",
        "_checkpoint",
        "json.loads((folder / _SEAL).read_bytes()) == _digests(folder)",
        "json.loads((folder / _SEAL).read_bytes()).keys() == _digests(folder).keys()",
        "train/test_train_fit",
    ),
    # data
    _fault(
        "data",
        "the same prompt may be on both sides of a split",
        "_example",
        '        if turn.role == "assistant":\n            break\n',
        "",
        "data/test_data_files",
    ),
    _fault(
        "data",
        "the loss mask belongs to the token before",
        "_packing",
        '"loss_mask": mask[1:]}',
        '"loss_mask": mask[:-1]}',
        "data/test_data_packing",
    ),
    _fault(
        "data",
        "a state fits sequences with other weights",
        "_packing",
        'for name in ("tokens", "targets", "loss_mask"):',
        'for name in ("tokens", "targets"):',
        "data/test_data_packing",
    ),
    # specialists
    _fault(
        "specialists",
        "held-out reviews use the templates of training",
        "cues/_sentiment",
        "if t.split == split and t.label == label",
        "if t.label == label",
        "specialists/test_specialists_catalog",
        "specialists/test_specialists_generators",
    ),
    _fault(
        "specialists",
        "a posterior leaves the first cue out",
        "cues/_sentiment",
        "for shown, kind in cues:",
        "for shown, kind in cues[1:]:",
        "specialists/test_specialists_generators",
    ),
    _fault(
        "specialists",
        "a confidence in percent is read as a share",
        "_protocols",
        "float(number) / (100 if percent else 1)",
        "float(number)",
        "specialists/test_specialists_generators",
    ),
    # evals
    _fault(
        "evals",
        "an interval of 95 % has 90 % in it",
        "_intervals",
        "tail = (1 - level) / 2",
        "tail = 1 - level",
        "evals/test_evals_intervals",
    ),
    _fault(
        "evals",
        "small clusters count as much as large ones",
        "_intervals",
        "sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)",
        "(sums / counts)[drawn].mean(axis=1)",
        "evals/test_evals_intervals",
    ),
    _fault(
        "evals",
        "an edge belongs to the bin below",
        "_calibration",
        'side="right") - 1',
        'side="left") - 1',
        "evals/test_evals_calibration",
    ),
    # export
    _fault(
        "export",
        "a divergence of NaN passes",
        "_verify",
        "not kl <= KL_TOLERANCE_NATS",
        "kl > KL_TOLERANCE_NATS",
        "export/test_export_verify",
    ),
    _fault(
        "export",
        "the agreement of top tokens counts padding",
        "_parity",
        "jnp.sum(among & same)",
        "jnp.sum(same)",
        "export/test_export_parity",
    ),
    _fault(
        "export",
        "rows are longer than the model's context",
        "_parity",
        "size = min(_TEXT_TOKENS, model.config.max_position_embeddings)",
        "size = _TEXT_TOKENS",
        "export/test_export_parity",
    ),
    # report
    _fault(
        "report",
        "texts are not escaped",
        "_html",
        'html.escape(str(value).encode("utf-8", "replace").decode())',
        'str(value).encode("utf-8", "replace").decode()',
        "report/test_report_page",
    ),
    _fault(
        "report",
        "a higher loss is better",
        "_results",
        "higher_is_better=key in _SHARES",
        "higher_is_better=True",
        "report/test_report_page",
    ),
    _fault(
        "report",
        "intervals are left out",
        "_results",
        'return f"{value:.3f}{ends}"',
        'return f"{value:.3f}"',
        "report/test_report_page",
    ),
    # pipeline
    _fault(
        "pipeline",
        "bits a byte are nats",
        "_texts",
        'found["tokens"] / math.log(2) / size',
        'found["tokens"] / size',
        "pipeline/test_pipeline_texts",
    ),
    _fault(
        "pipeline",
        "confidences are judged by the best answer, not by the truth",
        "_answers",
        '(v.confidence, v.answer == e.metadata["truth"])',
        "(v.confidence, v.correct)",
        "pipeline/test_pipeline_run",
    ),
    _fault(
        "pipeline",
        "a difference inside a section does not name the section",
        "_config",
        'name = f"{where}.{key}" if where else str(key)',
        "name = str(key)",
        "pipeline/test_pipeline_config",
    ),
    # cli
    _fault(
        "cli",
        "the file wins over --set",
        "_main",
        "[file, settings, options]",
        "[settings, file, options]",
        "cli/test_cli_train",
    ),
    _fault(
        "cli",
        "a file that fails verification exits with 0",
        "_main",
        "return 0 if result.passed else 1",
        "return 0",
        "cli/test_cli",
    ),
    _fault(
        "cli",
        "an expression for tensors ends at its first =",
        "_main",
        'words.rpartition("=")',
        'words.partition("=")',
        "cli/test_cli",
    ),
)
