"""Examples, their files and their splits."""

import errno
import json
import os

import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import data, specialists
from simplex_jax.data import Example, Turn

texts = st.text(min_size=1).filter(
    lambda t: t.strip() and not any("\ud800" <= c <= "\udfff" for c in t)
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)
# Built into examples inside the test: type checks draw random numbers.
parts = st.fixed_dictionaries(
    {
        "system": st.lists(st.tuples(st.just("system"), texts), max_size=1),
        "others": st.lists(
            st.tuples(st.sampled_from(["user", "assistant"]), texts), max_size=4
        ),
        "answer": texts,
        "metadata": st.dictionaries(texts, values, max_size=3),
        "weight": st.floats(1e-6, 1e6),
    }
)


@given(st.lists(parts, min_size=1, max_size=4))
@draws(60)
def test_written_examples_are_read_back(tmp_path_factory, drawn):
    found = [
        Example(
            tuple(
                Turn(role, content)
                for role, content in (
                    *part["system"],
                    *part["others"],
                    ("assistant", part["answer"]),
                )
            ),
            part["metadata"],
            part["weight"],
        )
        for part in drawn
    ]
    path = tmp_path_factory.mktemp("jsonl") / "x.jsonl"
    data.write_jsonl(path, found)
    assert data.read_jsonl(path) == found
    assert path.read_bytes().count(b"\n") == len(found)


@pytest.mark.parametrize("name", specialists.CATALOG)
def test_generated_examples_are_read_back(tmp_path, name):
    drawn = specialists.generate(name, 20)
    data.write_jsonl(tmp_path / "x.jsonl", drawn)
    assert data.read_jsonl(tmp_path / "x.jsonl") == drawn


def test_both_forms_a_mark_blank_lines_and_other_keys(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"prompt": "p", "response": "r", "source": "web"}\r\n'
        b"\n"
        b'{"messages": [{"role": "system", "content": "s"}, '
        b'{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}], '
        b'"weight": 2, "metadata": {"k": 1}}'
    )
    first, second = data.read_jsonl(path)
    assert first == Example.from_pair("p", "r", {"source": "web"})
    assert first.is_pair and not second.is_pair
    assert second.weight == 2.0 and second.metadata == {"k": 1}
    assert (second.prompt, second.response) == ("p", "r")
    assert second.chat()[0] == {"role": "system", "content": "s"}


GOOD = b'{"prompt": "p", "response": "r"}\n'
BAD = [
    (b"{", "not JSON"),
    (b"[1]", "the line is a list"),
    (b"null", "the line is a null"),
    (b'"x"', "the line is a string"),
    (b"{}", "found no key"),
    (b"\xff\xfe", "not UTF-8 at byte 0"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"prompt": "p"}', "found 'prompt'"),
    (b'{"prompt": "p", "respones": "r"}', "found 'prompt', 'respones'"),
    (b'{"prompt": 1, "response": "r"}', "prompt is a number"),
    (b'{"prompt": "p", "response": null}', "response is a null"),
    (b'{"prompt": "p", "response": " "}', "the assistant turn is blank"),
    (b'{"prompt": "\\ud800", "response": "r"}', "half a surrogate pair"),
    (b'{"prompt": "p", "prompt": "q", "response": "r"}', "'prompt' occurs twice"),
    (b'{"prompt": "p", "response": "r", "messages": []}', "has both"),
    (b'{"prompt": "p", "response": "r", "weight": NaN}', "NaN is not a number"),
    (b'{"prompt": "p", "response": "r", "weight": 1e999}', "weight is inf"),
    (b'{"prompt": "p", "response": "r", "weight": 0}', "weight is 0.0"),
    (b'{"prompt": "p", "response": "r", "weight": true}', "weight is a boolean"),
    (b'{"prompt": "p", "response": "r", "weight": 1%s}' % (b"0" * 400), "too large"),
    (b'{"prompt": "p", "response": "r", "metadata": 1}', "metadata is a number"),
    (b'{"prompt": "p", "response": "r", "k": 1, "metadata": {"k": 2}}', "beside"),
    (b'{"messages": []}', "messages is empty"),
    (b'{"messages": {}}', "messages is a object"),
    (b'{"messages": ["hi"]}', r"messages\[0\] is string"),
    (b'{"messages": [{"role": "user"}]}', r"messages\[0\] is \['role'\]"),
    (b'{"messages": [{"role": "bot", "content": "x"}]}', "role is 'bot'"),
    (b'{"messages": [{"role": "user", "content": "x"}]}', "is a user turn; end with"),
    (
        b'{"messages": [{"role": "user", "content": "x"}, '
        b'{"role": "system", "content": "x"}, {"role": "assistant", "content": "x"}]}',
        "message 1 is a system turn",
    ),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_malformed_line_is_named(tmp_path, line, message):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(GOOD + b"\n" + line + b"\n" + GOOD)
    with pytest.raises(ValueError, match=rf"mine\.jsonl, line 3: .*{message}"):
        data.read_jsonl(path)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_error(tmp_path, content):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.jsonl: no example"):
        data.read_jsonl(path)


def test_nothing_and_what_is_not_json_are_not_written(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(GOOD)
    with pytest.raises(ValueError, match="examples is empty"):
        data.write_jsonl(path, [])
    for value in (float("nan"), object()):
        with pytest.raises(ValueError, match="example 0: metadata is not JSON"):
            data.write_jsonl(path, [Example.from_pair("p", "r", {"k": value})])
    assert path.read_bytes() == GOOD and os.listdir(tmp_path) == ["x.jsonl"]


def test_a_full_disk_leaves_the_old_file_and_is_named(tmp_path, monkeypatch):
    path = tmp_path / "x.jsonl"
    path.write_bytes(GOOD)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        data.write_jsonl(path, [Example.from_pair("p", "new")])
    assert caught.value.filename == str(path)
    assert path.read_bytes() == GOOD and os.listdir(tmp_path) == ["x.jsonl"]


def test_folders_and_missing_folders_are_named(tmp_path):
    example = Example.from_pair("p", "r")
    with pytest.raises(IsADirectoryError):
        data.write_jsonl(tmp_path, [example])
    with pytest.raises(FileNotFoundError) as caught:
        data.write_jsonl(tmp_path / "no" / "x.jsonl", [example])
    assert caught.value.filename == str(tmp_path / "no" / "x.jsonl")


def test_a_link_keeps_pointing_to_its_file(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    data.write_jsonl(tmp_path / "link", [Example.from_pair("p", "r")])
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").exists()


def test_an_example_without_a_question_has_no_prompt():
    with pytest.raises(ValueError, match="no user turn"):
        _ = Example((Turn("assistant", "hello"),)).prompt


def conversation(*contents):
    roles = ("user", "assistant") * len(contents)
    return Example(tuple(map(Turn, roles, contents)))


def test_duplicates_are_whole_conversations():
    a, b, c = conversation("p", "r"), conversation("p", "s"), conversation("q", "r")
    again = Example(a.messages, {"id": 1})
    assert data.deduplicate([a, b, again, c, b]) == [a, b, c]


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers())
@draws(50)
def test_a_prompt_is_on_one_side_only(count, fraction, seed):
    rows = [conversation(f"p{i % count}", f"r{i}") for i in range(2 * count)]
    train, heldout = data.split_by_hash(rows, fraction, seed=seed)
    assert sorted(map(str, train + heldout)) == sorted(map(str, rows))
    assert train and heldout
    hashes = [{data.prompt_hash(e) for e in side} for side in (train, heldout)]
    assert hashes[0].isdisjoint(hashes[1])


def test_the_share_is_met_and_prompts_stay_where_they_are():
    rows = [conversation(f"p{i}", "r") for i in range(4000)]
    _, few = data.split_by_hash(rows[:2000], 0.1, seed=1)
    _, many = data.split_by_hash(rows, 0.1, seed=1)
    assert few == [e for e in many if e in rows[:2000]]
    assert abs(len(many) / 4000 - 0.1) < 0.02
    _, other = data.split_by_hash(rows, 0.1, seed=2)
    assert other != many


def test_conversations_that_open_alike_stay_together():
    one, two = conversation("hi", "a", "b", "c"), conversation("hi", "d")
    assert data.prompt_hash(one) == data.prompt_hash(two)
    assert data.prompt_hash(one) != data.prompt_hash(conversation("ho", "d"))


def test_the_split_refuses():
    rows = [conversation("p", "a"), conversation("p", "b")]
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="fraction is"):
            data.split_by_hash(rows, fraction)
    with pytest.raises(ValueError, match="1 distinct prompts"):
        data.split_by_hash(rows)
    with pytest.raises(ValueError, match="0 distinct prompts"):
        data.split_by_hash([])


def test_a_line_is_plain_json(tmp_path):
    path = tmp_path / "x.jsonl"
    data.write_jsonl(path, [Example.from_pair("é\u2028", "r")])
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "prompt": "é\u2028",
        "response": "r",
    }
