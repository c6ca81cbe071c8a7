"""Parallel tempering: replicas at a ladder of temperatures that trade places."""

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._checks import at_least, positive
from .._typing import PRNGKey
from ._acceptance import AcceptanceRule, metropolis
from ._chain import Chain, advance_by, refuse_bad_starts, start
from ._objective import MetaLoss
from ._problem import Problem, first_state
from ._process import Emission, Process


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ladder:
    r"""Temperatures that rise: $T_0 = e^a$, $T_{i+1} = T_i (1 + e^{g_i})$.

    Attributes:
        lowest: a, a scalar leaf.
        gaps: g, a leaf of shape (rungs - 1,).
        rule: the acceptance rule of the moves.
    """

    lowest: Any
    gaps: Any
    rule: AcceptanceRule = field(default=metropolis, metadata={"static": True})

    @classmethod
    def geometric(
        cls,
        lowest: Any,
        highest: Any,
        rungs: int,
        *,
        rule: AcceptanceRule = metropolis,
    ) -> "Ladder":
        """Make a ladder of equal ratios.

        Args:
            lowest: temperature of the first rung, above 0.
            highest: of the last, above lowest.
            rungs: at least 2.
            rule: the acceptance rule of the moves.

        Returns:
            A ladder.

        Raises:
            ValueError: for temperatures that are not above 0 or do not rise, or fewer
                than 2 rungs.
        """
        at_least("rungs", rungs, 2)
        low, high = positive("lowest", lowest), positive("highest", highest)
        ratio = positive("highest / lowest - 1", (high / low) ** (1 / (rungs - 1)) - 1)
        return cls(jnp.log(low), jnp.full(rungs - 1, jnp.log(ratio)), rule)

    @property
    def temperatures(self) -> jax.Array:
        """The temperatures, of shape (rungs,), rising."""
        steps = jnp.cumsum(jnp.log1p(jnp.exp(self.gaps)))
        return jnp.exp(
            self.lowest + jnp.concatenate([jnp.zeros(1, steps.dtype), steps])
        )


class Tempered(NamedTuple):
    """The end of parallel tempering.

    Attributes:
        best_state: the best state that any replica visited.
        best_energy: its energy, a scalar.
        states: the last state of each rung, on a leading axis.
        energies: theirs.
        status: a ``Status`` for each rung.
        swap_rate: of each pair of neighbours, accepted swaps over those tried, NaN
            where none was.
    """

    best_state: Any
    best_energy: Float[Array, ""]
    states: Any
    energies: Float[Array, "rungs"]
    status: Int[Array, "rungs"]
    swap_rate: Float[Array, "pairs"]


class _Rung(NamedTuple):
    """The constant schedule of one rung."""

    level: Any
    rule: AcceptanceRule

    def temperature(self, step: Any, stagnation: Any) -> Any:
        return self.level

    def acceptance(self, delta: Any, temperature: Any) -> Any:
        return self.rule(delta, temperature)


class _Swaps(NamedTuple):
    tried: Any
    taken: Any
    log_prob: Any


def temper(problem: Problem, ladder: Ladder, *, key: PRNGKey, steps: int) -> Tempered:
    r"""Run one replica a rung, and swap neighbours after every step.

    Even and odd pairs take turns; a pair swaps with probability
    $\min(1, e^{(1/T_i - 1/T_j)(E_i - E_j)})$, which keeps every rung's distribution.

    Args:
        problem: what is annealed; every replica has a start of its own.
        ladder: the temperatures.
        key: a JAX key.
        steps: of each replica, at least 1.

    Returns:
        The best state, the last ones, and how often neighbours swapped.

    Raises:
        ValueError: as ``anneal_problem``.
    """
    at_least("steps", steps)
    start_key, run_key = jax.random.split(key)
    keys = jax.random.split(start_key, ladder.gaps.shape[0] + 1)
    states = jax.vmap(lambda key: first_state(problem, key))(keys)
    result = _run(problem, ladder, states, run_key, steps)
    refuse_bad_starts(result.status)
    return result


def tempering_process(
    problem: Problem, meta: MetaLoss, *, rungs: int, steps: int, scale: Any
) -> Process:
    """Make the process whose total loss a ladder can learn to lower.

    The loss is the meta-loss's of the best energy of all rungs, exploration apart;
    log-probabilities are those of the decisions and of the swaps.

    Args:
        problem: what is annealed.
        meta: the weights of the terms.
        rungs: of the ladder, at least 2.
        steps: N, by which sums over the run are divided.
        scale: in units of energy, above 0.

    Returns:
        A process of a ``Ladder``, for ``score_function``, ``es`` and ``pes``, and so
        for ``learn``.

    Raises:
        ValueError: for a scale that is not above 0, or fewer than 2 rungs.
    """
    at_least("rungs", rungs, 2)
    scale = positive("scale", scale)

    def step(ladder: Ladder, carry: Any, key: Any) -> tuple[Any, Emission]:
        chains, first = carry
        before = jnp.min(chains.best_energy)
        chains, swaps, log_prob = _step(problem, ladder, chains, key)
        best = jnp.min(chains.best_energy)
        loss = meta.quality * (best - before) + meta.efficiency * (best - first) / steps
        return (chains, first), Emission(loss / scale, log_prob + swaps.log_prob)

    def begin(key: Any) -> tuple[Chain, Any]:
        chains = jax.vmap(lambda key: start(problem, first_state(problem, key)))(
            jax.random.split(key, rungs)
        )
        return chains, jnp.min(chains.best_energy)

    return Process(begin, step)


@functools.partial(jax.jit, static_argnames=("problem", "steps"))
def _run(
    problem: Problem, ladder: Ladder, states: Any, key: Any, steps: int
) -> Tempered:
    def step(carry: Any, t: Any) -> tuple[Any, None]:
        chains, tried, taken = carry
        chains, swaps, _ = _step(problem, ladder, chains, jax.random.fold_in(key, t))
        return (chains, tried + swaps.tried, taken + swaps.taken), None

    chains = jax.vmap(lambda state: start(problem, state))(states)
    none = jnp.zeros(ladder.gaps.shape, jnp.int32)
    (chains, tried, taken), _ = jax.lax.scan(
        step, (chains, none, none), jnp.arange(steps)
    )
    best = jnp.argmin(chains.best_energy)
    return Tempered(
        jax.tree.map(lambda x: x[best], chains.best_state),
        chains.best_energy[best],
        chains.state,
        chains.energy,
        chains.status,
        taken / tried,
    )


def _step(
    problem: Problem, ladder: Ladder, chains: Chain, key: Any
) -> tuple[Chain, _Swaps, Any]:
    """Move every replica, then swap every second pair of neighbours."""
    levels = ladder.temperatures
    move_key, swap_key = jax.random.split(key)

    def move(level: Any, chain: Chain, key: Any) -> Any:
        return advance_by(problem, _Rung(level, ladder.rule), chain, key)

    parity = chains.step[0] % 2
    keys = jax.random.split(move_key, levels.shape[0])
    chains, trace = jax.vmap(move)(levels, chains, keys)
    drawn = jnp.where(trace.accepted, trace.acceptance, 1 - trace.acceptance)

    pairs = jnp.arange(levels.shape[0] - 1)
    tried = pairs % 2 == parity
    cold, energy = 1 / levels, chains.energy
    gain = (cold[:-1] - cold[1:]) * (energy[:-1] - energy[1:])
    probability = jnp.exp(jnp.minimum(gain, 0))
    draws = jax.random.uniform(swap_key, probability.shape, probability.dtype)
    taken = tried & (draws < probability)
    chosen = jnp.where(taken, probability, 1 - probability)
    log_probs = jnp.log(jnp.where(tried, chosen, 1))

    rungs = jnp.arange(levels.shape[0])
    none = jnp.zeros(1, bool)
    up, down = jnp.concatenate([taken, none]), jnp.concatenate([none, taken])
    source = jnp.where(up, rungs + 1, jnp.where(down, rungs - 1, rungs))
    # The states trade places; bests and counters stay with the rung.
    chains = chains._replace(
        state=jax.tree.map(lambda x: x[source], chains.state),
        energy=chains.energy[source],
    )
    swaps = _Swaps(tried.astype(jnp.int32), taken.astype(jnp.int32), jnp.sum(log_probs))
    return chains, swaps, jnp.sum(jnp.log(drawn))
