"""Layers of two-input gates that learn what they compute and what they read."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from .._checks import at_least, positive_or_nan, probability_or_nan, refuse
from .._typing import PRNGKey
from ..neural import Mode, straight_through
from ._program import Program, program

# A fresh gate passes its first pin on: false, false, true, true.
_PASS = (-1.0, -1.0, 1.0, 1.0)


class LogicLayer(nnx.Module):
    r"""Gates side by side, each a disjunction of the four cases of its two pins.

    A pin has K candidates among the signals before it and reads
    $a = \sum_k \mathrm{softmax}(w / T)_k x_{c_k}$. With truths $t = \sigma(l / T)$
    a gate is the OR of four ANDs, each of one case and its truth:
    $t_0 (1-a)(1-b) + t_1 (1-a) b + t_2 a (1-b) + t_3 a b$; the cases exclude each
    other, so that OR is a sum, and the value the gate's probability where the pins are
    independent.

    Args:
        signals: S, how many there are to read.
        near: how many of them, the last ones, are the layer before.
        gates: G.
        fan_in: K where S is larger; S signals or fewer are all candidates.
        rngs: for the candidates and the start.
    """

    def __init__(
        self, *, signals: int, near: int, gates: int, fan_in: int, rngs: nnx.Rngs
    ):
        """Deal the candidates, (G, 2, K), and make gates that pass a signal on."""
        self.candidates = nnx.Variable(_deal(signals, near, gates, fan_in, rngs))
        # So far apart that a pin starts near one signal: averages cannot be extracted.
        wiring = jax.random.normal(rngs.params(), self.candidates.shape)
        wiring = nnx.Param(wiring.at[:, 0, 0].add(3))
        # A pin without a choice has nothing to learn.
        self.wiring_logit = nnx.data(wiring if wiring.shape[-1] > 1 else None)
        noise = jax.random.normal(rngs.params(), (gates, 4))
        self.truth_logit = nnx.Param(jnp.asarray([_PASS]) + noise)

    def __call__(
        self, x: Float[Array, "S B"], mode: Mode, temperature: Float[ArrayLike, ""]
    ) -> Float[Array, "G B"]:
        """Return the gates' values.

        Args:
            x: probabilities, signals first: what a pin gathers is then contiguous.
            mode: HARD reads the likeliest candidate and the likelier truth.
            temperature: T > 0, of wiring and truth alike.

        Returns:
            Probabilities. Differentiable by jvp and vjp, in HARD by x alone.
        """
        logit = self.truth_logit[...]
        truth = jax.nn.sigmoid(logit / temperature)
        truth = _in_mode(mode, truth, (logit > 0).astype(x.dtype))
        pins = x[self.candidates[...]]
        if self.wiring_logit is not None:
            logit = self.wiring_logit[...]
            wiring = jax.nn.softmax(logit / temperature)
            chosen = jax.nn.one_hot(logit.argmax(-1), logit.shape[-1], dtype=x.dtype)
            pins = pins * _in_mode(mode, wiring, chosen)[..., None]
        a, b = pins[:, 0].sum(1), pins[:, 1].sum(1)
        t0, t1, t2, t3 = (truth[:, case, None] for case in range(4))
        return t0 + (t2 - t0) * a + b * (t1 - t0 + (t0 - t1 - t2 + t3) * a)

    def gates(self) -> Int[np.ndarray, "G 3"]:
        """Return (table, a, b) of each gate in HARD."""
        tables = np.asarray(self.truth_logit[...] > 0) @ np.array([1, 2, 4, 8])
        pins = np.asarray(self.candidates[...])
        if self.wiring_logit is not None:
            chosen = np.asarray(self.wiring_logit[...].argmax(-1))
            pins = np.take_along_axis(pins, chosen[..., None], -1)
        return np.column_stack([tables, pins[..., 0]])


class LogicCircuit(nnx.Module):
    """A circuit that trains soft and is extracted as a program.

        >>> circuit = circuits.LogicCircuit(inputs=2, layers=(4, 1), rngs=nnx.Rngs(0))
        >>> circuit(jnp.array([[0.0, 1.0]])).shape
        (1, 1)

    Each pin of a gate chooses among ``fan_in`` candidates, three in four of them drawn
    from the layer before and the rest from all inputs and gates before it. A fresh gate
    leans to passing on one gate of the layer before.

    Args:
        inputs: how many.
        layers: gates a layer; the last one's are the outputs.
        fan_in: candidates a pin, at most; 1 fixes the wiring.
        rngs: for candidates and start.

    Raises:
        ValueError: for no inputs, no layers, an empty layer or no candidates.

    Source: Simplex's ``LogicCircuit``; deviation: wiring and the choice of gate are
    learned, from the disjunctive normal form of product logic.
    """

    def __init__(
        self, inputs: int, layers: Sequence[int], *, fan_in: int = 8, rngs: nnx.Rngs
    ):
        """Make the layers."""
        at_least("inputs", inputs)
        if not layers or min(layers) < 1:
            refuse("layers", tuple(layers), "give at least 1 gate in each")
        at_least("fan_in", fan_in)
        self.inputs = inputs
        sizes = [inputs, *layers]
        self.layers = nnx.List(
            LogicLayer(
                signals=sum(sizes[: i + 1]),
                near=sizes[i],
                gates=gates,
                fan_in=fan_in,
                rngs=rngs,
            )
            for i, gates in enumerate(layers)
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
            Probabilities, in [0, 1] up to rounding; 0 and 1 in HARD for inputs of 0
            and 1.

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
        signals = probability_or_nan("x", x).T
        temperature = positive_or_nan("temperature", temperature)
        out = signals
        for layer in self.layers:
            out = layer(signals, mode, temperature)
            signals = jnp.concatenate([signals, out])
        return out.T

    def extract(self) -> Program:
        """Return the discrete program of the hard circuit, simplified.

        Returns:
            A program with the outputs of ``Mode.HARD``, without gates that are
            constant, copies, repeated or unread.
        """
        gates = np.concatenate([layer.gates() for layer in self.layers]).tolist()
        outputs = self.layers[-1].truth_logit.shape[0]
        return program(self.inputs, [(t, a, b) for t, a, b in gates], outputs)


def _in_mode(
    mode: Mode, soft: Float[Array, "*shape"], hard: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    if mode is Mode.SOFT:
        return soft
    return hard if mode is Mode.HARD else straight_through(hard, soft)


def _deal(
    signals: int, near: int, gates: int, fan_in: int, rngs: nnx.Rngs
) -> Int[Array, "G 2 K"]:
    """Return each pin's candidates; a first pin's first is in the layer before."""
    through = signals - near + jnp.arange(gates) % near
    if signals <= fan_in:
        turned = (through[:, None, None] + jnp.arange(signals)[None, None]) % signals
        return jnp.broadcast_to(turned, (gates, 2, signals))
    close = -(-3 * fan_in // 4)
    dealt = [
        signals - near + _balanced(rngs.params(), near, (gates, 2, close)),
        _balanced(rngs.params(), signals, (gates, 2, fan_in - close)),
    ]
    return jnp.concatenate(dealt, -1).at[:, 0, 0].set(through)


def _balanced(key: PRNGKey, count: int, shape: tuple[int, ...]) -> Int[Array, "..."]:
    """Return numbers below count in random order, each as often as any other."""
    size = int(np.prod(shape))
    order = jax.random.uniform(key, (-(-size // count), count)).argsort(-1)
    return order.reshape(-1)[:size].reshape(shape)
