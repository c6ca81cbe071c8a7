"""Packed batches: nothing lost, nothing mixed, resumed to the byte."""

import itertools
import json
from typing import Any

import numpy as np
import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import data

DTYPES = {
    "tokens": np.int32,
    "targets": np.int32,
    "loss_mask": np.float32,
    "segment_ids": np.int32,
    "positions": np.int32,
}


def sequences(count, longest, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        n = int(rng.integers(2, longest + 2))
        loss = rng.integers(0, 2, n).astype(np.float32)
        loss[-1] = 1
        # Zero is a token like any other.
        found.append((rng.integers(0, 50, n), loss))
    return found


def segments(batch):
    """Yield the sequences of a batch as tuples of tokens, targets and masks."""
    for row in range(len(batch["tokens"])):
        ids = batch["segment_ids"][row]
        for segment in range(1, ids.max() + 1):
            (where,) = np.nonzero(ids == segment)
            assert len(where), "segment ids have no gap"
            assert (np.diff(where) == 1).all(), "a segment is contiguous"
            np.testing.assert_array_equal(
                batch["positions"][row, where], np.arange(len(where))
            )
            yield tuple(
                tuple(batch[name][row, where].tolist())
                for name in ("tokens", "targets", "loss_mask")
            )


def expected(found):
    return sorted(
        (tuple(ids[:-1].tolist()), tuple(ids[1:].tolist()), tuple(loss[1:].tolist()))
        for ids, loss in found
    )


def same(one, two):
    return all(np.array_equal(one[name], two[name]) for name in DTYPES)


@given(
    count=st.integers(1, 120),
    length=st.integers(1, 24),
    batch_size=st.integers(1, 7),
    seed=st.integers(0, 2**70),
    shuffle=st.booleans(),
    max_segments=st.none() | st.integers(1, 3),
)
@draws(30)
def test_every_sequence_is_there_once_an_epoch(
    count, length, batch_size, seed, shuffle, max_segments
):
    rows = sequences(count, length, seed=count)
    batches = data.pack(
        rows,
        batch_size=batch_size,
        length=length,
        seed=seed,
        epochs=2,
        shuffle=shuffle,
        max_segments=max_segments,
    )
    assert batches.report.sequences == count
    assert batches.report.positions == sum(len(ids) - 1 for ids, _ in rows)
    counts = [batches.batches_in_epoch(epoch) for epoch in (0, 1)]
    epochs = {0: [], 1: []}
    for batch in batches:
        assert list(batch) == list(DTYPES)
        for name, dtype in DTYPES.items():
            assert batch[name].shape == (batch_size, length)
            assert batch[name].dtype == dtype
            assert not batch[name][batch["segment_ids"] == 0].any()
        assert max_segments is None or batch["segment_ids"].max() <= max_segments
        epochs[batches.epoch].append(batch)
    for epoch, found in epochs.items():
        assert len(found) == counts[epoch]
        assert sorted(s for b in found for s in segments(b)) == expected(rows)
        loss = sum(int((b["loss_mask"] > 0).sum()) for b in found)
        assert loss == batches.report.loss_tokens
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.parametrize("shuffle", [True, False])
def test_any_position_is_taken_up_exactly(shuffle):
    rows = sequences(180, 16, seed=3)
    make = lambda: data.pack(  # noqa: E731
        rows, batch_size=4, length=20, seed=5, epochs=3, shuffle=shuffle
    )
    batches, states, found = make(), [], []
    states.append(json.dumps(batches.get_state()))
    for batch in batches:
        found.append(batch)
        states.append(json.dumps(batches.get_state()))
    assert json.dumps(batches.get_state()) == states[-1]
    assert len(found) > 50
    for i, state in enumerate(states):
        again = make()
        again.set_state(json.loads(state))
        assert json.dumps(again.get_state()) == state
        rest = list(itertools.islice(again, 18))
        assert len(rest) == len(found[i : i + 18])
        assert all(map(same, rest, found[i:]))


def test_a_state_may_be_set_at_any_time_and_is_not_changed():
    batches = data.pack(sequences(60, 10), batch_size=2, length=12, seed=1)
    next(batches)
    state = batches.get_state()
    copy = json.loads(json.dumps(state))
    first = [next(batches) for _ in range(40)]
    assert batches.epoch > 0
    batches.set_state(state)
    assert batches.epoch == 0 and state == copy
    assert all(map(same, first, [next(batches) for _ in range(40)]))
    assert state == copy


def test_counting_leaves_the_position():
    one = data.pack(sequences(60, 10), batch_size=2, length=12)
    two = data.pack(sequences(60, 10), batch_size=2, length=12)
    assert same(next(one), next(two))
    two.batches_in_epoch()
    assert same(next(one), next(two))


def test_a_state_of_something_else_is_refused():
    rows = sequences(20, 10)
    state = data.pack(rows, batch_size=2, length=12).get_state()
    for other in (
        data.pack(rows[:-1], batch_size=2, length=12),
        data.pack(rows, batch_size=2, length=12, seed=1),
        data.pack(rows, batch_size=3, length=12),
        data.pack(rows, batch_size=2, length=12, shuffle=False),
        data.pack([(i + 1, loss) for i, loss in rows], batch_size=2, length=12),
        data.pack([(i, 2 * loss) for i, loss in rows], batch_size=2, length=12),
    ):
        with pytest.raises(ValueError, match="other sequences, seed or shape"):
            other.set_state(state)
    with pytest.raises(ValueError, match="what get_state returned"):
        data.pack(rows, batch_size=2, length=12).set_state({"epoch": 1})


def test_epochs_differ_in_order_and_seeds_too():
    rows = sequences(60, 10)

    def order(seed, epoch):
        batches = data.pack(rows, batch_size=2, length=12, seed=seed, epochs=2)
        return [s for b in batches if batches.epoch == epoch for s in segments(b)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 1)


def test_weights_are_kept_in_the_mask():
    batches = data.pack([([1, 2, 3], [0, 0, 0.25])], batch_size=1, length=4)
    batch = next(batches)
    np.testing.assert_array_equal(batch["tokens"], [[1, 2, 0, 0]])
    np.testing.assert_array_equal(batch["targets"], [[2, 3, 0, 0]])
    np.testing.assert_array_equal(batch["loss_mask"], [[0, 0.25, 0, 0]])
    np.testing.assert_array_equal(batch["segment_ids"], [[1, 1, 0, 0]])
    np.testing.assert_array_equal(batch["positions"], [[0, 1, 0, 0]])


def test_packing_wastes_little():
    rows = sequences(2_000, 40, seed=9)
    batches = data.pack(rows, batch_size=4, length=128, epochs=1)
    cells = sum(batch["tokens"].size for batch in batches)
    assert batches.report.positions / cells > 0.93


def test_what_is_too_long_is_listed():
    rows = [(range(1, n + 1), [1] * n) for n in (3, 9, 5, 8, 6)]
    batches = data.pack(rows, batch_size=1, length=5, epochs=1)
    assert batches.report.too_long == ((1, 9), (3, 8))
    assert "2 left out as too long: #1 (9 tokens), #3 (8 tokens)" in str(batches.report)
    assert sum(1 for b in batches for _ in segments(b)) == 3
    assert "left out" not in str(data.pack(rows, batch_size=1, length=9).report)
    with pytest.raises(ValueError, match=r"2 of 5 .* more than 6 tokens: #1 \(9"):
        data.pack(rows, batch_size=1, length=5, strict=True)
    with pytest.raises(ValueError, match=r"5 of 5 .* 3 tokens"):
        data.pack([(range(9), [1] * 9)] * 5, batch_size=1, length=2)
    many = [(range(9), [1] * 9)] * 30 + rows[:1]
    assert "and 20 more" in str(data.pack(many, batch_size=1, length=5).report)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (([1, 2], [1]), r"shape \(2,\) and loss of shape \(1,\)"),
        (([1], [1]), "2 tokens at least"),
        (([[1, 2]], [[1, 1]]), r"shape \(1, 2\)"),
        (([1, -1], [1, 1]), "integers from 0"),
        (([1, 2**31], [1, 1]), "integers from 0"),
        (([1.0, 2.0], [1, 1]), "integers from 0"),
        (([1, 2, 3], [1, float("nan"), 1]), "the loss of token 1"),
        (([1, 2, 3], [1, 1, -1]), "the loss of token 2"),
        (([1, 2, 3], [1, 0, float("inf")]), "the loss of token 2"),
        (([1, 2, 3], [1, 0, 0]), "no target carries loss"),
    ],
)
def test_a_malformed_sequence_is_named(row, message):
    with pytest.raises(ValueError, match=f"sequence 1: .*{message}"):
        data.pack([([1, 2], [1, 1]), row], batch_size=1, length=8)


@pytest.mark.parametrize("name", ["batch_size", "length", "epochs", "max_segments"])
def test_sizes_below_one_are_refused(name):
    arguments: dict[str, Any] = {"batch_size": 1, "length": 8, name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0"):
        data.pack([([1, 2], [1, 1])], **arguments)


def test_nothing_to_pack_is_an_error():
    with pytest.raises(ValueError, match="sequences is empty"):
        data.pack([], batch_size=1, length=8)
