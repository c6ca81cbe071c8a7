"""A tour of 50 cities is annealed by 2-opt moves; draws the tour and the traces.

python examples/anneal_tsp.py [folder]

A schedule that is far too hot is searched over orders of magnitude on random maps, and
evolution strategies go on from what was found; all three anneal a map not seen before.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure

from simplex_jax import anneal

CITIES, STEPS = 50, 2000


def length(state):
    ends = state["map"][state["tour"]]
    return jnp.sum(jnp.linalg.norm(ends - jnp.roll(ends, -1, axis=0), axis=1))


def propose(key, state, temperature):
    """Draw the first and the last city of the piece that is reversed."""
    pair = jax.random.randint(key, (2,), 0, jnp.array([CITIES, CITIES - 1]))
    second = pair[1] + (pair[1] >= pair[0])
    return jnp.minimum(pair[0], second), jnp.maximum(pair[0], second)


def reverse(state, move):
    first, last = move
    place = jnp.arange(CITIES)
    inside = (place >= first) & (place <= last)
    order = jnp.where(inside, first + last - place, place)
    return {"tour": state["tour"][order], "map": state["map"]}


def change(state, move):
    first, last = move
    tour, places = state["tour"], state["map"]
    before, head = places[tour[first - 1]], places[tour[first]]
    tail, after = places[tour[last]], places[tour[(last + 1) % CITIES]]

    def far(a, b):
        return jnp.sqrt(jnp.sum((a - b) ** 2))

    new = far(before, tail) + far(head, after) - far(before, head) - far(tail, after)
    # The whole tour backwards is the same tour.
    return jnp.where(last - first < CITIES - 1, new, 0)


def random_map(key):
    where, order = jax.random.split(key)
    tour = jax.random.permutation(order, CITIES)
    return {"tour": tour, "map": jax.random.uniform(where, (CITIES, 2))}


problem = anneal.Problem(length, propose, random_map, reverse, change)
start = anneal.LearnableSchedule.from_params(
    1.0, 0.002, 1e-4, 200.0, 1e-3, 0.01, rule=anneal.metropolis
)
spread = anneal.LearnableSchedule(
    {name: jnp.float32(1.5) for name in start.free}
    | {"accept_threshold": jnp.float32(0), "oscillation_amp": jnp.float32(0.3)},
    anneal.metropolis,
)
searched = anneal.search_schedule(
    problem,
    start,
    spread,
    key=jax.random.key(0),
    steps=STEPS,
    chains=4,
    candidates=64,
    generations=5,
).schedule
learned = anneal.learn_schedule(
    problem,
    searched,
    key=jax.random.key(1),
    steps=STEPS,
    chains=32,
    meta_steps=20,
    optimizer=optax.adam(0.02),
    estimator="es",
    sigma=0.05,
    validate_every=5,
)

unseen = random_map(jax.random.key(2))
seen = anneal.Problem(length, propose, unseen, reverse, change)
results = {
    name: anneal.anneal_problem(
        seen, schedule, key=jax.random.key(3), steps=STEPS, chains=128
    )
    for name, schedule in (
        ("start", start),
        ("searched", searched),
        ("learned", learned.schedule),
    )
}
for name, run in results.items():
    error = run.best_energy.std() / 128**0.5
    print(
        f"{name}: mean length {run.best_energy.mean():.3f} +- {error:.3f}, "
        f"shortest {run.best_energy.min():.3f}"
    )

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
anneal.plot_run(results).savefig(folder / "anneal_tsp_run.png")
anneal.plot_learning(learned.history).savefig(folder / "anneal_tsp_learning.png")
best = results["learned"].best_energy.argmin()
tour = results["learned"].best_state["tour"][best]
closed = unseen["map"][jnp.append(tour, tour[0])]
figure = Figure(figsize=(5, 5), layout="constrained")
axis = figure.subplots()
axis.plot(closed[:, 0], closed[:, 1], "o-")
axis.set(title=f"A tour of length {results['learned'].best_energy[best]:.3f}")
axis.set_aspect("equal")
figure.savefig(folder / "anneal_tsp_tour.png")
