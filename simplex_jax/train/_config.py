"""How to train: the words of TrainingArguments, checked."""

import dataclasses
import math
from typing import Literal

from .._checks import refuse


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Say how long, how fast and on what a model is trained.

    Args:
        num_train_epochs: how often to go through the data, > 0.
        max_steps: optimizer steps; above 0 it decides instead of the epochs.
        per_device_train_batch_size: rows a device sees at a time, >= 1.
        gradient_accumulation_steps: micro-batches a step, >= 1; each token counts the
            same, however they are spread.
        max_length: cells in a row, >= 2; sequences share rows.
        learning_rate: the peak, > 0; the default suits adapters on small bases, 2e-4 is
            usual from 7 billion parameters on.
        lr_scheduler_type: after the warmup: ``cosine`` or ``linear`` to 0, or
            ``constant``; or ``learned``, with a warmup of its own: a curve that was
            learned on other tasks, adapted on the validation data as the run goes.
        lr_schedule_file: ``schedule.json`` of an earlier run, to use as it is, with its
            peak and stretched to this run; for ``learned``. None: the library's.
        warmup_ratio: share of the steps that the rate rises over, in [0, 1).
        warmup_steps: the same in steps; above 0 it decides.
        weight_decay: of matrices; norms and biases do not decay. >= 0.
        adam_beta1: in [0, 1).
        adam_beta2: in [0, 1).
        adam_epsilon: > 0.
        max_grad_norm: gradients are clipped to this global norm; 0: they are not.
        optim: ``adamw``.
        bf16: whether to compute in bfloat16. Adapters, and with ``full`` the weights,
            stay in float32.
        gradient_checkpointing: whether to compute activations anew in the backward
            pass; matrix products are kept either way.
        full: whether to train every weight instead of adapters.
        eval_steps: evaluate each time after this many steps; 0: ten times in all.
        save_steps: checkpoint each time after this many steps; 0: after evaluations.
        save_total_limit: how many last checkpoints to keep, beside the best, >= 1.
        early_stopping_patience: stop after this many evaluations in a row without a
            better loss; 0: never.
        load_best_model_at_end: whether the best or the last weights are the result.
        logging_steps: steps between two records, >= 1.
        data_parallel_size: devices that share a batch, >= 1.
        tensor_parallel_size: devices that share a weight, >= 1.
        seed: of the adapters, the dropout and the order of the data.

    Raises:
        ValueError: naming the field, its value and what it may be.
    """

    num_train_epochs: float = 3.0
    max_steps: int = -1
    per_device_train_batch_size: int = 4
    gradient_accumulation_steps: int = 1
    max_length: int = 512
    learning_rate: float = 1e-3
    lr_scheduler_type: Literal["cosine", "linear", "constant", "learned"] = "cosine"
    lr_schedule_file: str | None = None
    warmup_ratio: float = 0.03
    warmup_steps: int = 0
    weight_decay: float = 0.01
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    optim: Literal["adamw"] = "adamw"
    bf16: bool = False
    gradient_checkpointing: bool = True
    full: bool = False
    eval_steps: int = 0
    save_steps: int = 0
    save_total_limit: int = 2
    early_stopping_patience: int = 0
    load_best_model_at_end: bool = True
    logging_steps: int = 1
    data_parallel_size: int = 1
    tensor_parallel_size: int = 1
    seed: int = 42

    def __post_init__(self):
        """Check every range."""
        for name in (
            "per_device_train_batch_size",
            "gradient_accumulation_steps",
            "save_total_limit",
            "logging_steps",
            "data_parallel_size",
            "tensor_parallel_size",
        ):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in (
            "warmup_steps",
            "eval_steps",
            "save_steps",
            "early_stopping_patience",
        ):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in ("num_train_epochs", "learning_rate", "adam_epsilon"):
            value = getattr(self, name)
            self._require(name, 0 < value < math.inf, "a finite number above 0")
        for name in ("weight_decay", "max_grad_norm"):
            value = getattr(self, name)
            self._require(name, 0 <= value < math.inf, "a finite number, at least 0")
        for name in ("adam_beta1", "adam_beta2", "warmup_ratio"):
            self._require(name, 0 <= getattr(self, name) < 1, "at least 0, below 1")
        self._require(
            "max_steps", self.max_steps >= 1 or self.max_steps == -1, "1 or more, or -1"
        )
        self._require("max_length", self.max_length >= 2, "at least 2")
        kinds = ("cosine", "linear", "constant", "learned")
        kind = self.lr_scheduler_type
        self._require("lr_scheduler_type", kind in kinds, f"one of {', '.join(kinds)}")
        self._require(
            "lr_schedule_file",
            self.lr_schedule_file is None or kind == "learned",
            f"it with lr_scheduler_type=learned, which is {kind}",
        )
        self._require("optim", self.optim == "adamw", "'adamw'")

    def _require(self, name: str, fine: bool, wanted: str) -> None:
        if not fine:
            refuse(name, getattr(self, name), f"give {wanted}")
