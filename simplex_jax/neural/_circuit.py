"""Layers of two-input gates that learn what they compute and what they read."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from . import logic
from ._checks import positive
from ._mode import Mode
from ._program import Program, program
from ._straight_through import straight_through

# A fresh gate passes its first pin on: false, false, true, true.
_PASS = (-1.0, -1.0, 1.0, 1.0)


class LogicLayer(nnx.Module):
    r"""Gates side by side, each a disjunction of the four cases of its two pins.

    A pin reads $\sum_s \mathrm{softmax}(w / T)_s x_s$ of the signals before it. The
    gate is the OR of four ANDs, each of one case and of its learned truth
    $\sigma(t / T)$; the cases exclude each other, so that OR is a sum and the value the
    gate's probability where the pins are independent.

    Args:
        signals: S, how many there are to read.
        gates: G.
        rngs: for the wiring.
    """

    def __init__(self, *, signals: int, gates: int, rngs: nnx.Rngs):
        """Draw the wiring, (G, 2, S), and make pass-through gates, (G, 4)."""
        # So wide that each pin starts near one signal: averages cannot be extracted.
        wiring = 3 * jax.random.normal(rngs.params(), (gates, 2, signals))
        self.wiring_logit = nnx.Param(wiring)
        noise = 0.3 * jax.random.normal(rngs.params(), (gates, 4))
        self.truth_logit = nnx.Param(jnp.asarray([_PASS]) + noise)

    def __call__(
        self, x: Float[Array, "B S"], mode: Mode, temperature: Float[ArrayLike, ""]
    ) -> Float[Array, "B G"]:
        """Return the gates' values.

        Args:
            x: probabilities.
            mode: HARD reads the likeliest signal and the likelier truth.
            temperature: T > 0, of wiring and truth alike.

        Returns:
            Probabilities. Differentiable by jvp and vjp, in HARD by x alone.
        """
        logit, truth_logit = self.wiring_logit[...], self.truth_logit[...]
        wiring = jax.nn.softmax(logit / temperature)
        truth = jax.nn.sigmoid(truth_logit / temperature)
        if mode is not Mode.SOFT:
            one_hot = jax.nn.one_hot(logit.argmax(-1), x.shape[-1], dtype=x.dtype)
            bits = (truth_logit > 0).astype(x.dtype)
            if mode is Mode.HARD:
                wiring, truth = one_hot, bits
            else:
                wiring = straight_through(one_hot, wiring)
                truth = straight_through(bits, truth)
        # Rounding may lift a weighted mean of ones above 1.
        a, b = (jnp.clip(x @ wiring[:, pin].T, 0, 1) for pin in (0, 1))
        cases = jnp.stack(
            [
                logic.nor(a, b),
                logic.and_(1 - a, b),
                logic.and_(a, 1 - b),
                logic.and_(a, b),
            ],
            -1,
        )
        return jnp.clip(jnp.einsum("bgc,gc->bg", cases, truth), 0, 1)


class LogicCircuit(nnx.Module):
    """A circuit that trains soft and is extracted as a program.

        >>> circuit = neural.LogicCircuit(inputs=2, layers=(4, 1), rngs=nnx.Rngs(0))
        >>> circuit(jnp.array([[0.0, 1.0]])).shape
        (1, 1)

    Every gate may read every input and every gate of the layers before it.

    Args:
        inputs: how many.
        layers: gates a layer; the last one's are the outputs.
        rngs: for the wiring.

    Raises:
        ValueError: for no inputs, no layers or an empty layer.

    Source: Simplex's ``LogicCircuit``; deviation: wiring and the choice of gate are
    learned, from the disjunctive normal form of product logic.
    """

    def __init__(self, inputs: int, layers: Sequence[int], *, rngs: nnx.Rngs):
        """Make the layers."""
        if inputs < 1:
            raise ValueError(f"inputs is {inputs}; give at least 1")
        if not layers or min(layers) < 1:
            raise ValueError(f"layers is {tuple(layers)}; give at least 1 gate in each")
        self.inputs = inputs
        before = np.cumsum([inputs, *layers])
        self.layers = nnx.List(
            LogicLayer(signals=int(signals), gates=gates, rngs=rngs)
            for signals, gates in zip(before, layers, strict=False)
        )

    def __call__(
        self,
        x: Float[Array, "B I"],
        *,
        mode: Mode = Mode.SOFT,
        temperature: Float[ArrayLike, ""] = 1.0,
    ) -> Float[Array, "B O"]:
        """Return the outputs' probabilities.

        Args:
            x: probabilities of the inputs.
            mode: see ``Mode``.
            temperature: T > 0; towards 0 the soft circuit becomes the hard one.

        Returns:
            Probabilities; 0 and 1 in HARD for inputs of 0 and 1.

        Raises:
            ValueError: for another number of inputs, concrete probabilities outside
                [0, 1] or a concrete temperature that is not positive.

        Differentiable: jvp, vjp and vmap, by parameters and temperature too; in HARD by
        x alone.
        """
        if x.shape[-1] != self.inputs:
            raise ValueError(
                f"x has {x.shape[-1]} inputs a row; the circuit has {self.inputs}"
            )
        signals = 1 - logic.not_(x)
        temperature = positive("temperature", temperature)
        out = signals
        for layer in self.layers:
            out = layer(signals, mode, temperature)
            signals = jnp.concatenate([signals, out], -1)
        return out

    def extract(self) -> Program:
        """Return the discrete program of the hard circuit, simplified.

        Returns:
            A program with the outputs of ``Mode.HARD``, without gates that are
            constant, copies, repeated or unread.
        """
        outputs = self.layers[-1].truth_logit[...].shape[0]
        return program(self.inputs, gates_of(self), outputs)


def gates_of(circuit: LogicCircuit) -> list[tuple[int, int, int]]:
    """Return a circuit's hard gates as (table, a, b), not simplified."""
    gates = []
    for layer in circuit.layers:
        pins = np.asarray(layer.wiring_logit[...].argmax(-1))
        tables = np.asarray(layer.truth_logit[...] > 0) @ np.array([1, 2, 4, 8])
        gates += [
            (int(table), int(a), int(b))
            for table, (a, b) in zip(tables, pins, strict=True)
        ]
    return gates


def set_gates(circuit: LogicCircuit, gates: Sequence[tuple[int, int, int]]) -> None:
    """Make a circuit's gates these, sure of themselves at temperatures up to 0.5."""
    rest = list(gates)
    for layer in circuit.layers:
        count, _, signals = layer.wiring_logit[...].shape
        mine, rest = np.array(rest[:count]), rest[count:]
        layer.wiring_logit[...] = 10 * jax.nn.one_hot(mine[:, 1:], signals)
        bits = mine[:, :1] >> np.arange(4)[None] & 1
        layer.truth_logit[...] = jnp.asarray(10.0 * bits - 5, jnp.float32)
