"""Committees of programs: their votes are the members', in one program."""

import numpy as np
import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import circuits
from simplex_jax.circuits._program import program


def drawn(rng, outputs):
    """Return a random program of five inputs."""
    tables, pins = rng.integers(16, size=12), rng.random((12, 2))
    gates = [
        (int(table), int(p * (5 + i)), int(q * (5 + i)))
        for i, (table, (p, q)) in enumerate(zip(tables, pins, strict=True))
    ]
    return program(5, gates, outputs)


def votes(program, x, classes):
    return program(x).reshape(classes, -1, x.shape[1]).sum(1)


@draws(50)
@given(st.integers(0, 1000), st.integers(1, 3), st.lists(st.integers(1, 3), min_size=1))
def test_votes_are_the_sums_of_the_members(seed, classes, sizes):
    rng = np.random.default_rng(seed)
    members = [drawn(rng, classes * size) for size in sizes[:4]]
    rows = np.arange(32)
    x = (rows >> np.arange(5)[:, None] & 1).astype(bool)
    found = circuits.committee(members, classes)
    wanted = sum(votes(member, x, classes) for member in members)
    np.testing.assert_array_equal(votes(found, x, classes), wanted)
    assert len(found.outputs) == sum(len(member.outputs) for member in members)
    assert len(found.gates) <= sum(len(member.gates) for member in members)


def test_common_gates_are_there_once_and_constants_stay():
    one = circuits.Program(2, ((8, 0, 1),), ((2, False), (-2, False)))
    two = circuits.Program(2, ((6, 0, 1), (8, 0, 1)), ((3, True), (2, False)))
    found = circuits.committee([one, two, one], classes=2)
    assert found.gates == ((8, 0, 1), (6, 0, 1))
    assert found.formula().splitlines()[-6:] == [
        "y0 = g0",
        "y1 = not g0",
        "y2 = g0",
        "y3 = true",
        "y4 = (x0 xor x1)",
        "y5 = true",
    ]


def test_bad_members():
    one = circuits.Program(2, (), ((0, False), (1, False)))
    with pytest.raises(ValueError, match=r"members have \[\] inputs; give"):
        circuits.committee([], classes=2)
    with pytest.raises(ValueError, match=r"members have \[2, 3\] inputs"):
        circuits.committee([one, circuits.Program(3, (), ((0, False),))], classes=1)
    with pytest.raises(ValueError, match="classes is 3; .* of which one has 2"):
        circuits.committee([one], classes=3)
    with pytest.raises(ValueError, match="classes is 0; give a divisor"):
        circuits.committee([one], classes=0)
