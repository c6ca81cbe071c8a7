"""Circuits learned by gradients, and what their outputs mean."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simplex_jax import circuits, dual
from simplex_jax.neural import Mode

X = np.array(list(itertools.product([0.0, 1.0], repeat=2)), np.float32)
XOR = jnp.asarray([[0.0], [1], [1], [0]])


def learn(x=X, y=XOR, layers=(16, 1), seed=0, steps=300, **options):
    cooling = 0.05 ** jnp.linspace(0, 1, steps)
    key = jax.random.key(seed)
    return circuits.learn_circuit(
        jnp.asarray(x), y, layers, key=key, temperatures=cooling, **options
    )


def test_xor_is_learned_by_gradients_and_not_by_luck():
    found = [learn(seed=seed, restarts=3) for seed in range(3)]
    for one in found:
        assert one.accuracy == (1, 1)
        assert one.history[-1].loss < 0.1 * one.history[0].loss
        program = circuits.prune(one.circuit.extract(), X > 0.5)
        assert program.formula() == "y0 = (x0 xor x1)"
    # As many starts without a step of training: a rate of 0 leaves them as they are.
    for seed, one in enumerate(found):
        still = learn(seed=seed, steps=1, learning_rate=0.0, restarts=one.restarts)
        assert still.accuracy.hard < 1


def test_history_restarts_and_progress():
    seen = []
    # Three inputs' parity is out of reach of one gate.
    x = np.array(list(itertools.product([0.0, 1.0], repeat=3)), np.float32)
    y = jnp.asarray(x.sum(1, keepdims=True) % 2)
    found = learn(
        x,
        y,
        (1,),
        steps=10,
        restarts=2,
        straight_through_steps=3,
        record_every=4,
        progress=seen.append,
    )
    assert found.restarts == 2
    assert found.history == tuple(seen)
    assert [(r.restart, r.step) for r in seen] == [
        (start, step) for start in range(3) for step in (4, 7, 10)
    ]
    assert found.accuracy.hard == max(r.accuracy.hard for r in seen if r.step == 10)
    assert seen[-1].temperature == pytest.approx(0.05)
    again = learn(x, y, (1,), steps=10, restarts=2, straight_through_steps=3)
    assert again.history[-1].accuracy == seen[-1].accuracy


def test_classes_by_votes_in_minibatches():
    # Which of two nibbles is larger, or whether they are equal.
    x = np.array(list(itertools.product([0.0, 1.0], repeat=4)), np.float32)
    value = x @ np.array([[2, 0], [1, 0], [0, 2], [0, 1]])
    y = jnp.asarray(np.sign(value[:, 0] - value[:, 1]).astype(np.int32) + 1)
    readout = circuits.GroupSum(3, 4.0)
    found = learn(x, y, (48, 48), readout=readout, batch_size=8, restarts=2)
    assert found.accuracy.hard == 1
    again = circuits.circuit_accuracy(
        found.circuit, jnp.asarray(x), y, temperature=0.05, readout=readout
    )
    assert again == found.accuracy
    votes = readout.votes(found.circuit(jnp.asarray(x), mode=Mode.HARD))
    np.testing.assert_array_equal(votes.argmax(-1), y)
    assert votes.max() <= 16


@pytest.mark.parametrize(
    ("readout", "y"),
    [
        (circuits.Bits(), jnp.asarray([[0.0, 1, 1, 0, 1, 0], [1, 0, 1, 1, 0, 0]])),
        (circuits.GroupSum(3, 0.7), jnp.asarray([2, 0])),
    ],
)
def test_losses_have_the_derivatives_of_differences(readout, y):
    out = jax.random.uniform(jax.random.key(0), (2, 6), minval=0.1, maxval=0.9)
    report = dual.check(jax.jit(lambda out: readout.loss(out, y)), out)
    assert report.passed, report
    assert not report.missing


def test_losses_against_closed_forms():
    out = jnp.asarray([[0.25, 1.0], [0.5, 0.0]])
    loss = circuits.Bits().loss(out, jnp.asarray([[0.0, 1], [1, 1]]))
    wanted = [-np.log(0.75) - np.log(0.999), np.log(2) - np.log(0.001)]
    np.testing.assert_allclose(loss, np.array(wanted) / 2, rtol=1e-5)
    groups = circuits.GroupSum(2, 2.0)
    votes = jnp.asarray([[1.0, 1, 0, 1], [0, 1, 1, 1]])
    np.testing.assert_array_equal(groups.votes(votes), [[2, 1], [1, 2]])
    loss = groups.loss(votes, jnp.asarray([0, 0]))
    np.testing.assert_allclose(loss, np.log1p(np.exp([-0.5, 0.5])), rtol=1e-6)
    assert groups.right(votes, jnp.asarray([0, 0])).tolist() == [True, False]


def test_weight_decay_shrinks_every_logit_by_its_share():
    def logits(rate, decay):
        one = learn(steps=1, learning_rate=rate, weight_decay=decay, batch_size=4)
        return jax.tree.leaves(nnx.state(one.circuit, nnx.Param))

    starts, plain, shrunk = logits(0.0, 0.0), logits(0.1, 0.0), logits(0.1, 0.5)
    for start, without, with_ in zip(starts, plain, shrunk, strict=True):
        np.testing.assert_allclose(with_, without - 0.05 * start, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 0}, r"temperatures is \[\]; give numbers above 0"),
        ({"batch_size": 5}, "batch_size is 5; give 1 to 4, the rows of x"),
        ({"straight_through_steps": 301}, "straight_through_steps is 301; give 0 to"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; give at least 0"),
        ({"restarts": -1}, "restarts is -1"),
        ({"record_every": 0}, "record_every is 0"),
        ({"layers": ()}, r"layers is \(\)"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(ValueError, match=said):
        learn(**options)


def test_bad_groups():
    with pytest.raises(ValueError, match="classes is 0; give at least 1"):
        circuits.GroupSum(0, 1.0)
    with pytest.raises(ValueError, match=r"tau is 0.0; give a number above 0"):
        circuits.GroupSum(2, 0.0)
    with pytest.raises(ValueError, match="out has 3 outputs a row; give a multiple"):
        circuits.GroupSum(2, 1.0).votes(jnp.ones((1, 3)))
