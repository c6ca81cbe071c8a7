"""A step is the mean over all targets, however they are spread."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from train_helpers import make, packed

from simplex_jax import train


def batches(count, rows=4):
    """Return batches (1, B, T) with unequal numbers of targets."""
    found = packed(rows=rows, seed=3)
    return [{k: v[None] for k, v in next(found).items()} for _ in range(count)]


def start(model, config=None, steps=20, mesh=None, dtype=None):
    config = config or train.TrainingConfig(learning_rate=1e-2)
    schedule = train.learning_rate_schedule(config, steps)
    optimizer = train.make_optimizer(config, schedule)
    kind = nnx.Param if config.full else nnx.LoRAParam
    graphdef, params, frozen = nnx.split(model, kind, ...)
    state = train.init_state(params, optimizer, jax.random.key(0))
    if mesh is not None:
        state, frozen = train.place(state, mesh), train.place(frozen, mesh)
    step = train.make_step(graphdef, optimizer, compute_dtype=dtype, chunk_tokens=16)
    return step, state, frozen


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_the_loss_falls_and_the_step_compiles_once():
    step, state, frozen = start(make())
    before = leaves(frozen)
    losses = []
    for batch in batches(2) * 6:
        state, metrics = step(state, frozen, batch)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-2:]) < np.mean(losses[:2]) - 0.1
    assert step._cache_size() == 1
    assert int(state.step) == 12
    for a, b in zip(before, leaves(frozen), strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_what_trains_has_moments():
    _, state, _ = start(make())
    moments = optax.tree.get(state.opt_state, "mu")
    assert jax.tree.structure(moments) == jax.tree.structure(state.params)


def test_micro_batches_count_their_tokens():
    with jax.enable_x64(True):
        model = make(jnp.float64)
        one, two = batches(2)
        # Unequal, so that a mean of means would differ.
        two["loss_mask"] = two["loss_mask"] * (np.arange(32) < 13)
        assert one["loss_mask"].sum() != two["loss_mask"].sum()
        spread = {k: np.concatenate([one[k], two[k]]) for k in one}
        wide = {k: np.concatenate([one[k], two[k]], axis=1) for k in one}
        results = []
        for batch in (spread, wide):
            step, state, frozen = start(model)
            for _ in range(3):
                state, metrics = step(state, frozen, batch)
            results.append((leaves(state.params), float(metrics["loss"])))
        assert results[0][1] == pytest.approx(results[1][1], rel=1e-12)
        for a, b in zip(results[0][0], results[1][0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted():
    step, state, frozen = start(make())
    good, bad = batches(2)
    endless = np.where(bad["loss_mask"] > 0, np.inf, 0).astype(np.float32)
    bad = {**bad, "loss_mask": endless}
    state, _ = step(state, frozen, good)
    kept = leaves((state.params, state.opt_state.inner_state))
    state, _ = step(state, frozen, bad)
    for a, b in zip(
        kept, leaves((state.params, state.opt_state.inner_state)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert int(state.opt_state.total_notfinite) == 1
    assert int(state.step) == 2
    state, metrics = step(state, frozen, good)
    assert np.isfinite(float(metrics["loss"]))
    assert int(state.opt_state.notfinite_count) == 0


@pytest.mark.parametrize("shape", [(8, 1), (4, 2), (2, 4)])
def test_eight_devices_compute_what_one_does(shape):
    results = []
    for sizes in ((1, 1), shape):
        mesh = train.make_mesh(*sizes)
        step, state, frozen = start(make(), mesh=mesh)
        losses = []
        for batch in batches(4, rows=8):
            state, metrics = step(state, frozen, train.place_batch(batch, mesh))
            losses.append(float(metrics["loss"]))
        results.append((losses, leaves(state.params)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_table_places_weights_and_their_moments_alike():
    mesh = train.make_mesh(2, 4)
    _, state, frozen = start(make(), mesh=mesh)
    spec = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path((state, frozen)):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        spec[name] = tuple(leaf.sharding.spec)
    place = next(v for k, v in spec.items() if k.endswith("q_proj/base/kernel/value"))
    assert place == (None, None, "model")
    lora_b = [v for k, v in spec.items() if k.endswith("q_proj/lora_b/value")]
    assert len(lora_b) == 3
    assert set(lora_b) == {(None, None, "model")}
    assert {v for k, v in spec.items() if k.endswith("q_proj/lora_a/value")} == {()}
    kernel = next(
        v for k, v in spec.items() if k.endswith("down_proj/base/kernel/value")
    )
    assert kernel == (None, "model", None)


def test_every_pattern_of_the_table_is_used():
    import re

    graphdef, state = nnx.split(make())
    names = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(state)
    ]
    for pattern, _ in train.PARTITIONS:
        assert any(re.search(pattern, name) for name in names), pattern


def test_a_mesh_that_does_not_fit_says_so():
    with pytest.raises(ValueError, match="24 devices, and there are 8"):
        train.make_mesh(8, 3)
    with pytest.raises(ValueError, match="has 16 .* tensor_parallel_size=3"):
        start(make(), mesh=train.make_mesh(1, 3))


def test_full_training_in_bfloat16_keeps_float32_weights():
    config = train.TrainingConfig(learning_rate=1e-3, full=True)
    step, state, frozen = start(make(adapters=False), config, dtype=jnp.bfloat16)
    losses = []
    for batch in batches(8):
        state, metrics = step(state, frozen, batch)
        losses.append(float(metrics["loss"]))
    assert {leaf.dtype for leaf in leaves(state.params)} == {np.dtype(np.float32)}
    assert losses[-1] < losses[0]


def test_dropout_differs_by_step_and_repeats_by_seed():
    batch = batches(1)[0]
    runs = []
    for _ in range(2):
        config = train.TrainingConfig(learning_rate=1e-9)
        step, state, frozen = start(make(dropout=0.5), config)
        # B = 0 would hide the dropout.
        state = state._replace(params=jax.tree.map(lambda x: x + 0.05, state.params))
        losses = []
        for _ in range(3):
            state, metrics = step(state, frozen, batch)
            losses.append(float(metrics["loss"]))
        runs.append(losses)
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 3


def test_micro_batches_have_dropouts_of_their_own():
    config = train.TrainingConfig(learning_rate=1e-9)
    one = batches(1)[0]
    losses = []
    for batch in (one, {k: np.concatenate([v, v]) for k, v in one.items()}):
        step, state, frozen = start(make(dropout=0.5), config)
        state = state._replace(params=jax.tree.map(lambda x: x + 0.05, state.params))
        losses.append(float(step(state, frozen, batch)[1]["loss"]))
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_evaluation_is_the_loss_without_dropout():
    model = make(dropout=0.5)
    graphdef, params, frozen = nnx.split(model, nnx.LoRAParam, ...)
    evaluate = train.make_evaluation(graphdef, chunk_tokens=16)
    some = [{k: v[0] for k, v in batch.items()} for batch in batches(2)]
    means = train.mean_over(evaluate, params, frozen, some)
    sums = [train.nll(model, {k: jnp.asarray(v) for k, v in b.items()}) for b in some]
    total = sum(float(s) for s, _ in sums) / sum(float(w) for _, w in sums)
    assert means["nll"] == pytest.approx(total, rel=1e-6)
    hits = weight = 0
    for b in some:
        names = ("tokens", "positions", "segment_ids")
        logits = model(*(jnp.asarray(b[name]) for name in names))
        right = np.asarray(logits.argmax(-1)) == b["targets"]
        hits += (right * b["loss_mask"]).sum()
        weight += b["loss_mask"].sum()
    assert means["token_accuracy"] == pytest.approx(hits / weight)


def test_norms_and_biases_do_not_decay():
    config = train.TrainingConfig(learning_rate=0.1, weight_decay=0.5)
    optimizer = train.make_optimizer(config, config.learning_rate)
    params = nnx.state(make(adapters=False), nnx.Param)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
        name = jax.tree_util.keystr(path)
        still = "scale" in name or "bias" in name
        assert bool(jnp.any(leaf != 0)) != still, name


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_the_rate_rises_to_its_peak_and_falls(kind):
    config = train.TrainingConfig(
        learning_rate=1.0, lr_scheduler_type=kind, warmup_ratio=0.1
    )
    schedule = train.learning_rate_schedule(config, 100)
    rates = np.array([schedule(i) for i in range(101)])
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == pytest.approx(1.0)
    assert (np.diff(rates[:11]) > 0).all()
    if kind == "constant":
        assert (rates[10:] == 1).all()
    else:
        assert (np.diff(rates[10:]) < 0).all()
        assert rates[99] > 0
        assert rates[100] == pytest.approx(0, abs=1e-7)


def test_clipping_bounds_the_gradient_that_adam_sees():
    config = train.TrainingConfig(max_grad_norm=0.5, weight_decay=0.0)
    optimizer = train.make_optimizer(config, 1.0)
    params = {"kernel": jnp.ones(4)}
    _, state = optimizer.update(
        {"kernel": jnp.full(4, 9.0)}, optimizer.init(params), params
    )
    mu = optax.tree.get(state, "mu")["kernel"]
    np.testing.assert_allclose(jnp.linalg.norm(mu), 0.5 * 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("per_device_train_batch_size", 0),
        ("max_steps", 0),
        ("learning_rate", float("nan")),
        ("num_train_epochs", 0.0),
        ("adam_beta1", 1.0),
        ("warmup_ratio", 1.0),
        ("max_length", 1),
        ("max_grad_norm", -1.0),
        ("save_total_limit", 0),
    ],
)
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        train.TrainingConfig(**{field: value})
