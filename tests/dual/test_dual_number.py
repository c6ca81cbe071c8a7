"""Dual and MultiDual as arrays: arithmetic, shapes, pytrees, ways in and out."""

import operator
from typing import Any

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

X = jnp.array([0.5, 1.5, 2.5])
V = jnp.array([1.0, -1.0, 2.0])
OPERATORS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
    operator.mod,
    operator.floordiv,
]
OTHERS = [
    2.0,
    2,
    np.float32(2.0),
    np.array([2.0, 3.0, 1.0], np.float32),
    jnp.array([2.0, 3.0, 1.0]),
    jnp.float32(2.0),
]


@pytest.mark.parametrize("op", OPERATORS)
def test_operators_take_anything_on_either_side(op):
    sides = [
        side
        for other in OTHERS
        for side in (lambda a, o=other: op(a, o), lambda a, o=other: op(o, a))
    ]

    @jax.jit
    def both(x, v):
        return [(f(dual.Dual(x, v)), jax.jvp(f, (x,), (v,))) for f in sides]

    for found, (primal, tangent) in both(X, V):
        assert isinstance(found, dual.Dual)
        np.testing.assert_array_equal(found.primal, primal)
        np.testing.assert_array_equal(found.tangent, tangent)


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: type(other).__name__)
def test_operators_of_arrays_give_way(other):
    x = dual.Dual(X, V)
    for found in (other * x, x * other):
        assert found.tangent.tolist() == (V * other).tolist()


def test_matmul_on_either_side_of_every_kind_of_array():
    matrix = jnp.arange(9.0).reshape(3, 3)
    x = dual.Dual(X, V)
    kinds: list[Any] = [matrix, np.asarray(matrix)]
    for m in kinds:
        np.testing.assert_array_equal((m @ x).tangent, matrix @ V)
        np.testing.assert_array_equal((x @ m).tangent, V @ matrix)
    np.testing.assert_allclose((x @ x).tangent, 2 * X @ V)


def test_the_golden_matrix_product():
    a = dual.variable(jnp.array([[1.0, 2, 3], [4, 5, 6]]))
    b = dual.variable(jnp.array([[1.0, 2], [3, 4], [5, 6]]))
    product = a @ b
    assert product.primal.tolist() == [[22, 28], [49, 64]]
    assert product.tangent.tolist() == [[15, 18], [24, 27]]


def test_unary_operators_and_divmod():
    x = dual.Dual(X - 1, V)
    assert (-x).tangent.tolist() == (-V).tolist()
    assert (+x).tangent.tolist() == V.tolist()
    assert abs(x).tangent.tolist() == (jnp.sign(X - 1) * V).tolist()
    assert round(x, 1).tangent.tolist() == [0, 0, 0]
    assert round(x).dtype == jnp.int32
    quotient, rest = divmod(x, 0.75)
    assert quotient.tangent.tolist() == [0, 0, 0]
    assert rest.tangent.tolist() == V.tolist()


def f(a, b):
    return a * b - b


@pytest.mark.parametrize("kind", ["Dual", "MultiDual"])
@draws(4)
@given(
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3),
    mixed=st.booleans(),
)
def test_broadcasting_is_that_of_jax(kind, shapes, mixed):
    with jax.numpy_rank_promotion("allow"):
        a, b = (jnp.linspace(0.5, 2.0, int(np.prod(s))).reshape(s) for s in shapes[0])
        seed = dual.variable if kind == "Dual" else dual.multi_variable

        @jax.jit
        def both(a, b):
            # Two MultiDuals of different size have different numbers of tangents.
            if kind == "Dual" and not mixed:
                wanted = jax.jvp(f, (a, b), (jnp.ones_like(a), jnp.ones_like(b)))
                return f(seed(a), seed(b)), wanted
            slopes = jax.jacfwd(f)(a, b)
            slopes = slopes.reshape(*f(a, b).shape, a.size)
            slopes = slopes.sum(-1) if kind == "Dual" else slopes
            return f(seed(a), b), (f(a, b), slopes)

        found, wanted = both(a, b)
        np.testing.assert_allclose(found.val, wanted[0], rtol=1e-6)
        np.testing.assert_allclose(found.der, wanted[1], rtol=1e-6)


def test_indexing_iteration_and_shape():
    x = dual.Dual(X.reshape(3, 1), V.reshape(3, 1))
    assert (x.shape, x.ndim, x.size, len(x)) == ((3, 1), 2, 3, 3)
    assert x.dtype == jnp.float32
    assert x[1, 0].tangent == -1
    assert x[..., None].shape == (3, 1, 1)
    assert x[::-1].tangent.tolist() == [[2], [-1], [1]]
    assert x[jnp.array([0, 2])].tangent.tolist() == [[1], [2]]
    assert x[x > 1].tangent.tolist() == [-1, 2]
    assert [float(row.tangent[0]) for row in x] == [1, -1, 2]
    assert x.T.shape == (1, 3)


def test_array_methods_are_lifted():
    x = dual.Dual(X, V)
    assert float(x.sum().tangent) == 2
    assert float(x.max().tangent) == 2
    assert float(x.min().tangent) == 1
    assert x.mean().tangent == pytest.approx(2 / 3)
    assert x.reshape(3, 1).ravel().squeeze().tangent.tolist() == V.tolist()
    assert x.astype(jnp.float16).tangent.dtype == jnp.float16
    np.testing.assert_allclose(x.dot(X).tangent, V @ X)
    for name in ("prod", "var", "std"):
        found, wanted = jax.jit(
            lambda x, name=name: (
                getattr(x, name)().tangent,
                jax.jvp(lambda a: getattr(a, name)(), (x.val,), (x.der,))[1],
            )
        )(x)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_comparisons_look_at_the_primal_alone():
    x = dual.Dual(X, V)
    for op in (operator.lt, operator.le, operator.gt, operator.ge):
        np.testing.assert_array_equal(op(x, 1.5), op(X, 1.5))
        np.testing.assert_array_equal(op(1.5, x), op(1.5, X))
    assert (x == dual.constant(X)).all()
    assert not (x != X).any()
    assert dual.variable(2.0) > 1
    assert not dual.variable(0.0)
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)


def test_a_number_is_a_pytree_under_every_transformation():
    def f(x):
        return dnp.sin(x) * x + 1

    @jax.jit
    def every_way(x):
        scanned = jax.lax.scan(lambda c, x: (c + f(x), c), dual.constant(0.0), x)
        slopes = jax.grad(lambda x: f(x).tangent.sum())(x)
        return f(x), jax.vmap(f)(x), scanned, slopes, jax.vmap(jax.grad(f))(x.primal)

    x = dual.Dual(X, V)
    wanted, mapped, (last, ys), slopes, plain = every_way(x)
    np.testing.assert_allclose(mapped.primal, wanted.primal, rtol=1e-6)
    np.testing.assert_allclose(mapped.tangent, wanted.tangent, rtol=1e-6)
    np.testing.assert_allclose(last.tangent, wanted.tangent.sum(), rtol=1e-6)
    assert ys.tangent.shape == (3,)
    np.testing.assert_allclose(slopes.tangent, plain, rtol=1e-6)
    assert jax.tree.map(jnp.shape, x).primal == (3,)
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(x)]
    assert paths == [".primal", ".tangent"]


def test_the_tangents_of_rows_travel_with_the_rows():
    def step(total, row):
        return total + row * row, None

    @jax.jit
    def every_way(x):
        squares = jax.vmap(lambda row: row * row)(x)
        total, _ = jax.lax.scan(step, 0.0 * x[0], x)
        slope = jax.grad(lambda x: (x[0] * x[1] * x[2]).tangents.sum())(x)
        return squares, total, slope

    squares, total, slope = every_way(dual.multi_variable(X))
    assert squares.tangents.tolist() == jnp.diag(2 * X).tolist()
    assert total.tangents.tolist() == (2 * X).tolist()
    assert slope.tangents.shape == (3, 3)


def test_arithmetic_under_jit_is_that_of_a_jvp_by_hand():
    def f(x, y):
        return (x * y + jnp.float32(2)) / (x - y) ** 2

    def ours(x, y, v, w):
        out = f(dual.Dual(x, v), dual.Dual(y, w))
        return out.primal, out.tangent

    def by_hand(x, y, v, w):
        return jax.jvp(f, (x, y), (v, w))

    arguments = (X, X + 1, V, V)
    found = jax.jit(ours)(*arguments)
    np.testing.assert_allclose(found, jax.jit(by_hand)(*arguments), rtol=1e-6)
    programs = [jax.jit(g).lower(*arguments).as_text() for g in (ours, by_hand)]
    # The first line names the function.
    assert programs[0].splitlines()[1:] == programs[1].splitlines()[1:]


def test_constructors():
    x = dual.variable(3.0)
    assert (float(x.primal), float(x.tangent)) == (3, 1)
    assert (float(x.val), float(x.der)) == (3, 1)
    assert dual.constant(X).tangent.tolist() == [0, 0, 0]
    assert dual.variable(X).tangent.tolist() == [1, 1, 1]
    assert dual.variable_at(X, 1).tangent.tolist() == [0, 1, 0]
    assert dual.variable_at(X.reshape(3, 1), (-1, 0)).tangent.tolist() == [
        [0],
        [0],
        [1],
    ]
    assert dual.from_values([1, 2], [0, 1]).tangent.tolist() == [0, 1]
    assert dual.from_values(np.float16(1), 2).dtype == jnp.float16
    many = dual.multi_variable(X.reshape(1, 3))
    assert many.tangents.tolist() == jnp.eye(3)[None].tolist()
    assert (many.count, many.val.shape, many.der.shape) == (3, (1, 3), (1, 3, 3))


def test_a_gradient_in_one_pass_from_numbers_alone():
    x = dual.multi_variable(jnp.array([1.0, 2.0, 3.0]))
    f = 3 * x[0] ** 2 * x[2] + x[1] ** 3 - x[0] * x[2] ** 2
    assert f.tangents.tolist() == [9, 12, -3]


def test_detach_leaves_plain_values():
    tree = {"a": dual.variable(dual.variable(3.0)), "b": 2, "c": dual.constant(X)}
    plain = dual.detach(tree)
    assert float(plain["a"]) == 3
    assert plain["b"] == 2
    assert plain["c"] is X


def test_scalars_take_the_dtype_of_what_they_meet():
    half = jnp.ones(3, jnp.bfloat16)
    assert (dual.variable(2.0) * half).dtype == jnp.bfloat16
    with jax.enable_x64(True):
        x = dual.variable(jnp.float64(1.0))
        assert (x * X).dtype == jnp.float64
        assert (x * X).tangent.dtype == jnp.float64


BAD = {
    "primal has dtype int32": lambda: dual.Dual(3, 1),
    "x has dtype int32": lambda: dual.variable(jnp.arange(3)),
    "x has dtype bool": lambda: dual.constant(True),
    "x is 'three'": lambda: dual.variable("three"),
    "tangent is float32[2], but primal is float32[3]": lambda: dual.Dual(X, X[:2]),
    "tangent is float16[3], but primal is float32[3]": lambda: dual.Dual(
        X, X.astype(jnp.float16)
    ),
    "tangents is float32[2, 3], but primal is float32[3]": lambda: dual.MultiDual(
        X, jnp.ones((2, 3))
    ),
    "tangents is a scalar": lambda: dual.MultiDual(1.0, 1.0),
    "tangent is nested 0 deep and primal 1 deep": lambda: dual.Dual(
        dual.variable(3.0), 1.0
    ),
    "index is 3": lambda: dual.variable_at(X, 3),
    "index is (0, 0)": lambda: dual.variable_at(X, (0, 0)),
    "cannot be combined": lambda: dual.variable(1.0) + dual.multi_variable(X)[0],
    "of 2 tangents and a MultiDual of 3 tangents": lambda: (
        dual.multi_variable(X)[0] + dual.multi_variable(X[:2])[0]
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_numbers_are_refused_by_name(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert message in str(error.value)


@pytest.mark.parametrize("f", [np.asarray, np.sin, jnp.sin, float])
def test_a_tangent_is_never_dropped_in_silence(f):
    with pytest.raises(TypeError):
        f(dual.variable(1.0))
