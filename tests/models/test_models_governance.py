"""A governed decoder is causal, cached, packed, saved and trained like a plain one."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx
from models_governed import FLAGS, governed, shaken
from models_helpers import TINY, assert_same_parameters, gap, logits, prompts

from simplex_jax import governance, lora, models
from simplex_jax.models import GovernanceConfig
from simplex_jax.models._governance import key_width, marks_of, split

LENGTHS = (11, 5, 8)
_SLOW, _NIGHTLY = pytest.mark.slow, pytest.mark.nightly
# Each takes seconds to compile; the quick one has every head, the slow ones one each.
ONE_HEAD = ("policy-none", "veto-none", "forget", "delta")
EVERY_FLAG = [
    "policy-veto-both",
    *(pytest.param(name, marks=_SLOW) for name in ONE_HEAD),
    *(
        pytest.param(name, marks=_NIGHTLY)
        for name in FLAGS
        if name not in ("policy-veto-both", *ONE_HEAD)
    ),
]
SEGMENTS = jnp.asarray([[0, 2, 2, 2, 2, 7, 7, 7, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1, 0]])


@pytest.mark.parametrize("flags", EVERY_FLAG)
def test_logits_do_not_depend_on_later_embeddings(flags):
    model = shaken(governed(FLAGS[flags]))
    x = jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, tiny.WIDTH))

    @jax.jit
    def jacobian(x):
        def of(x):
            hidden, _ = model.from_embeddings(x, segment_ids=SEGMENTS)
            return model.logits(hidden)[..., :3].sum(-1)

        return jax.jacrev(of)(x)

    slopes = np.abs(np.asarray(jacobian(x))).max(-1)
    for row, ids in enumerate(np.asarray(SEGMENTS)):
        real = np.flatnonzero(ids)
        for t in real:
            found = slopes[row, t]
            # A token of a packed document sees what is before it there, and no more.
            seen = np.zeros_like(found, bool)
            seen[row, [s for s in real if s <= t and ids[s] == ids[t]]] = True
            assert not found[~seen].any(), (row, t)
            assert found[seen].all(), (row, t)


def by_cache(model, tokens, real, cuts, unstacked):
    layers = models.unstack_layers(model) if unstacked else None
    step = jax.jit(models.extend)
    cache = models.empty_cache(model, len(tokens), 16)
    parts = []
    for start, end in zip(cuts[:-1], cuts[1:], strict=True):
        part = slice(start, end)
        hidden, cache = step(model, tokens[:, part], real[:, part], cache, layers)
        parts.append(model.logits(hidden))
    return jnp.concatenate(parts, axis=1)


@pytest.mark.parametrize(
    ("kind", "bits", "unstacked"),
    [
        ("llama", 64, True),
        pytest.param("llama", 64, False, marks=_SLOW),
        pytest.param("qwen3", 64, True, marks=_SLOW),
        *(
            pytest.param(*row, marks=_NIGHTLY)
            for row in (
                ("qwen3", 64, False),
                *itertools.product(("llama", "qwen3"), (32,), (False, True)),
            )
        ),
    ],
)
def test_cached_logits_equal_those_of_whole_rows(kind, bits, unstacked):
    with jax.enable_x64(bits == 64):
        dtype = jnp.float64 if bits == 64 else jnp.float32
        model = shaken(governed(kind=kind), param_dtype=dtype)
        tokens, _, segments = prompts(29, LENGTHS)
        tokens, real = jnp.asarray(tokens), jnp.asarray(segments == 1)
        whole = logits(model, tokens, jnp.asarray(segments))
        cuts = [0, 4, 8, 9, 10, 11]
        cached = by_cache(model, tokens, real, cuts, unstacked)
        assert cached.dtype == whole.dtype == dtype
        assert gap(cached, whole, segments == 1) <= (1e-11 if bits == 64 else 1e-5)


@_SLOW
def test_rows_of_unequal_length_go_on_without_a_gap():
    with jax.enable_x64(True):
        model = shaken(governed(), param_dtype=jnp.float64)
        tokens, lengths, segments = prompts(29, LENGTHS)
        more, _, _ = prompts(29, (3, 3, 3), seed=1)
        both = jnp.concatenate([tokens, more], axis=1)
        real = jnp.concatenate([segments == 1, np.ones_like(more) == 1], axis=1)
        cached = by_cache(model, both, real, [0, 11, 12, 14], False)
        for row, length in enumerate(lengths):
            alone = np.concatenate([tokens[row, :length], more[row]])[None]
            whole = logits(model, jnp.asarray(alone), jnp.ones(alone.shape, int))
            assert gap(cached[row, 11:], whole[0, length:]) <= 1e-11


@pytest.mark.parametrize("kind", ["llama", pytest.param("qwen2", marks=_SLOW)])
def test_packed_documents_equal_rows_of_their_own(kind):
    model = shaken(governed(kind=kind))
    tokens, lengths, segments = prompts(29, (9, 4, 6))
    alone = logits(model, tokens, segments)
    packed = np.concatenate([t[:n] for t, n in zip(tokens, lengths, strict=True)])
    row = np.concatenate([[0], packed, [0, 0]]).astype(np.int32)[None]
    ids = np.concatenate([[0], np.repeat([5, 2, 7], lengths), [0, 0]])[None]
    together = logits(model, row, ids)
    at = 1
    for one, length in zip(alone, lengths, strict=True):
        assert gap(together[0, at : at + length], one[:length]) <= 1e-5
        at += length


@pytest.mark.parametrize(
    "kind", ["qwen3", *(pytest.param(k, marks=_SLOW) for k in ("llama", "qwen2"))]
)
def test_an_untrained_governed_decoder_is_the_plain_one(kind):
    plain = models.Decoder(TINY[kind], rngs=nnx.Rngs(0))
    model = models.GovernedDecoder(TINY[kind], rngs=nnx.Rngs(0))
    assert model.config.governance == GovernanceConfig()
    tokens, _, segments = prompts(29, LENGTHS)
    tokens = jnp.asarray(tokens)
    found = logits(model, tokens, segments)
    assert gap(found, logits(plain, tokens, segments), segments == 1) <= 1e-6
    assert np.std(found) > 1e-3


@pytest.mark.parametrize("flags", EVERY_FLAG)
def test_every_parameter_gets_a_gradient_from_the_likelihood(flags):
    model = shaken(governed(FLAGS[flags]))
    tokens, _, segments = prompts(29, LENGTHS)
    graphdef, state = nnx.split(model)

    @jax.jit
    def gradient(state):
        def nll(state):
            rows = nnx.merge(graphdef, state)(
                jnp.asarray(tokens), segment_ids=jnp.asarray(segments)
            )
            logprobs = jax.nn.log_softmax(rows[:, :-1])
            chosen = jnp.take_along_axis(logprobs, tokens[:, 1:, None], axis=-1)
            return -jnp.sum(chosen[..., 0] * segments[:, 1:])

        return jax.grad(nll)(state)

    for path, leaf in nnx.to_flat_state(gradient(state)):
        # One number a layer, at least, in every Variable of the stack.
        layers = leaf[...] if path[0] == "layers" else leaf[...][None]
        assert all(np.abs(layer).max() > 1e-6 for layer in layers), path


@pytest.mark.parametrize(
    "remat",
    [
        pytest.param(name, marks=_SLOW if name == "projections" else _NIGHTLY)
        for name in models.REMAT_POLICIES
    ],
)
def test_remat_changes_no_gradient(remat):
    with jax.enable_x64(True):
        tokens = jnp.asarray(prompts(29, (9,))[0])

        def derivatives(remat):
            model = shaken(governed(), param_dtype=jnp.float64, remat=remat)
            graphdef, state = nnx.split(model)

            def total(state):
                return jnp.sum(jnp.sin(nnx.merge(graphdef, state)(tokens)))

            reverse = jax.jit(jax.grad(total))(state)
            forward = jax.jit(lambda s: jax.jvp(total, (s,), (reverse,)))(state)[1]
            squares = jax.tree.map(lambda g: jnp.sum(g * g), reverse)
            return forward, sum(jax.tree.leaves(squares))

        forward, squares = derivatives(remat)
        assert abs(forward - squares) <= 1e-10 * squares
        assert abs(squares - derivatives("none")[1]) <= 1e-10 * squares


def test_windows_of_one_document_carry_the_state_and_reset_at_the_next():
    with jax.enable_x64(True):
        model = shaken(governed(), param_dtype=jnp.float64)
        x = jax.random.normal(jax.random.key(0), (2, 8, tiny.WIDTH), jnp.float64)
        ids = jnp.asarray([[3] * 8, [3] * 4 + [4] * 4])
        memory = models.empty_memory(model, 2)
        run = jax.jit(model.from_embeddings)
        _, memory = run(x[:, :4], segment_ids=ids[:, :4], memory=memory)
        assert memory.segments.tolist() == [3, 3]
        carried, after = run(x[:, 4:], segment_ids=ids[:, 4:], memory=memory)
        nothing = models.empty_memory(model, 2)
        fresh, _ = run(x[:, 4:], segment_ids=ids[:, 4:], memory=nothing)
        assert after.segments.tolist() == [3, 4]
        assert gap(carried[0], fresh[0]) > 1e-3
        assert gap(carried[1], fresh[1]) == 0


def test_only_the_first_layers_state_is_that_of_the_whole_row():
    """Attention sees a window; the first layer's memory, whose input has no context,
    goes on as if there were none."""
    with jax.enable_x64(True):
        config = dataclasses.replace(governed(), num_hidden_layers=1)
        model = shaken(config, param_dtype=jnp.float64)
        x = jax.random.normal(jax.random.key(0), (2, 8, tiny.WIDTH), jnp.float64)
        states: list[governance.DeltaState] = []
        for cuts in ([0, 8], [0, 3, 8]):
            memory = models.empty_memory(model, 2)
            for start, end in zip(cuts[:-1], cuts[1:], strict=True):
                _, memory = model.from_embeddings(x[:, start:end], memory=memory)
                assert memory is not None
            states.append(memory.states)
        for whole, cut in zip(*states, strict=True):
            assert gap(whole, cut) <= 1e-13


def test_marks_tell_documents_from_padding():
    marks, last = marks_of(
        jnp.asarray([[0, 3, 0, 3, 4, 0], [5, 5, 6, 6, 6, 6]]), jnp.asarray([3, 1])
    )
    assert marks.real.tolist() == [[False, True, False, True, True, False], [True] * 6]
    assert marks.fresh.tolist() == [
        [False, False, False, False, True, False],
        [True, False, True, False, False, False],
    ]
    assert last.tolist() == [4, 6]


def test_half_precision_keeps_the_sums_of_gates():
    """One bfloat16 channel for a number of 560 would be wrong by 1."""
    x = -560 * jax.random.uniform(jax.random.key(0), (2, 50, 3))
    channels = jax.jit(lambda x: split(x, jnp.bfloat16))(x)
    assert [c.dtype for c in channels] == [jnp.bfloat16] * 3
    total = np.sum([np.asarray(c, np.float64) for c in channels], axis=0)
    assert gap(total[..., 0], x) <= 1e-4
    assert gap(channels[0][..., 0].astype(jnp.float32), x) > 0.5
    slope = jax.grad(lambda x: sum(map(jnp.sum, split(x, jnp.bfloat16))))(x)
    assert (slope == 1).all()


def test_a_bfloat16_model_is_close_to_its_float32_self():
    wide, narrow = (
        shaken(governed(), param_dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16)
    )
    tokens, _, segments = prompts(29, LENGTHS)
    exact = logits(wide, tokens, segments)
    found = logits(narrow, tokens, segments)
    # Logits of a standard deviation of 2, weights rounded to 8 bits.
    assert gap(found, exact, segments == 1) <= 0.5
    cache = models.empty_cache(narrow, 1, 4)
    found = [(x.shape, x.dtype) for x in jax.tree.leaves(cache.layers[0])]
    assert found == [
        ((1, 2, 8 + 3 + 3, 4), jnp.bfloat16),
        ((1, 2, 4, 8), jnp.bfloat16),
        ((1, 2), jnp.float32),
        ((1, 2, 4, 4), jnp.float32),
        ((1, 2, 4), jnp.float32),
    ]


@_NIGHTLY
def test_generation_equals_running_the_whole_row_again():
    model = shaken(governed(kind="qwen3"))
    tokens, lengths, _ = prompts(29, LENGTHS)
    found = models.generate(model, tokens, lengths, max_new_tokens=6, chunk_tokens=4)
    for row, length in enumerate(lengths):
        ids = tokens[row, :length].tolist()
        for token in found.tokens[row].tolist():
            whole = logits(model, jnp.asarray([ids]), jnp.ones((1, len(ids)), int))
            assert token == int(jnp.argmax(whole[0, -1]))
            ids.append(token)


@pytest.mark.parametrize(
    "flags",
    [
        "policy-veto-both",
        *(pytest.param(f, marks=_SLOW) for f in ("policy-none", "delta")),
    ],
)
def test_saved_and_loaded_it_is_the_same(flags, tokenizer, tmp_path):
    config = dataclasses.replace(governed(FLAGS[flags]), vocab_size=320)
    model = shaken(config)
    models.save_hf(model, tokenizer, tmp_path / "model")
    again, _ = models.load(tmp_path / "model")
    assert again.config == config
    assert_same_parameters(model, again)
    names = {t.hf_name for t in models.outside_tensors(model)}
    assert all(
        name.startswith(f"model.layers.{i}.self_attn.governance.")
        for name in names
        for i in [name.split(".")[2]]
        if "governance" in name
    )
    assert sum("governance" in name for name in names) > 0
    raw = json.loads((tmp_path / "model" / "config.json").read_text())
    assert raw["model_type"] == "governed_llama"
    assert raw["governance"] == dataclasses.asdict(FLAGS[flags])


def test_transformers_refuses_a_governed_folder(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = dataclasses.replace(governed(), vocab_size=320)
    models.save_hf(shaken(config), tokenizer, tmp_path / "model")
    with pytest.raises(ValueError, match="governed_llama"):
        transformers.AutoConfig.from_pretrained(tmp_path / "model")


def test_gguf_is_refused_by_name(tokenizer, tmp_path):
    model = shaken(dataclasses.replace(governed(), vocab_size=320))
    with pytest.raises(ValueError, match="governance.*policy=True.*llama.cpp has no"):
        models.save_gguf(model, tokenizer, tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memori": "both"}, r"governance.memori is unknown; .* governance.memory\?"),
        ({"policy_rank": 0}, "governance.policy_rank is 0; give at least 1"),
        ({"policy_rank": 2.5}, r"governance.policy_rank=2.5 \(expected int\)"),
        ({"policy": 1}, r"governance.policy=1 \(expected bool\)"),
        ({"memory": "long"}, "memory is 'long'; give one of none, forget, delta, both"),
        ({"memory_dim": -1}, "governance.memory_dim is -1; give at least 1"),
        ({"policy": False, "veto_gate": False, "memory": "none"}, "has no head"),
    ],
)
def test_wrong_governance_is_named(change, message):
    raw = models.config_to_hf(governed())
    raw["governance"] |= change
    with pytest.raises(ValueError, match=message):
        models.config_from_hf(raw)


def test_governance_that_is_no_object_is_named():
    raw = models.config_to_hf(governed()) | {"governance": "all"}
    with pytest.raises(ValueError, match="governance='all'"):
        models.config_from_hf(raw)


def test_a_memory_is_asked_of_models_that_have_one():
    model = shaken(governed(FLAGS["policy-veto-forget"]))
    with pytest.raises(ValueError, match="no associative memory.*'both'"):
        models.empty_memory(model, 1)


def test_heads_add_at_most_8_percent_to_smollm2():
    config = models.DecoderConfig(
        model_type="llama",
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )

    def count(config):
        return models.parameter_count(
            nnx.eval_shape(lambda: models.Decoder(config, rngs=nnx.Rngs(0)))
        )

    plain = count(config)
    added = count(dataclasses.replace(config, governance=GovernanceConfig())) - plain
    assert plain == 134_515_008
    assert 0 < added <= 0.08 * plain
    whole = dataclasses.replace(config, governance=GovernanceConfig())
    assert key_width(whole, jnp.float32) == 64 + 5 + 1
    assert key_width(whole, jnp.bfloat16) == 64 + 5 + 3


@_NIGHTLY
def test_adapters_and_importances_go_with_governed_models():
    model = shaken(governed())
    tokens = jnp.asarray(prompts(29, (9,))[0])
    assert len(models.input_squares(model, tokens)) == 7
    config = lora.LoRAConfig(r=2, target_modules="all-linear")
    adapted = lora.attach(model, config, key=jax.random.key(0))
    assert gap(adapted(tokens), model(tokens)) <= 1e-5
    _, adapters, _ = nnx.split(adapted, nnx.LoRAParam, ...)
    sites = {path[:-1] for path, _ in nnx.to_flat_state(adapters)}
    assert len(sites) == 7 + 10
