"""A schedule learns to anneal Rastrigin's function; prints energies, draws the curves.

python examples/anneal_rastrigin.py [anneal_rastrigin.png]
"""

import sys

import jax
import jax.numpy as jnp
import optax

from simplex_jax import anneal

STEPS = 500


def energy(x):
    return 10 * x.size + jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x))


def propose(key, x, temperature):
    return x + 0.3 * jax.random.normal(key, x.shape)


def init(key):
    return jax.random.uniform(key, (10,), minval=-5.12, maxval=5.12)


start = anneal.LearnableSchedule.from_params(5.0, 0.01, rule=anneal.metropolis)
learned = anneal.learn_schedule(
    anneal.Problem(energy, propose, init),
    start,
    key=jax.random.key(0),
    steps=STEPS,
    meta_steps=60,
    optimizer=optax.adam(0.05),
)

runs = {}
for name, schedule in (("start", start), ("learned", learned.schedule)):
    runs[name] = run = anneal.anneal(
        energy, propose, init, schedule, key=jax.random.key(1), steps=STEPS, chains=256
    )
    error = run.best_energy.std() / 256**0.5
    print(f"{name}: best energy {run.best_energy.mean():.2f} +- {error:.2f}")
anneal.plot_run(runs).savefig(
    sys.argv[1] if len(sys.argv) > 1 else "anneal_rastrigin.png"
)
