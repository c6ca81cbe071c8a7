"""A learned rate: its slope is that of the run, and a stopped run adapts as a whole."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from train_helpers import make, packed, sequences

from simplex_jax import data, schedules, train
from simplex_jax.train import _adapt, _fit
from simplex_jax.train._adapt import WINDOW, adapts_before, make_adaptation

STEPS = 9


def config(**changes):
    fields = {
        "per_device_train_batch_size": 2,
        "max_length": 32,
        "learning_rate": 1e-2,
        "eval_steps": 4,
        "lr_scheduler_type": "learned",
        **changes,
    }
    return train.TrainingConfig(**fields)


def heldout():
    return list(
        data.pack(sequences(6, 9), batch_size=2, length=32, epochs=1, shuffle=False)
    )


def fit(folder, *, stop_after=None, said=None, held=None, **changes):
    seen = []

    def should_stop():
        seen.append(1)
        return len(seen) == stop_after

    return train.fit(
        make(dropout=0.1),
        packed(rows=2, seed=5),
        config(**changes),
        steps=STEPS,
        folder=folder,
        heldout=heldout() if held is None else held,
        should_stop=should_stop,
        say=(lambda text: None) if said is None else said.append,
    )


@pytest.fixture
def often(monkeypatch):
    """Adapt a short run twice, after three and five steps."""

    def soon(step, steps):
        return step in (3, 5)

    monkeypatch.setattr(_fit, "adapts_before", soon)


def numbers(rate):
    return {name: np.asarray(x).tolist() for name, x in rate.free.items()}


def bits(done):
    return [np.asarray(x) for x in jax.tree.leaves(nnx.state(done.model))]


@pytest.mark.slow
def test_the_slope_is_that_of_the_steps_that_follow():
    with jax.enable_x64(True):
        model = make(jnp.float64, dropout=0.1)
        graphdef, params, frozen = nnx.split(model, nnx.LoRAParam, ...)
        settings = config(max_grad_norm=0.05)
        batches = packed(rows=2, seed=3)
        ahead = [next(batches) for _ in range(WINDOW + 2)]
        ahead = {k: np.stack([x[k][None] for x in ahead]) for k in ahead[0]}
        judge = heldout()[1]
        rate = schedules.LearnableLR.from_params(0.01, 1.0, 4.0, 0.1, steps=20)

        optimizer = train.make_optimizer(settings, rate)
        step = train.make_step(graphdef, optimizer, chunk_tokens=16)
        state = train.init_state(params, optimizer, jax.random.key(1))
        for at in range(2):
            state, _ = step(state, frozen, {k: x[at] for k, x in ahead.items()})
        rest = {k: x[2:] for k, x in ahead.items()}
        adapt = make_adaptation(graphdef, optimizer, rate, chunk_tokens=16)
        adapted, found = adapt(state, frozen, rest, judge)

        evaluate = train.make_evaluation(graphdef, chunk_tokens=16)

        def loss_at(factor):
            shift = jnp.array(factor)
            opt_state = optax.tree.set(state.opt_state, rate_shift=shift)
            # The step donates what it is given.
            now = jax.tree.map(jnp.copy, state._replace(opt_state=opt_state))
            for at in range(WINDOW):
                now, _ = step(now, frozen, {k: x[at] for k, x in rest.items()})
            sums = evaluate(now.params, frozen, judge)
            return float(sums["nll"] / sums["weight"])

        assert float(found["loss"]) == pytest.approx(loss_at(0.0), rel=1e-12)
        h = 1e-3
        wide, near = ((loss_at(s) - loss_at(-s)) / (2 * s) for s in (h, h / 2))
        slope = (4 * near - wide) / 3
        assert abs(slope) > 1e-6
        assert float(found["slope"]) == pytest.approx(slope, rel=1e-6)

        at = 2 + jnp.arange(WINDOW)
        # Adam's first change is its rate, against the slope, and rates follow it.
        new = schedules.LearnableLR(
            optax.tree.get(adapted.opt_state, "rate_numbers"), rate.steps, rate.min_lr
        )
        change = float(jnp.mean(jnp.log(new(at)) - jnp.log(rate(at))))
        assert float(found["change"]) == pytest.approx(change, rel=1e-9)
        assert change == pytest.approx(-0.1 * np.sign(slope), rel=0.05)
        for a, b in zip(
            jax.tree.leaves(adapted.params), jax.tree.leaves(state.params), strict=True
        ):
            np.testing.assert_array_equal(a, b)

        # It stays near its start however often it is pushed.
        for _ in range(12):
            adapted, _ = adapt(adapted, frozen, rest, judge)
        went = jax.tree.map(
            jnp.subtract, optax.tree.get(adapted.opt_state, "rate_numbers"), rate.free
        )
        assert float(optax.tree.norm(went)) == pytest.approx(_adapt._RADIUS, rel=1e-6)

        mask = np.where(judge["loss_mask"] > 0, np.inf, 0)
        endless = {**judge, "loss_mask": mask.astype(np.float32)}
        kept, found = adapt(adapted, frozen, rest, endless)
        assert not np.isfinite(found["slope"])
        assert float(found["change"]) == 0
        for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(adapted), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_run_adapts_and_goes_on_bit_for_bit(often, tmp_path):
    said = []
    whole = fit(tmp_path / "whole", said=said)
    rates = whole.learned_rate
    assert rates is not None and rates.adaptations == 2 and rates.seconds > 0
    assert numbers(rates.start) != numbers(rates.end)
    assert [text.split(":")[0] for text in said] == [
        f"learning rate adapted after step {step}" for step in (3, 5)
    ]
    saved = schedules.load(tmp_path / "whole" / "schedule.json")
    assert numbers(saved) == numbers(rates.end)
    records = {r["step"]: r for r in whole.history if "loss" in r}
    assert records[1]["learning_rate"] == pytest.approx(float(rates.start(0)), rel=1e-5)
    assert records[9]["learning_rate"] == pytest.approx(float(rates.end(8)), rel=1e-5)
    # The peak is the run's.
    top = max(float(rates.start(step)) for step in range(STEPS))
    assert top == pytest.approx(1e-2, rel=1e-4)

    # Between the two, with an adaptation due as soon as it goes on.
    stopped = fit(tmp_path / "again", stop_after=5)
    assert stopped.stopped_by == "interrupt"
    again = fit(tmp_path / "again")
    assert again.learned_rate is not None and again.learned_rate.adaptations == 2
    assert numbers(again.learned_rate.end) == numbers(rates.end)
    assert numbers(again.learned_rate.start) == numbers(rates.start)
    for a, b in zip(bits(again), bits(whole), strict=True):
        np.testing.assert_array_equal(a, b)

    # Another run uses it as it is.
    path = tmp_path / "whole" / "schedule.json"
    other = fit(tmp_path / "other", held=[], lr_schedule_file=str(path))
    assert other.learned_rate is not None and other.learned_rate.adaptations == 0
    assert numbers(other.learned_rate.end) == numbers(rates.end)
    for record in other.history:
        rate = float(rates.end(record["step"] - 1))
        assert record["learning_rate"] == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize("name", ["curve", "points"])
def test_updates_by_a_carried_rate_are_those_of_its_schedule(name):
    points = {"log_rates": jnp.log(jnp.array([0.01, 0.1, 0.05]))}
    rates = {
        "curve": schedules.LearnableLR.from_params(0.05, 1.0, 2.0, 0.3, steps=6),
        "points": schedules.PiecewiseLR(points, 6.0),
    }
    settings = config(adam_epsilon=1e-6)
    rate = rates[name]
    plain = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(rate, eps=1e-6, eps_root=1e-12, weight_decay=0.01),
    )
    carrying = train.make_optimizer(settings, rate)
    results = []
    for optimizer in (plain, carrying):
        params: Any = {"kernel": jnp.array([1.0, -2.0, 0.5])}
        state = optimizer.init(params)
        for step in range(6):
            gradient = {"kernel": params["kernel"] * (step - 2) / 4}
            changes, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, changes)
        results.append(params["kernel"])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 83, 84, 123, 124, 128, 1000, 12_345])
def test_adapting_costs_three_tenths_of_the_steps_at_most(steps):
    times = sum(adapts_before(step, steps) for step in range(steps))
    assert (times > 0) == (steps >= 84)
    # In steps: compiling it, and each adaptation, as RESULTS.md has them.
    assert times == 0 or 15 + 8.5 * times <= 0.3 * steps


def test_bundles_are_read_and_stretched(tmp_path):
    rate = schedules.LearnableLR.from_params(0.02, 2.0, 10.0, steps=50)
    schedules.save(schedules.LearnedSchedules(lr=rate), tmp_path / "bundle.json")
    chosen = config(lr_schedule_file=str(tmp_path / "bundle.json"))
    found = train.learning_rate_schedule(chosen, 200)
    assert float(np.asarray(found(100))) == pytest.approx(float(rate(25)), rel=1e-3)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("{"), "lr_schedule_file: .* no JSON file"),
        (
            lambda path: schedules.save(schedules.LearnableBits.default(), path),
            "lr_schedule_file is .* holds no learning rate",
        ),
        (
            lambda path: schedules.save(schedules.LearnedSchedules(), path),
            "holds no learning rate",
        ),
        (
            lambda path: path.write_text(
                json.dumps({"format": "simplex_jax.anneal.schedule", "version": 7})
            ),
            "lr_schedule_file: .* version 7",
        ),
    ],
)
def test_files_that_hold_no_rate_are_refused(write, message, tmp_path):
    path = tmp_path / "schedule.json"
    write(path)
    chosen = config(lr_schedule_file=str(path))
    with pytest.raises(ValueError, match=message):
        train.learning_rate_schedule(chosen, 10)


def test_what_cannot_be_adapted_says_why(tmp_path):
    with pytest.raises(ValueError, match="needs validation data to adapt on"):
        fit(tmp_path, held=[])
    small: dict[str, Any] = {"adam_epsilon": 1e-30}
    with pytest.raises(ValueError, match="adam_epsilon is 1e-30, too small"):
        fit(tmp_path, **small)
    with pytest.raises(ValueError, match="lr_schedule_file is 'x.json'; give it with"):
        train.TrainingConfig(lr_schedule_file="x.json")
