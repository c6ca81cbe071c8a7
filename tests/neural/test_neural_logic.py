"""Logic: exact corners, the laws between them, logits that agree and stay finite."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import dual
from simplex_jax.neural import logic
from simplex_jax.neural.logic import TNorm

TABLES = {
    "and_": lambda a, b: a and b,
    "or_": lambda a, b: a or b,
    "xor": lambda a, b: a != b,
    "implies": lambda a, b: not a or b,
    "iff": lambda a, b: a == b,
    "nand": lambda a, b: not (a and b),
    "nor": lambda a, b: not (a or b),
}
MANY = {
    "and_all": lambda bits: all(bits),
    "or_all": lambda bits: any(bits),
    "xor_all": lambda bits: sum(bits) % 2 == 1,
}
NAMES = [*TABLES, *MANY, "not_"]
tnorms = pytest.mark.parametrize("tnorm", TNorm)
with_logits = pytest.mark.parametrize("tnorm", [TNorm.PRODUCT, TNorm.GODEL])


def logits_of(name):
    return getattr(logic, name.rstrip("_") + "_logits")


def run(f, name, values, tnorm):
    """Call one function of either interface on the values along the last axis."""
    if name == "not_":
        return f(values[..., 0])
    if name in MANY:
        return f(values, tnorm=tnorm)
    return f(values[..., 0], values[..., 1], tnorm)


def test_every_public_name_is_in_a_list():
    public = {n for n in vars(logic) if not n.startswith("_")} - {"jaxtyping"}
    both = {*NAMES} | {name.rstrip("_") + "_logits" for name in NAMES}
    assert public == both | {"Contract", "TNorm"}


@tnorms
@pytest.mark.parametrize("name", NAMES)
def test_corners_are_exact(name, tnorm):
    for size in (2,) if name not in MANY else (1, 2, 3, 4):
        corners = np.array(list(itertools.product([0.0, 1.0], repeat=size)), np.float32)
        found = run(getattr(logic, name), name, jnp.asarray(corners), tnorm)
        if name == "not_":
            wanted = [not row[0] for row in corners]
        elif name in MANY:
            wanted = [MANY[name](row) for row in corners]
        else:
            wanted = [TABLES[name](*row) for row in corners]
        np.testing.assert_array_equal(found, np.array(wanted, float))


@tnorms
def test_nothing_to_join(tnorm):
    none = jnp.zeros((2, 0))
    np.testing.assert_array_equal(logic.and_all(none, tnorm=tnorm), [1, 1])
    np.testing.assert_array_equal(logic.or_all(none, tnorm=tnorm), [0, 0])
    np.testing.assert_array_equal(logic.xor_all(none, tnorm=tnorm), [0, 0])


# Away from the kinks of min, max and abs.
INSIDE = jnp.array([[0.3, 0.45], [0.2, 0.9], [0.85, 0.6], [0.05, 0.15]])


@tnorms
def test_derivatives_agree_with_differences(tnorm):
    report = dual.check(
        lambda p: {name: run(getattr(logic, name), name, p, tnorm) for name in NAMES},
        INSIDE,
    )
    assert report.passed, report
    assert not report.missing


@with_logits
def test_logit_derivatives_agree_with_differences(tnorm):
    at = jnp.concatenate([jax.scipy.special.logit(INSIDE), 30 * (INSIDE - 0.5)])
    if tnorm is TNorm.PRODUCT:
        ties = jnp.array([[0.0, 0.0], [2.0, 2.0], [-2.0, 2.0], [0.0, 1.0]])
        at = jnp.concatenate([at, ties])
    report = dual.check(
        lambda z: {name: run(logits_of(name), name, z, tnorm) for name in NAMES}, at
    )
    assert report.passed, report
    assert not report.missing


@with_logits
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_the_probabilities(name, tnorm):
    with jax.enable_x64(True):
        z = jax.random.normal(jax.random.key(0), (200, 3), jnp.float64) * 3
        p = run(getattr(logic, name), name, jax.nn.sigmoid(z), tnorm)
        found = run(logits_of(name), name, z, tnorm)
        np.testing.assert_allclose(
            found, jax.scipy.special.logit(p), rtol=1e-9, atol=1e-9
        )


@with_logits
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_finite_wherever_they_come_from(name, tnorm):
    ends = [-1e37, -1e6, -200.0, -1.0, 0.0, 1.0, 200.0, 1e6, 1e37]
    z = jnp.array(list(itertools.product(ends, repeat=2)), jnp.float32)
    found, slope = jax.vmap(
        jax.value_and_grad(lambda row: run(logits_of(name), name, row, tnorm))
    )(z)
    assert jnp.isfinite(found).all()
    assert jnp.isfinite(slope).all()


def test_logits_keep_what_probabilities_lose():
    # float32 probabilities end at logits of 17.
    assert logic.and_logits(60.0, 61.0) == pytest.approx(59.6867383, rel=1e-6)
    assert logic.and_logits(1e6, 1.0) == pytest.approx(1.0, rel=1e-6)
    assert logic.or_logits(-60.0, -61.0) == pytest.approx(-59.6867383, rel=1e-6)


def test_what_the_original_gets_wrong():
    # There nand is a sigmoid of a sigmoid, 1/2 at (0, 0).
    assert logic.nand(0.0, 0.0) == 1
    assert logic.nand(1.0, 1.0) == 0
    assert logic.iff(0.5, 0.5) == 0.5


unit = st.floats(0, 1, width=32)
same = draws(15)


@tnorms
@same
@given(a=unit, b=unit)
def test_de_morgan(tnorm, a, b):
    a, b = jnp.float32(a), jnp.float32(b)
    close = {"rtol": 0, "atol": 3e-7}
    np.testing.assert_allclose(
        logic.nand(a, b, tnorm), logic.or_(1 - a, 1 - b, tnorm), **close
    )
    np.testing.assert_allclose(
        logic.nor(a, b, tnorm), logic.and_(1 - a, 1 - b, tnorm), **close
    )
    both = jnp.stack([a, b])
    np.testing.assert_allclose(
        logic.or_all(both, tnorm=tnorm), logic.or_(a, b, tnorm), **close
    )


@tnorms
@same
@given(a=unit, b=unit, c=unit)
def test_bounds_and_monotonicity(tnorm, a, b, c):
    low, high = sorted((a, b))
    low, high, c = jnp.float32(low), jnp.float32(high), jnp.float32(c)
    for name in TABLES:
        p = getattr(logic, name)(low, c, tnorm)
        assert 0 <= p <= 1
    assert logic.and_(low, c, tnorm) <= logic.and_(high, c, tnorm) + 2e-7
    assert logic.or_(low, c, tnorm) <= logic.or_(high, c, tnorm) + 2e-7
    assert logic.and_(low, c, tnorm) <= jnp.minimum(low, c) + 2e-7
    assert logic.or_(low, c, tnorm) >= jnp.maximum(low, c) - 2e-7
    assert logic.implies(c, low, tnorm) <= logic.implies(c, high, tnorm) + 2e-7


@with_logits
@same
@given(
    a=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False),
    b=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False),
)
def test_laws_of_logits(tnorm, a, b):
    a, b = jnp.float32(a), jnp.float32(b)
    low, high = jnp.minimum(a, b), jnp.maximum(a, b)
    room = 1e-6 * (1 + jnp.abs(a) + jnp.abs(b))
    assert logic.and_logits(a, b, tnorm) <= low + room
    assert logic.or_logits(a, b, tnorm) >= high - room
    assert jnp.abs(logic.xor_logits(a, b, tnorm)) <= (
        jnp.minimum(jnp.abs(a), jnp.abs(b)) + room
    )


@pytest.mark.parametrize("bad", [-0.1, 1.5])
@pytest.mark.parametrize("name", NAMES)
def test_probabilities_outside_their_range(name, bad):
    f = getattr(logic, name)
    values = jnp.array([bad, 0.5])
    argument = "p" if name in MANY else "a"
    with pytest.raises(ValueError, match=rf"{argument}(\[0\])? is {bad}; .*in .0, 1."):
        run(f, name, values, TNorm.PRODUCT)
    assert jnp.isnan(jax.jit(lambda v: run(f, name, v, TNorm.PRODUCT))(values))


def test_logits_that_do_not_exist():
    with pytest.raises(ValueError, match="tnorm is LUKASIEWICZ"):
        logic.and_logits(1.0, 2.0, TNorm.LUKASIEWICZ)
    with pytest.raises(ValueError, match="z has nothing along axis -1"):
        logic.and_all_logits(jnp.zeros((3, 0)))


CONTRACT = logic.Contract(
    requires=lambda x: jax.nn.sigmoid(10 * (x + 1)),
    ensures=lambda x, y: jax.nn.sigmoid(10 * (y - x)),
    invariant=lambda v: jax.nn.sigmoid(10 * (2 - v)),
    fallback=lambda x: x + 0.25,
)


def test_contracts_guard():
    x = jnp.array([0.0, 0.0, -3.0, 0.0])
    y = jnp.array([1.0, -1.0, 1.0, 3.0])
    np.testing.assert_array_equal(CONTRACT.holds(x, y), [True, False, False, False])
    np.testing.assert_allclose(CONTRACT.guarded(x, y), [1, 0.25, -2.75, 0.25])
    unguarded = logic.Contract(ensures=CONTRACT.ensures).guarded(x, y)
    np.testing.assert_array_equal(jnp.isnan(unguarded), [False, True, False, False])
    np.testing.assert_array_equal(logic.Contract().guarded(x, y), y)
    wide = CONTRACT.guarded(jnp.ones((4, 2)), jnp.ones((4, 2)))
    assert wide.shape == (4, 2)


def test_contracts_teach():
    x, y = jnp.array([0.0]), jnp.array([-1.0])
    broken = CONTRACT.penalty(x, y)
    assert broken == pytest.approx(1, abs=1e-3)
    assert CONTRACT.penalty(x, jnp.array([1.0])) < 1e-3
    # Nothing is owed for an input that the caller must not give.
    assert CONTRACT.penalty(jnp.array([-3.0]), jnp.array([-9.0])) < 1e-3
    assert logic.Contract().penalty(x, y) == 0
    report = dual.check(lambda v: CONTRACT.penalty(v["x"], v["y"]), {"x": x, "y": y})
    assert report.passed, report
    assert jax.grad(lambda y: CONTRACT.penalty(x, y))(jnp.array([-0.1]))[0] < 0
