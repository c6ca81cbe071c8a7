"""Modelfiles, and their templates against Jinja through Go's own engine."""

import dataclasses
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st
from text_templates import CHATML, GEMMA, LLAMA2, LLAMA3, QWEN25, REPRESENTABLE
from text_vocabularies import byte_level_tokenizer

from simplex_jax.text import Tokenizer, go_template, modelfile


def _with(template: str, **changes) -> Tokenizer:
    return byte_level_tokenizer(chat_template=template, **changes)


@pytest.fixture(scope="session")
def render_go(tmp_path_factory):
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    program = tmp_path_factory.mktemp("go") / "render"
    source = Path(__file__).with_name("render.go")
    subprocess.run([go, "build", "-o", str(program), str(source)], check=True)

    def render(template: str, conversations: list[list[dict]]) -> list[str]:
        lines = (
            json.dumps({"template": template, "messages": messages}) + "\n"
            for messages in conversations
        )
        done = subprocess.run(
            [program], input="".join(lines).encode(), capture_output=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    return render


_CONTENTS = st.text(
    st.one_of(
        st.sampled_from("ab \n\t\"'{}%<>|\\`$."),
        st.characters(exclude_categories=("Cs", "Cn")),
    ),
    max_size=20,
)


@st.composite
def _conversations(draw, system: bool, trimmed: bool):
    content = _CONTENTS.map(str.strip) if trimmed else _CONTENTS
    count = draw(st.integers(0, 3)) * 2 + 1
    messages = [
        {"role": ("user", "assistant")[i % 2], "content": draw(content)}
        for i in range(count)
    ]
    if system and draw(st.booleans()):
        messages.insert(0, {"role": "system", "content": draw(content)})
    return messages


# SmolLM2's BOS begins every turn, so it cannot be left to the runtime.
@pytest.mark.parametrize(
    ("name", "add_bos"),
    [("smollm2", False), *itertools.product(REPRESENTABLE, (False, True))],
)
def test_go_template_renders_as_jinja(name, add_bos, render_go, request):
    if name == "smollm2":
        tokenizer = request.getfixturevalue("smollm2_tokenizer")
    else:
        tokenizer = _with(REPRESENTABLE[name], add_bos=add_bos)
    template = go_template(tokenizer)
    trimmed = name in ("llama3", "gemma")

    @draws(5, database=None, derandomize=True)
    @given(st.lists(_conversations(name != "gemma", trimmed), min_size=1, max_size=20))
    def check(conversations):
        expected = [tokenizer.apply_chat_template(m) for m in conversations]
        if add_bos:
            expected = [text.removeprefix(tokenizer.bos_token) for text in expected]
        assert render_go(template, conversations) == expected

    check()


def test_chatml_go_template():
    branches = "".join(
        f'{{{{ {start} eq $m.Role "{role}" }}}}<|im_start|>{role}\n'
        "{{ $m.Content }}<|im_end|>\n"
        for start, role in (
            ("if", "system"),
            ("else if", "user"),
            ("else if", "assistant"),
        )
    )
    assert go_template(_with(CHATML)) == (
        "{{ range $i, $m := .Messages }}"
        f"{branches}{{{{ end }}}}{{{{ end }}}}<|im_start|>assistant\n"
    )


def test_modelfile():
    tokenizer = _with(CHATML)
    text = modelfile(
        tokenizer,
        "model.gguf",
        parameters={"temperature": 0.25, "num_ctx": 2048, "stop": "###"},
        system='You are "brief".\nAlways.',
    )
    assert text == (
        "FROM ./model.gguf\n"
        f'TEMPLATE """{go_template(tokenizer)}"""\n'
        'SYSTEM """You are "brief".\nAlways."""\n'
        'PARAMETER stop "<|im_start|>"\n'
        'PARAMETER stop "<eos>"\n'
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop "###"\n'
        "PARAMETER temperature 0.25\n"
        "PARAMETER num_ctx 2048\n"
    )


@pytest.mark.parametrize("name", REPRESENTABLE)
def test_quotes_end_no_string_early(name):
    text = modelfile(_with(REPRESENTABLE[name]), "m.gguf")
    assert text.count('"""') == 2
    template = re.search(r'TEMPLATE """(.*?)"""$', text, re.DOTALL | re.MULTILINE)
    assert template and template[1] == go_template(_with(REPRESENTABLE[name]))


def test_trimming_is_said():
    assert "strips white space" in modelfile(_with(LLAMA3), "m.gguf")
    assert "strips white space" not in modelfile(_with(QWEN25), "m.gguf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gguf_name": ""}, "gguf_name=''"),
        ({"gguf_name": "a\nSYSTEM x"}, "plain file name"),
        ({"gguf_name": "../m.gguf"}, "plain file name"),
        ({"parameters": {"temprature": 1}}, "did you mean 'temperature'"),
        ({"parameters": {"temperature": -1}}, r"parameters\['temperature'\]=-1"),
        ({"parameters": {"top_p": 1.5}}, r"\[0, 1\]"),
        ({"parameters": {"num_ctx": 2.5}}, "whole number"),
        ({"parameters": {"seed": float("nan")}}, "must be a number"),
        ({"parameters": {"top_k": True}}, "must be a number"),
        ({"parameters": {"stop": 3}}, "must be a text"),
        ({"system": 'a """ b'}, "cannot quote"),
    ],
)
def test_modelfile_refuses(changes, message):
    arguments = {"gguf_name": "m.gguf"} | changes
    with pytest.raises(ValueError, match=message):
        modelfile(_with(CHATML), **arguments)


def test_system_needs_a_template_that_takes_it():
    with pytest.raises(ValueError, match="refuses system messages"):
        modelfile(_with(GEMMA), "m.gguf", system="x")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat_template"),
        (LLAMA2, "has no equivalent Go template"),
        ("{{ messages | length }}", "does not write each content once"),
        ("{% for m in messages %}{{ m.content }}{{ loop.index }}{% endfor %}", "give"),
        (
            CHATML.replace("message['content']", "message['content'] | upper"),
            "does not write|give",
        ),
    ],
)
def test_no_go_template(template, message):
    tokenizer = dataclasses.replace(_with(CHATML), chat_template=template)
    with pytest.raises(ValueError, match=message):
        go_template(tokenizer)
