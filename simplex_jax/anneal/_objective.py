"""What a schedule is asked to lower, as a process."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._checks import positive
from ._chain import Chain, advance_by, start
from ._problem import Problem, energy_of, first_state, proposed
from ._process import Emission, Process


@dataclass(frozen=True)
class MetaLoss:
    r"""The terms of the meta-loss, for runs of N steps.

    $$L = \frac{1}{c} E\Big[ q\,(b_N - b_0) + \frac{e}{N} \sum_t (b_t - b_0) \Big]
    - \frac{x}{N} E\Big[ \sum_t 4 A_t (1 - A_t) \Big] + r\, \|\theta - \theta_0\|^2$$

    with $b_t$ the best energy after step t, $A_t$ the acceptance probability, $\theta$
    the schedule's unconstrained numbers and c the scale of the energy.

    Attributes:
        quality: q, of the best energy at the end.
        efficiency: e, of the mean best energy on the way, which is lower for a run that
            finds it sooner.
        exploration: x, of the acceptance that is neither sure nor impossible; bounded
            by 1.
        regularization: r, of the distance to the schedule that learning started from.

    Source: Simplex's meta-loss; deviations: its best energy carries no derivative and
    its convergence time is a constant; its exploration, the variance of temperature,
    has no lower bound; its regulariser is the square of a threshold of 50 steps; its
    energies have no common scale.
    """

    quality: float = 1.0
    efficiency: float = 0.1
    exploration: float = 0.01
    regularization: float = 1e-4


class Decided(NamedTuple):
    """A chain with hard acceptance, and the best energy that it started with."""

    chain: Chain
    first: Any


def decided_process(
    problem: Problem,
    meta: MetaLoss,
    *,
    steps: int,
    scale: Any,
    restart_after: int | None = None,
) -> Process:
    """Make the process of chains with hard acceptance.

    Losses are the meta-loss's terms step by step, regularization apart;
    log-probabilities are those of accepting or refusing.

    Args:
        problem: what is annealed.
        meta: the weights of the terms.
        steps: N, by which sums over the run are divided.
        scale: c, above 0, in units of energy.
        restart_after: as for ``anneal``.

    Returns:
        A process for any estimator. ``score_function`` is without bias where proposals
        do not depend on the temperature; otherwise it leaves out that the stagnation
        and the best state change in jumps.

    Raises:
        ValueError: for a scale that is not above 0.
    """
    scale = positive("scale", scale)

    def begin(key: Any) -> Decided:
        chain = start(problem, first_state(problem, key))
        return Decided(chain, chain.best_energy)

    def step(schedule: Any, carry: Decided, key: Any) -> tuple[Decided, Emission]:
        before = carry.chain.best_energy
        chain, trace = advance_by(problem, schedule, carry.chain, key, restart_after)
        drawn = jnp.where(trace.accepted, trace.acceptance, 1 - trace.acceptance)
        loss = _loss(
            meta,
            (chain.best_energy - before) / scale,
            (chain.best_energy - carry.first) / scale,
            trace.acceptance,
            steps,
        )
        return carry._replace(chain=chain), Emission(loss, jnp.log(drawn))

    return Process(begin, step)


class Relaxed(NamedTuple):
    """A chain whose moves are taken in part."""

    state: Any
    energy: Any
    best: Any
    first: Any
    step: Any
    stagnation: Any


def relaxed_process(
    problem: Problem, meta: MetaLoss, *, steps: int, scale: Any, softness: float = 0.1
) -> Process:
    r"""Make the process of chains that take the part A of every move.

    $x_{t+1} = x_t + A\,(x' - x_t)$; the best energy is a soft minimum over the run, of
    width softness times scale, and the stagnation s goes on as
    $(s + 1)(1 - p)$ with p the soft indicator of a new best.

    Args:
        problem: states of floating arrays, an energy that is differentiable, no moves.
        meta: the weights of the terms.
        steps: N, by which sums over the run are divided.
        scale: c, above 0, in units of energy.
        softness: above 0; the smaller, the closer to the hard minimum.

    Returns:
        A smooth process, for ``pathwise``. Its gradient is exact for itself and biased
        for the chain that decides.

    Raises:
        ValueError: for a scale or softness not above 0, a problem with ``apply`` or
            ``feasible``, or, when started, states that are not floating.

    Source: Simplex's soft state; deviation: energy and state stay together, where the
    original mixes the energies and moves the state in full.
    """
    scale = positive("scale", scale)
    width = positive("softness", softness) * scale
    for name in ("apply", "feasible"):
        if getattr(problem, name) is not None:
            raise ValueError(
                f"problem.{name} is given, but a move cannot be taken in part; use the "
                "estimator score_function, es or pes"
            )

    def begin(key: Any) -> Relaxed:
        state = first_state(problem, key)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ValueError(
                    f"init{jax.tree_util.keystr(path)} has dtype {leaf.dtype}, but "
                    "pathwise needs floating states; use the estimator score_function, "
                    "es or pes"
                )
        energy = energy_of(problem, state)
        zero = jnp.zeros_like(energy)
        return Relaxed(state, energy, energy, energy, zero, zero)

    def step(schedule: Any, carry: Relaxed, key: Any) -> tuple[Relaxed, Emission]:
        propose_key, _ = jax.random.split(key)
        temperature = schedule.temperature(carry.step, carry.stagnation)
        proposal, delta = proposed(
            problem, propose_key, carry.state, carry.energy, temperature
        )
        part = schedule.acceptance(delta, temperature)
        state = jax.tree.map(
            lambda old, new: old + part.astype(old.dtype) * (new - old),
            carry.state,
            proposal,
        )
        energy = energy_of(problem, state)
        gap = (carry.best - energy) / width.astype(energy.dtype)
        best = carry.best - width.astype(energy.dtype) * jax.nn.softplus(gap)
        loss = _loss(
            meta,
            (best - carry.best) / scale,
            (best - carry.first) / scale,
            part,
            steps,
        )
        stagnation = (carry.stagnation + 1) * jax.nn.sigmoid(-gap)
        after = Relaxed(state, energy, best, carry.first, carry.step + 1, stagnation)
        return after, Emission(loss)

    return Process(begin, step)


def energy_scale(problem: Problem, schedule: Any, *, key: Any, chains: int) -> Any:
    """Return the root mean square change of energy of the first proposals, 1 where 0.

    Args:
        problem: what is annealed.
        schedule: whose first temperature the proposals see.
        key: a JAX key.
        chains: how many starts are tried.

    Returns:
        A scalar above 0, in units of energy.
    """

    def change(key: Any) -> Any:
        start_key, propose_key = jax.random.split(key)
        state = first_state(problem, start_key)
        energy = energy_of(problem, state)
        temperature = schedule.temperature(0, 0)
        return proposed(problem, propose_key, state, energy, temperature)[1]

    changes = jax.vmap(change)(jax.random.split(key, chains))
    usable = jnp.isfinite(changes) & (changes != 0)
    squares = jnp.where(usable, changes, 0) ** 2
    mean = jnp.sum(squares) / jnp.maximum(jnp.sum(usable), 1)
    return jnp.where(mean > 0, jnp.sqrt(jnp.where(mean > 0, mean, 1)), 1)


def distance(theta: Any, origin: Any) -> Any:
    """Return the squared distance between two pytrees of floating arrays."""
    squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), theta, origin)
    return jax.tree.reduce(jnp.add, squares)


def _loss(
    meta: MetaLoss, gain: Any, gained: Any, acceptance: Any, steps: int
) -> jax.Array:
    doubt = 4 * acceptance * (1 - acceptance)
    on_the_way = meta.efficiency * gained - meta.exploration * doubt
    return meta.quality * gain + on_the_way / steps
