"""Exact derivatives in forward mode: numbers that carry them, functions that take them.

``import simplex_jax.dual.numpy as dnp`` has every function of jax.numpy, jax.nn and
jax.scipy.special for numbers, and a table of what happens at kinks.
"""

from . import numpy as numpy
from ._check import Report as Report
from ._check import check as check
from ._construct import constant as constant
from ._construct import detach as detach
from ._construct import from_values as from_values
from ._construct import multi_variable as multi_variable
from ._construct import variable as variable
from ._construct import variable_at as variable_at
from ._dual import Dual as Dual
from ._dual import MultiDual as MultiDual
from ._lift import lift as lift
from ._safe import safe_arctan2 as safe_arctan2
from ._safe import safe_logsumexp as safe_logsumexp
from ._safe import safe_norm as safe_norm
from ._safe import safe_power as safe_power
from ._safe import safe_sqrt as safe_sqrt
from ._safe import safe_xlogy as safe_xlogy
from ._solve import Solution as Solution
from ._solve import Status as Status
from ._solve import minimize as minimize
from ._solve import newton as newton
from ._taylor import nth_derivative as nth_derivative
from ._taylor import taylor as taylor
from ._taylor import taylor_path as taylor_path
from ._transforms import derivative as derivative
from ._transforms import directional_derivative as directional_derivative
from ._transforms import gradient as gradient
from ._transforms import hessian as hessian
from ._transforms import hvp as hvp
from ._transforms import jacobian as jacobian
from ._transforms import value_and_derivative as value_and_derivative
from ._transforms import value_and_gradient as value_and_gradient
from ._transforms import value_and_jacobian as value_and_jacobian
