"""Every elementary function against mpmath over its domain, in float64."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from dual_references import (
    Row,
    around_zero,
    evaluate,
    inside,
    largest_errors,
    positive,
)
from test_dual_special import SPECIAL

import simplex_jax.dual.numpy as dnp

VALUE, DERIVATIVE = 2e-13, 1e-12

REALS = around_zero(699.3)
SMALL = around_zero(20.0)
POSITIVE = positive(1e6)
UNIT = inside(-1.0, 1.0)
SHARE = inside(0.0, 1.0)


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def softplus(x):
    return mp.log1p(mp.exp(x))


def gelu_tanh(x):
    return x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)))


def elu(x, alpha=1):
    return x if x > 0 else alpha * mp.expm1(x)


SELU_ALPHA = mp.mpf("1.6732632423543772848170429916717")
SELU_SCALE = mp.mpf("1.0507009873554804934193349852946")


def entr(x):
    return -x * mp.log(x)


def clip(x, low, high):
    return min(max(x, low), high)


# name: (mpmath's function, points). A derivative is taken by every argument.
UNARY = {
    "abs": (abs, REALS),
    "absolute": (abs, REALS),
    "fabs": (abs, REALS),
    "negative": (lambda x: -x, REALS),
    "positive": (lambda x: x, REALS),
    "square": (lambda x: x * x, REALS),
    "reciprocal": (lambda x: 1 / x, around_zero(1e3, 1e-3)),
    "sqrt": (mp.sqrt, POSITIVE),
    "cbrt": (lambda x: mp.sign(x) * mp.cbrt(abs(x)), around_zero(1e6)),
    "exp": (mp.exp, REALS),
    "exp2": (lambda x: mp.mpf(2) ** x, REALS),
    "expm1": (mp.expm1, REALS),
    "log": (mp.log, POSITIVE),
    "log2": (lambda x: mp.log(x, 2), POSITIVE),
    "log10": (mp.log10, POSITIVE),
    "log1p": (mp.log1p, np.concatenate([-SHARE, POSITIVE])),
    "sin": (mp.sin, REALS),
    "cos": (mp.cos, REALS),
    "tan": (mp.tan, inside(-1.5, 1.5)),
    "sinc": (lambda x: mp.sinc(mp.pi * x), around_zero(20.0, 1e-3)),
    "arcsin": (mp.asin, UNIT),
    "arccos": (mp.acos, UNIT),
    "arctan": (mp.atan, around_zero(1e6)),
    "sinh": (mp.sinh, REALS),
    "cosh": (mp.cosh, REALS),
    "tanh": (mp.tanh, REALS),
    "arcsinh": (mp.asinh, around_zero(1e6)),
    "arccosh": (mp.acosh, 1 + POSITIVE),
    "arctanh": (mp.atanh, UNIT),
    "deg2rad": (mp.radians, REALS),
    "rad2deg": (mp.degrees, REALS),
    "radians": (mp.radians, REALS),
    "degrees": (mp.degrees, REALS),
    "floor": (mp.floor, REALS),
    "ceil": (mp.ceil, REALS),
    "trunc": (lambda x: mp.sign(x) * mp.floor(abs(x)), REALS),
    "round": (mp.nint, REALS),
    "rint": (mp.nint, REALS),
    "sign": (mp.sign, REALS),
    "sigmoid": (sigmoid, REALS),
    "log_sigmoid": (lambda x: -softplus(-x), REALS),
    "softplus": (softplus, REALS),
    "squareplus": (lambda x: (x + mp.sqrt(x * x + 4)) / 2, REALS),
    "soft_sign": (lambda x: x / (1 + abs(x)), REALS),
    "silu": (lambda x: x * sigmoid(x), REALS),
    "swish": (lambda x: x * sigmoid(x), REALS),
    "mish": (lambda x: x * mp.tanh(softplus(x)), REALS),
    "gelu": (gelu_tanh, SMALL),
    "relu": (lambda x: max(x, 0), REALS),
    "relu6": (lambda x: clip(x, 0, 6), REALS),
    "leaky_relu": (lambda x: x if x > 0 else x * mp.mpf(0.01), REALS),
    "elu": (elu, REALS),
    "celu": (elu, REALS),
    "selu": (lambda x: SELU_SCALE * elu(x, SELU_ALPHA), REALS),
    "hard_tanh": (lambda x: clip(x, -1, 1), REALS),
    "hard_sigmoid": (lambda x: clip(x + 3, 0, 6) / 6, REALS),
    "hard_silu": (lambda x: x * clip(x + 3, 0, 6) / 6, REALS),
    "hard_swish": (lambda x: x * clip(x + 3, 0, 6) / 6, REALS),
    "log1mexp": (lambda x: mp.log(-mp.expm1(-x)), positive(700.0)),
    "sparse_plus": (
        lambda x: 0 if x <= -1 else x if x >= 1 else (x + 1) ** 2 / 4,
        SMALL,
    ),
    "sparse_sigmoid": (lambda x: clip(x + 1, 0, 2) / 2, SMALL),
    "logit": (lambda x: mp.log(x) - mp.log1p(-x), SHARE),
    "expit": (sigmoid, REALS),
    "entr": (entr, POSITIVE),
}
BINARY = {
    "add": (lambda x, y: x + y, (SMALL, SMALL[::-3])),
    "subtract": (lambda x, y: x - y, (SMALL, SMALL[::-3])),
    "multiply": (lambda x, y: x * y, (SMALL, SMALL[::-3])),
    "divide": (lambda x, y: x / y, (SMALL, around_zero(20.0, 0.1))),
    "true_divide": (lambda x, y: x / y, (SMALL, around_zero(20.0, 0.1))),
    "power": (lambda x, y: x**y, (positive(20.0, 1e-2), inside(-9.0, 9.0))),
    "float_power": (lambda x, y: x**y, (positive(20.0, 1e-2), inside(-9.0, 9.0))),
    "arctan2": (mp.atan2, (around_zero(20.0, 0.1), inside(-9.0, 9.0))),
    "hypot": (mp.hypot, (SMALL, inside(-9.0, 9.0))),
    "logaddexp": (lambda x, y: mp.log(mp.exp(x) + mp.exp(y)), (REALS, SMALL)),
    "logaddexp2": (
        lambda x, y: mp.log(mp.mpf(2) ** x + mp.mpf(2) ** y, 2),
        (REALS, SMALL),
    ),
    "maximum": (max, (SMALL, SMALL[::-1])),
    "minimum": (min, (SMALL, SMALL[::-1])),
    "fmax": (max, (SMALL, SMALL[::-1])),
    "fmin": (min, (SMALL, SMALL[::-1])),
    "mod": (mp.fmod, (positive(20.0), inside(0.3, 3.0))),
    "remainder": (mp.fmod, (positive(20.0), inside(0.3, 3.0))),
    "fmod": (mp.fmod, (positive(20.0), inside(0.3, 3.0))),
    "copysign": (lambda x, y: abs(x) * mp.sign(y), (SMALL, SMALL[::-1])),
    "xlogy": (lambda x, y: x * mp.log(y), (SMALL, positive(20.0, 1e-2))),
    "xlog1py": (lambda x, y: x * mp.log1p(y), (SMALL, positive(20.0, 1e-2))),
}

# What also turns a number into a number, and why it has no row of its own.
OTHERS = {
    "an alias": "acos acosh asin asinh atan atan2 atanh pow around identity",
    "a copy": "array asarray astype block conj conjugate copy flip nan_to_num real "
    "squeeze transpose roll full_like empty_like ones_like zeros_like",
    "a reduction": "amax amin average corrcoef cov dot inner kron logmeanexp logsumexp "
    "max mean median min nanmax nanmean nanmedian nanmin nanprod nanstd nansum nanvar "
    "nanpercentile nanquantile percentile prod ptp quantile std sum var vdot",
    "without a derivative": "angle floor_divide gammasgn heaviside imag nextafter "
    "spacing",
    "of three arguments": "clip betainc hyp1f1 hyp2f1",
}


def is_function_of_numbers(f):
    if not callable(f) or isinstance(f, type):
        return False
    for arguments in ([1.5], [1.5, 0.5]):
        try:
            out = jax.eval_shape(f, *arguments)
        except Exception:
            continue
        if getattr(out, "shape", None) == ():
            return jnp.issubdtype(out.dtype, jnp.floating)
    return False


def test_every_function_of_numbers_has_a_row():
    listed = {*UNARY, *BINARY, *SPECIAL, *" ".join(OTHERS.values()).split()}
    # In float64 at once: tracing in float32 first would leave rounded constants in
    # jax.scipy.special.owens_t.
    with jax.enable_x64(True):
        found = {n for n in dir(dnp) if is_function_of_numbers(getattr(dnp, n))}
    assert found <= listed


ROWS = {
    name: Row(getattr(dnp, name), reference, points)
    for name, (reference, points) in {
        **{name: (f, [points]) for name, (f, points) in UNARY.items()},
        **BINARY,
    }.items()
}


@pytest.fixture(scope="module")
def found():
    return evaluate(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_values_and_derivatives_are_those_of_mpmath(name, found):
    value, derivative = largest_errors(ROWS[name], found[name])
    assert value <= VALUE
    assert derivative <= DERIVATIVE
