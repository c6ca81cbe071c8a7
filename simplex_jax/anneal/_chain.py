"""Annealing chains with hard acceptance."""

import enum
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._checks import at_least, known
from .._typing import PRNGKey
from ._problem import Problem, energy_of, first_state, is_feasible, proposed
from ._schedules import Schedule


class Status(enum.IntEnum):
    """What happened to a chain; the worst is kept.

    REFUSED_NON_FINITE: proposals of NaN or infinite energy came and were refused.
    BAD_TEMPERATURE: the schedule gave NaN, 0 or less; the chain stood still then.
    INFEASIBLE_START, NON_FINITE_START: the start was not one to go on from.
    """

    OK = 0
    REFUSED_NON_FINITE = 1
    BAD_TEMPERATURE = 2
    INFEASIBLE_START = 3
    NON_FINITE_START = 4


class Chain(NamedTuple):
    """Where one chain stands.

    Attributes:
        state: the current state.
        energy: its energy.
        best_state: the best state so far.
        best_energy: its energy.
        step: steps taken.
        stagnation: steps since the last new best.
        status: a ``Status``.
    """

    state: Any
    energy: Float[Array, ""]
    best_state: Any
    best_energy: Float[Array, ""]
    step: Int[Array, ""]
    stagnation: Int[Array, ""]
    status: Int[Array, ""]


class Trace(NamedTuple):
    """What each step did; every field has the shape (chains, steps).

    Attributes:
        temperature: at which the proposal was judged.
        energy: after the step.
        best_energy: after the step.
        acceptance: probability of taking the proposal, 0 where it was refused outright.
        accepted: whether it was taken.
        stagnation: steps since the last new best, after the step.
    """

    temperature: Any
    energy: Any
    best_energy: Any
    acceptance: Any
    accepted: Any
    stagnation: Any


class Result(NamedTuple):
    """The end of a run; the leading axis of every array is that of the chains.

    Attributes:
        best_state: the best state that each chain visited, feasible always.
        best_energy: its energy.
        state: the last state.
        energy: its energy.
        status: a ``Status`` for each chain: ``Status(int(result.status[i])).name``.
        trace: what each step did.
    """

    best_state: Any
    best_energy: Float[Array, "chains"]
    state: Any
    energy: Float[Array, "chains"]
    status: Int[Array, "chains"]
    trace: Trace


def anneal(
    energy: Callable[[Any], Any],
    propose: Callable[[Any, Any, Any], Any],
    init: Any,
    schedule: Schedule,
    *,
    key: PRNGKey,
    steps: int,
    chains: int = 1,
    restart_after: int | None = None,
) -> Result:
    """Anneal independent chains, vectorised, in one compiled scan.

    Chain i draws from split(key)[i] alone, so that two schedules under one key are
    compared on the same random numbers.

        >>> propose = lambda key, x, temperature: x + jax.random.normal(key)
        >>> run = anneal.anneal(lambda x: x**2, propose, 3.0,
        ...     anneal.exponential(1.0, 0.05), key=jax.random.key(0), steps=200)
        >>> bool(run.best_energy[0] < 0.01)
        True

    Args:
        energy: from a state, any pytree of arrays, to a floating scalar.
        propose: from (key, state, temperature) to a state of the same form.
        init: a state, or a function of a key that returns one.
        schedule: gives temperature and acceptance.
        key: a JAX key.
        steps: of each chain, at least 1.
        chains: at least 1.
        restart_after: after so many steps without a new best a chain goes back to its
            best state; never where None.

    Returns:
        The best of each chain, its end, its status and its trace.

    Raises:
        ValueError: for a start whose energy is not finite (under ``jit`` a status), an
            energy that is no floating scalar, a proposal of another form than the
            state, or a count below 1.

    Differentiable: through states and temperatures as they enter the energy, not
    through the decisions; for those see ``learn_schedule``. Memory: states do not
    accumulate, the trace has six numbers a step, and what is drawn for all steps
    before the first (a key and a number each, or what ``Problem.draw`` gives).
    """
    return anneal_problem(
        Problem(energy, propose, init),
        schedule,
        key=key,
        steps=steps,
        chains=chains,
        restart_after=restart_after,
    )


def anneal_problem(
    problem: Problem,
    schedule: Schedule,
    *,
    key: PRNGKey,
    steps: int,
    chains: int = 1,
    restart_after: int | None = None,
) -> Result:
    """Anneal a problem with moves or constraints; otherwise as ``anneal``.

    Args:
        problem: energy, proposals, start, and what else it brings.
        schedule: gives temperature and acceptance.
        key: a JAX key.
        steps: of each chain, at least 1.
        chains: at least 1.
        restart_after: steps without a new best after which a chain goes back to its
            best state; never where None.

    Returns:
        The best of each chain, its end, its status and its trace.

    Raises:
        ValueError: as ``anneal``, and for a start that is infeasible (under ``jit`` a
            status).
    """
    at_least("steps", steps)
    at_least("chains", chains)
    if restart_after is not None:
        at_least("restart_after", restart_after)
    keys = jax.random.split(key, chains)
    start_keys, run_keys = _apart(keys)
    states = jax.vmap(lambda key: first_state(problem, key))(start_keys)
    result = _run(problem, schedule, states, run_keys, steps, restart_after)
    refuse_bad_starts(result.status)
    return result


def refuse_bad_starts(status: jax.Array) -> None:
    """Raise for chains that could not start, where that is known."""
    if not known(status):
        return
    for bad, why in (
        (Status.NON_FINITE_START, "has an energy that is not finite"),
        (Status.INFEASIBLE_START, "is not feasible"),
    ):
        which = (status == bad).nonzero()[0]
        if which.size:
            raise ValueError(
                f"init of chain {int(which[0])} {why}; start from a state that problem."
                "feasible and energy accept"
            )


def start(problem: Problem, state: Any) -> Chain:
    """Return a chain that has taken no step."""
    energy = energy_of(problem, state)
    status = jnp.where(
        jnp.isfinite(energy),
        jnp.where(is_feasible(problem, state), Status.OK, Status.INFEASIBLE_START),
        Status.NON_FINITE_START,
    ).astype(jnp.int32)
    zero = jnp.zeros((), jnp.int32)
    return Chain(state, energy, state, energy, zero, zero, status)


class Luck(NamedTuple):
    """The random numbers of one step, or of many.

    Attributes:
        drawn: what ``propose`` gets: a key, or what ``draw`` made of it.
        uniform: in [0, 1); a proposal is accepted where it is below the probability.
    """

    drawn: Any
    uniform: Any


def draw(problem: Problem, key: Any, steps: int) -> Luck:
    """Draw for many steps at once."""
    propose_key, accept_key = jax.random.split(key)
    drawn = (problem.draw or jax.random.split)(propose_key, steps)
    for leaf in jax.tree.leaves(drawn):
        if leaf.shape[:1] != (steps,):
            raise ValueError(
                f"draw returned {leaf.dtype}{list(leaf.shape)} for {steps} proposals; "
                "return their numbers along the first axis of every array"
            )
    return Luck(drawn, jax.random.uniform(accept_key, (steps,)))


def advance_by(
    problem: Problem,
    schedule: Schedule,
    chain: Chain,
    key: Any,
    restart_after: int | None = None,
) -> tuple[Chain, Trace]:
    """Take one step, drawing for it alone."""
    luck = jax.tree.map(lambda x: x[0], draw(problem, key, 1))
    return advance(problem, schedule, chain, luck, restart_after)


def advance(
    problem: Problem,
    schedule: Schedule,
    chain: Chain,
    luck: Luck,
    restart_after: int | None = None,
) -> tuple[Chain, Trace]:
    """Take one step."""
    temperature = schedule.temperature(chain.step, chain.stagnation)
    warm = temperature > 0
    temperature = jnp.where(warm, temperature, 1)
    state, delta = proposed(problem, luck.drawn, chain.state, chain.energy, temperature)
    finite = jnp.isfinite(chain.energy + delta)
    allowed = finite & warm & is_feasible(problem, state)
    delta = jnp.where(finite, delta, 0)
    acceptance = jnp.where(allowed, schedule.acceptance(delta, temperature), 0)
    accepted = luck.uniform < acceptance

    state = _choose(accepted, state, chain.state)
    energy = jnp.where(accepted, chain.energy + delta, chain.energy)
    improved = energy < chain.best_energy
    best_state = _choose(improved, state, chain.best_state)
    best_energy = jnp.where(improved, energy, chain.best_energy)
    stagnation = jnp.where(improved, 0, chain.stagnation + 1)
    if restart_after is not None:
        again = stagnation >= restart_after
        state = _choose(again, best_state, state)
        energy = jnp.where(again, best_energy, energy)
        stagnation = jnp.where(again, 0, stagnation)
    trouble = jnp.where(
        warm,
        jnp.where(finite, Status.OK, Status.REFUSED_NON_FINITE),
        Status.BAD_TEMPERATURE,
    )
    chain = Chain(
        state,
        energy,
        best_state,
        best_energy,
        chain.step + 1,
        stagnation,
        jnp.maximum(chain.status, trouble.astype(jnp.int32)),
    )
    return chain, Trace(
        temperature, energy, best_energy, acceptance, accepted, stagnation
    )


def _apart(keys: Any) -> tuple[Any, Any]:
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]


@functools.partial(jax.jit, static_argnames=("problem", "steps", "restart_after"))
def _run(
    problem: Problem,
    schedule: Schedule,
    states: Any,
    keys: Any,
    steps: int,
    restart_after: int | None,
) -> Result:
    def one(state: Any, key: Any) -> Result:
        def step(chain: Chain, luck: Luck) -> tuple[Chain, Trace]:
            return advance(problem, schedule, chain, luck, restart_after)

        luck = draw(problem, key, steps)
        chain, trace = jax.lax.scan(step, start(problem, state), luck)
        best_energy, energy = chain.best_energy, chain.energy
        if problem.delta_energy is not None:
            # The sum of many changes has lost digits that the state still has.
            best_energy = energy_of(problem, chain.best_state)
            energy = energy_of(problem, chain.state)
        return Result(
            chain.best_state, best_energy, chain.state, energy, chain.status, trace
        )

    return jax.vmap(one)(states, keys)


def _choose(condition: Any, this: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), this, other)
