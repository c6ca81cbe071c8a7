"""AdamW with warmup and clipping, which leaves out what is not finite."""

import jax
import jax.numpy as jnp
import optax

from ._config import TrainingConfig

# Never give in and apply a step that is not finite: the loop stops instead.
_NEVER = jnp.iinfo(jnp.int32).max - 1
_DECAYS = ("kernel", "embedding", "lora_a", "lora_b")


def learning_rate_schedule(config: TrainingConfig, steps: int) -> optax.Schedule:
    """Return the learning rate of each step: linear warmup, then decay.

    Args:
        config: kind, peak and warmup.
        steps: of the whole run.

    Returns:
        A function of the step, from 0; the rate is above 0 on the first step, and what
        would be 0 is the one after the last.
    """
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


def make_optimizer(
    config: TrainingConfig, learning_rate: optax.ScalarOrSchedule
) -> optax.GradientTransformation:
    """Return clipping by global norm and AdamW, guarded.

    A gradient that is not finite changes nothing: neither parameters, nor moments, nor
    the position in the schedule. The state counts such steps as ``total_notfinite``.

    Args:
        config: moments, decay and norm.
        learning_rate: as for ``optax.adamw``.

    Returns:
        The transformation; matrices decay, norms and biases do not.
    """
    adamw = optax.adamw(
        learning_rate,
        b1=config.adam_beta1,
        b2=config.adam_beta2,
        eps=config.adam_epsilon,
        weight_decay=config.weight_decay,
        mask=decay_mask,
    )
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
