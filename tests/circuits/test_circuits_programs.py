"""Circuits: derivatives, extraction equal to the hard circuit, tasks learned."""

import ctypes
import itertools
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import draws
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import circuits, dual
from simplex_jax.circuits._program import program
from simplex_jax.neural import Mode


def table(inputs, f):
    """Return all inputs and what f makes of each."""
    x = np.array(list(itertools.product([0, 1], repeat=inputs)))
    y = np.array([f(row) for row in x])
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)


def random_circuit(seed=0, inputs=5, layers=(12, 8, 3), fan_in=8):
    """Return a circuit with all sixteen gates in it."""
    rngs = nnx.Rngs(seed)
    circuit = circuits.LogicCircuit(inputs, layers, fan_in=fan_in, rngs=rngs)
    for i, layer in enumerate(circuit.layers):
        key = jax.random.key(100 * seed + i)
        shape = layer.truth_logit[...].shape
        layer.truth_logit[...] = jax.random.normal(key, shape)
    return circuit


def test_derivatives_of_every_parameter_agree_with_differences():
    circuit = random_circuit(inputs=3, layers=(2, 1), fan_in=2)
    graph, state, rest = nnx.split(circuit, nnx.Param, ...)
    x = jax.random.uniform(jax.random.key(1), (2, 3))

    def run(v):
        circuit = nnx.merge(graph, v["state"], rest)
        return circuit(v["x"], temperature=v["temperature"])

    at = {"state": state, "x": x, "temperature": jnp.float32(0.7)}
    report = dual.check(jax.jit(run), at)
    assert report.passed, report
    assert not report.missing
    slopes = jax.grad(lambda v: jnp.sum(run(v) ** 2))(at)
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slopes))


def test_cold_circuits_are_hard_ones():
    circuit = random_circuit()
    x, _ = table(5, lambda row: [0])
    hard = circuit(x, mode=Mode.HARD)
    assert set(np.unique(hard)) == {0, 1}
    np.testing.assert_array_equal(circuit(x, mode=Mode.STRAIGHT_THROUGH), hard)
    np.testing.assert_allclose(circuit(x, temperature=1e-4), hard, atol=1e-6)


def test_straight_through_is_the_surrogate_of_hard_inputs():
    # One layer: its pins are the inputs, so the surrogate is the soft circuit's
    # derivative but for the wiring's and the truth's hard values.
    circuit = random_circuit(layers=(3,))
    graph, state, rest = nnx.split(circuit, nnx.Param, ...)
    x, _ = table(5, lambda row: [0])

    def run(state, mode):
        return jnp.sum(nnx.merge(graph, state, rest)(x, mode=mode) ** 2)

    forward = jax.jvp(
        lambda s: run(s, Mode.STRAIGHT_THROUGH),
        (state,),
        (jax.tree.map(jnp.ones_like, state),),
    )[1]
    slopes = jax.grad(run)(state, Mode.STRAIGHT_THROUGH)
    reverse = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(slopes))
    np.testing.assert_allclose(forward, reverse, rtol=1e-4, atol=1e-5)
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slopes))
    flat = jax.grad(run)(state, Mode.HARD)
    assert all(jnp.abs(leaf).max() == 0 for leaf in jax.tree.leaves(flat))


def test_fresh_gates_lean_to_passing_the_layer_before_on():
    circuit = circuits.LogicCircuit(6, (400, 300), fan_in=4, rngs=nnx.Rngs(3))
    for layer, first in zip(circuit.layers, (0, 6), strict=True):
        tables, a, _ = layer.gates().T
        near = first + np.arange(len(a)) % (6, 400)[first > 0]
        assert np.mean(a == near) > 0.8
        bits = tables[:, None] >> np.arange(4)[None] & 1
        assert np.mean(bits == [0, 0, 1, 1]) > 0.75


def test_candidates_are_before_their_gate_and_spread_evenly():
    circuit = circuits.LogicCircuit(20, (40, 64), fan_in=8, rngs=nnx.Rngs(0))
    for layer, signals, near in zip(circuit.layers, (20, 60), (20, 40), strict=True):
        pins = np.asarray(layer.candidates[...])
        assert pins.shape == (layer.truth_logit.shape[0], 2, 8)
        assert pins.min() >= 0
        assert pins.max() < signals
        uses = np.bincount(pins.ravel(), minlength=signals)[signals - near :]
        assert uses.max() <= 2 * uses.min()
    few = circuits.LogicCircuit(3, (2,), rngs=nnx.Rngs(0)).layers[0]
    np.testing.assert_array_equal(np.sort(few.candidates[...]), [[[0, 1, 2]] * 2] * 2)


def test_a_pin_without_a_choice_has_no_parameter():
    circuit = random_circuit(fan_in=1)
    leaves = jax.tree.leaves(nnx.state(circuit, nnx.Param))
    assert [leaf.shape for leaf in leaves] == [(12, 4), (8, 4), (3, 4)]
    x, _ = table(5, lambda row: [0])
    hard = circuit(x, mode=Mode.HARD)
    np.testing.assert_array_equal(circuit.extract()(words(x)), words(hard))


def words(x):
    """Return rows of bits as bools, (inputs, rows)."""
    return np.asarray(x > 0.5).T


def pack(bits):
    """Return bools (inputs, samples) as uint64 words (inputs, words)."""
    room = -bits.shape[1] % 64
    packed = np.packbits(np.pad(bits, ((0, 0), (0, room))), 1, bitorder="little")
    return np.ascontiguousarray(packed).view(np.uint64)


def run_source(source, x):
    namespace: dict = {"np": np}
    exec(source, namespace)
    return namespace["circuit"](x)


@pytest.mark.parametrize("seed", range(2))
def test_programs_equal_the_hard_circuit(seed):
    circuit = random_circuit(seed, fan_in=4)
    x, _ = table(5, lambda row: [0])
    wanted = words(circuit(x, mode=Mode.HARD))
    found = circuit.extract()
    np.testing.assert_array_equal(found(words(x)), wanted)
    np.testing.assert_array_equal(run_source(found.to_python(), words(x)), wanted)
    packed = found(pack(words(x)))
    assert packed.dtype == np.uint64
    octets = np.ascontiguousarray(packed).view(np.uint8)
    bits = np.unpackbits(octets, axis=1, bitorder="little")
    np.testing.assert_array_equal(bits[:, : len(x)].astype(bool), wanted)
    scope = {f"x{i}": row for i, row in enumerate(np.asarray(x, bool).T)}
    for line in found.formula().splitlines():
        name, text = line.split(" = ")
        scope[name] = [
            eval(
                text.replace("xor", "!=")
                .replace("false", "False")
                .replace("true", "True"),
                {k: bool(v[i]) for k, v in scope.items()},
            )
            for i in range(len(x))
        ]
    np.testing.assert_array_equal([scope[f"y{i}"] for i in range(3)], wanted)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_c_equals_numpy(tmp_path):
    found = random_circuit(1).extract()
    source, library = tmp_path / "circuit.c", tmp_path / "circuit.so"
    source.write_text(found.to_c("run"))
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, str(source), "-o", str(library)], check=True)
    x = np.random.default_rng(0).integers(0, 2**63, (7, found.inputs), np.uint64)
    y = np.zeros((7, len(found.outputs)), np.uint64)
    word = np.ctypeslib.ndpointer(np.uint64, flags="C")
    run = ctypes.CDLL(str(library)).run
    run.argtypes, run.restype = [word, word, ctypes.c_size_t], None
    run(x, y, 7)
    np.testing.assert_array_equal(y, found(x.T).T)


@draws(200)
@given(data=st.data())
def test_simplifying_changes_no_output(data):
    inputs = data.draw(st.integers(1, 4))
    gates = []
    for i in range(data.draw(st.integers(1, 12))):
        pin = st.integers(0, inputs + i - 1)
        gates.append((data.draw(st.integers(0, 15)), data.draw(pin), data.draw(pin)))
    outputs = data.draw(st.integers(1, len(gates)))
    found = program(inputs, gates, outputs)
    x = np.array(list(itertools.product([False, True], repeat=inputs))).T
    signals = list(x)
    for bits, a, b in gates:
        signals.append((bits >> (2 * signals[a] + signals[b]) & 1).astype(bool))
    np.testing.assert_array_equal(found(x), signals[-outputs:])
    np.testing.assert_array_equal(run_source(found.to_python(), x), signals[-outputs:])
    assert len(found.gates) <= len(gates)
    assert len(set(found.gates)) == len(found.gates)


@draws(100)
@given(data=st.data())
def test_pruning_changes_no_output_on_its_rows(data):
    inputs = data.draw(st.integers(1, 4))
    gates = []
    for i in range(data.draw(st.integers(1, 16))):
        pin = st.integers(0, inputs + i - 1)
        gates.append((data.draw(st.integers(0, 15)), data.draw(pin), data.draw(pin)))
    found = program(inputs, gates, data.draw(st.integers(1, min(3, len(gates)))))
    x = np.array(list(itertools.product([False, True], repeat=inputs)))
    rows = x[data.draw(st.lists(st.booleans(), min_size=len(x), max_size=len(x)))]
    small = circuits.prune(found, rows)
    np.testing.assert_array_equal(small(rows.T), found(rows.T))
    assert len(small.gates) <= len(found.gates)


def test_pruning_finds_what_simplifying_cannot():
    # (x0 or x1) and not (x0 and x1) is x0 xor x1; on three rows it is less.
    found = program(2, [(14, 0, 1), (8, 0, 1), (4, 2, 3), (6, 4, 0), (6, 5, 0)], 1)
    rows = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], bool)
    assert circuits.prune(found, rows[1:]).gates == ((8, 0, 1),)
    assert circuits.prune(found, rows[:1]).formula() == "y0 = false"
    with pytest.raises(ValueError, match=r"x has shape \(4, 3\); give \(rows, 2\)"):
        circuits.prune(found, np.ones((4, 3), bool))


def test_a_formula_to_read():
    # A half adder with a copy, a constant and a repetition.
    gates = [(6, 0, 1), (6, 1, 0), (12, 2, 0), (15, 0, 0), (9, 0, 1), (8, 4, 5)]
    found = program(2, gates, 2)
    assert found.formula() == "g0 = (x0 xor x1)\ny0 = not g0\ny1 = g0"
    assert program(1, [(0, 0, 0), (15, 0, 0)], 2).formula() == "y0 = false\ny1 = true"
    assert "y[0] = ~(uint64_t)0" in program(1, [(15, 0, 0)], 1).to_c()


def test_bad_input():
    rngs, x = nnx.Rngs(0), jnp.ones((2, 3))
    circuit = circuits.LogicCircuit(3, (2, 1), rngs=rngs)
    with pytest.raises(ValueError, match="inputs is 0"):
        circuits.LogicCircuit(0, (1,), rngs=rngs)
    for layers in ((), (2, 0)):
        with pytest.raises(ValueError, match="layers is"):
            circuits.LogicCircuit(2, layers, rngs=rngs)
    with pytest.raises(ValueError, match="fan_in is 0; give at least 1"):
        circuits.LogicCircuit(2, (2, 1), fan_in=0, rngs=rngs)
    with pytest.raises(ValueError, match="x has 2 inputs a row; the circuit has 3"):
        circuit(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"x\[0, 0\] is 2.0; give a probability"):
        circuit(2 * x)
    with pytest.raises(ValueError, match="temperature is 0.0; give"):
        circuit(x, temperature=0.0)
    assert jnp.isnan(jax.jit(lambda t: circuit(x, temperature=t))(0.0)).all()
    assert jnp.isnan(jax.jit(circuit)(2 * x)).all()
    found = circuit.extract()
    with pytest.raises(ValueError, match="x has 1 inputs; the program has 3"):
        found(np.ones((1, 4), bool))
    with pytest.raises(ValueError, match="x has dtype float64; give bool"):
        found(np.ones((3, 4)))
    with pytest.raises(ValueError, match="name is 'a b'; give a C identifier"):
        found.to_c("a b")
    with pytest.raises(ValueError, match=r"gates has \(8, 0, 2\) as signal 2"):
        circuits.Program(2, ((8, 0, 2),), ((2, False),))
    with pytest.raises(ValueError, match="gates has the table 9"):
        circuits.Program(2, ((9, 0, 1),), ((2, False),))
    with pytest.raises(ValueError, match="outputs has the signal 3; give one below 3"):
        circuits.Program(2, ((8, 0, 1),), ((3, False),))


def voters():
    """Return a circuit with three groups of five outputs, and all its four bytes."""
    circuit = random_circuit(2, inputs=8, layers=(24, 15))
    found = circuits.Classifier(circuit.extract(), (3, 9), 3)
    x = np.random.default_rng(0).integers(0, 13, (150, 4), np.uint8)
    bits = jnp.asarray(found.thermometer(x), jnp.float32)
    votes = circuits.GroupSum(3, 1.0).votes(circuit(bits, mode=Mode.HARD))
    return found, x, np.asarray(votes.argmax(-1))


def test_classifiers_answer_as_the_hard_circuit():
    found, x, wanted = voters()
    assert found.features == 4
    assert set(wanted) == {0, 1, 2}
    np.testing.assert_array_equal(found.thermometer(x)[:, 4:6], x[:, 2:3] >= [3, 9])
    np.testing.assert_array_equal(found(x), wanted)
    np.testing.assert_array_equal(found(x[:1]), wanted[:1])


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_c_classifies_as_numpy_does(tmp_path):
    found, x, wanted = voters()
    source, library = tmp_path / "classify.c", tmp_path / "classify.so"
    source.write_text(found.to_c())
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, str(source), "-o", str(library)], check=True)
    run = ctypes.CDLL(str(library)).classify
    octets = np.ctypeslib.ndpointer(np.uint8, flags="C")
    run.argtypes, run.restype = [octets, octets, ctypes.c_size_t], None
    y = np.full(len(x) + 1, 77, np.uint8)
    run(np.ascontiguousarray(x), y, len(x))
    np.testing.assert_array_equal(y[:-1], wanted)
    assert y[-1] == 77


def test_bad_classifiers():
    found, x, _ = voters()
    for thresholds in ((), (256,), (1, 2, 3)):
        with pytest.raises(ValueError, match="thresholds is"):
            circuits.Classifier(found.program, thresholds, 3)
    with pytest.raises(ValueError, match="classes is 4; give a divisor of the"):
        circuits.Classifier(found.program, (3, 9), 4)
    with pytest.raises(ValueError, match=r"x has dtype int64 and shape"):
        found(x.astype(np.int64))
    with pytest.raises(ValueError, match="name is 'a b'; give a C identifier"):
        found.to_c("a b")


PUBLIC = {
    "Accuracy",
    "Bits",
    "Classifier",
    "GroupSum",
    "Learned",
    "LogicCircuit",
    "Program",
    "Readout",
    "Record",
    "circuit_accuracy",
    "committee",
    "learn_circuit",
    "prune",
}


def test_every_public_name_is_in_the_list():
    public = {n for n in vars(circuits) if not n.startswith("_")} - {"jaxtyping"}
    assert public == PUBLIC
