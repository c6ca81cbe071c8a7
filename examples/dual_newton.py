"""Newton's method: exact derivatives make it converge quadratically.

Run it: python examples/dual_newton.py (seconds). With matplotlib it saves
dual_newton.png: the error of each step, and which root each start falls into.
"""

import importlib.util

import jax
import jax.numpy as jnp

from simplex_jax import dual

jax.config.update("jax_enable_x64", True)


def kepler(eccentric_anomaly, mean_anomaly=0.8, eccentricity=0.6):
    return eccentric_anomaly - eccentricity * jnp.sin(eccentric_anomaly) - mean_anomaly


# By hand: a Dual carries the slope along with the value.
x, errors = 3.0, []
root = dual.newton(kepler, x).x
for step in range(6):
    f, slope = dual.value_and_derivative(kepler)(x)
    errors.append(abs(float(x - root)))
    print(f"step {step}: E = {float(x):.15f}, off by {errors[-1]:.1e}")
    x = x - f / slope

# The library's, in any number of variables; a failed search is a status, not an error.
found = dual.newton(kepler, 3.0)
status = dual.Status(int(found.status)).name
print(f"newton: E = {float(found.x):.15f} in {int(found.steps)} steps, {status}")

# The root moves with what the equation holds: dE/dM, by the implicit function theorem.
motion = dual.derivative(lambda m: dual.newton(lambda e: kepler(e, m), 3.0).x)(0.8)
print(f"dE/dM = {float(motion):.12f}, 1/(1 - e cos E) = ", end="")
print(f"{float(1 / (1 - 0.6 * jnp.cos(found.x))):.12f}")


# Two equations from 90,000 starts at once: the basins of z^3 = 1.
def cubic(z):
    return jnp.array(
        [z[0] ** 3 - 3 * z[0] * z[1] ** 2 - 1, 3 * z[0] ** 2 * z[1] - z[1] ** 3]
    )


side = jnp.linspace(-1.5, 1.5, 300)
starts = jnp.stack(jnp.meshgrid(side, side), -1).reshape(-1, 2)
ends = jax.jit(jax.vmap(lambda z: dual.newton(cubic, z, max_steps=40)))(starts)
converged = ends.status == dual.Status.CONVERGED
print(f"z^3 = 1: {float(converged.mean()):.1%} of {len(starts)} starts converged")

if importlib.util.find_spec("matplotlib"):
    import matplotlib.pyplot as plt

    _, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    left.semilogy([max(e, 1e-16) for e in errors], "o-")
    left.set(
        title="Newton's method on Kepler's equation", xlabel="step", ylabel="error"
    )
    angle = jnp.where(converged, jnp.arctan2(ends.x[:, 1], ends.x[:, 0]), jnp.nan)
    right.imshow(angle.reshape(300, 300), extent=(-1.5, 1.5) * 2, origin="lower")
    right.set(
        title="Root of z³ = 1 that each start falls into", xlabel="Re z", ylabel="Im z"
    )
    plt.savefig("dual_newton.png", dpi=150)
    print("saved dual_newton.png")
