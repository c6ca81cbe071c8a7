"""Which modules a configuration means: PEFT's rules for names, as plain strings."""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence

from ._config import ALL_LINEAR, LoRAConfig

_HEAD = "lm_head"


@dataclasses.dataclass(frozen=True)
class Site:
    """One linear module of a model, or one stack of them.

    Args:
        hf_name: with ``{i}`` where the layer's index goes, if it is a stack.
        depth: number of layers on the stacked axis; None: not stacked.
        in_features, out_features: of the kernel.
    """

    hf_name: str
    depth: int | None
    in_features: int
    out_features: int

    @property
    def names(self) -> tuple[str, ...]:
        """Return the full name of every module, in the order of the layers."""
        return full_names(self.hf_name, self.depth)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Ranks and scales of the modules of a site, 0 where there is no adapter."""

    ranks: tuple[int, ...]
    scales: tuple[float, ...]


def full_names(hf_name: str, depth: int | None) -> tuple[str, ...]:
    """Return the names that a stacked name stands for."""
    if depth is None:
        return (hf_name,)
    return tuple(hf_name.format(i=i) for i in range(depth))


def make_plans(
    sites: Sequence[Site],
    others: Sequence[str],
    config: LoRAConfig,
    *,
    strict: bool,
) -> dict[str, Plan]:
    """Return the plan of every site that has at least one adapter.

    Args:
        sites: the model's linear modules.
        others: full names of everything else in the model that has a name: embedding,
            norms, and the blocks that hold the modules.
        config: what to adapt.
        strict: whether a name or key of the configuration that means nothing in this
            model is an error. Files may carry such names.

    Returns:
        ``hf_name`` of the site to its plan.

    Raises:
        ValueError: where nothing is meant, or something that is no linear layer.
    """
    known = [name for site in sites for name in site.names]
    _check_targets(known, others, config, strict=strict)
    plans = {}
    for site in sites:
        ranks, scales = [], []
        for i, name in enumerate(site.names):
            layer = None if site.depth is None else i
            rank, scale = 0, 0.0
            if is_target(name, layer, config):
                rank = _of_pattern(config.rank_pattern, name, config.r)
                alpha = _of_pattern(config.alpha_pattern, name, config.lora_alpha)
                scale = config.scaling(alpha, rank)
            ranks.append(rank)
            scales.append(scale)
        if any(ranks):
            plans[site.hf_name] = Plan(tuple(ranks), tuple(scales))
    if not plans:
        raise ValueError(
            f"target_modules={config.target_modules!r} leaves nothing to adapt after "
            f"exclude_modules={config.exclude_modules!r} and "
            f"layers_to_transform={config.layer_indices!r}; {_listing(known)}"
        )
    if strict:
        _check_layers(sites, config)
        _check_patterns(sites, plans, config)
    return plans


def is_target(name: str, layer: int | None, config: LoRAConfig) -> bool:
    """Return whether a linear module gets an adapter.

    Args:
        name: the module's full name.
        layer: its index, or None where it belongs to no layer.
        config: what to adapt.
    """
    if config.exclude_modules and _means(config.exclude_modules, name):
        return False
    if config.target_modules == ALL_LINEAR:
        return name != _HEAD
    if not _means(config.target_modules, name):
        return False
    layers = config.layer_indices
    return layers is None or layer in layers


def shortest_names(chosen: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the last parts of names if they mean exactly these, else the names.

    Args:
        chosen: full names of modules.
        known: full names of all linear modules.
    """
    ends = sorted({name.rpartition(".")[2] for name in chosen})
    meant = [name for name in known if _means(tuple(ends), name)]
    return ends if sorted(meant) == sorted(chosen) else sorted(chosen)


def _means(what: Sequence[str] | str, name: str) -> bool:
    if isinstance(what, str):
        return re.fullmatch(what, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in what)


def _of_pattern(pattern: Mapping, name: str, default):
    for key, value in pattern.items():
        if _key_means(key, name):
            return value
    return default


def _key_means(key: str, name: str) -> bool:
    return re.match(rf"(.*\.)?({key})$", name) is not None


def _check_targets(
    known: Sequence[str], others: Sequence[str], config: LoRAConfig, *, strict: bool
) -> None:
    targets = config.target_modules
    if targets == ALL_LINEAR:
        return
    excluded = config.exclude_modules or ()
    wrong = [n for n in others if _means(targets, n) and not _means(excluded, n)]
    if wrong:
        shown = ", ".join(wrong[:4]) + (", ..." if len(wrong) > 4 else "")
        raise ValueError(
            f"target_modules={targets!r} means {shown}, which is no linear layer; "
            f"adapters go on linear layers only: {_listing(known)}"
        )
    if isinstance(targets, str):
        if not any(_means(targets, name) for name in known):
            raise ValueError(
                f"target_modules={targets!r} matches no module; as a string it is a "
                f"regular expression for the whole name; {_listing(known)}"
            )
        return
    unmatched = [t for t in targets if not any(_means((t,), n) for n in known)]
    if len(unmatched) == len(targets) or (strict and unmatched):
        ends = _ends(known)
        near = [
            f"{name!r} (nearest: {', '.join(close)})" if close else repr(name)
            for name in unmatched
            for close in [difflib.get_close_matches(name, ends, n=2)]
        ]
        tied = ""
        if _HEAD in unmatched:
            tied = "; this model's head is its embedding, which cannot be adapted"
        raise ValueError(
            f"target_modules: {', '.join(near)} matches no module{tied}; "
            f"{_listing(known)}"
        )


def _check_layers(sites: Sequence[Site], config: LoRAConfig) -> None:
    depth = max((site.depth or 0 for site in sites), default=0)
    beyond = [i for i in config.layer_indices or () if i >= depth]
    if beyond:
        raise ValueError(
            f"layers_to_transform names {beyond}, but the model has layers 0 to "
            f"{depth - 1}"
        )


def _check_patterns(
    sites: Sequence[Site], plans: Mapping[str, Plan], config: LoRAConfig
) -> None:
    adapted = [
        name
        for site in sites
        if site.hf_name in plans
        for name, rank in zip(site.names, plans[site.hf_name].ranks, strict=True)
        if rank
    ]
    for field in ("rank_pattern", "alpha_pattern"):
        for key in getattr(config, field):
            if not any(_key_means(key, name) for name in adapted):
                raise ValueError(
                    f"{field}: {key!r} matches none of the adapted modules; "
                    f"{_listing(adapted)}"
                )


def _ends(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))


def _listing(names: Sequence[str]) -> str:
    if not names:
        return "the model has no linear layer with an hf_name"
    return (
        f"available: {', '.join(_ends(names))} (full names such as "
        f"{names[0]!r}), or 'all-linear'"
    )
