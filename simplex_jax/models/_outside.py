"""What each Variable is called outside, and how its rows lie there.

Inside, layers are stacked and kernels are (in, out). Outside, each layer has a tensor
of its own and matrices are (out, in); GGUF's llama files also interleave the rows of
each rotary head. This is the only place that knows both sides.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

ModuleT = TypeVar("ModuleT", bound=nnx.Module)


@dataclasses.dataclass(frozen=True)
class OutsideTensor:
    """One tensor as HF and GGUF know it.

    Args:
        path: of the Variable in the model.
        layer: index on the stacked axis, or None.
        hf_name, gguf_name: full names, ``.weight`` or ``.bias`` included.
        shape: outside.
        transposed: whether the Variable holds the transpose.
        rope_heads: number of heads whose rows llama's GGUF files interleave, or 0.
    """

    path: tuple[Any, ...]
    layer: int | None
    hf_name: str
    gguf_name: str
    shape: tuple[int, ...]
    transposed: bool
    rope_heads: int


def outside_tensors(model: nnx.Module) -> list[OutsideTensor]:
    """List every tensor of a model, in the order embedding, layers, norm, head.

    Args:
        model: a model whose Variables carry ``hf_name`` and ``gguf_name``; its arrays
            may be abstract.

    Returns:
        One entry a tensor; a stacked Variable gives one a layer.

    Raises:
        ValueError: where the model carries adapters.
    """
    found = []
    for path, variable in _flat(model).items():
        if isinstance(variable, nnx.LoRAParam):
            raise ValueError(
                f"{'.'.join(map(str, path))} is an adapter, which has no tensor of its "
                "own outside; save lora.merge(model) or lora.detach(model)"
            )
        suffix = ".bias" if path[-1] == "bias" else ".weight"
        names = variable.get_metadata()
        stacked = "{i}" in names["hf_name"]
        shape = tuple(variable.shape[1:] if stacked else variable.shape)
        transposed = path[-1] == "kernel"
        for i in range(variable.shape[0]) if stacked else (None,):
            found.append(
                OutsideTensor(
                    path=path,
                    layer=i,
                    hf_name=names["hf_name"].format(i=i) + suffix,
                    gguf_name=names["gguf_name"].format(i=i) + suffix,
                    shape=shape[::-1] if transposed else shape,
                    transposed=transposed,
                    rope_heads=names.get("rope_heads", 0),
                )
            )
    rank = {"token_embd": 0, "blk": 1, "output_norm": 2, "output": 3}
    return sorted(found, key=lambda t: (rank[t.gguf_name.split(".")[0]], t.layer or 0))


def interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """Turn half-split rotary rows into llama.cpp's interleaved ones.

    Args:
        rows: (heads * H, ...); row ``d`` and row ``d + H/2`` of a head are a pair.
        heads: number of heads.

    Returns:
        The same rows with each pair side by side.
    """
    split = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


def uninterleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undo ``interleave``."""
    split = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


def read_outside(model: nnx.Module) -> Callable[[OutsideTensor], np.ndarray]:
    """Return a function that gives a tensor's values in HF's layout.

    Args:
        model: the model whose Variables are read, one at a time.

    Returns:
        A function of an ``OutsideTensor``; its array has ``shape`` and the
        Variable's dtype.
    """
    variables = _flat(model)

    def get(tensor: OutsideTensor) -> np.ndarray:
        value = variables[tensor.path][...]
        if tensor.layer is not None:
            value = value[tensor.layer]
        array = np.asarray(value)
        return array.T if tensor.transposed else array

    return get


def fill_from_outside(
    model: ModuleT, fetch: Callable[[OutsideTensor], np.ndarray], dtype
) -> ModuleT:
    """Build a model from outside tensors, one Variable at a time.

    Args:
        model: abstract model; says which Variables there are.
        fetch: gives each tensor's values in HF's layout.
        dtype: of the Variables.

    Returns:
        The model with arrays. Host memory peaks at the model and one Variable.
    """
    graphdef, state = nnx.split(model)
    variables = dict(nnx.to_flat_state(state))
    groups: dict[tuple[Any, ...], list[OutsideTensor]] = {}
    for tensor in outside_tensors(model):
        groups.setdefault(tensor.path, []).append(tensor)
    for path, tensors in groups.items():
        buffer = np.empty(variables[path].shape, dtype)
        for tensor in tensors:
            values = fetch(tensor)
            where = ... if tensor.layer is None else tensor.layer
            buffer[where] = values.T if tensor.transposed else values
        # A copy, because JAX may otherwise keep the NumPy buffer for ever.
        variables[path] = variables[path].replace(jnp.array(buffer, copy=True))
        del buffer
    return nnx.merge(graphdef, nnx.from_flat_state(variables))


def check_tensors(
    source: str,
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
) -> None:
    """Compare names and shapes, and report every difference at once.

    Args:
        source: file or folder, for the message.
        expected: name to shape, of the model that the configuration describes.
        found: name to shape, of the source.

    Raises:
        ValueError: naming all missing, unexpected and misshapen tensors.
    """
    problems = [
        f"missing {name} {shape}"
        for name, shape in expected.items()
        if name not in found
    ]
    problems += [f"unexpected {name}" for name in found if name not in expected]
    problems += [
        f"{name} has shape {tuple(found[name])}, expected {shape}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != shape
    ]
    if problems:
        shown = "\n  ".join(problems[:40])
        more = f"\n  ... and {len(problems) - 40} more" if len(problems) > 40 else ""
        raise ValueError(
            f"{source}: {len(problems)} tensors do not fit the configuration:\n"
            f"  {shown}{more}"
        )


def parameter_count(model: nnx.Module) -> int:
    """Return how many numbers the model's Variables hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))


def _flat(model: nnx.Module) -> dict[tuple[Any, ...], nnx.Variable]:
    return dict(nnx.to_flat_state(nnx.state(model)))
