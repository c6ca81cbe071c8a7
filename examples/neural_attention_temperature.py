"""How sharp should attention be? A sweep of its temperature, and the learned one.

A table of keys and values is read with keys that carry noise. Cold attention takes the
nearest row, which is often the wrong one; hot attention averages the whole table. In
between lies an optimum that depends on the noise, and a gradient finds it.

python examples/neural_attention_temperature.py [neural_attention_temperature.png]
"""

import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

from simplex_jax import neural

ROWS, WIDTH, QUERIES = 32, 16, 64
NOISES = (0.3, 0.6, 1.2)
SWEEP = jnp.geomspace(0.02, 5.0, 41)


def draw(key, noise, tables):
    """Keys, values, and for each query the row that it means."""
    a, b, c, d = jax.random.split(key, 4)
    keys = jax.random.normal(a, (tables, ROWS, 1, WIDTH))
    values = jax.random.normal(b, (tables, ROWS, 1, WIDTH))
    meant = jax.random.randint(c, (tables, QUERIES, 1, 1), 0, ROWS)
    queries = jnp.take_along_axis(keys, meant, axis=1)
    queries += noise * jax.random.normal(d, queries.shape)
    return queries, keys, values, jnp.take_along_axis(values, meant, axis=1)


def error(temperature, batch, mode=neural.Mode.SOFT):
    queries, keys, values, wanted = batch
    found = neural.temperature_attention(queries, keys, values, temperature, mode=mode)
    return jnp.mean((found - wanted) ** 2)


@jax.jit
def learn(batch):
    """Let the gradient move the temperature's logarithm."""
    steps = 150
    optimizer = optax.adam(optax.cosine_decay_schedule(0.2, steps))

    def step(carry, _):
        log, state = carry
        slope = jax.grad(lambda log: error(jnp.exp(log), batch))(log)
        updates, state = optimizer.update(slope, state)
        return (log + updates, state), None

    start = jnp.zeros(())
    (log, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, steps)
    return jnp.exp(log)


figure, axes = plt.subplots()
for i, noise in enumerate(NOISES):
    train, test = (draw(jax.random.key(seed), noise, 64) for seed in (i, 100 + i))
    curve = jax.lax.map(lambda t, test=test: error(t, test), SWEEP)
    learned = learn(train)
    reached = error(learned, test)
    hard = error(1.0, test, neural.Mode.HARD)
    print(
        f"noise {noise}: best of the sweep T = {SWEEP[jnp.argmin(curve)]:.3f} with "
        f"error {curve.min():.4f}; learned T = {learned:.3f} with {reached:.4f}; "
        f"T = 1 {error(1.0, test):.4f}; hard {hard:.4f}"
    )
    (line,) = axes.plot(SWEEP, curve, label=f"noise {noise}")
    axes.plot(learned, reached, "o", color=line.get_color())
    axes.axhline(float(hard), color=line.get_color(), linestyle=":", linewidth=1)
axes.set(xscale="log", xlabel="temperature", ylabel="mean squared error, new tables")
axes.set_title("dots: learned temperature; dotted: hard attention")
axes.legend()
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "neural_attention_temperature.png")
