"""Every public name through jit, vmap, grad and scan, both dtypes, any shape."""

import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import simplex_jax.dual.numpy as dnp
from simplex_jax import dual


def cubes(x):
    return jnp.sum(x**3)


# A function of one positive array of any shape for each public name.
CONTRACT = {
    "Dual": lambda x: (dual.Dual(x, x) ** 2).tangent,
    "MultiDual": lambda x: (dual.MultiDual(x, x[..., None]) ** 2).tangents,
    "Solution": lambda x: dual.Solution(*dual.newton(lambda y: y**2 - x, 1 + x)).x,
    "constant": lambda x: (dual.constant(x) * x).primal,
    "variable": lambda x: (dual.variable(x) ** 2).tangent,
    "variable_at": lambda x: (dual.variable_at(x, (0,) * x.ndim) ** 2).tangent,
    "multi_variable": lambda x: (dual.multi_variable(x) ** 2).tangents,
    "from_values": lambda x: (dual.from_values(x, x) ** 2).tangent,
    "detach": lambda x: dual.detach(dual.variable(x) * x),
    "lift": lambda x: dual.lift(jnp.sin)(dual.variable(x)).tangent,
    "numpy": lambda x: dnp.log(dual.variable(x)).tangent,
    "derivative": lambda x: dual.derivative(lambda y: jnp.sin(y * x))(x.sum()),
    "value_and_derivative": lambda x: dual.value_and_derivative(jnp.sin)(x.sum())[1],
    "directional_derivative": lambda x: dual.directional_derivative(cubes)(x, x),
    "gradient": lambda x: dual.gradient(cubes)(x),
    "value_and_gradient": lambda x: dual.value_and_gradient(cubes)(x)[1],
    "jacobian": lambda x: dual.jacobian(jnp.sin)(x),
    "value_and_jacobian": lambda x: dual.value_and_jacobian(jnp.sin)(x)[1],
    "hessian": lambda x: dual.hessian(cubes)(x),
    "hvp": lambda x: dual.hvp(cubes)(x, x),
    "nth_derivative": lambda x: dual.nth_derivative(lambda y: jnp.exp(y * x), 2)(
        x.sum()
    ),
    "taylor": lambda x: dual.taylor(lambda y: jnp.exp(y * x), x.sum(), 2),
    "newton": lambda x: dual.newton(lambda y: y**2 - x, 1 + x).x,
    "minimize": lambda x: dual.minimize(lambda y: jnp.sum((y - x) ** 2), 1 + x).x,
    "safe_sqrt": dual.safe_sqrt,
    "safe_norm": dual.safe_norm,
    "safe_power": lambda x: dual.safe_power(x, x),
    "safe_xlogy": lambda x: dual.safe_xlogy(x, x),
    "safe_arctan2": lambda x: dual.safe_arctan2(x, x * x),
    "safe_logsumexp": dual.safe_logsumexp,
}
# What runs on the host, where it has nothing to trace.
HOST = ("Report", "Status", "check", "taylor_path")

names = pytest.mark.parametrize("name", CONTRACT)
shapes = hnp.array_shapes(min_dims=0, max_dims=2, max_side=3)


def test_every_public_name_is_in_a_list():
    # The import hook that checks types in the tests leaves its own name behind.
    public = {n for n in vars(dual) if not n.startswith("_")} - {"jaxtyping"}
    assert public == CONTRACT.keys() | set(HOST)


def positive(shape, dtype):
    return jnp.linspace(0.5, 1.5, int(np.prod(shape)), dtype=dtype).reshape(shape)


def check_transformations(name, shape, dtype):
    f = CONTRACT[name]

    def total(x):
        return jnp.sum(jnp.sin(f(x)))

    def every_way(xs):
        one_by_one = jnp.stack([f(x) for x in xs])
        scanned = jax.lax.scan(lambda c, x: (c, f(x)), None, xs)[1]
        forward, reverse = jax.jacfwd(total)(xs[0]), jax.grad(total)(xs[0])
        return one_by_one, jax.vmap(f)(xs), scanned, forward, reverse

    x = positive(shape, dtype)
    plain, mapped, scanned, forward, reverse = jax.jit(every_way)(
        jnp.stack([x, x * 1.25])
    )
    tolerance = {jnp.float32: 1e-4, jnp.float64: 1e-10}[dtype]
    for found, wanted in ((mapped, plain), (scanned, plain), (forward, reverse)):
        assert found.dtype == wanted.dtype == dtype
        assert jnp.isfinite(found).all()
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@names
def test_transformations_agree(name):
    with jax.enable_x64(True):
        check_transformations(name, (2,), jnp.float64)


@pytest.mark.slow
@names
@draws(5)
@given(shape=shapes, dtype=st.sampled_from([jnp.float32, jnp.float64]))
def test_transformations_agree_for_any_shape_and_dtype(name, shape, dtype):
    with jax.enable_x64(True):
        check_transformations(name, shape, dtype)


@names
@draws(2)
@given(shape=shapes)
def test_any_shape_traces_and_keeps_its_dtype(name, shape):
    f = CONTRACT[name]
    with jax.enable_x64(True):
        for dtype in (jnp.float32, jnp.float64):
            x = jax.ShapeDtypeStruct(shape, dtype)
            out = jax.eval_shape(f, x)
            assert out.dtype == dtype
            many = jax.ShapeDtypeStruct((4, *shape), dtype)
            assert jax.eval_shape(jax.vmap(f), many).shape == (4, *out.shape)
            slope = jax.eval_shape(jax.grad(lambda x: jnp.sum(f(x))), x)
            assert (slope.shape, slope.dtype) == (shape, dtype)


MODULES = "_check _construct _dual _lift _safe _solve _taylor _transforms"


@pytest.mark.parametrize("module", MODULES.split())
def test_examples_in_docstrings(module):
    found = importlib.import_module(f"simplex_jax.dual.{module}")
    result = doctest.testmod(found, extraglobs={"dual": dual, "jnp": jnp})
    assert result.failed == 0


@pytest.mark.parametrize("name", [*CONTRACT, *HOST])
def test_every_public_name_is_documented(name):
    found = getattr(dual, name)
    assert found.__doc__
    if callable(found) and name not in ("Report", "Solution", "Status"):
        assert "Args:" in found.__doc__
        assert name in ("Dual", "MultiDual") or "Returns:" in found.__doc__
