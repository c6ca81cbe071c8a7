"""Searching a schedule's numbers by a normal distribution that follows the best."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import at_least
from .._typing import PRNGKey
from ._chain import refuse_bad_starts, start
from ._objective import MetaLoss, decided_process, energy_scale
from ._problem import Problem, first_state
from ._process import mean_loss


class Searched(NamedTuple):
    """What ``search_schedule`` found.

    Attributes:
        schedule: the middle of the last generation's best.
        loss: the meta-loss of the middle of every generation, on random numbers of its
            own, of shape (generations,).
        best_loss: the lowest loss in every generation.
    """

    schedule: Any
    loss: np.ndarray
    best_loss: np.ndarray


def search_schedule(
    problem: Problem,
    schedule: Any,
    spread: Any,
    *,
    key: PRNGKey,
    steps: int,
    chains: int = 16,
    candidates: int = 128,
    generations: int = 8,
    meta_loss: MetaLoss | None = None,
    restart_after: int | None = None,
) -> Searched:
    r"""Search the numbers of a schedule over orders of magnitude, without gradients.

    A generation of candidates is drawn from a normal distribution; the best quarter,
    weighted by rank, gives mean and covariance of the next one (the cross-entropy
    method):

    $$m = \sum_j w_j \theta_j, \quad C = \sum_j w_j (\theta_j - m)(\theta_j - m)^T,
    \quad w_j \propto \log(k + 1) - \log j$$

    All candidates of a generation run on the same random numbers. Where one knows
    little about a problem, this finds the schedule that ``learn_schedule`` goes on
    from; it serves fixed and learnable schedules alike.

    Args:
        problem: what is annealed, or the family that its ``init`` draws from.
        schedule: the middle of the first generation.
        spread: a pytree like schedule, of floating arrays: standard deviations of the
            first generation in unconstrained space; 0 for what is to stay.
        key: a JAX key.
        steps: of each run.
        chains: runs of each candidate.
        candidates: in a generation, at least 8.
        generations: at least 1.
        meta_loss: the weights of its terms, of which regularization is not used;
            ``MetaLoss()`` where None.
        restart_after: as for ``anneal``.

    Returns:
        The middle of the last generation's best, with the losses on the way.

    Raises:
        ValueError: for a start that is infeasible or of no finite energy, or counts
            below their least.

    Cost: energies for generations times candidates times chains times steps; random
    numbers are drawn once for all candidates. Source: Rubinstein 1999, "The
    cross-entropy method".
    """
    for name, value, least in (
        ("steps", steps, 1),
        ("chains", chains, 1),
        ("candidates", candidates, 8),
        ("generations", generations, 1),
    ):
        at_least(name, value, least)
    meta = MetaLoss() if meta_loss is None else meta_loss
    scale_key, draw_key, run_key = jax.random.split(key, 3)
    keys = jax.random.split(scale_key, chains)
    refuse_bad_starts(
        jax.vmap(lambda key: start(problem, first_state(problem, key)).status)(keys)
    )
    scale = energy_scale(problem, schedule, key=scale_key, chains=chains)
    noise = _normals(draw_key, schedule, candidates)
    drawn = jax.tree.map(lambda x, s, z: _row(x) + _row(s) * z, schedule, spread, noise)
    losses = []
    for generation in range(generations):
        judge_key = jax.random.fold_in(run_key, generation)
        # The middle is a candidate too, so that its loss is known.
        drawn = jax.tree.map(lambda x, m: x.at[0].set(m), drawn, schedule)
        found = _losses(
            problem, meta, drawn, judge_key, scale, steps, chains, restart_after
        )
        losses.append(np.asarray(found))
        schedule, drawn = _resampled(
            drawn, found, jax.random.fold_in(draw_key, generation)
        )
    table = np.stack(losses)
    return Searched(schedule, table[:, 0], table.min(axis=1))


@functools.partial(
    jax.jit,
    static_argnames=("problem", "meta", "steps", "chains", "restart_after"),
)
def _losses(
    problem: Problem,
    meta: MetaLoss,
    thetas: Any,
    key: Any,
    scale: Any,
    steps: int,
    chains: int,
    restart_after: int | None,
) -> jax.Array:
    process = decided_process(
        problem, meta, steps=steps, scale=scale, restart_after=restart_after
    )
    return jax.vmap(
        lambda theta: mean_loss(process, theta, key=key, steps=steps, chains=chains)
    )(thetas)


@jax.jit
def _resampled(thetas: Any, losses: jax.Array, key: Any) -> tuple[Any, Any]:
    n = losses.shape[0]
    k = n // 4
    ranks = jnp.arange(1, k + 1)
    weights = jnp.log(k + 1) - jnp.log(ranks)
    weights = weights / jnp.sum(weights)
    order = jnp.argsort(losses)[:k]
    # A sum of the best with normal weights has their covariance.
    mixing = jax.random.normal(key, (n, k)) * _row(jnp.sqrt(weights))
    best = jax.tree.map(lambda x: x[order], thetas)
    middle = jax.tree.map(lambda x: jnp.tensordot(weights, x, 1), best)
    drawn = jax.tree.map(
        lambda x, m: _row(m) + jnp.tensordot(mixing, x - _row(m), 1), best, middle
    )
    return middle, drawn


def _row(x: Any) -> jax.Array:
    return jnp.expand_dims(x, 0)


def _normals(key: Any, like: Any, n: int) -> Any:
    leaves, form = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    return form.unflatten(
        jax.random.normal(k, (n, *jnp.shape(x)), jnp.result_type(x))
        for k, x in zip(keys, leaves, strict=True)
    )
