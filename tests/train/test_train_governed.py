"""A governed decoder trains in full, on packed rows, like any other."""

import jax
import numpy as np
import pytest
import tiny
from flax import nnx
from train_helpers import VOCAB, packed

from simplex_jax import models, train


@pytest.mark.slow
def test_governance_moves_off_zero_and_the_loss_falls():
    heads = models.GovernanceConfig(policy_rank=2, memory_dim=4)
    config = tiny.config("qwen2", vocab_size=VOCAB, governance=heads)
    model = models.GovernedDecoder(config, rngs=nnx.Rngs(0))
    training = train.TrainingConfig(learning_rate=1e-2, full=True)
    optimizer = train.make_optimizer(
        training, train.learning_rate_schedule(training, 12)
    )
    graphdef, params, frozen = nnx.split(model, nnx.Param, ...)
    state = train.init_state(params, optimizer, jax.random.key(0))
    step = train.make_step(graphdef, optimizer, chunk_tokens=16)
    batch = {k: v[None] for k, v in next(packed(seed=3)).items()}
    losses = []
    for _ in range(8):
        state, metrics = step(state, frozen, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.5
    before = dict(nnx.to_flat_state(nnx.state(model)))
    for path, after in nnx.to_flat_state(state.params):
        change = np.abs(np.asarray(after[...] - before[path][...]))
        assert change.max() > 1e-4, path
