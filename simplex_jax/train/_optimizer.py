"""AdamW with warmup and clipping, which leaves out what is not finite."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from .. import schedules
from ._carried import Rate, scale_by_carried
from ._config import TrainingConfig

# Never give in and apply a step that is not finite: the loop stops instead.
_NEVER = jnp.iinfo(jnp.int32).max - 1
_SHIPPED = Path(__file__).with_name("learned_lr.json")
_DECAYS = ("kernel", "embedding", "lora_a", "lora_b")


def learning_rate_schedule(config: TrainingConfig, steps: int) -> optax.Schedule:
    """Return the learning rate of each step: linear warmup, then decay, or learned.

    Args:
        config: kind, peak and warmup.
        steps: of the whole run.

    Returns:
        A function of the step, from 0; the rate is above 0 on the first step, and what
        would be 0 is the one after the last. One that learns where the kind is
        ``learned``: the one that comes with the library, at the run's peak, or that of
        ``lr_schedule_file`` as it is.

    Raises:
        ValueError: where that file holds no learning rate.
        OSError: where it cannot be read.
    """
    if config.lr_scheduler_type == "learned":
        if config.lr_schedule_file is not None:
            return learned_rate(config.lr_schedule_file).scaled(steps=steps)
        shipped = learned_rate(_SHIPPED).scaled(steps=steps)
        return shipped.at_peak(config.learning_rate)
    warmup = config.warmup_steps or round(config.warmup_ratio * steps)
    peak, rest = config.learning_rate, max(steps - warmup, 1)
    decay = {
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "constant": optax.constant_schedule(peak),
    }[config.lr_scheduler_type]
    if not warmup:
        return decay
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([rise, decay], [warmup])


def learned_rate(path: str | os.PathLike) -> Rate:
    """Read a learning rate from a file of ``schedules.save``.

    Args:
        path: of a ``LearnableLR`` or ``PiecewiseLR``, or of a bundle with one.

    Returns:
        The schedule, for the length of the run that it was of.

    Raises:
        ValueError: where the file is damaged, or holds another kind of schedule.
        OSError: where it cannot be read.
    """
    try:
        found = schedules.load(path)
    except ValueError as error:
        raise ValueError(f"lr_schedule_file: {error}") from error
    if isinstance(found, schedules.LearnedSchedules):
        found = found.lr
    if not isinstance(found, Rate):
        raise ValueError(
            f"lr_schedule_file is {os.fspath(path)}, which holds no learning rate; "
            "give the schedule.json of a run with lr_scheduler_type=learned"
        )
    return found


def make_optimizer(
    config: TrainingConfig, learning_rate: optax.ScalarOrSchedule
) -> optax.GradientTransformation:
    """Return clipping by global norm and AdamW, guarded.

    A gradient that is not finite changes nothing: neither parameters, nor moments, nor
    the position in the schedule. The state counts such steps as ``total_notfinite``.

    Args:
        config: moments, decay and norm.
        learning_rate: as for ``optax.adamw``; the numbers of a ``LearnableLR``
            or ``PiecewiseLR`` are kept in the state, where they can be changed, and the
            updates have finite derivatives where gradients are 0.

    Returns:
        The transformation; matrices decay, norms and biases do not.
    """
    learned = isinstance(learning_rate, Rate)
    adamw = optax.adamw(
        1.0 if learned else learning_rate,
        b1=config.adam_beta1,
        b2=config.adam_beta2,
        eps=config.adam_epsilon,
        eps_root=config.adam_epsilon**2 if learned else 0.0,
        weight_decay=config.weight_decay,
        mask=decay_mask,
    )
    if learned:
        adamw = optax.chain(adamw, scale_by_carried(learning_rate))
    clip = optax.identity()
    if config.max_grad_norm:
        clip = optax.clip_by_global_norm(config.max_grad_norm)
    return optax.apply_if_finite(optax.chain(clip, adamw), _NEVER)


def decay_mask(params):
    """Return which leaves decay: kernels, embeddings and adapters.

    Norms are matrices too where layers are stacked, so names decide, not ranks.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(str(getattr(k, "key", "")) in _DECAYS for k in path), params
    )
