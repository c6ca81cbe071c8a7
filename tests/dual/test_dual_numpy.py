"""simplex_jax.dual.numpy: what a name means, and what comes back plain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simplex_jax.dual.numpy as dnp
from simplex_jax import dual

X, V = jnp.array([0.5, 1.5, 2.5]), jnp.array([1.0, -1.0, 2.0])


def test_names_come_from_three_modules_in_order():
    assert dnp.sin.__wrapped__ is jnp.sin
    assert dnp.softmax.__wrapped__ is jax.nn.softmax
    assert dnp.erf.__wrapped__ is jax.scipy.special.erf
    assert dnp.tanh.__wrapped__ is jnp.tanh
    assert dnp.logsumexp.__wrapped__ is jax.nn.logsumexp
    assert dnp.sin is dnp.sin
    assert dnp.pi is jnp.pi
    assert dnp.inf == np.inf
    assert dnp.float32 is jnp.float32
    assert dnp.newaxis is None
    with pytest.raises(AttributeError, match="no attribute 'sine'"):
        _ = dnp.sine
    with pytest.raises(AttributeError):
        _ = dnp.linalg.__wrapped__


def test_dir_lists_the_three_modules():
    names = dir(dnp)
    for module in (jnp, jax.nn, jax.scipy.special):
        assert {n for n in dir(module) if not n.startswith("_")} <= set(names)
    assert "norm" in dir(dnp.linalg)


FUNCTIONS = {
    "stack": lambda x: dnp.stack([x, 2.0 * x, X]),
    "concatenate": lambda x: dnp.concatenate([X, x]),
    "array": lambda x: dnp.array([x[0], 2.0, x[1]]),
    "where": lambda x: dnp.where(x > 1, x, 0.0),
    "einsum": lambda x: dnp.einsum("i,j->ij", x, X),
    "outer": lambda x: dnp.outer(X, x),
    "sum with axis": lambda x: dnp.sum(dnp.outer(x, x), axis=0),
    "cumsum": lambda x: dnp.cumsum(x),
    "sort": lambda x: dnp.sort(-x),
    "linalg.norm": lambda x: dnp.linalg.norm(x),
    "linalg.solve": lambda x: dnp.linalg.solve(dnp.diag(x) + 1.0, X),
    "fft": lambda x: dnp.abs(dnp.fft.fft(x)),
    "interp": lambda x: dnp.interp(x, jnp.arange(4.0), jnp.arange(4.0) ** 2),
    "polyval": lambda x: dnp.polyval(x, 2.0),
    "softmax": lambda x: dnp.softmax(x, axis=-1),
    "standardize": lambda x: dnp.standardize(x),
    "glu": lambda x: dnp.glu(dnp.concatenate([x, x])),
    "take": lambda x: dnp.take(x, jnp.array([2, 0])),
    "clip": lambda x: dnp.clip(x, 1.0, 2.0),
    "split": lambda x: dnp.split(x, 3)[1],
    "keyword": lambda x: dnp.sum(a=x, axis=0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_arrays_push_one_tangent_or_many(name):
    f = FUNCTIONS[name]
    value, tangent = jax.jit(lambda x, v: jax.jvp(f, (x,), (v,)))(X, V)
    one, many = jax.jit(lambda x, v: (f(dual.Dual(x, v)), f(dual.multi_variable(x))))(
        X, V
    )
    np.testing.assert_allclose(one.primal, value, rtol=1e-6)
    np.testing.assert_allclose(one.tangent, tangent, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(many.primal, value, rtol=1e-6)
    np.testing.assert_allclose(many.tangents @ V, tangent, rtol=1e-4, atol=1e-5)


def test_what_has_no_derivative_comes_back_plain():
    x = dual.Dual(X, V)
    assert int(dnp.argmax(x)) == 2
    assert dnp.isfinite(x).all()
    assert dnp.argsort(-x).tolist() == [2, 1, 0]
    assert dnp.shape(x) == (3,)
    assert dnp.result_type(x) == jnp.float32
    assert dnp.result_type(dual.multi_variable(X)) == jnp.float32
    assert dnp.greater(x, 1).tolist() == [False, True, True]
    assert dnp.floor(x).tangent.tolist() == [0, 0, 0]
    assert dnp.sign(x).tangent.tolist() == [0, 0, 0]
    assert dnp.zeros_like(x).tangent.tolist() == [0, 0, 0]


def test_without_a_number_it_is_the_plain_function():
    assert isinstance(dnp.sin(X), jax.Array)
    assert float(dnp.sin(0.0)) == 0
    assert dnp.ones((2, 3)).shape == (2, 3)


def test_names_that_do_several_things_at_once():
    fraction, whole = dnp.modf(dual.Dual(X, V))
    assert fraction.tangent.tolist() == V.tolist()
    assert whole.tangent.tolist() == [0, 0, 0]
