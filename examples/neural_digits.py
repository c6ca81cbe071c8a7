"""Handwritten digits by 6,000 gates, exported as C; draws accuracy and temperature.

python examples/neural_digits.py [neural_digits.png]
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from simplex_jax import anneal, circuits

STEPS, LAST, THRESHOLDS = 400, 0.3, np.array([2, 6, 11])


def thermometer(x):
    return jnp.asarray((x[..., None] >= THRESHOLDS).reshape(len(x), -1), jnp.float32)


x, y = load_digits(return_X_y=True)
x, test_x, y, test_y = train_test_split(x, y, test_size=360, random_state=0, stratify=y)
readout = circuits.GroupSum(classes=10, tau=10.0)
found = circuits.learn_circuit(
    thermometer(x),
    jnp.asarray(y, jnp.int32),
    (2000, 2000, 2000),
    key=jax.random.key(0),
    temperatures=anneal.exponential(1.0, 1.2 / STEPS).temperature(jnp.arange(STEPS)),
    readout=readout,
    fan_in=4,
    batch_size=128,
    record_every=50,
    progress=lambda r: print(
        f"step {r.step}: loss {r.loss:.3f}, hard {r.accuracy.hard}"
    ),
)
soft, hard = circuits.circuit_accuracy(
    found.circuit,
    thermometer(test_x),
    jnp.asarray(test_y, jnp.int32),
    temperature=LAST,
    readout=readout,
)
classifier = circuits.Classifier(
    found.circuit.extract(), tuple(THRESHOLDS.tolist()), 10
)
same = (classifier(test_x.astype(np.uint8)) == test_y).mean()
print(f"360 new digits: soft {soft:.1%}, hard {hard:.1%}, exported {same:.1%}")
picture = Path(sys.argv[1] if len(sys.argv) > 1 else "neural_digits.png")
picture.with_suffix(".c").write_text(classifier.to_c())
print(f"{len(classifier.program.gates)} gates in {picture.with_suffix('.c')}")

figure, (above, below) = plt.subplots(2, sharex=True)
steps = [record.step for record in found.history]
above.plot(steps, [record.accuracy.soft for record in found.history], label="soft")
above.plot(steps, [record.accuracy.hard for record in found.history], label="hard")
above.set(ylabel="accuracy on its rows")
above.legend()
below.plot(steps, [record.temperature for record in found.history])
below.set(ylabel="temperature", xlabel="step")
figure.savefig(picture)
