"""Trace a curve that is given by an equation alone, with exact tangents.

Run it: python examples/dual_implicit_curve.py (seconds). With matplotlib it saves
dual_implicit_curve.png.

A step along the tangent predicts, one Newton step across the curve corrects; the
curvature comes from the Hessian. The whole walk is one scan.
"""

import importlib.util

import jax
import jax.numpy as jnp

from simplex_jax import dual

jax.config.update("jax_enable_x64", True)


def cassini(p, a=1.0, b=1.1):
    """Return (|p - a||p + a|)^2 - b^4, which is 0 on Cassini's oval."""
    x, y = p
    return ((x - a) ** 2 + y**2) * ((x + a) ** 2 + y**2) - b**4


def walk(p, step):
    slope = dual.gradient(cassini)(p)
    tangent = jnp.array([-slope[1], slope[0]]) / dual.safe_norm(slope)
    bend = tangent @ dual.hvp(cassini)(p, tangent) / dual.safe_norm(slope)
    p = p + step * tangent
    for _ in range(2):
        value, slope = dual.value_and_gradient(cassini)(p)
        p = p - value * slope / (slope @ slope)
    return p, (p, cassini(p), bend)


# A point of the curve to start from, on the x-axis.
start = jnp.array([dual.newton(lambda x: cassini(jnp.array([x, 0.0])), 2.0).x, 0.0])
steps, length = 2000, 0.005
_, (points, misses, bends) = jax.jit(
    lambda p: jax.lax.scan(lambda p, _: walk(p, length), p, None, length=steps)
)(start)

print(f"start ({start[0]:.6f}, 0), which is sqrt(a^2 + b^2) = {(1 + 1.21) ** 0.5:.6f}")
print(f"largest |f| on {steps} points: {jnp.abs(misses).max():.1e}")
closed = int(jnp.argmin(jnp.linalg.norm(points[100:] - start, axis=1))) + 100
print(f"closes after a length of {closed * length:.2f}")
turning = float(bends[:closed].sum() * length / (2 * jnp.pi))
print(f"total curvature / 2 pi: {turning:.4f}; 1 for a closed curve without loops")

if importlib.util.find_spec("matplotlib"):
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    drawn = axes.scatter(
        *points[:closed].T, c=bends[:closed], s=4, cmap="coolwarm", vmin=-1.8, vmax=1.8
    )
    plt.colorbar(drawn, label="curvature", shrink=0.6)
    axes.set(title="Cassini's oval, traced from its equation", aspect="equal")
    plt.savefig("dual_implicit_curve.png", dpi=150)
    print("saved dual_implicit_curve.png")
