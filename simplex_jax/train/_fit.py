"""The loop: step, evaluate, save, stop, and take up again where it was stopped."""

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from .. import schedules
from ..data import PackedBatches
from ..models import Decoder
from ._adapt import WINDOW, adapts_before, make_adaptation
from ._carried import Rate, carried_rate
from ._checkpoint import Checkpoints
from ._config import TrainingConfig
from ._optimizer import learning_rate_schedule, make_optimizer
from ._records import Record, Records
from ._sharding import make_mesh, place, place_batch
from ._step import TrainState, init_state, make_evaluation, make_step, mean_over

# A run whose gradients are not finite this often in a row will not recover.
_NOT_FINITE_LIMIT = 10
_EVALUATIONS = 10


@dataclasses.dataclass(frozen=True)
class LearnedRate:
    """How the learning rate went that a run learned.

    Args:
        start: the schedule before the first step.
        end: after the last one, as in ``schedule.json``.
        adaptations: how often it was changed.
        seconds: that this took, compilation included; part of those of training.
    """

    start: Rate
    end: Rate
    adaptations: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Fit:
    """What came of a run.

    Args:
        model: with the weights that were trained.
        history: the records, as in ``metrics.jsonl``.
        stopped_by: ``max_steps``, ``patience`` or ``interrupt``.
        steps: how many were taken.
        skipped_steps: how many of them changed nothing, being not finite.
        tokens: cells that the model was trained on.
        loss_tokens: their weight as targets.
        seconds: of training, evaluation and saving; compilation included.
        best_step: where the evaluation loss was lowest; None without evaluations.
        best_eval_loss: nats a token there.
        learned_rate: with ``lr_scheduler_type=learned``; else None.
    """

    model: Decoder
    history: tuple[Record, ...]
    stopped_by: str
    steps: int
    skipped_steps: int
    tokens: int
    loss_tokens: float
    seconds: float
    best_step: int | None
    best_eval_loss: float | None
    learned_rate: LearnedRate | None


@dataclasses.dataclass
class _Progress:
    """What the loop knows beside the arrays; JSON values, kept in checkpoints."""

    step: int = 0
    skipped_steps: int = 0
    tokens: int = 0
    loss_tokens: float = 0.0
    seconds: float = 0.0
    best_step: int | None = None
    best_eval_loss: float | None = None
    evaluations_without_gain: int = 0
    adaptations: int = 0
    adapting_seconds: float = 0.0

    def evaluated(self, eval_loss: float) -> None:
        # Written so that NaN is no gain.
        if self.best_eval_loss is None or eval_loss < self.best_eval_loss:
            if math.isfinite(eval_loss):
                self.best_step, self.best_eval_loss = self.step, eval_loss
                self.evaluations_without_gain = 0
                return
        self.evaluations_without_gain += 1

    def stopped_by(self, config: TrainingConfig, steps: int) -> str | None:
        if self.step >= steps:
            return "max_steps"
        patience = config.early_stopping_patience
        if patience and self.evaluations_without_gain >= patience:
            return "patience"
        return None


def fit(
    model: Decoder,
    batches: PackedBatches,
    config: TrainingConfig,
    *,
    steps: int,
    folder: str | os.PathLike,
    heldout: Sequence[Mapping[str, np.ndarray]] = (),
    report: Callable[[Record], None] = lambda record: None,
    say: Callable[[str], None] = lambda text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Fit:
    """Train a model, or go on with what was interrupted.

    Everything that decides the next step is in a checkpoint, so a run that was killed
    ends with the same bits as one that was not.

    Args:
        model: with adapters, or to be trained in ``full``; in float32 if it is.
        batches: an endless iterator; rows are a multiple of ``data_parallel_size``.
        config: how to train.
        steps: of the whole run, >= 1.
        folder: of the run: ``checkpoints`` and ``metrics.jsonl`` go there, and are
            taken up where they are there already; a learned rate's ``schedule.json``
            goes there at the end.
        heldout: batches to evaluate on, and to adapt a learned rate on, one at a time;
            none: no evaluation.
        report: called with every record.
        say: called with what the user should know.
        should_stop: asked after every step; where true, the state is saved.

    Returns:
        The model with the best weights, or the last ones; with the last ones if it was
        interrupted.

    Raises:
        ValueError: where nothing in the model trains, the mesh does not fit, or a rate
            is to be learned without held-out batches or through an Adam that has no
            finite derivative.
        FloatingPointError: where step after step is not finite.
        OSError: where a checkpoint or a record cannot be written.
    """
    trainable = nnx.Param if config.full else nnx.LoRAParam
    graphdef, params, frozen = nnx.split(model, trainable, ...)
    if not jax.tree.leaves(params):
        raise ValueError(
            "the model has no adapters to train; lora.attach some, or train in full"
        )
    schedule = learning_rate_schedule(config, steps)
    optimizer = make_optimizer(config, schedule)
    learned = schedule if isinstance(schedule, Rate) else None
    adapting = learned is not None and config.lr_schedule_file is None
    if adapting:
        _require_adaptable(config, optimizer, params, heldout)
    mesh = make_mesh(config.data_parallel_size, config.tensor_parallel_size)
    key = jax.random.key(config.seed)
    state = place(init_state(params, optimizer, key), mesh)
    frozen = place(frozen, mesh)
    dtype = jnp.bfloat16 if config.full and config.bf16 else None
    take_step = make_step(graphdef, optimizer, compute_dtype=dtype)
    evaluate = make_evaluation(graphdef, compute_dtype=dtype)

    adapt = None
    if learned is not None and adapting:
        adapt = make_adaptation(graphdef, optimizer, learned, compute_dtype=dtype)
    eval_every = config.eval_steps or max(steps // _EVALUATIONS, 1)
    save_every = config.save_steps or eval_every

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        checkpoints = Checkpoints(folder / "checkpoints", config.save_total_limit)
        stack.callback(checkpoints.close)
        progress, history = _Progress(), []
        found, problems = checkpoints.restore_latest(state)
        for problem in problems:
            say(f"{problem}; it is left out")
        if found is not None:
            state, kept = found
            batches.set_state(kept["position"])
            progress, history = _Progress(**kept["progress"]), kept["history"]
            say(f"going on after step {progress.step} of {steps}")
        records = Records(folder, history)
        stack.callback(records.close)

        def note(**values: Any) -> None:
            record = {"step": progress.step, **values}
            records.add(record)
            report(record)

        stopped_by = progress.stopped_by(config, steps)
        clock = time.monotonic() - progress.seconds
        pace = _Pace(progress.tokens)
        while stopped_by is None:
            if adapt is not None and adapts_before(progress.step, steps):
                began = time.monotonic()
                judge = dict(heldout[progress.adaptations % len(heldout)])
                ahead = _ahead(batches, config)
                state, found = adapt(
                    state, frozen, *(place_batch(x, mesh) for x in (ahead, judge))
                )
                factor = float(np.exp(found["change"]))
                progress.adaptations += 1
                progress.adapting_seconds += time.monotonic() - began
                say(f"learning rate adapted after step {progress.step}: x {factor:.3f}")
                pace.skip()
            batch = place_batch(_micro_batches(batches, config), mesh)
            state, metrics = take_step(state, frozen, batch)
            progress.step += 1
            progress.tokens += int(metrics["tokens"])
            progress.loss_tokens += float(metrics["loss_tokens"])
            progress.skipped_steps = int(state.opt_state.total_notfinite)
            progress.seconds = time.monotonic() - clock
            _require_finite(state, progress.step)
            last = progress.step == steps
            if last or progress.step % config.logging_steps == 0:
                taken = progress.step - progress.skipped_steps
                rate = carried_rate(learned, state.opt_state) if learned else schedule
                note(
                    loss=float(metrics["loss"]),
                    learning_rate=float(np.asarray(rate(max(taken - 1, 0)))),
                    grad_norm=float(metrics["grad_norm"]),
                    tokens=progress.tokens,
                    tokens_per_second=pace(progress.tokens),
                    seconds=progress.seconds,
                )
            eval_loss = None
            if heldout and (last or progress.step % eval_every == 0):
                placed = (place_batch(dict(batch), mesh) for batch in heldout)
                means = mean_over(evaluate, state.params, frozen, placed)
                eval_loss = means["nll"]
                note(eval_loss=eval_loss, eval_token_accuracy=means["token_accuracy"])
                progress.evaluated(eval_loss)
            stopped_by = progress.stopped_by(config, steps)
            if stopped_by is None and should_stop():
                stopped_by = "interrupt"
            if stopped_by or eval_loss is not None or not progress.step % save_every:
                kept = {
                    "position": batches.get_state(),
                    "progress": dataclasses.asdict(progress),
                    "history": records.history,
                }
                checkpoints.save(progress.step, state, kept, eval_loss)
            # Evaluating and saving are not training.
            pace.skip()
        params = state.params
        best = progress.best_step
        if stopped_by != "interrupt" and config.load_best_model_at_end and best:
            if best != progress.step:
                try:
                    params = checkpoints.restore(best, state)[0].params
                except ValueError as error:
                    say(f"{error}; the last weights are the result")
    rates = None
    if learned is not None:
        rates = LearnedRate(
            start=carried_rate(learned, state.opt_state, "rate_start"),
            end=carried_rate(learned, state.opt_state),
            adaptations=progress.adaptations,
            seconds=progress.adapting_seconds,
        )
        schedules.save(rates.end, folder / "schedule.json")
    # Elsewhere a model lies on one device.
    params, frozen = jax.device_put((params, frozen), jax.devices()[0])
    return Fit(
        model=nnx.merge(graphdef, params, frozen),
        history=tuple(records.history),
        stopped_by=stopped_by,
        steps=progress.step,
        skipped_steps=progress.skipped_steps,
        tokens=progress.tokens,
        loss_tokens=progress.loss_tokens,
        seconds=progress.seconds,
        best_step=progress.best_step,
        best_eval_loss=progress.best_eval_loss,
        learned_rate=rates,
    )


class _Pace:
    """Tokens a second since the last time it was asked."""

    def __init__(self, tokens: int):
        self._tokens, self._seconds, self._since = tokens, 0.0, time.monotonic()

    def __call__(self, tokens: int) -> float:
        self._seconds += time.monotonic() - self._since
        pace = (tokens - self._tokens) / self._seconds
        self._tokens, self._seconds, self._since = tokens, 0.0, time.monotonic()
        return pace

    def skip(self) -> None:
        self._since = time.monotonic()


def _micro_batches(
    batches: PackedBatches, config: TrainingConfig
) -> dict[str, np.ndarray]:
    micro = [next(batches) for _ in range(config.gradient_accumulation_steps)]
    return {name: np.stack([m[name] for m in micro]) for name in micro[0]}


def _ahead(batches: PackedBatches, config: TrainingConfig) -> dict[str, np.ndarray]:
    """Return the next batches, and leave the iterator where it is."""
    position = batches.get_state()
    found = [_micro_batches(batches, config) for _ in range(WINDOW)]
    batches.set_state(position)
    return {name: np.stack([x[name] for x in found]) for name in found[0]}


def _require_adaptable(
    config: TrainingConfig,
    optimizer: optax.GradientTransformation,
    params: Any,
    heldout: Sequence[Mapping[str, np.ndarray]],
) -> None:
    if not heldout:
        raise ValueError(
            "lr_scheduler_type is 'learned', which needs validation data to adapt on; "
            "set data.validation_examples or data.validation_fraction above 0, or give "
            "an earlier run's lr_schedule_file"
        )
    try:
        schedules.refuse_rough(optimizer, params)
    except ValueError as error:
        raise ValueError(
            f"adam_epsilon is {config.adam_epsilon}, too small for a finite derivative "
            "at a gradient of 0, which lr_scheduler_type=learned needs; give 1e-8"
        ) from error


def _require_finite(state: TrainState, step: int) -> None:
    if int(state.opt_state.notfinite_count) >= _NOT_FINITE_LIMIT:
        raise FloatingPointError(
            f"the gradients of {_NOT_FINITE_LIMIT} steps in a row are not finite, the "
            f"last one step {step}; lower learning_rate, or train without bf16. The "
            "checkpoints from before are kept"
        )
