"""What happens at kinks, as the table in simplex_jax.dual.numpy says, and safely."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simplex_jax.dual.numpy as dnp
from simplex_jax import dual

INF, NAN = jnp.inf, jnp.nan

# function, point, partial derivatives, as the table states them.
KINKS = {
    "abs": (dnp.abs, (0.0,), (1,)),
    "relu": (dnp.relu, (0.0,), (0,)),
    "relu6 at 6": (dnp.relu6, (6.0,), (0,)),
    "sign": (dnp.sign, (0.0,), (0,)),
    "round": (dnp.round, (0.5,), (0,)),
    "floor": (dnp.floor, (1.0,), (0,)),
    "ceil": (dnp.ceil, (1.3,), (0,)),
    "trunc": (dnp.trunc, (1.0,), (0,)),
    "leaky_relu": (dnp.leaky_relu, (0.0,), (1,)),
    "elu": (dnp.elu, (0.0,), (1,)),
    "maximum": (dnp.maximum, (1.0, 1.0), (0.5, 0.5)),
    "minimum": (dnp.minimum, (1.0, 1.0), (0.5, 0.5)),
    "clip": (lambda x: dnp.clip(x, 0.0, 1.0), (0.0,), (0.5,)),
    "sqrt": (dnp.sqrt, (0.0,), (INF,)),
    "cbrt": (dnp.cbrt, (0.0,), (INF,)),
    "log": (dnp.log, (0.0,), (INF,)),
    "arctan2": (dnp.arctan2, (0.0, 0.0), (NAN, NAN)),
    "0**2": (dnp.power, (0.0, 2.0), (0, 0)),
    "0**1": (dnp.power, (0.0, 1.0), (1, 0)),
    "0**0.5": (dnp.power, (0.0, 0.5), (INF, 0)),
    "0**0": (dnp.power, (0.0, 0.0), (NAN, 0)),
    "(-2)**3": (dnp.power, (-2.0, 3.0), (12, NAN)),
    "fmod": (dnp.fmod, (5.0, 3.0), (1, -1)),
}
SHARED = {
    "max": (dnp.max, [1.0, 1, 0], [0.5, 0.5, 0]),
    "min": (dnp.min, [1.0, 0, 0], [0, 0.5, 0.5]),
    "norm": (dnp.linalg.norm, [0.0, 0], [NAN, NAN]),
    "std": (dnp.std, [1.0, 1], [NAN, NAN]),
    "logsumexp": (dnp.logsumexp, [-INF, -INF], [NAN, NAN]),
    "logsumexp beside a number": (dnp.logsumexp, [-INF, 1], [0, 1]),
}


@pytest.fixture(scope="module")
def found():
    def slopes(f, point):
        for i in range(len(point)):
            yield f(
                *[dual.variable(p) if i == j else p for j, p in enumerate(point)]
            ).tangent

    def every_slope(points):
        found = {name: list(slopes(KINKS[name][0], p)) for name, p in points.items()}
        for name, (f, point, _) in SHARED.items():
            found[name] = f(dual.multi_variable(jnp.array(point))).tangents
        return found

    return jax.jit(every_slope)({name: point for name, (_, point, _) in KINKS.items()})


@pytest.mark.parametrize("name", [*KINKS, *SHARED])
def test_kinks_follow_jax(name, found):
    wanted = {**KINKS, **SHARED}[name][-1]
    np.testing.assert_array_equal(found[name], wanted)


def test_hypot_at_the_origin_depends_on_the_version_of_jax():
    slope = float(dnp.hypot(dual.variable(0.0), 0.0).tangent)
    assert slope == 0.5 or np.isnan(slope)


# function, points, partial derivatives where the plain function has NaN or infinity.
SAFE = {
    "sqrt": (dual.safe_sqrt, (0.0,), (0,)),
    "0**0": (dual.safe_power, (0.0, 0.0), (0, 0)),
    "0**0.5": (dual.safe_power, (0.0, 0.5), (0, 0)),
    "0**1": (dual.safe_power, (0.0, 1.0), (1, 0)),
    "0**2": (dual.safe_power, (0.0, 2.0), (0, 0)),
    "(-2)**3": (dual.safe_power, (-2.0, 3.0), (12, 0)),
    "(-2)**0": (dual.safe_power, (-2.0, 0.0), (0, 0)),
    "(-2)**-1": (dual.safe_power, (-2.0, -1.0), (-0.25, 0)),
    "0 log 0": (dual.safe_xlogy, (0.0, 0.0), (0, 0)),
    "0 log 2": (dual.safe_xlogy, (0.0, 2.0), (np.log(2), 0)),
    "arctan2": (dual.safe_arctan2, (0.0, 0.0), (0, 0)),
}
PLAIN = {
    "safe_sqrt": (jnp.sqrt, ([0.0, 0.3, 4.0],)),
    "safe_power": (jnp.power, ([0.0, 0, -2, 3, 0.3], [0.0, 2, 3, -1.5, 0.3])),
    "safe_xlogy": (jax.scipy.special.xlogy, ([0.0, 0, 2], [0.0, 2, 3])),
    "safe_arctan2": (jnp.arctan2, ([0.0, 0, 1, -1], [0.0, -0.0, 0, -2])),
    "safe_norm": (jnp.linalg.norm, ([3.0, 4],)),
    "safe_logsumexp": (jax.nn.logsumexp, ([-INF, -INF],)),
}


@pytest.mark.parametrize("name", SAFE)
def test_a_safe_derivative_is_finite(name):
    f, point, wanted = SAFE[name]

    @jax.jit
    def derivatives(*point):
        places = range(len(point))
        forward = [
            f(*[dual.variable(p) if i == j else p for j, p in enumerate(point)])
            for i in places
        ]
        still = f(*[dual.constant(p) for p in point])
        reverse = [jax.grad(f, i)(*point) for i in places]
        return still, [x.tangent for x in forward], reverse

    still, forward, reverse = derivatives(*point)
    assert jnp.isfinite(still.primal)
    assert float(still.tangent) == 0
    np.testing.assert_allclose(forward, wanted, rtol=1e-6)
    np.testing.assert_allclose(reverse, wanted, rtol=1e-6)


@pytest.mark.parametrize("name", PLAIN)
def test_safe_values_are_the_plain_ones(name):
    f, arguments = PLAIN[name]
    arguments = [jnp.array(a) for a in arguments]
    np.testing.assert_array_equal(getattr(dual, name)(*arguments), f(*arguments))


def test_every_derivative_of_a_power_at_0_is_right():
    exponents = jnp.arange(1.0, 4.0)
    found = jax.jit(
        lambda x: dual.taylor(lambda x: dual.safe_power(x, exponents), x, 4)
    )(0.0)
    assert found.T.tolist() == [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]


def test_safe_functions_away_from_their_kinks_are_the_plain_ones():
    x, y = jnp.array([0.3, 2.0]), jnp.array([1.5, -0.5])
    pairs = [
        (lambda x: dual.safe_power(x, y), lambda x: x**y),
        (lambda y: dual.safe_power(x, y), lambda y: x**y),
        (dual.safe_sqrt, jnp.sqrt),
        (dual.safe_norm, jnp.linalg.norm),
        (dual.safe_logsumexp, jax.nn.logsumexp),
        (lambda x: dual.safe_arctan2(x, y), lambda x: jnp.arctan2(x, y)),
    ]

    def derivatives(x):
        for f, g in pairs:
            wanted = jax.jacrev(g)(x)
            yield (jax.jacfwd(f)(x), jax.jacrev(f)(x)), wanted
            yield (jax.jacfwd(jax.jacrev(f))(x),), jax.hessian(g)(x)

    for found, wanted in jax.jit(lambda x: list(derivatives(x)))(x):
        for one in found:
            np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-6)


def test_norms_and_sums_along_an_axis():
    x = dual.variable(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
    norms = jax.jit(dual.safe_norm, static_argnames="axis")(x, axis=1)
    assert norms.primal.tolist() == [5, 0]
    np.testing.assert_allclose(norms.tangent, [1.4, 0], rtol=1e-6)
    rows = dual.variable(jnp.array([[0.0, -INF], [-INF, -INF]]))
    sums = jax.jit(dual.safe_logsumexp, static_argnames="axis")(rows, axis=1)
    assert sums.primal.tolist() == [0, -INF]
    assert sums.tangent.tolist() == [1, 0]


def test_nan_stays_nan():
    assert jnp.isnan(dual.safe_sqrt(-1.0))
    assert jnp.isnan(dual.safe_power(-2.0, 0.5))
    assert jnp.isnan(dual.safe_sqrt(jnp.nan))
