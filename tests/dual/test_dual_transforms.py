"""derivative, gradient, jacobian, hessian, hvp: golden values, sizes, bad input."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simplex_jax.dual.numpy as dnp
from simplex_jax import dual


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_the_golden_derivatives():
    value, slope = dual.value_and_derivative(lambda x: x**2 + jnp.sin(x))(3.0)
    assert float(value) == pytest.approx(9.141120, abs=1e-6)
    assert float(slope) == pytest.approx(5.010008, abs=1e-6)
    assert float(slope) == pytest.approx(6 + math.cos(3), rel=1e-15)


GRADIENTS = {
    "x^2 y + sin y": (
        lambda x: x[0] ** 2 * x[1] + dnp.sin(x[1]),
        [2, math.pi / 4],
        [math.pi, 4 + math.sqrt(2) / 2],
    ),
    "3x^2 z + y^3 - x z^2": (
        lambda x: 3 * x[0] ** 2 * x[2] + x[1] ** 3 - x[0] * x[2] ** 2,
        [1, 2, 3],
        [9, 12, -3],
    ),
    "y^x": (lambda x: x[1] ** x[0], [2, 3], [9 * math.log(3), 6]),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_golden_gradients(name):
    f, x, wanted = GRADIENTS[name]
    x = jnp.array(x, float)
    for found in jax.jit(
        lambda x: (dual.gradient(f)(x), f(dual.multi_variable(x)).tangents)
    )(x):
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


def test_the_golden_jacobian():
    def f(x):
        return jnp.array([x[0] ** 2 + x[1], x[0] * x[1]])

    value, slopes = dual.value_and_jacobian(f)(jnp.array([3.0, 2.0]))
    assert value.tolist() == [11, 6]
    assert slopes.tolist() == [[6, 1], [2, 3]]


SECOND = {
    "x^3": (lambda x: x**3, 2.0, [8, 12, 12]),
    "x^2 e^x": (lambda x: x**2 * jnp.exp(x), 1.0, [math.e, 3 * math.e, 7 * math.e]),
    "1/x": (lambda x: 1 / x, 2.0, [0.5, -0.25, 0.25]),
}


@pytest.mark.parametrize("name", SECOND)
def test_the_golden_second_derivatives(name):
    f, x, wanted = SECOND[name]

    @jax.jit
    def every_way(x):
        twice = dual.derivative(dual.derivative(f))(x)
        others = dual.nth_derivative(f, 2)(x), dual.hessian(f)(x)
        return f(x), dual.derivative(f)(x), twice, *others

    wanted = [*wanted, wanted[2], wanted[2]]
    np.testing.assert_allclose(every_way(x), wanted, rtol=1e-14)


def test_the_golden_direction_step_and_newton():
    def bowl(x):
        return x[0] ** 2 + x[1] ** 2

    one = jnp.ones(2)
    along = dual.directional_derivative(bowl)(one, one / jnp.sqrt(2.0))
    assert float(along) == pytest.approx(2 * math.sqrt(2), rel=1e-15)
    value, slope = dual.value_and_gradient(lambda x: (x[0] - 3) ** 2 + (x[1] - 1) ** 2)(
        jnp.zeros(2)
    )
    assert float(value) == 10
    np.testing.assert_allclose(-0.1 * slope, [0.6, 0.2], rtol=1e-15)
    assert float(jnp.linalg.norm(slope)) == pytest.approx(math.sqrt(40), rel=1e-15)
    assert float(dual.minimize(lambda x: (x - 3) ** 2, 0.0).x) == pytest.approx(3)


def test_the_parts_that_a_seed_of_ones_would_sum():
    def temperature(p, t=100.0, s=20.0):
        reheat = jax.nn.sigmoid((s - p["rho"]) / 10) * jnp.exp(
            -p["delta"] * (s - p["rho"])
        )
        wave = 1 + p["beta"] * jnp.sin(0.1 * t)
        return p["t0"] * jnp.exp(-p["alpha"] * t) * wave + p["gamma"] * reheat

    p = {"t0": 1.0, "alpha": 0.01, "gamma": 0.5, "delta": 0.1, "beta": 0.0, "rho": 50.0}
    parts = dual.gradient(temperature)(p)
    wanted = {"t0": 0.37, "alpha": -36.8, "gamma": 0.95, "delta": 14.3, "beta": -0.20}
    for name, value in wanted.items():
        assert float(parts[name]) == pytest.approx(value, rel=0.01)
    total = sum(float(parts[name]) for name in wanted)
    assert total == pytest.approx(-21.4, abs=0.05)


def test_the_gradient_of_rosenbrock_in_100_variables():
    x = jnp.linspace(-1.5, 2.0, 100)
    found = jax.jit(dual.gradient(rosenbrock))(x)
    wanted = jax.jit(jax.grad(rosenbrock))(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_the_hessian_of_rosenbrock_in_50_variables():
    x = jnp.linspace(-1.5, 2.0, 50)
    v = jnp.cos(x)

    @jax.jit
    def every_way(x, v):
        by_forward = dual.jacobian(dual.gradient(rosenbrock))(x)
        return dual.hessian(rosenbrock)(x), by_forward, dual.hvp(rosenbrock)(x, v)

    found, by_forward, product = every_way(x, v)
    wanted = jax.jit(jax.hessian(rosenbrock))(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    np.testing.assert_allclose(by_forward, wanted, rtol=1e-12)
    np.testing.assert_allclose(product, wanted @ v, rtol=1e-11)


def test_pytrees_go_in_and_come_out():
    x = {"a": 2.0, "b": (jnp.arange(3.0), jnp.ones((2, 1)))}

    def f(x):
        return x["a"] * jnp.sum(x["b"][0] ** 2) * jnp.sum(x["b"][1])

    @jax.jit
    def every_way(x):
        v = jax.tree.map(jnp.ones_like, x)
        ours = (
            *dual.value_and_gradient(f)(x),
            dual.hessian(f)(x),
            dual.hvp(f)(x, v),
            dual.directional_derivative(f)(x, v),
        )
        theirs = (
            *jax.value_and_grad(f)(x),
            jax.hessian(f)(x),
            jax.jvp(jax.grad(f), (x,), (v,))[1],
            jax.jvp(f, (x,), (v,))[1],
        )
        return ours, theirs

    jax.tree.map(np.testing.assert_allclose, *every_way(x))
    curve = dual.derivative(lambda t: {"x": jnp.cos(t), "y": [t * jnp.ones(2)]})(0.0)
    assert float(curve["x"]) == 0
    assert curve["y"][0].tolist() == [1, 1]


def test_forward_mode_goes_through_what_reverse_mode_cannot():
    def f(x):
        def body(carry):
            return carry[0] + 1, carry[1] * x

        return jax.lax.while_loop(lambda c: c[0] < 3, body, (0, 1.0))[1]

    assert float(dual.derivative(f)(2.0)) == 12
    assert float(dual.gradient(f)(2.0)) == 12
    assert float(dual.jacobian(dual.gradient(f))(2.0)) == 12
    with pytest.raises(ValueError, match="Reverse-mode"):
        dual.hessian(f)(2.0)


def nothing(x):
    del x


X = [1.0, 2.0, 3.0]
BAD = {
    "x is 3": ("x has dtype int", lambda: dual.derivative(jnp.sin)(3)),
    "integer array": ("x has dtype int", lambda: dual.gradient(jnp.sum)(jnp.arange(3))),
    "integer leaf": (
        "x['a'] has dtype int",
        lambda: dual.jacobian(lambda x: x["a"])({"a": 3}),
    ),
    "empty": ("x holds no arrays", lambda: dual.gradient(lambda x: 1.0)({})),
    "not scalar x": (
        "x has shape (3,)",
        lambda: dual.derivative(jnp.sin)(jnp.array(X)),
    ),
    "many scalars": ("x is [1.0, 2.0, 3.0]", lambda: dual.derivative(jnp.sin)(X)),
    "gradient of vector": (
        "f returned float64[3], but a scalar is needed",
        lambda: dual.gradient(jnp.sin)(jnp.array(X)),
    ),
    "hessian of vector": (
        "but a scalar is needed",
        lambda: dual.hessian(jnp.sin)(jnp.array(X)),
    ),
    "hvp of vector": (
        "but a scalar is needed",
        lambda: dual.hvp(jnp.sin)(jnp.array(X), jnp.array(X)),
    ),
    "tangent shape": (
        "v is float64[2], but x is float64[3]",
        lambda: dual.hvp(jnp.sum)(jnp.ones(3), jnp.ones(2)),
    ),
    "tangent dtype": (
        "v is float32[3], but x is float64[3]",
        lambda: dual.directional_derivative(jnp.sum)(
            jnp.ones(3), jnp.ones(3, jnp.float32)
        ),
    ),
    "tangent integers": (
        "v has dtype int",
        lambda: dual.directional_derivative(jnp.sum)(jnp.ones(3), jnp.arange(3)),
    ),
    "tangent structure": (
        "v has structure",
        lambda: dual.hvp(lambda x: x["a"])({"a": 1.0}, 1.0),
    ),
    "integer output": (
        "f(x) has dtype int",
        lambda: dual.jacobian(jnp.argmax)(jnp.ones(3)),
    ),
    "order 0": ("order is 0", lambda: dual.nth_derivative(jnp.sin, 0)),
    "order -1": ("order is -1", lambda: dual.taylor(jnp.sin, 1.0, -1)),
    "path order": ("order is 0", lambda: dual.taylor_path(jnp.sin, 1.0, 0)),
    "taylor x": ("x has shape (3,)", lambda: dual.taylor(jnp.sin, jnp.ones(3), 2)),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_by_name(name):
    message, call = BAD[name]
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: dual.derivative(nothing)(1.0),
        lambda: dual.gradient(nothing)(1.0),
        lambda: dual.jacobian(nothing)(1.0),
        lambda: dual.hessian(nothing)(1.0),
        lambda: dual.hvp(nothing)(1.0, 1.0),
        lambda: dual.directional_derivative(nothing)(1.0, 1.0),
        lambda: dual.taylor(nothing, 1.0, 2),
        lambda: dual.check(nothing, 1.0),
        lambda: dual.newton(nothing, 1.0),
        lambda: dual.minimize(nothing, 1.0),
    ],
)
def test_a_function_that_returns_nothing_is_refused(call):
    with pytest.raises(ValueError, match="f returned None, which holds no arrays"):
        call()
