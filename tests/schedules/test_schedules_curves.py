"""What a run is trained by: values, slopes, properties, files."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simplex_jax import anneal, dual, schedules

# Every schedule of a training run is a row.
SCHEDULES = {
    "lr": lambda: schedules.LearnableLR.from_params(
        0.03, 0.5, 3.0, 0.2, 1.5, steps=20, min_lr=1e-5
    ),
    "piecewise_lr": lambda: schedules.PiecewiseLR(
        {"log_rates": jnp.log(jnp.array([0.01, 0.1, 0.05]))}, 20.0
    ),
    "distillation": lambda: schedules.LearnableDistillation.from_params(
        3.0, 2.0, 0.6, 0.8, steps=20
    ),
    "sparsity": lambda: schedules.LearnableSparsity.from_params(
        0.7, 3.0, steps=20, initial_sparsity=0.1
    ),
    "bits": lambda: schedules.LearnableBits.from_params(
        3.0, 2.0, steps=20, initial_bits=8.0
    ),
    "curriculum": lambda: schedules.LearnableCurriculum.from_params(
        [1.0, 0.2, -1.0], [-0.5, 0.1, 2.0], 2.0, steps=20
    ),
    "bundle": lambda: schedules.LearnedSchedules(
        **{name: SCHEDULES[name]() for name in PARTS}
    ),
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)
PARTS = ("lr", "distillation", "sparsity", "bits", "curriculum")


@every_schedule
def test_schedules_commute_with_jit_and_vmap(name):
    schedule = SCHEDULES[name]()
    steps = jnp.arange(0, 25, 3)
    one_by_one = [schedule(t) for t in steps]
    wanted = jax.tree.map(lambda *x: jnp.stack(x), *one_by_one)
    for f in (schedule.__call__, jax.vmap(schedule.__call__)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
            jax.jit(f)(steps),
            wanted,
        )


@pytest.mark.parametrize("name", ["bundle", "piecewise_lr"])
def test_every_number_has_its_slope(name):
    with jax.enable_x64(True):
        schedule = SCHEDULES[name]()

        def f(schedule):
            return schedule(jnp.array([1, 8, 19]))

        report = dual.check(f, schedule)
        assert report.passed, str(report)

        def total(schedule):
            # Shares sum to 1, so that a plain sum has no slope.
            values = [x.ravel() for x in jax.tree.leaves(f(schedule))]
            return sum(jnp.sum(x * jnp.arange(1, 1 + x.size)) for x in values)

        slopes = jax.tree.leaves(jax.grad(total)(schedule))
        assert min(np.abs(slope).min() for slope in slopes) > 0


@every_schedule
def test_a_longer_run_has_the_same_curve(name):
    schedule = SCHEDULES[name]()
    longer = schedule.scaled(steps=2000)
    # A warm-up has begun one step before the first update.
    at = jnp.array([0.2, 0.5, 0.9])
    for a, b in zip(
        jax.tree.leaves(schedule(20 * at)),
        jax.tree.leaves(longer(2000 * at)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=0.2 if name in ("lr", "bundle") else 1e-5)
    with pytest.raises(ValueError, match="steps is 0"):
        schedule.scaled(steps=0)


@every_schedule
def test_files_give_the_same_bits(name, tmp_path):
    schedule = SCHEDULES[name]()
    schedules.save(schedule, tmp_path / "schedule.json")
    back = schedules.load(tmp_path / "schedule.json")
    assert jax.tree.structure(back) == jax.tree.structure(schedule)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(schedule), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content["free"].pop(next(iter(content["free"]))),
        lambda content: content["plain"].pop("steps"),
        lambda content: content["plain"].update(steps=0.0),
        lambda content: next(iter(content["free"].values())).update(value=math.nan),
        lambda content: content.update(kind="moonlight"),
        lambda content: content.pop("kind"),
    ],
)
def test_damaged_files_are_refused(name, damage, tmp_path):
    path = tmp_path / "schedule.json"
    schedules.save(SCHEDULES[name](), path)
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="damaged"):
        schedules.load(path)


def test_files_of_another_version_are_refused(tmp_path):
    path = tmp_path / "schedule.json"
    schedules.save(SCHEDULES["bundle"](), path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "version": 2}))
    with pytest.raises(ValueError, match="version 2, but this release reads version 1"):
        schedules.load(path)
    parts = {"bits": content["parts"]["lr"]}
    path.write_text(json.dumps({**content, "parts": parts}))
    with pytest.raises(ValueError, match="bits is of the kind lr"):
        schedules.load(path)


@pytest.mark.parametrize("name", ["lr", "piecewise_lr"])
def test_a_rate_has_the_peak_it_is_given(name):
    rate = SCHEDULES[name]()
    higher = rate.at_peak(0.5)
    before, after = (np.asarray(x(jnp.arange(20))) for x in (rate, higher))
    assert after.max() == pytest.approx(0.5, rel=1e-6)
    np.testing.assert_allclose(after / after.max(), before / before.max(), rtol=1e-5)
    with pytest.raises(ValueError, match="peak is -1"):
        rate.at_peak(-1.0)


def test_values_of_distillation():
    taught = SCHEDULES["distillation"]()
    found = taught(jnp.array([0, 10, 20, 99]))
    np.testing.assert_allclose(
        np.asarray(found.weight), 0.6 * np.exp([-0.0, -0.4, -0.8, -0.8]), rtol=1e-6
    )
    # At the end 3 / e^2 is below the floor, and still has a slope.
    assert 1 < found.temperature[2] < 1.3
    slope = jax.grad(lambda s: s(20).temperature)(taught).free["initial_temp"]
    assert slope > 0.05


@pytest.mark.parametrize("steps", [10, 1000])
def test_ramps_arrive_whatever_the_length_of_the_run(steps):
    sparse = schedules.LearnableSparsity.from_params(0.5, 0.3, steps=steps)
    width = schedules.LearnableBits.from_params(4.0, 5.0, steps=steps)
    at = jnp.array([0, steps // 2, steps, 3 * steps])
    shares, bits = sparse(at), width(at)
    np.testing.assert_allclose(shares[jnp.array([0, 2, 3])], [0, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(bits[jnp.array([0, 2, 3])], [16, 4, 4], rtol=1e-6)
    assert 0.25 < shares[1] < 0.3
    assert 4 < bits[1] < 6


def test_a_curriculum_begins_unspecialised_and_learns_to_prefer():
    start = schedules.LearnableCurriculum.default(3, steps=10)
    np.testing.assert_allclose(start(jnp.arange(11)), 1 / 3, rtol=1e-6)

    def cost(shares):
        # The first task is worth something early, the last one late.
        early, late = shares(0), shares(10)
        return -jnp.log(early[0]) - jnp.log(late[2])

    slope = jax.grad(cost)(start).free
    np.testing.assert_allclose(slope["early"], [-2 / 3, 1 / 3, 1 / 3], rtol=1e-5)
    np.testing.assert_allclose(slope["late"], [1 / 3, 1 / 3, -2 / 3], rtol=1e-5)
    shares = np.asarray(SCHEDULES["curriculum"]()(jnp.arange(21)))
    assert (shares > 0).all()
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    assert shares[0].argmax() == 0 and shares[20].argmax() == 2


def test_a_bundle_says_what_its_parts_say():
    values = SCHEDULES["bundle"]()(7)
    for name in PARTS:
        for a, b in zip(
            jax.tree.leaves(getattr(values, name)),
            jax.tree.leaves(SCHEDULES[name]()(7)),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    alone = schedules.LearnedSchedules(bits=SCHEDULES["bits"]())
    assert set(alone.parts) == {"bits"}
    values = alone(7)
    assert values.lr is values.distillation is values.sparsity is values.curriculum
    assert values.lr is None and values.bits is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: schedules.LearnableDistillation.from_params(initial_weight=1.0),
            "initial_weight is 1.0; give a number in",
        ),
        (
            lambda: schedules.LearnableDistillation.from_params(temp_decay=0.0),
            "temp_decay is 0.0",
        ),
        (lambda: schedules.LearnableSparsity.from_params(1.5), "final_sparsity is 1.5"),
        (
            lambda: schedules.LearnableSparsity.from_params(initial_sparsity=1.0),
            "initial_sparsity is 1.0",
        ),
        (lambda: schedules.LearnableBits.from_params(2.0), "final_bits is 2.0"),
        (lambda: schedules.LearnableBits.from_params(17.0), "final_bits is 17.0"),
        (
            lambda: schedules.LearnableBits.from_params(initial_bits=1.0),
            "initial_bits is",
        ),
        (lambda: schedules.LearnableBits.from_params(rate=math.inf), "rate is inf"),
        (lambda: schedules.LearnableBits.default(steps=0), "steps is 0"),
        (lambda: schedules.LearnableCurriculum.default(1), "tasks is 1"),
        (
            lambda: schedules.LearnableCurriculum.from_params([0.0, 1.0], [0.0]),
            r"shapes \(2,\) and \(1,\)",
        ),
        (
            lambda: schedules.LearnableCurriculum.from_params(
                [0.0, math.nan], [0.0, 1]
            ),
            r"early\[1\] is nan",
        ),
        (lambda: schedules.PiecewiseLR.constant(0.1, steps=10, knots=1), "knots is 1"),
        (lambda: schedules.PiecewiseLR.constant(-0.1, steps=10), "rate is -0.1"),
        (lambda: schedules.PiecewiseLR.constant(math.nan, steps=10), "rate is nan"),
    ],
)
def test_bad_numbers_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_readers_name_each_other(tmp_path):
    path = tmp_path / "schedule.json"
    schedules.save(SCHEDULES["bits"](), path)
    with pytest.raises(ValueError, match="its kind is 'bits'.* schedules.load those"):
        anneal.load(path)
    anneal.save(anneal.exponential(1.0, 0.1), path)
    with pytest.raises(ValueError, match="its kind is 'exponential'.*anneal.load"):
        schedules.load(path)
    with pytest.raises(ValueError, match="schedule is a FixedSchedule"):
        schedules.save(anneal.exponential(1.0, 0.1), path)
    with pytest.raises(ValueError, match="schedule is a LearnableBits"):
        anneal.save(SCHEDULES["bits"](), path)
