"""What a run is told: from YAML and words to a configuration, or to a clear error."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import lora, pipeline, train
from simplex_jax.pipeline._config import differences

TASK = {"specialist": "sentiment_analysis"}


@pytest.fixture
def from_yaml(tmp_path):
    def load(text):
        path = tmp_path / "run.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return pipeline.load_yaml(path)

    return load


def refusal(*layers):
    with pytest.raises(ValueError) as error:
        pipeline.make_config(*layers)
    return str(error.value)


def test_nothing_but_a_specialist_gives_every_default():
    config = pipeline.make_config(TASK)
    assert config == pipeline.RunConfig(specialist="sentiment_analysis")
    assert config.lora == lora.LoRAConfig.standard()
    assert config.training == train.TrainingConfig()
    assert config.data == pipeline.DataConfig()
    assert config.export == pipeline.ExportConfig()


def test_sections_change_their_keys_and_leave_the_others(from_yaml):
    config = pipeline.make_config(
        from_yaml(
            "specialist: neural_ir\n"
            "base: other.gguf\n"
            "lora: {r: 4, target_modules: [q_proj, o_proj]}\n"
            "training: {max_steps: 7}\n"
            "data: {train_examples: 9}\n"
            "export: {type: f16, name: gate}\n"
        )
    )
    assert (config.specialist, config.base) == ("neural_ir", "other.gguf")
    assert config.lora == dataclasses.replace(
        lora.LoRAConfig.standard(), r=4, target_modules=("q_proj", "o_proj")
    )
    assert config.training == train.TrainingConfig(max_steps=7)
    assert config.data == pipeline.DataConfig(train_examples=9)
    assert config.export == pipeline.ExportConfig(type="f16", name="gate")


def test_settings_win_over_the_file_and_options_over_settings(from_yaml):
    file = from_yaml("training: {seed: 1, max_steps: 1, max_length: 99}\nbase: file\n")
    settings = pipeline.assignments(["training.seed=2", "training.max_steps=2"])
    options = {"training": {"seed": 3}, "base": "option", **TASK}
    config = pipeline.make_config(file, settings, options)
    training = config.training
    assert (training.seed, training.max_steps, training.max_length) == (3, 2, 99)
    assert config.base == "option"


def test_an_empty_section_means_its_defaults(from_yaml):
    layer = from_yaml("specialist: neural_ir\ntraining:\n  # max_steps: 3\n")
    assert pipeline.make_config(layer).training == train.TrainingConfig()


@pytest.mark.parametrize("text", ["2e-4", "2.0e-4", "0.0002", "'2e-4'"])
def test_a_rate_may_be_written_as_people_write_it(from_yaml, text):
    # YAML 1.1 takes 2e-4 for a text.
    file = from_yaml(f"training: {{learning_rate: {text}}}\n")
    assert pipeline.make_config(TASK, file).training.learning_rate == 2e-4
    words = pipeline.assignments([f"training.learning_rate={text}"])
    assert pipeline.make_config(TASK, words).training.learning_rate == 2e-4


def test_a_field_that_may_be_whole_or_not_takes_both_and_exponents():
    found = pipeline.make_config(
        TASK, {"lora": {"lora_dropout": "1e-2", "lora_alpha": 8}}
    )
    assert found.lora.lora_dropout == 0.01
    assert found.lora.lora_alpha == 8
    assert isinstance(found.lora.lora_alpha, int)


def test_a_whole_number_stands_for_a_real_one():
    found = pipeline.make_config(TASK, {"training": {"num_train_epochs": 2}}).training
    assert found.num_train_epochs == 2.0
    assert isinstance(found.num_train_epochs, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {seed: 1}\ntraining: {seed: 2}\n", "key 'training' occurs twice"),
        ("training:\n  seed: 1\n  seed: 2\n", "key 'seed' occurs twice"),
        ("training: [unclosed\n", "not YAML"),
        ("training: !!python/object:os.system {}\n", "not YAML"),
        ("training: {seed: 2024-13-45}\n", "not YAML"),
        ("? [1, 2]\n: 3\n", "not YAML"),
        (b"training: \xff\xfe\n", "not YAML"),
        ("- training\n", "holds list; write sections, such as 'training:'"),
        ("just words\n", "holds str; write sections"),
        ("", "holds NoneType; write sections"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_by_name(from_yaml, text, message):
    with pytest.raises(ValueError, match="run.yaml: ") as error:
        from_yaml(text)
    assert message in str(error.value)


def test_a_duplicate_key_is_named_with_its_line(from_yaml):
    with pytest.raises(ValueError, match="line 2"):
        from_yaml("lora: {r: 1}\ntraining: {seed: 1, seed: 2}\n")


def test_a_file_that_is_absent_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.yaml"):
        pipeline.load_yaml(tmp_path / "absent.yaml")


def test_words_become_sections_with_values_as_yaml_reads_them():
    assert pipeline.assignments(
        ["base=x.gguf", "training.bf16=true", "lora.target_modules=[q_proj]", "data.a="]
    ) == {
        "base": "x.gguf",
        "training": {"bf16": True},
        "lora": {"target_modules": ["q_proj"]},
        "data": {"a": None},
    }
    assert pipeline.assignments([]) == {}
    # An equals sign in the value is the value's.
    assert pipeline.assignments(["base=a=b"]) == {"base": "a=b"}


@pytest.mark.parametrize(
    "text", ["training.max_steps", "=3", "a..c=3", "training.=3", ""]
)
def test_words_of_another_form_are_refused_with_an_example(text):
    with pytest.raises(ValueError, match="write section.key=value") as error:
        pipeline.assignments([text])
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("value", ["[1", "{a: 1, a: 2}", "2024-13-45"])
def test_a_value_that_is_not_yaml_is_refused(value):
    with pytest.raises(ValueError, match="is not YAML"):
        pipeline.assignments([f"training.seed={value}"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lora.r", 4),
        ("lora.lora_alpha", 8),
        ("lora.lora_dropout", 0.2),
        ("training.num_train_epochs", 1.5),
        ("training.learning_rate", 0.001),
        ("training.per_device_train_batch_size", 2),
        ("training.gradient_accumulation_steps", 3),
        ("training.gradient_checkpointing", False),
        ("training.bf16", True),
    ],
)
def test_every_key_of_the_founding_configuration_is_taken(name, value):
    section, key = name.split(".")
    config = pipeline.make_config(TASK, pipeline.assignments([f"{name}={value}"]))
    assert getattr(getattr(config, section), key) == value
    assert config == pipeline.make_config(TASK, {section: {key: value}})


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("tf32", True, "JAX_DEFAULT_MATMUL_PRECISION=tensorfloat32"),
        ("fp16", True, "use training.bf16"),
        ("optim", "adamw_8bit", "use training.optim=adamw"),
        ("optim", "sgd", "give 'adamw'"),
        ("report_to", "wandb", "metrics.jsonl is always written"),
        ("output_dir", "out", "--out"),
    ],
)
def test_a_key_that_means_nothing_here_says_what_does(key, value, instead):
    message = refusal(TASK, {"training": {key: value}})
    assert message.startswith(f"training.{key}")
    assert instead in message


@pytest.mark.parametrize(
    ("layer", "name", "nearest"),
    [
        ({"training": {"learning_rat": 1}}, "training.learning_rat", "learning_rate"),
        ({"training": {"max_seq_length": 1}}, "max_seq_length", "training.max_length"),
        ({"lora": {"alpha": 1}}, "lora.alpha", "lora.lora_alpha"),
        (
            {"lora": {"learning_rate": 1}},
            "lora.learning_rate",
            "training.learning_rate",
        ),
        ({"data": {"bf16": True}}, "data.bf16", "training.bf16"),
        ({"r": 4}, "unknown key r", "lora.r"),
        ({"max_steps": 4}, "unknown key max_steps", "training.max_steps"),
        ({"learnin_rate": 4}, "unknown key learnin_rate", "training.learning_rate"),
        ({"trainning": {"seed": 1}}, "unknown key trainning", "training"),
        ({"specialst": "x"}, "unknown key specialst", "specialist"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(layer, name, nearest):
    message = refusal(TASK, layer)
    assert name in message
    assert f"; did you mean {nearest}?" in message or f".{nearest}?" in message


def test_a_key_that_is_near_nothing_is_still_named():
    assert refusal(TASK, {"lora": {"zzzz": 1}}) == "unknown key lora.zzzz"
    assert refusal(TASK, {"lora": {7: 1}}) == "unknown key lora.7"


@pytest.mark.parametrize(
    ("section", "key", "value", "wanted"),
    [
        ("training", "max_steps", "many", "give int"),
        ("training", "max_steps", 1.5, "give int"),
        ("training", "max_steps", True, "give int"),
        ("training", "learning_rate", True, "give float"),
        ("training", "learning_rate", "fast", "give float"),
        ("training", "learning_rate", [1], "give float"),
        ("training", "bf16", "yes please", "give bool"),
        ("training", "bf16", 1, "give bool"),
        ("training", "seed", None, "give int"),
        ("training", "lr_scheduler_type", 3, "give 'cosine' or 'linear'"),
        ("training", "optim", ["adamw"], "give 'adamw'"),
        ("data", "file", 5, "give str or nothing"),
        ("export", "type", 8, "give str"),
        ("lora", "r", "8", "give int"),
        ("lora", "rank_pattern", [1], "give Mapping"),
    ],
)
def test_a_wrong_type_names_section_key_and_value(section, key, value, wanted):
    message = refusal(TASK, {section: {key: value}})
    assert message.startswith(f"{section}.{key} is {value!r}; ")
    assert wanted in message


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("training", "max_steps", 0),
        ("training", "max_steps", -2),
        ("training", "num_train_epochs", 0.0),
        ("training", "learning_rate", float("nan")),
        ("training", "learning_rate", float("inf")),
        ("training", "warmup_ratio", 1.0),
        ("training", "per_device_train_batch_size", 0),
        ("training", "gradient_accumulation_steps", 0),
        ("training", "max_length", 1),
        ("training", "lr_scheduler_type", "polynomial"),
        ("data", "train_examples", 0),
        ("data", "validation_examples", -1),
        ("data", "heldout_examples", 0),
        ("data", "heldout_fraction", 1.0),
        ("data", "heldout_fraction", float("nan")),
        ("data", "validation_fraction", 1.0),
        ("export", "type", "q9"),
        ("export", "name", "a/b"),
        ("export", "name", ""),
        ("lora", "r", 0),
        ("lora", "lora_alpha", -1),
        ("lora", "lora_dropout", 1.0),
        ("lora", "target_modules", []),
    ],
)
def test_a_value_out_of_range_names_section_key_and_value(section, key, value):
    message = refusal(TASK, {section: {key: value}})
    assert message.startswith(f"{section}.{key} ")
    assert repr(value) in message or message.endswith("name at least one module")


def test_a_section_that_is_a_value_is_refused():
    assert refusal(TASK, {"training": 5}) == "training is 5; it is a section, with keys"
    assert refusal(TASK, {"lora": ["r"]}).startswith("lora is ['r']; it is a section")
    assert refusal({"specialist": 5}) == "specialist is 5; give str or nothing"
    assert refusal(TASK, {"base": 5}) == "base is 5; give str or nothing"


def test_there_is_one_source_of_data():
    assert "specialist is None and data.file is None; give one" in refusal({})
    both = refusal(TASK, {"data": {"file": "own.jsonl"}})
    assert "'sentiment_analysis' and data.file is 'own.jsonl'; give one" in both
    own = pipeline.make_config({"data": {"file": "own.jsonl"}})
    assert own.specialist is None
    assert pipeline.make_config(TASK, {"specialist": None}, own.to_json()) == own


@given(
    r=st.integers(1, 64),
    alpha=st.one_of(st.integers(1, 99), st.floats(0.125, 99)),
    dropout=st.floats(0, 1, exclude_max=True),
    targets=st.one_of(
        st.just("all-linear"),
        st.lists(st.sampled_from(["q_proj", "o_proj", "down_proj"]), min_size=1),
    ),
    layers=st.one_of(st.none(), st.lists(st.integers(0, 9), min_size=1)),
    ranks=st.dictionaries(st.sampled_from(["q_proj", "v"]), st.integers(1, 9)),
    rate=st.floats(1e-9, 10),
    steps=st.one_of(st.just(-1), st.integers(1, 10**6)),
    bf16=st.booleans(),
    file=st.text(min_size=1),
    name=st.one_of(st.none(), st.from_regex(r"[\w .-]+", fullmatch=True)),
)
def test_a_configuration_comes_back_from_json(
    r, alpha, dropout, targets, layers, ranks, rate, steps, bf16, file, name
):
    adapters = {"r": r, "lora_alpha": alpha, "lora_dropout": dropout}
    adapters |= {"target_modules": targets, "rank_pattern": ranks}
    if not isinstance(targets, str):
        adapters["layers_to_transform"] = layers
    config = pipeline.make_config(
        {
            "lora": adapters,
            "training": {"learning_rate": rate, "max_steps": steps, "bf16": bf16},
            "data": {"file": file},
            "export": {"name": None if name is None else name.strip() or None},
        }
    )
    text = json.dumps(config.to_json(), allow_nan=False)
    assert pipeline.make_config(json.loads(text)) == config
    assert differences(json.loads(text), json.loads(text)) == []


def test_differences_name_each_key_with_both_values():
    old = pipeline.make_config(TASK)
    changes = {"training": {"seed": 43}, "lora": {"rank_pattern": {"q_proj": 2}}}
    new = pipeline.make_config(TASK, changes, {"base": "b"})
    assert differences(old.to_json(), new.to_json()) == [
        "base: 'smollm2-135m' -> 'b'",
        "lora.rank_pattern.q_proj: None -> 2",
        "training.seed: 42 -> 43",
    ]
    assert differences({"a": {"b": 1}}, {}) == ["a: {'b': 1} -> None"]
    assert differences(1, 2, "x") == ["x: 1 -> 2"]
    assert differences(old.to_json(), old.to_json()) == []


def test_the_local_test_is_a_configuration_that_settings_may_change():
    settings = pipeline.assignments(["training.max_steps=2"])
    config = pipeline.make_config(TASK, pipeline.LOCAL_TEST, settings)
    assert config.training.max_steps == 2
    assert config.data.train_examples == 32
