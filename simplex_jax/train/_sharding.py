"""Where every array lies on a (data, model) mesh, by one table of paths."""

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

PARTITIONS: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"/(q|k|v|gate|up)_proj/(base/)?kernel\b", (None, "model")),
    (r"/(q|k|v|gate|up)_proj/(base/)?bias\b", ("model",)),
    (r"/(q|k|v|gate|up)_proj/lora_b\b", (None, "model")),
    (r"/(o|down)_proj/(base/)?kernel\b", ("model", None)),
    (r"/(o|down)_proj/lora_a\b", ("model", None)),
    (r"\bembed_tokens/embedding\b", ("model", None)),
    (r"\blm_head/(base/)?kernel\b", (None, "model")),
)
"""Path pattern to the mesh axes of an array's last dimensions; the rest is replicated.

The patterns meet parameters and the optimizer's moments alike, because the moments'
paths end with the parameters'. Heads and MLP columns are split, so one sum over
``model`` follows attention's output and the MLP's.
"""


def make_mesh(data_parallel_size: int, tensor_parallel_size: int) -> Mesh:
    """Return a mesh with the axes ``data`` and ``model``.

    Args:
        data_parallel_size: devices that share a batch.
        tensor_parallel_size: devices that share a weight.

    Returns:
        A mesh of the first devices.

    Raises:
        ValueError: where there are fewer devices.
    """
    count = data_parallel_size * tensor_parallel_size
    devices = jax.devices()
    if count > len(devices):
        raise ValueError(
            f"data_parallel_size={data_parallel_size} times tensor_parallel_size="
            f"{tensor_parallel_size} is {count} devices, and there are {len(devices)}"
        )
    grid = np.asarray(devices[:count]).reshape(data_parallel_size, tensor_parallel_size)
    return Mesh(grid, ("data", "model"))


def place(tree: Any, mesh: Mesh) -> Any:
    """Put parameters or a training state on a mesh, as ``PARTITIONS`` says.

    Args:
        tree: a pytree of arrays.
        mesh: with an axis ``model``.

    Returns:
        The same pytree; its arrays lie on the mesh.

    Raises:
        ValueError: naming an array that the axis does not divide.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.device_put(leaf, _sharding(path, leaf, mesh)), tree
    )


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """Put arrays (..., B, T) on a mesh, rows split over ``data``.

    Args:
        batch: a pytree of arrays.
        mesh: with an axis ``data``, which divides B.

    Returns:
        The same pytree; its arrays lie on the mesh.
    """

    def put(x):
        spec = PartitionSpec(*[None] * (x.ndim - 2), "data", None)
        return jax.device_put(x, NamedSharding(mesh, spec))

    return jax.tree.map(put, batch)


def _sharding(path: Any, leaf: Any, mesh: Mesh) -> NamedSharding:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    for pattern, axes in PARTITIONS:
        if re.search(pattern, name):
            spec = [None] * (leaf.ndim - len(axes)) + list(axes)
            for size, axis in zip(leaf.shape, spec, strict=True):
                if axis and size % mesh.shape[axis]:
                    raise ValueError(
                        f"{name} has {size} columns or rows to split over "
                        f"tensor_parallel_size={mesh.shape[axis]}; give a divisor"
                    )
            return NamedSharding(mesh, PartitionSpec(*spec))
    return NamedSharding(mesh, PartitionSpec())
