"""Derivatives inside derivatives: no perturbation is taken for another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simplex_jax.dual.numpy as dnp
from simplex_jax import dual


def d(f, x):
    return dual.derivative(f)(x)


def by_jvp(f, x):
    return jax.jvp(f, (x,), (1.0,))[1]


# d/dx (x d/dy (x + y)) at 1 is 1; the confused answer is 2 (Siskind and Pearlmutter).
SPELLINGS = {
    "derivative in derivative": lambda: d(lambda x: x * d(lambda y: x + y, 1.0), 1.0),
    "gradient in derivative": lambda: d(
        lambda x: x * dual.gradient(lambda y: x + y)(1.0), 1.0
    ),
    "jvp in derivative": lambda: d(lambda x: x * by_jvp(lambda y: x + y, 1.0), 1.0),
    "derivative in jvp": lambda: by_jvp(lambda x: x * d(lambda y: x + y, 1.0), 1.0),
    "grad in derivative": lambda: d(lambda x: x * jax.grad(lambda y: x + y)(1.0), 1.0),
    "taylor in derivative": lambda: d(
        lambda x: x * dual.taylor(lambda y: x + y, 1.0, 2)[1], 1.0
    ),
    "derivative in taylor": lambda: dual.taylor(
        lambda x: x * d(lambda y: x + y, 1.0), 1.0, 2
    )[1],
    "derivative that closes over a Dual": lambda: (
        ((x := dual.variable(1.0)) * d(lambda y: x + y, 1.0)).tangent
    ),
    "gradient that closes over a Dual": lambda: (
        ((x := dual.variable(1.0)) * dual.gradient(lambda y: x + y)(1.0)).tangent
    ),
    "Dual within Dual": lambda: (
        (
            (x := dual.variable(1.0)) * (x + dual.variable(dual.constant(1.0))).tangent
        ).tangent
    ),
    "MultiDual within Dual": lambda: (
        (
            (x := dual.variable(1.0))
            * (x + dual.multi_variable(dual.constant(1.0))).tangents[0]
        ).tangent
    ),
    "lift of a derivative": lambda: (
        dual.lift(lambda x: x * d(lambda y: x + y, 1.0))(dual.variable(1.0)).tangent
    ),
    "jvp in lift": lambda: (
        dual.lift(lambda x: x * by_jvp(lambda y: x + y, 1.0))(
            dual.variable(1.0)
        ).tangent
    ),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_inner_and_outer_variables_stay_apart(name):
    assert float(SPELLINGS[name]()) == 1


def test_products_that_a_confused_derivative_gets_wrong():
    # d/dx (x d/dy (x y^2)) at (3, 2) is 2 x 2 y = 24; confusion adds x y^2 terms.
    assert float(d(lambda x: x * d(lambda y: x * y * y, 2.0), 3.0)) == 24
    inner = dual.variable(dual.constant(2.0))
    x = dual.variable(3.0)
    assert float((x * (x * inner * inner).tangent).tangent) == 24


def test_derivatives_nest_to_any_depth():
    f = jnp.sin
    for k in range(1, 6):
        f = dual.derivative(f)
        wanted = (jnp.cos, jnp.sin)[(k + 1) % 2](0.5) * (-1) ** (k // 2)
        np.testing.assert_allclose(f(0.5), wanted, rtol=1e-6)


def test_a_dual_of_a_dual_holds_the_second_derivative():
    y = dnp.exp(dual.variable(dual.variable(1.0)) ** 2)
    e = np.exp(1.0)
    np.testing.assert_allclose(y.primal.primal, e, rtol=1e-6)
    np.testing.assert_allclose(y.primal.tangent, 2 * e, rtol=1e-6)
    np.testing.assert_allclose(y.tangent.primal, 2 * e, rtol=1e-6)
    np.testing.assert_allclose(y.tangent.tangent, 6 * e, rtol=1e-6)


def test_a_multidual_of_a_multidual_holds_the_hessian():
    x = jnp.array([1.0, 2.0, 3.0])

    def f(x):
        return x[0] * x[1] ** 2 + dnp.sin(x[2]) * x[0]

    found, wanted = jax.jit(
        lambda x: (
            f(dual.multi_variable(dual.multi_variable(x))).tangents.tangents,
            jax.hessian(f)(x),
        )
    )(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_every_transform_may_close_over_a_dual():
    x = dual.variable(2.0)

    def cube(y):
        return y**3 * x

    assert float(dual.derivative(cube)(1.0).tangent) == 3
    assert float(dual.gradient(cube)(1.0).tangent) == 3
    assert float(dual.jacobian(cube)(1.0).tangent) == 3
    assert float(dual.hessian(cube)(1.0).tangent) == 6
    assert float(dual.hvp(cube)(1.0, 2.0).tangent) == 12
    assert float(dual.directional_derivative(cube)(1.0, 2.0).tangent) == 6
    assert dual.taylor(cube, 1.0, 3).tangent.tolist() == [1, 3, 3, 1]


def test_a_number_passed_and_closed_over_is_one_number():
    x = dual.variable(3.0)
    assert float(dual.lift(lambda y: x * y)(x).tangent) == 6
    many = dual.multi_variable(jnp.array([3.0, 5.0]))
    product = dual.lift(lambda y: many[0] * y)(many[1])
    assert product.tangents.tolist() == [5, 3]


def test_a_deeper_number_that_is_closed_over_keeps_its_levels():
    deep = dual.variable(dual.constant(5.0))
    found = dual.lift(lambda x: x * deep)(dual.variable(3.0))
    assert float(found.tangent.primal) == 3
    assert float(found.primal.tangent) == 5
    assert float(found.tangent.tangent) == 1


def test_a_dual_passed_to_a_transform_moves_its_result():
    x = dual.variable(3.0)
    assert float(dual.derivative(lambda y: y**3)(x).tangent) == 18
    assert (
        float(jax.jit(lambda x: dual.taylor(lambda y: y**3, x, 2).tangent[2])(x)) == 3
    )
    v = dual.variable(jnp.array([1.0, 2.0]))
    slope = jax.jit(dual.gradient(lambda y: (y[0] * y[1]) ** 2))(v)
    # The Hessian is [[2 b^2, 4 a b], [4 a b, 2 a^2]].
    assert slope.tangent.tolist() == [16, 10]


def test_lift_gives_plain_results_where_there_is_no_number():
    assert dual.lift(lambda x, name: (x, name))(2.0, name="a") == (2.0, "a")
    out = dual.lift(lambda x: {"n": x.shape, "i": jnp.argmax(x), "y": 2.0, "z": None})(
        dual.variable(jnp.array([1.0, 2.0]))
    )
    assert out["n"] == (2,)
    assert int(out["i"]) == 1
    assert float(out["y"].tangent) == 0
    assert out["z"] is None
