"""Small processes whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np

from simplex_jax import anneal

# Influence balancing: theta pushes the first coordinates up and the rest down. What a
# window of a few steps sees of x[0] rises with theta, in the long run it falls.
SIZE, UP = 23, 10
DRIFT = 0.5 * (np.eye(SIZE) + np.eye(SIZE, k=1))
PUSH = np.where(np.arange(SIZE) < UP, 1.0, -1.0)


def influence_balancing():
    def step(theta, x, key):
        x = DRIFT.astype(x.dtype) @ x + theta * PUSH.astype(x.dtype)
        return x, anneal.Emission((x[0] - 1) ** 2 / 2)

    return anneal.Process(lambda key: jnp.ones(SIZE), step)


def noisy_bowl():
    """Noisy gradient descent on a bowl; theta is the logarithm of the rate."""

    def step(theta, x, key):
        slope = jnp.array([1.0, 0.1]) * x + 0.3 * jax.random.normal(key, (2,))
        x = x - jnp.exp(theta["log_rate"]) * slope
        return x, anneal.Emission(jnp.sum(jnp.array([1.0, 0.1]) * x**2) / 2)

    return anneal.Process(lambda key: jax.random.normal(key, (2,)), step)


# Four states on a ring; a walker proposes left or right with equal odds.
ENERGIES = (0.9, 0.6, 1.4, 0.0)


def ring_problem():
    def propose(key, i, temperature):
        return (i + jax.random.choice(key, jnp.array([1, 3], jnp.int32))) % 4

    return anneal.Problem(lambda i: jnp.array(ENERGIES)[i], propose, jnp.int32(0))


def expected_ring_loss(schedule, meta, steps, scale):
    """Return the meta-loss of the ring, exactly: the sum over all paths."""

    def onwards(i, best, step, stagnation):
        if step == steps:
            return 0.0
        temperature = schedule.temperature(step, stagnation)
        total = 0.0
        for j in ((i + 1) % 4, (i + 3) % 4):
            a = schedule.acceptance(ENERGIES[j] - ENERGIES[i], temperature)
            for there, probability in ((j, a), (i, 1 - a)):
                now = min(best, ENERGIES[there])
                stuck = 0 if now < best else stagnation + 1
                loss = (
                    meta.quality * (now - best)
                    + meta.efficiency * (now - ENERGIES[0]) / steps
                ) / scale - meta.exploration * 4 * a * (1 - a) / steps
                rest = onwards(there, now, step + 1, stuck)
                total = total + 0.5 * probability * (loss + rest)
        return total

    return onwards(0, ENERGIES[0], 0, 0)
