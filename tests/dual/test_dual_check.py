"""dual.check: what agrees passes, what does not is named, nothing crashes."""

import jax
import jax.numpy as jnp
import pytest

from simplex_jax import dual


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (jnp.sin, 1.0),
        (lambda x: jnp.exp(-(x**2)) * jnp.sin(30 * x), 0.3),
        (lambda x: jnp.log(x), 1e-2),
        (lambda x: 1e6 * x**3, 1e4),
        (
            lambda x: {"y": x["a"] @ x["b"]},
            {"a": jnp.ones((2, 3)), "b": jnp.arange(3.0)},
        ),
        (lambda x: jax.scipy.special.gammaln(x), jnp.array([0.5, 3.0, 40.0])),
        (lambda x: jnp.linalg.inv(x), jnp.array([[2.0, 1.0], [0.5, 3.0]])),
        (lambda x: 5.0 + 0 * x, 2.0),
    ],
)
def test_what_is_smooth_passes(f, x):
    report = dual.check(f, x)
    assert report.passed, report
    assert report.missing == {}
    assert report.jvp_vjp is not None
    assert str(report).startswith("passed")


def test_a_wrong_derivative_is_found_where_it_is():
    @jax.custom_jvp
    def cube(x):
        return x**3

    cube.defjvps(lambda t, y, x: 3 * x**2 * t * jnp.array([1.0, 1.01, 1.0]))
    report = dual.check(lambda x: [x["u"], cube(x["w"])], {"u": 1.0, "w": jnp.ones(3)})
    assert not report.passed
    assert report.worst == "f(x)[1][1] by x['w'][1]"
    assert report.jvp_vjp == pytest.approx(0, abs=1e-12)
    assert report.jvp_differences == pytest.approx(0.01, rel=1e-4)
    assert "derivatives part at f(x)[1][1] by x['w'][1]" in str(report)


def test_modes_that_disagree_are_told_apart():
    @jax.custom_vjp
    def wrong(x):
        return x**2

    wrong.defvjp(lambda x: (x**2, x), lambda x, g: (3 * x * g,))
    report = dual.check(wrong, 2.0)
    assert not report.passed
    assert report.jvp_vjp is None
    assert report.vjp_differences == pytest.approx(0.5, rel=1e-6)
    assert "custom_vjp" in report.missing["jvp"]
    # NaN in both modes is no agreement.
    report = dual.check(lambda x: jax.scipy.special.xlogy(x, x), 0.0)
    assert not report.passed
    assert report.jvp_vjp == float("inf")


def test_a_missing_mode_is_reported_and_the_other_judged():
    def power(x):
        return jax.lax.while_loop(
            lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * x), (0, jnp.ones_like(x))
        )[1]

    report = dual.check(power, 2.0)
    assert report.passed
    assert list(report.missing) == ["vjp"]
    assert "Reverse-mode" in str(report)
    assert report.vjp_differences is None


@pytest.mark.parametrize("f", [jax.nn.relu, jnp.abs])
def test_kinks_part_from_the_differences(f):
    report = dual.check(f, jnp.array([1.0, 0.0]))
    assert not report.passed
    assert report.worst == "f(x)[1] by x[1]"
    assert report.jvp_vjp == 0


def test_a_tie_that_takes_the_mean_of_both_sides_passes():
    assert dual.check(lambda x: jnp.maximum(x, 0.0), 0.0).passed


def test_float32_input_is_checked_in_float64():
    report = dual.check(lambda x: jnp.sin(x) * 1e3, jnp.float32(0.7))
    assert report.passed
    assert report.jvp_differences is not None
    assert report.jvp_differences < 1e-9
    assert jnp.ones(1).dtype == jnp.float32


def test_infinite_slopes_part():
    assert not dual.check(jnp.sqrt, 0.0).passed
    assert dual.check(jnp.sqrt, 1e-3).passed


def test_the_tolerance_is_the_users():
    def rough(x):
        return jnp.sin(x).astype(jnp.float32).astype(x.dtype)

    assert not dual.check(rough, 0.7, tolerance=1e-12).passed


def test_bad_input():
    with pytest.raises(ValueError, match="x has dtype int"):
        dual.check(jnp.sin, 3)
    with pytest.raises(ValueError, match=r"f\(x\) has dtype int"):
        dual.check(jnp.argmax, jnp.ones(3))
    with pytest.raises(ValueError, match="nothing to compare"):
        dual.check(lambda x: jnp.ones(0) * x, 1.0)


def test_an_error_of_the_function_is_its_own():
    def broken(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        dual.check(broken, 1.0)
