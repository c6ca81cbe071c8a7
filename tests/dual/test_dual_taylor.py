"""Taylor coefficients against mpmath, the path they take, and what it costs."""

import warnings

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from simplex_jax import dual

ORDER = 8
# name: (function, mpmath's, point, path)
COMPOSED = {
    "exp sin": (
        lambda x: jnp.exp(jnp.sin(x)),
        lambda x: mp.exp(mp.sin(x)),
        0.7,
        "jet",
    ),
    "tanh x^2": (lambda x: jnp.tanh(x**2), lambda x: mp.tanh(x**2), 0.6, "jet"),
    "log(1 + x^2) / x": (
        lambda x: jnp.log(1 + x**2) / x,
        lambda x: mp.log(1 + x**2) / x,
        1.3,
        "jet",
    ),
    "erf sqrt": (
        lambda x: jax.scipy.special.erf(jnp.sqrt(x)),
        lambda x: mp.erf(mp.sqrt(x)),
        1.2,
        "jet",
    ),
    "sigmoid cos": (
        lambda x: jax.nn.sigmoid(3 * jnp.cos(x)),
        lambda x: 1 / (1 + mp.exp(-3 * mp.cos(x))),
        0.4,
        "jet",
    ),
    "rational": (
        lambda x: (x**3 - 1) / (x**2 + 2),
        lambda x: (x**3 - 1) / (x**2 + 2),
        -0.8,
        "jet",
    ),
    "arctan exp": (
        lambda x: jnp.arctan(jnp.exp(x)),
        lambda x: mp.atan(mp.exp(x)),
        0.3,
        "nested",
    ),
    "x^x": (lambda x: x**x, lambda x: x**x, 1.5, "nested"),
    "softplus": (
        lambda x: jax.nn.softplus(2 * x) ** 2,
        lambda x: mp.log1p(mp.exp(2 * x)) ** 2,
        0.5,
        "nested",
    ),
    "gammaln": (
        lambda x: jax.scipy.special.gammaln(1 + x**2),
        lambda x: mp.loggamma(1 + x**2),
        1.1,
        "nested",
    ),
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


# Eight nested derivatives of these take the compiler seconds.
HEAVY = {"x^x", "gammaln", "softplus"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ())
        for name in COMPOSED
    ],
)
def test_order_8_of_a_composed_function(name):
    f, reference, x, path = COMPOSED[name]
    assert dual.taylor_path(f, x, ORDER) == path
    found = jax.jit(lambda x: dual.taylor(f, x, ORDER))(x)
    with mp.workdps(60):
        wanted = [float(c) for c in mp.taylor(reference, mp.mpf(x), ORDER)]
    assert found.shape == (ORDER + 1,)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: x**2.0, 0.0),
        (lambda x: x**3.0, -2.0),
        (jax.nn.relu, 0.0),
        (lambda x: jnp.abs(x) * x, -1.0),
        (lambda x: jnp.maximum(x, 1.0) ** 2, 1.0),
        (lambda x: jnp.clip(x, 0.0, 1.0), 1.0),
        (lambda x: jnp.sinc(x), 0.0),
        (lambda x: jnp.prod(jnp.array([x, 2 * x, 3.0])), 0.0),
        (lambda x: jnp.linalg.det(jnp.array([[x, 2.0], [1.0, x * x]])), 0.5),
        (lambda x: jax.lax.fori_loop(0, 3, lambda i, y: y * x, 1.0), 2.0),
        (lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x), 1.0),
        (lambda x: jnp.where(x > 0, x, x**2), -1.0),
    ],
)
def test_both_paths_agree_with_nested_derivatives(f, x):
    @jax.jit
    def both(x):
        wanted, g = [f(x)], f
        for k in range(1, 4):
            g = dual.derivative(g)
            wanted.append(g(x) / [1, 1, 2, 6][k])
        return dual.taylor(f, x, 3), wanted

    found, wanted = both(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)


def test_a_derivative_that_f_defines_is_respected():
    @jax.custom_jvp
    def straight_through(x):
        return jnp.round(x)

    straight_through.defjvps(lambda t, y, x: t)
    assert dual.taylor_path(straight_through, 0.3, 2) == "nested"
    assert dual.taylor(straight_through, 0.3, 2).tolist() == [0, 1, 0]


@pytest.mark.parametrize("f", [jnp.sin, jnp.tan])
def test_the_nth_derivative_is_exact_beyond_the_second(f):
    with mp.workdps(60):
        wanted = [
            float(mp.diff({jnp.sin: mp.sin, jnp.tan: mp.tan}[f], 0.4, n))
            for n in (1, 3, 6)
        ]
    found = jax.jit(lambda x: [dual.nth_derivative(f, n)(x) for n in (1, 3, 6)])(0.4)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_shapes_pytrees_and_directions():
    def f(x):
        return {"a": x * jnp.ones((2, 1)), "b": [x**2]}

    x, v = jnp.array([1.0, 2.0]), jnp.array([0.5, -1.0])

    def g(x):
        return (x[0] * x[1]) ** 2

    @jax.jit
    def expansions(x, v):
        along = dual.taylor(lambda t: g(x + t * v), 0.0, 2)
        return dual.taylor(f, 3.0, 2), along[2], v @ jax.hessian(g)(x) @ v / 2

    out, second, wanted = expansions(x, v)
    assert out["a"].shape == (3, 2, 1)
    assert out["b"][0].tolist() == [9, 6, 1]
    np.testing.assert_allclose(second, wanted, rtol=1e-13)


def test_only_high_orders_on_the_nested_path_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.eval_shape(lambda x: dual.taylor(jnp.exp, x, 12), 0.0)
        jax.eval_shape(lambda x: dual.taylor(jax.nn.relu, x, 8), 0.0)
    with pytest.warns(UserWarning, match="order 9 by nested jvp"):
        jax.eval_shape(lambda x: dual.taylor(jax.nn.relu, x, 9), 0.0)
    with pytest.warns(UserWarning, match="order 9 by nested jvp"):
        jax.eval_shape(dual.nth_derivative(jax.nn.relu, 9), 0.0)


def test_the_cost_of_jet_grows_slowly_and_that_of_nesting_doubles():
    def equations(f, order):
        count = str(jax.make_jaxpr(lambda x: dual.taylor(f, x, order))(0.3)).count(
            " = "
        )
        return count

    def by_jet(x):
        return jnp.exp(jnp.sin(x)) * x

    def nested(x):
        return jnp.arctan(jnp.arctan(x) * x)

    assert dual.taylor_path(by_jet, 0.3, 4) == "jet"
    assert dual.taylor_path(nested, 0.3, 4) == "nested"
    assert equations(by_jet, 8) < 5 * equations(by_jet, 4)
    assert equations(nested, 6) > 2 * equations(nested, 4)
