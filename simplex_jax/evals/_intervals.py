"""How far a mean may lie from what another draw of the test data would give."""

import numpy as np

from .._checks import at_least, within
from ._vectors import Vector, numbers, same_length


def cluster_interval(
    values: Vector,
    clusters: Vector,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap an interval of the mean by redrawing whole clusters.

    Values of one cluster share their fate: prompts filled from one template say,
    which a model tends to get right or wrong together. Treated as independent,
    they would give too narrow an interval; here a cluster is drawn with all its
    values or not at all. The interval is of the percentile kind. Its coverage is
    approximate, and below ``level`` where there are few clusters (under about 30).

    Args:
        values: one number an answer, 1-D, finite, any unit.
        clusters: one label an answer, such as the template's id; of the same
            length, with at least two distinct labels.
        level: the share of intervals that should hold the true mean, above 0 and
            below 1.
        draws: how many times the clusters are redrawn, >= 1.
        seed: of the draws, >= 0; the same arguments give the same interval.

    Returns:
        The lower and the upper end, in the unit of the values.

    Raises:
        ValueError: an argument is out of range, empty or of another length, or
            all values are of one cluster.
    """
    values = numbers("values", values)
    labels = np.asarray(clusters)
    if labels.ndim != 1:
        raise ValueError(f"clusters has shape {labels.shape}; give one label a value")
    same_length(values=values, clusters=labels)
    within("level", level, "(0, 1)")
    at_least("draws", draws)
    at_least("seed", seed, 0)
    names, member = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"clusters has the one label {str(names[0])!r}; how far clusters differ "
            "shows in two or more"
        )
    sums = np.bincount(member, weights=values)
    counts = np.bincount(member)
    # Named, so that the draws stay the same if NumPy's default changes.
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn = generator.integers(len(names), size=(draws, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
