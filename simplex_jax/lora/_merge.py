"""Fold adapters into the weights, and out again."""

import functools
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from ._attach import (
    adapter_layers,
    is_adapted,
    is_linear,
    replace,
    require_adapters,
    site_of,
)
from ._layer import LoRALinear, kernel_of

ModelT = TypeVar("ModelT", bound=nnx.Module)


def merge(model: ModelT) -> ModelT:
    r"""Return the base with the adapters in its weights: $W + s\, A B$.

    The sum is formed in float32 (float64 where a part is float64), one layer at a
    time, and rounded once to the kernel's dtype.

    Args:
        model: stays as it is, so it still holds the exact base. Arrays are concrete:
            this does not run under jit.

    Returns:
        A new model with the structure of the one that adapters were attached to.

    Raises:
        ValueError: where there are no adapters.
        FloatingPointError: naming the modules whose merged weight is not finite.
    """
    require_adapters(model)
    problems = []

    def fold(_, layer: LoRALinear) -> nnx.Module:
        kernel, problem = _with_adapter(layer.base, layer, 1)
        problems.extend(problem)
        return _with_kernel(layer.base, kernel)

    merged = replace(model, fold, is_adapted)
    _require_finite(problems)
    return merged


def unmerge(merged: ModelT, model: ModelT) -> ModelT:
    r"""Return a merged model as base and adapters again: $W' - s\, A B$.

    Args:
        merged: ``merge(model)``, or the like after a trip through a file.
        model: the adapters; its base is not looked at.

    Returns:
        A new model that computes what ``merged`` does, with the adapters attached. Its
        base is the original up to rounding: two roundings in the kernel's dtype of
        numbers as large as W and s A B. Where the exact base matters, keep it:
        ``detach(model)``.

    Raises:
        ValueError: where the two do not fit each other.
        FloatingPointError: naming the modules whose weight would not be finite.
    """
    require_adapters(model)
    if next(adapter_layers(merged), None) is not None:
        raise ValueError("merged has adapters itself; pass the result of lora.merge")
    adapters = dict(adapter_layers(nnx.clone(model)))
    used, problems = set(), []

    def unfold(path, module: nnx.Module) -> nnx.Module:
        layer = adapters.get(path)
        if layer is None:
            return module
        if site_of(module) != site_of(layer.base):
            raise ValueError(
                f"merged does not fit model: {site_of(module)} against "
                f"{site_of(layer.base)}"
            )
        used.add(path)
        kernel, problem = _with_adapter(module, layer, -1)
        problems.extend(problem)
        layer.base = _with_kernel(module, kernel)
        return layer

    result = replace(merged, unfold, is_linear)
    missing = [adapters[path].base for path in adapters if path not in used]
    if missing:
        names = ", ".join(site_of(base).hf_name for base in missing)
        raise ValueError(f"merged does not fit model: it has no {names}")
    _require_finite(problems)
    return result


def _with_adapter(
    base: nnx.Module, layer: LoRALinear, sign: int
) -> tuple[Array, list[str]]:
    kernel = kernel_of(base)[...]
    parts = (kernel, layer.lora_a[...], layer.lora_b[...], layer.scale[...])
    site = site_of(base)
    if site.depth is None:
        parts = tuple(part[None] for part in parts)
    result, finite = _add_product(*parts, sign=sign)
    problems = []
    for name, (whole, weight, adapter) in zip(
        site.names, np.asarray(finite), strict=True
    ):
        if not whole:
            why = "the sum overflows the dtype of the kernel"
            if not adapter:
                why = "the adapter is not finite"
            if not weight:
                why = "the base weight is not finite"
            problems.append(f"{name}: {why}")
    return result.reshape(kernel.shape), problems


@functools.partial(jax.jit, static_argnames="sign")
def _add_product(
    kernel: Float[Array, "L I O"],
    a: Float[Array, "L I R"],
    b: Float[Array, "L R O"],
    scale: Float[Array, " L"],
    *,
    sign: int,
) -> tuple[Float[Array, "L I O"], Bool[Array, "L 3"]]:
    wide = functools.reduce(jnp.promote_types, (kernel.dtype, a.dtype), jnp.float32)

    def one(parts):
        w, a, b, s = (part.astype(wide) for part in parts)
        delta = s * jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
        result = (w + sign * delta).astype(kernel.dtype)
        finite = [jnp.all(jnp.isfinite(part)) for part in (result, w, delta)]
        return result, jnp.stack(finite)

    # One layer at a time: the wide copies are never larger than a layer.
    return jax.lax.map(one, (kernel, a, b, scale))


def _with_kernel(base: nnx.Module, kernel: Array) -> nnx.Module:
    # The module is part of a copy that nobody else has seen.
    variable = kernel_of(base)
    setattr(base, "kernel", variable.replace(kernel))  # noqa: B010
    return base


def _require_finite(problems: list[str]) -> None:
    if problems:
        shown = "\n  ".join(problems[:20])
        more = f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise FloatingPointError(
            f"{len(problems)} merged weights are not finite; the model was not "
            f"merged:\n  {shown}{more}"
        )
