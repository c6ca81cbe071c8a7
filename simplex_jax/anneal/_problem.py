"""What is annealed: an energy, a way to propose, and where to start."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import same_tree


@dataclass(frozen=True)
class Problem:
    """An energy to be lowered, proposals, and a start.

    A state is any pytree of arrays. Data that vary from chain to chain, such as one
    instance of a family each, belong in the state: ``init(key)`` draws them and
    ``propose`` passes them on.

    Attributes:
        energy: from a state to a floating scalar.
        propose: from (key, state, temperature) to a state, or to a move where ``apply``
            is given.
        init: a state, or a function of a key that returns one.
        apply: from (state, move) to a state.
        delta_energy: from (state, move) to energy after minus before, where that is
            cheaper than two energies; needs ``apply``.
        feasible: from a state to whether it may be visited; proposals that may not are
            refused, whatever their energy.
        project: from a state to the feasible state that is used in its stead; not
            together with ``delta_energy``, which speaks of the state as proposed.
        draw: from (key, n) to random numbers for n proposals, along the first axis of
            every array; ``propose`` gets those of one in the key's place. On a CPU
            small numbers drawn for many steps at once cost a fraction.

    Raises:
        ValueError: for ``delta_energy`` without ``apply``, or with ``project``.

    Source: Simplex's ``safe_anneal``; deviation: a penalty of 1000 per violation is no
    guarantee, so proposals are refused or projected.
    """

    energy: Callable[[Any], Any]
    propose: Callable[[Any, Any, Any], Any]
    init: Any = field(compare=False)
    apply: Callable[[Any, Any], Any] | None = None
    delta_energy: Callable[[Any, Any], Any] | None = None
    feasible: Callable[[Any], Any] | None = None
    project: Callable[[Any], Any] | None = None
    draw: Callable[[Any, int], Any] | None = None

    def __post_init__(self):
        if self.delta_energy is not None and self.apply is None:
            raise ValueError(
                "delta_energy is given, but apply is None; give apply(state, move)"
            )
        if self.delta_energy is not None and self.project is not None:
            raise ValueError(
                "project is given with delta_energy, which would be that of the state "
                "before projection; leave one of them out"
            )


def first_state(problem: Problem, key: Any) -> Any:
    """Return one start as arrays, projected."""
    state = problem.init(key) if callable(problem.init) else problem.init
    state = jax.tree.map(_strong, state)
    if problem.project is None:
        return state
    projected = problem.project(state)
    same_tree("project", projected, state)
    return projected


def energy_of(problem: Problem, state: Any) -> jax.Array:
    """Return a state's energy, a floating scalar."""
    energy = jnp.asarray(problem.energy(state))
    if energy.shape != () or not jnp.issubdtype(energy.dtype, jnp.floating):
        raise ValueError(
            f"energy returned {energy.dtype}{list(energy.shape)}; return one floating "
            "scalar"
        )
    return _strong(energy)


def is_feasible(problem: Problem, state: Any) -> jax.Array:
    """Return whether a state may be visited."""
    if problem.feasible is None:
        return jnp.bool_(True)
    return jnp.asarray(problem.feasible(state), dtype=bool)


def proposed(
    problem: Problem, drawn: Any, chain_state: Any, energy: Any, temperature: Any
) -> tuple[Any, jax.Array]:
    """Return a proposal and the change of energy that it brings."""
    move = problem.propose(drawn, chain_state, temperature)
    state = move if problem.apply is None else problem.apply(chain_state, move)
    if problem.project is not None:
        state = problem.project(state)
    same_tree("propose" if problem.apply is None else "apply", state, chain_state)
    if problem.delta_energy is None:
        return state, energy_of(problem, state) - energy
    delta = jnp.asarray(problem.delta_energy(chain_state, move), dtype=energy.dtype)
    if delta.shape != ():
        raise ValueError(
            f"delta_energy returned shape {delta.shape}; return one scalar"
        )
    return state, delta


def _strong(leaf: Any) -> Any:
    # A weakly typed start would change its type in the first step of a scan.
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return jnp.asarray(leaf, dtype=jnp.result_type(leaf))
