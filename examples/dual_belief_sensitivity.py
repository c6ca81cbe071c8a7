"""How a Bayesian belief depends on what went into it, to first and second order.

Run it: python examples/dual_belief_sensitivity.py (seconds). With matplotlib it saves
dual_belief_sensitivity.png.
"""

import importlib.util

import jax
import jax.numpy as jnp

from simplex_jax import dual

names = ("prior", "hit rate", "false alarms")


def posterior(belief):
    """Return P(claim | evidence) of a prior, P(e | claim) and P(e | not claim)."""
    prior, hit, alarm = belief
    return prior * hit / (prior * hit + (1 - prior) * alarm)


# All partial derivatives in one pass: each input is a variable of its own.
belief = dual.multi_variable(jnp.array([0.2, 0.9, 0.1]))
update = posterior(belief)
print(f"posterior {float(update.primal):.4f}")
for name, slope in zip(names, update.tangents, strict=True):
    print(f"  by {name}: {float(slope):+.4f}")

# Interactions are second derivatives.
curvature = dual.hessian(posterior)(belief.primal)
print(f"by prior and false alarms: {float(curvature[0, 2]):+.4f}")

# A margin that shrinks while evidence comes in: how many updates are left?
rate = 0.3


def margin(time):
    """Return how far a belief that drifts towards 1 is from a bound of 0.95."""
    odds = 0.25 * jnp.exp(rate * time)
    return 0.95 - odds / (1 + odds)


value, drift = dual.value_and_derivative(margin)(4.0)
bound = dual.newton(margin, 4.0)
print(f"margin {float(value):.3f}, drift {float(drift):.3f} per update:")
print(
    f"  linear guess {float(4 - value / drift):.1f}, root {float(bound.x):.1f} updates"
)

if importlib.util.find_spec("matplotlib"):
    import matplotlib.pyplot as plt

    priors = jnp.linspace(0.01, 0.99, 200)
    inputs = jnp.stack([priors, jnp.full(200, 0.9), jnp.full(200, 0.1)], -1)
    values, slopes = jax.jit(jax.vmap(dual.value_and_gradient(posterior)))(inputs)
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(priors, values)
    left.plot(priors, priors, ":", color="gray")
    left.set(title="Belief after the evidence", xlabel="prior", ylabel="posterior")
    right.plot(priors, slopes, label=names)
    right.axhline(0, color="gray", lw=0.5)
    right.set(title="Its derivative by", xlabel="prior", ylabel="per unit")
    right.legend()
    plt.savefig("dual_belief_sensitivity.png", dpi=150)
    print("saved dual_belief_sensitivity.png")
