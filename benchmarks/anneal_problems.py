"""The thirteen problems of ``benchmarks/anneal.py``, as families of instances.

A family holds the data of all its instances and its states name one by number, so that
one compiled chain serves every instance. Instances of one seed are cut in two: those
that schedules are tuned on, and those that they are judged on.
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simplex_jax import anneal

TUNING, HELD_OUT = 32, 32
INSTANCES = TUNING + HELD_OUT
DIMENSION = 10
CITIES = 50
NEAR = 10
NODES = 60


@dataclass(frozen=True)
class Family:
    """Problems that differ in their data.

    Attributes:
        name: for tables.
        steps: of one run; as many energies.
        problem: energy, proposals and moves; its ``init`` draws a tuning instance.
        start: from (key, instance) to a state.
        optimum: the lowest energy, where it is known for every instance.
        plain: from an instance to its energy of a point in NumPy and the box; where
            states are points.
    """

    name: str
    steps: int
    problem: anneal.Problem
    start: Callable[[Any, Any], Any]
    optimum: float | None = None
    plain: Callable[[int], tuple[Callable[[Any], float], list]] | None = None


def family(
    name: str,
    steps: int,
    energy: Callable,
    propose: Callable,
    start: Callable,
    *,
    optimum: float | None = None,
    plain: Callable | None = None,
    **moves: Callable,
) -> Family:
    def init(key):
        which, where = jax.random.split(key)
        return start(where, jax.random.randint(which, (), 0, TUNING))

    problem = anneal.Problem(energy, propose, init, **moves)
    return Family(name, steps, problem, start, optimum, plain)


# Functions of ten numbers. xp is NumPy or jax.numpy.


def rastrigin(xp, x):
    return 10 * x.shape[-1] + xp.sum(x**2 - 10 * xp.cos(2 * xp.pi * x), -1)


def ackley(xp, x):
    spread = xp.sqrt(xp.mean(x**2, -1))
    waves = xp.mean(xp.cos(2 * xp.pi * x), -1)
    return 20 - 20 * xp.exp(-0.2 * spread) + xp.e - xp.exp(waves)


def griewank(xp, x):
    numbers = xp.sqrt(xp.arange(1.0, x.shape[-1] + 1))
    return 1 + xp.sum(x**2, -1) / 4000 - xp.prod(xp.cos(x / numbers), -1)


def rosenbrock(xp, x):
    a, b = x[..., :-1], x[..., 1:]
    return xp.sum(100 * (b - a**2) ** 2 + (1 - a) ** 2, -1)


def styblinski_tang(xp, x):
    # The lowest value of one coordinate is subtracted: the optimum is 0.
    return xp.sum((x**4 - 16 * x**2 + 5 * x) / 2 + 39.16616570377142, -1)


def levy(xp, x):
    w = 1 + (x - 1) / 4
    a, last = w[..., :-1], w[..., -1]
    middle = xp.sum((a - 1) ** 2 * (1 + 10 * xp.sin(xp.pi * a + 1) ** 2), -1)
    end = (last - 1) ** 2 * (1 + xp.sin(2 * xp.pi * last) ** 2)
    return xp.sin(xp.pi * w[..., 0]) ** 2 + middle + end


def schwefel(xp, x):
    ends = xp.sin(xp.sqrt(xp.abs(x)))
    return xp.sum(418.9828872724338 - x * ends, -1)


# The usual box, and how far the optimum is shifted in it at most. Schwefel's function
# falls beyond its box, so that instead coordinates are mirrored.
FUNCTIONS = {
    "rastrigin": (rastrigin, -5.12, 5.12, 2.0),
    "ackley": (ackley, -32.768, 32.768, 15.0),
    "griewank": (griewank, -600.0, 600.0, 300.0),
    "rosenbrock": (rosenbrock, -5.0, 10.0, 2.0),
    "styblinski_tang": (styblinski_tang, -5.0, 5.0, 1.5),
    "levy": (levy, -10.0, 10.0, 5.0),
    "schwefel": (schwefel, -500.0, 500.0, None),
}


def function(name: str, seed: int) -> Family:
    """Make a family from one of ``FUNCTIONS``.

    The state is a point of the unit cube. A move changes one coordinate by a normal
    step as wide as the square root of the temperature, as in Boltzmann annealing, in
    units in which the energy's standard deviation over the box is 1 and the widest step
    is the box; at the walls it is reflected.
    """
    f, low, high, reach = FUNCTIONS[name]
    rng = np.random.default_rng([seed, 1])
    size = (INSTANCES, DIMENSION)
    if reach is None:
        shift, sign = np.zeros(size), rng.choice([-1.0, 1.0], size)
    else:
        shift, sign = rng.uniform(-reach, reach, size), np.ones(size)
    points = np.random.default_rng(0).uniform(low, high, (10_000, DIMENSION))
    spread = float(np.std(f(np, points)))
    shifts, signs = jnp.float32(shift), jnp.float32(sign)

    def energy(state):
        x = low + (high - low) * state["unit"]
        return f(jnp, (x - shifts[state["at"]]) * signs[state["at"]])

    def propose(key, state, temperature):
        which, far = jax.random.split(key)
        i = jax.random.randint(which, (), 0, DIMENSION)
        step = jnp.minimum(jnp.sqrt(temperature / spread), 1) * jax.random.normal(far)
        moved = jnp.abs((state["unit"] + step) % 2)
        moved = jnp.where(moved > 1, 2 - moved, moved)
        unit = jnp.where(jnp.arange(DIMENSION) == i, moved, state["unit"])
        return {"unit": unit, "at": state["at"]}

    def start(key, at):
        return {"unit": jax.random.uniform(key, (DIMENSION,)), "at": at}

    def plain(at):
        def point_energy(x):
            return float(f(np, (x - shift[at]) * sign[at]))

        return point_energy, [(low, high)] * DIMENSION

    return family(name, 1000, energy, propose, start, optimum=0.0, plain=plain)


# Tours. A state is an order of cities; a move reverses a piece of it.


def tsp_random(seed: int) -> Family:
    """Make tours of 50 cities, uniform in the unit square."""
    rng = np.random.default_rng([seed, 2])
    places = rng.uniform(size=(INSTANCES, CITIES, 2))
    between = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
    return tours("tsp_50", between)


# berlin52 of TSPLIB, whose shortest tour is published: 7542, in distances rounded to
# whole numbers.
BERLIN = """
565 575 25 185 345 750 945 685 845 655 880 660 25 230 525 1000 580 1175 650 1130 1605
620 1220 580 1465 200 1530 5 845 680 725 370 145 665 415 635 510 875 560 365 300 465 520
585 480 415 835 625 975 580 1215 245 1320 315 1250 400 660 180 410 250 420 555 575 665
1150 1160 700 580 685 595 685 610 770 610 795 645 720 635 760 650 475 960 95 260 875 920
700 500 555 815 830 485 1170 65 830 610 605 625 595 360 1340 725 1740 245
"""


def tsp_berlin(seed: int) -> Family:
    """Make berlin52: one instance, whatever the seed."""
    del seed
    places = np.array(BERLIN.split(), float).reshape(-1, 2)
    between = np.floor(np.linalg.norm(places[:, None] - places, axis=-1) + 0.5)
    return tours("tsp_berlin52", between[None], optimum=7542.0)


def tours(name: str, between: np.ndarray, optimum: float | None = None) -> Family:
    """Make tours whose moves bring a city next to one of its ten nearest.

    The piece from the city's successor to the other, or between the other's predecessor
    and it, is reversed: the moves of 2-opt with neighbour lists.
    """
    many, n, _ = between.shape
    distance = jnp.float32(between.reshape(-1))
    near = jnp.int32(np.argsort(between, axis=2)[:, :, 1 : NEAR + 1].reshape(-1))

    def length(at, a, b):
        return distance[(at * n + a) * n + b]

    def energy(state):
        tour, at = state["tour"], state["at"] % many
        return jnp.sum(length(at, tour, jnp.roll(tour, -1)))

    def propose(key, state, temperature):
        # The piece from first to last, both included, round the end of the tour.
        drawn = jax.random.randint(key, (3,), 0, jnp.array([n, NEAR, 2]))
        tour, at = state["tour"], state["at"] % many
        here = drawn[0]
        other = near[(at * n + tour[here]) * NEAR + drawn[1]]
        there = jnp.argmax(tour == other)
        forward = drawn[2] == 1
        first = jnp.where(forward, here + 1, there) % n
        last = jnp.where(forward, there, here - 1) % n
        return first, (last - first) % n + 1

    def apply(state, move):
        first, size = move
        place = jnp.arange(n)
        inside = (place - first) % n
        source = jnp.where(inside < size, (first + size - 1 - inside) % n, place)
        return {"tour": state["tour"][source], "at": state["at"]}

    def delta(state, move):
        first, size = move
        tour, at = state["tour"], state["at"] % many
        places = jnp.stack([first - 1, first, first + size - 1, first + size]) % n
        before, head, tail, after = tour[places]
        change = (
            length(at, before, tail)
            + length(at, head, after)
            - length(at, before, head)
            - length(at, tail, after)
        )
        # A piece of all cities but one or none leaves the tour as it is.
        return jnp.where(size < n - 1, change, 0)

    def start(key, at):
        return {"tour": jax.random.permutation(key, n), "at": at}

    return family(
        name,
        3000,
        energy,
        propose,
        start,
        optimum=optimum,
        apply=apply,
        delta_energy=delta,
    )


# Bits. A move flips one of them.


def bits(name: str, diagonal: np.ndarray, pairs: np.ndarray, steps: int) -> Family:
    r"""Make $E = d \cdot x + x^T Q x / 2$ with bits x, Q symmetric, its diagonal 0."""
    linear, square = jnp.float32(diagonal), jnp.float32(pairs)
    n = diagonal.shape[1]

    def energy(state):
        x, at = state["x"], state["at"]
        return x @ linear[at] + x @ square[at] @ x / 2

    def propose(key, state, temperature):
        return jax.random.randint(key, (), 0, n)

    def apply(state, i):
        x = jnp.where(jnp.arange(n) == i, 1 - state["x"], state["x"])
        return {"x": x, "at": state["at"]}

    def delta(state, i):
        x, at = state["x"], state["at"]
        return (1 - 2 * x[i]) * (linear[at, i] + jnp.sum(square[at, i] * x))

    def start(key, at):
        x = jax.random.bernoulli(key, 0.5, (n,)).astype(jnp.float32)
        return {"x": x, "at": at}

    return family(name, steps, energy, propose, start, apply=apply, delta_energy=delta)


def max_cut(seed: int) -> Family:
    """Make cuts of graphs with 60 nodes, every edge there with probability 0.3.

    The energy is minus the number of edges between the two sides.
    """
    rng = np.random.default_rng([seed, 3])
    edges = symmetric(rng.uniform(size=(INSTANCES, NODES, NODES)) < 0.3)
    return bits("max_cut", -edges.sum(axis=2), 2 * edges, 300)


def spin_glass(seed: int) -> Family:
    """Make spin glasses of Sherrington and Kirkpatrick, 60 spins, as bits.

    The energy is that of one spin: minus the sum of J_ij s_i s_j over pairs, J normal
    with variance 1 / n, divided by n.
    """
    rng = np.random.default_rng([seed, 4])
    j = symmetric(rng.normal(size=(INSTANCES, NODES, NODES))) / NODES**1.5
    # s = 2 x - 1 leaves a constant, the energy of all spins down, which is kept out.
    return bits("spin_glass", 2 * j.sum(axis=2), -4 * j, 600)


def symmetric(x: np.ndarray) -> np.ndarray:
    upper = np.triu(x.astype(float), 1)
    return upper + upper.swapaxes(-1, -2)


def knapsack(seed: int) -> Family:
    """Make knapsacks of 60 items that hold half the weight, values near weights.

    A move takes one item in or out, or exchanges two; a knapsack too heavy is refused.
    The energy is minus the value.
    """
    rng = np.random.default_rng([seed, 5])
    weight = rng.uniform(1, 10, (INSTANCES, NODES))
    value = weight + rng.uniform(0, 3, (INSTANCES, NODES))
    weights, values = jnp.float32(weight), jnp.float32(value)
    room = jnp.sum(weights, axis=1) / 2

    def energy(state):
        return -jnp.sum(values[state["at"]] * state["x"])

    def feasible(state):
        at = state["at"]
        return jnp.sum(weights[at] * state["x"]) <= room[at]

    def propose(key, state, temperature):
        drawn = jax.random.randint(key, (3,), 0, jnp.array([NODES, NODES, 2]))
        first, second, both = drawn
        return first, jnp.where(both == 1, second, first)

    def apply(state, move):
        item = jnp.arange(NODES)
        turned = (item == move[0]) | (item == move[1])
        return {"x": jnp.where(turned, 1 - state["x"], state["x"]), "at": state["at"]}

    def start(key, at):
        # Items in a random order while they fit.
        order = jax.random.permutation(key, NODES)
        filled = jnp.cumsum(weights[at][order]) <= room[at]
        return {"x": jnp.zeros(NODES).at[order].set(filled), "at": at}

    return family(
        "knapsack", 500, energy, propose, start, apply=apply, feasible=feasible
    )


# A small architecture search: two hidden layers on scikit-learn's digits.

CHOICES: dict[str, tuple] = {
    "width_1": (2, 4, 8, 16),
    "width_2": (2, 4, 8, 16),
    "activation_1": ("relu", "tanh", "sin", "linear"),
    "activation_2": ("relu", "tanh", "sin", "linear"),
    "skip": (False, True),
    "step": (3e-3, 1e-2, 3e-2),
}
NETS = list(itertools.product(*CHOICES.values()))
SPLITS = 4
TABLE = Path(__file__).parent / "anneal_nas.json"


def architectures(seed: int) -> Family:
    """Make the search for the net of the lowest validation loss, read from a table.

    An instance is a split of the digits with its own random numbers; the first half of
    the splits is for tuning. A move changes one choice.
    """
    del seed
    table = jnp.float32(nas_table()).reshape(-1)
    sizes = jnp.array([len(options) for options in CHOICES.values()])
    strides = jnp.array(np.cumprod([1, *sizes.tolist()[:0:-1]])[::-1])

    def energy(state):
        split = state["at"] * SPLITS // INSTANCES
        return table[split * len(NETS) + jnp.sum(state["choice"] * strides)]

    def propose(key, state, temperature):
        drawn = jax.random.randint(key, (2,), 0, jnp.array([len(CHOICES), 12]))
        which = jnp.arange(len(CHOICES)) == drawn[0]
        # 12 is divided by every number of other options, so that none is preferred.
        other = state["choice"] + 1 + drawn[1] % (sizes - 1)
        choice = jnp.where(which, other % sizes, state["choice"])
        return {"choice": choice, "at": state["at"]}

    def start(key, at):
        return {"choice": jax.random.randint(key, sizes.shape, 0, sizes), "at": at}

    return family("nas", 60, energy, propose, start)


def nas_table() -> list[list[float]]:
    """Return the validation loss of every net on every split, trained where missing."""
    if not TABLE.exists():
        rows = [[round(float(x), 5) for x in train_nets(i)] for i in range(SPLITS)]
        content = {
            "what": "validation loss in nats of every net of NETS on every split",
            "choices": {k: list(v) for k, v in CHOICES.items()},
            "losses": rows,
        }
        TABLE.write_text(json.dumps(content) + "\n")
    return json.loads(TABLE.read_text())["losses"]


def train_nets(split: int, steps: int = 150, batch: int = 128) -> np.ndarray:
    """Train every net of ``NETS`` by Adam, and return the validation losses."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng([split, 6]).permutation(len(labels))
    pixels, classes = jnp.float32(images[order] / 16), jnp.int32(labels[order])
    held = 600
    key = jax.random.key(split)

    widest = max(CHOICES["width_1"])
    activations = (jax.nn.relu, jnp.tanh, jnp.sin, lambda x: x)

    def logits(weights, net, x):
        hidden = x
        for layer in (1, 2):
            kinds = jax.nn.one_hot(net[f"activation_{layer}"], len(activations))
            z = hidden @ weights[layer - 1]
            z = sum(k * f(z) for k, f in zip(kinds, activations, strict=True))
            z = z * (jnp.arange(widest) < net[f"width_{layer}"])
            hidden = z + net["skip"] * hidden if layer == 2 else z
        return hidden @ weights[2]

    def loss(weights, net, x, y):
        scores = jax.nn.log_softmax(logits(weights, net, x))
        return -jnp.mean(jnp.take_along_axis(scores, y[:, None], axis=1))

    def trained(net):
        def update(inside, t):
            weights, mean, square = inside
            rows = jax.random.randint(
                jax.random.fold_in(key, t), (batch,), held, len(labels)
            )
            slope = jax.grad(loss)(weights, net, pixels[rows], classes[rows])
            mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, slope)
            square = jax.tree.map(lambda s, g: 0.99 * s + 0.01 * g**2, square, slope)
            fresh = 1 - 0.9 ** (t + 1.0), 1 - 0.99 ** (t + 1.0)
            weights = jax.tree.map(
                lambda w, m, s: (
                    w - net["step"] * m / fresh[0] / (jnp.sqrt(s / fresh[1]) + 1e-8)
                ),
                weights,
                mean,
                square,
            )
            return (weights, mean, square), None

        shapes = ((64, widest), (widest, widest), (widest, 10))
        weights = [
            jax.random.normal(jax.random.fold_in(key, 1000 + i), shape)
            / shape[0] ** 0.5
            for i, shape in enumerate(shapes)
        ]
        zeros = jax.tree.map(jnp.zeros_like, weights)
        (weights, _, _), _ = jax.lax.scan(
            update, (weights, zeros, zeros), jnp.arange(steps)
        )
        return loss(weights, net, pixels[:held], classes[:held])

    columns = zip(*NETS, strict=True)
    nets = {}
    for (name, options), column in zip(CHOICES.items(), columns, strict=True):
        as_index = name.startswith("activation")
        values = [options.index(x) if as_index else float(x) for x in column]
        nets[name] = jnp.array(values)
    return np.asarray(
        jax.jit(lambda nets: jax.lax.map(trained, nets, batch_size=64))(nets)
    )


FAMILIES: dict[str, Callable[[int], Family]] = {
    **{name: (lambda seed, name=name: function(name, seed)) for name in FUNCTIONS},
    "tsp_50": tsp_random,
    "tsp_berlin52": tsp_berlin,
    "max_cut": max_cut,
    "knapsack": knapsack,
    "spin_glass": spin_glass,
    "nas": architectures,
}
