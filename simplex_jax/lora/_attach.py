"""Put adapters on a model's linear layers, take them off, count them."""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from .._checks import refuse
from .._typing import PRNGKey
from ._config import LoRAConfig
from ._layer import LoRALinear, kernel_of
from ._match import Plan, Site, full_names, make_plans

ModelT = TypeVar("ModelT", bound=nnx.Module)


def attach(
    model: ModelT, config: LoRAConfig, *, key: PRNGKey, param_dtype=jnp.float32
) -> ModelT:
    """Return the model with new adapters, which change nothing yet (B = 0).

    A linear layer is any module with a ``kernel`` Variable whose metadata holds
    ``hf_name``. Layers stay stacked: the adapters of L layers are (L, in, R) and
    (L, R, out), where R is the largest rank among them. What trains is
    ``nnx.LoRAParam``: ``nnx.split(model, nnx.LoRAParam, ...)``.

    Args:
        model: stays as it is; the arrays of the base are shared.
        config: which layers, and how.
        key: for A; a layer's draw depends on its own name and not on the other targets.
        param_dtype: of A and B, a floating-point dtype.

    Returns:
        A new model.

    Raises:
        ValueError: where the configuration means nothing in this model, or something
            that is no linear layer, or the model has adapters already.
    """
    if not jnp.issubdtype(param_dtype, jnp.floating):
        refuse("param_dtype", param_dtype, "give a floating dtype")
    sites, others = survey(model)
    plans = make_plans(sites, others, config, strict=True)

    def draw(site: Site, plan: Plan) -> tuple[Array, Array]:
        ranks = plan.ranks if site.depth else plan.ranks[0]
        name_key = jax.random.fold_in(key, zlib.crc32(site.hf_name.encode()))
        init = config.init_lora_weights
        a = _draw_a(name_key, site.in_features, ranks, init, param_dtype)
        b_shape = (*a.shape[:-2], a.shape[-1], site.out_features)
        return a, jnp.zeros(b_shape, param_dtype)

    return place(model, sites, plans, config, draw)


def detach(model: ModelT) -> ModelT:
    """Return the model without its adapters, the base bit for bit.

    Args:
        model: stays as it is.

    Returns:
        A new model with the structure of the one that adapters were attached to.

    Raises:
        ValueError: where there are no adapters.
    """
    require_adapters(model)
    return replace(model, lambda _, layer: layer.base, is_adapted)


@dataclasses.dataclass(frozen=True)
class ParameterCounts:
    """How many numbers train, and how many there are.

    Args:
        trainable: of the adapters, padding of smaller ranks not counted.
        total: of the adapters and the base.
        ranks: full module name to rank.
    """

    trainable: int
    total: int
    ranks: Mapping[str, int]

    @property
    def trainable_percent(self) -> float:
        """Return 100 * trainable / total, or 0 for an empty model."""
        return 100 * self.trainable / self.total if self.total else 0.0


def parameter_counts(model: nnx.Module) -> ParameterCounts:
    """Count a model's parameters, with the real ranks.

    Args:
        model: with or without adapters.

    Returns:
        The counts; scales are no parameters.
    """
    trainable, ranks = 0, {}
    for _, layer in adapter_layers(model):
        site = site_of(layer.base)
        trainable += sum(layer.ranks) * (site.in_features + site.out_features)
        for name, rank in zip(site.names, layer.ranks, strict=True):
            if rank:
                ranks[name] = rank
    _, base, _ = nnx.state(model, nnx.LoRAParam, nnx.Param, ...)
    total = trainable + sum(leaf.size for leaf in jax.tree.leaves(base))
    return ParameterCounts(trainable, total, ranks)


def adapter_layers(
    model: nnx.Module,
) -> Iterator[tuple[tuple[Any, ...], LoRALinear]]:
    """Yield every adapted layer with its path."""
    for path, module in nnx.iter_modules(model):
        if isinstance(module, LoRALinear):
            yield path, module


def is_adapted(module: object) -> bool:
    """Return whether a module is a linear layer with its adapter."""
    return isinstance(module, LoRALinear)


def require_adapters(model: nnx.Module) -> None:
    """Raise ValueError where a model has no adapters."""
    if next(adapter_layers(model), None) is None:
        raise ValueError("model has no adapters; lora.attach adds them")


def survey(model: nnx.Module) -> tuple[list[Site], list[str]]:
    """List a model's linear modules, and the names of everything else in it.

    Args:
        model: without adapters.

    Returns:
        The linear modules; the full names of other modules and of the blocks that
        hold modules.

    Raises:
        ValueError: where the model has adapters already.
    """
    sites, others = [], {}
    for _, module in nnx.iter_modules(model):
        if isinstance(module, LoRALinear):
            raise ValueError(
                "model has adapters already; lora.merge or lora.detach first"
            )
        if is_linear(module):
            sites.append(site_of(module))
            continue
        for value in vars(module).values():
            if isinstance(value, nnx.Variable):
                name = value.get_metadata().get("hf_name")
                if name is not None:
                    depth = value.shape[0] if "{i}" in name else None
                    others.update(dict.fromkeys(full_names(name, depth)))
    for name in [*others, *(name for site in sites for name in site.names)]:
        while name := name.rpartition(".")[0]:
            others[name] = None
    return sites, list(others)


def is_linear(module: object) -> bool:
    """Return whether a module has a kernel that says its outside name."""
    kernel = getattr(module, "kernel", None)
    return isinstance(kernel, nnx.Variable) and "hf_name" in kernel.get_metadata()


def site_of(module: object) -> Site:
    """Return the name and sizes of a linear module."""
    kernel = kernel_of(module)
    hf_name = kernel.get_metadata()["hf_name"]
    depth = kernel.shape[0] if "{i}" in hf_name else None
    return Site(hf_name, depth, kernel.shape[-2], kernel.shape[-1])


def place(
    model: ModelT,
    sites: list[Site],
    plans: Mapping[str, Plan],
    config: LoRAConfig,
    values: Callable[[Site, Plan], tuple[Array, Array]],
) -> ModelT:
    """Return the model with adapters of given values.

    Args:
        model: stays as it is.
        sites: its linear modules.
        plans: ranks and scales of those to adapt.
        config: kept in the layers.
        values: gives A and B of a site, padded to its largest rank.
    """
    by_name = {site.hf_name: site for site in sites}

    def wrap(_, module: nnx.Module) -> nnx.Module:
        hf_name = kernel_of(module).get_metadata()["hf_name"]
        if hf_name not in plans:
            return module
        site, plan = by_name[hf_name], plans[hf_name]
        a, b = values(site, plan)
        scales = np.array(plan.scales).reshape((-1,) if site.depth else ())
        scale = jnp.asarray(scales, jnp.promote_types(a.dtype, jnp.float32))
        return LoRALinear(module, a, b, scale, ranks=plan.ranks, config=config)

    return replace(model, wrap, is_linear)


def replace(
    model: ModelT,
    change: Callable[[tuple[Any, ...], Any], nnx.Module],
    which: Callable[[object], bool],
) -> ModelT:
    """Return a copy of the model with some modules exchanged.

    Args:
        model: stays as it is; arrays are shared, Variables are not.
        change: gives the new module for a path and a module of the copy.
        which: tells them from the rest.
    """

    def visit(path, node):
        return change(path, node) if which(node) else node

    # Cloned first: the map copies modules, and in tree mode not the Variables.
    return nnx.recursive_map(visit, nnx.clone(model))


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _draw_a(
    key: PRNGKey, fan_in: int, ranks: tuple[int, ...] | int, init: bool | str, dtype
) -> Float[Array, "*L I R"]:
    rank = np.array(ranks)[..., None, None]
    shape = (*np.shape(ranks), fan_in, rank.max())
    wide = jnp.promote_types(dtype, jnp.float32)
    if init == "gaussian":
        a = jax.random.normal(key, shape, wide)
        a = a * jnp.asarray(1 / np.maximum(rank, 1), wide)
    else:
        bound = fan_in**-0.5
        a = jax.random.uniform(key, shape, wide, -bound, bound)
    return jnp.where(np.arange(rank.max()) < rank, a, 0).astype(dtype)
