"""newton and minimize: they find, say when they do not, and differentiate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simplex_jax import dual


def status(solution):
    return dual.Status(int(solution.status))


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_a_root_is_exact_after_quadratic_convergence():
    with jax.enable_x64(True):
        found = jax.jit(lambda x: dual.newton(lambda x: x**2 - 2, x))(1.0)
    assert status(found) is dual.Status.CONVERGED
    assert float(found.x) == pytest.approx(np.sqrt(2), rel=1e-15)
    assert int(found.steps) <= 6
    assert abs(float(found.value)) < 1e-15


def test_a_system_keeps_its_shape():
    def f(x):
        return {
            "out": jnp.array([[x[0, 0] ** 2 + x[0, 1] ** 2 - 4], [x[0, 0] - x[0, 1]]])
        }

    found = dual.newton(lambda x: f(x)["out"], jnp.array([[1.0, 2.0]]))
    np.testing.assert_allclose(found.x, [[2**0.5, 2**0.5]], rtol=1e-6)
    assert found.value.shape == (2, 1)


def test_failures_are_a_status():
    found = dual.newton(lambda x: x**2 + 1, 0.5)
    assert status(found) is dual.Status.MAX_STEPS
    assert int(found.steps) == 50
    found = dual.newton(lambda x: x**2 + 1, 0.0)
    assert status(found) is dual.Status.NOT_FINITE
    assert float(found.x) == 0
    found = dual.minimize(lambda x: -(x**2), 1.0, max_steps=5)
    assert status(found) is dual.Status.MAX_STEPS
    assert status(dual.minimize(jnp.sqrt, -1.0)) is dual.Status.NOT_FINITE


def test_rosenbrock_is_minimized_from_its_classical_start():
    with jax.enable_x64(True):
        found = jax.jit(lambda x: dual.minimize(rosenbrock, x))(jnp.array([-1.2, 1, 1]))
    assert status(found) is dual.Status.CONVERGED
    np.testing.assert_allclose(found.x, 1, atol=1e-8)
    assert int(found.steps) < 100


def test_a_maximum_is_left():
    found = dual.minimize(lambda x: jnp.cos(x), 0.1)
    assert status(found) is dual.Status.CONVERGED
    assert float(found.value) == pytest.approx(-1)


def test_both_differentiate_by_the_implicit_function_theorem():
    def root(a):
        return dual.newton(lambda x: x**3 - a, 1.0).x

    def lowest(a):
        return dual.minimize(lambda x: (x**2 - a) ** 2, 1.0).x

    for f, wanted in ((root, 2 ** (-2 / 3) / 3), (lowest, 0.5 * 2**-0.5)):
        assert float(jax.grad(f)(2.0)) == pytest.approx(wanted, rel=1e-4)
        assert float(dual.derivative(f)(2.0)) == pytest.approx(wanted, rel=1e-4)
    second = dual.derivative(dual.derivative(root))(2.0)
    assert float(second) == pytest.approx(-2 / 9 * 2 ** (-5 / 3), rel=1e-4)
    assert float(dual.lift(root)(dual.variable(8.0)).tangent) == pytest.approx(1 / 12)


def test_a_systems_root_moves_by_the_inverse_of_its_slopes():
    # Not symmetric, so that the transpose would show.
    matrix = np.array([[3.0, 1.0], [-2.0, 4.0]], np.float32)

    def root(b):
        return dual.newton(lambda x: matrix @ x - b, jnp.zeros(2)).x

    b = jnp.array([1.0, 2.0])
    for jacobian in (jax.jacrev, jax.jacfwd):
        np.testing.assert_allclose(
            jacobian(root)(b), np.linalg.inv(matrix), rtol=1e-5, atol=1e-6
        )


def test_many_searches_at_once():
    a = jnp.array([1.0, 4.0, 9.0])
    found = jax.vmap(lambda a: dual.newton(lambda x: x**2 - a, 1.0))(a)
    np.testing.assert_allclose(found.x, [1, 2, 3], rtol=1e-6)
    assert len(set(found.steps.tolist())) > 1


def test_the_tolerance_is_the_users():
    rough = dual.newton(lambda x: x**2 - 2, 1.0, tolerance=0.1)
    assert int(rough.steps) < int(dual.newton(lambda x: x**2 - 2, 1.0).steps)


def test_bad_input():
    with pytest.raises(ValueError, match="x0 has dtype int"):
        dual.newton(lambda x: x, 1)
    with pytest.raises(ValueError, match="as many equations as unknowns"):
        dual.newton(jnp.sum, jnp.ones(3))
    with pytest.raises(ValueError, match="x0 has dtype int"):
        dual.minimize(lambda x: x, 1)
    with pytest.raises(ValueError, match="a scalar is needed"):
        dual.minimize(lambda x: x, jnp.ones(3))
