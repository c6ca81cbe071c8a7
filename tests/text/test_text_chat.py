"""Chat templates: what they may use, what they refuse, and who writes BOS."""

import dataclasses
import datetime

import pytest
from text_llama import LlamaVocabulary, write_vocabulary
from text_templates import CHATML, GEMMA, LLAMA3, REPRESENTABLE
from text_vocabularies import byte_level_tokenizer

from simplex_jax.text import ChatTemplateError

BOS = byte_level_tokenizer().tokens.index("<bos>")

TALK = [
    {"role": "user", "content": "Hi <b>"},
    {"role": "assistant", "content": 'It\'s "me"'},
    {"role": "user", "content": "日本語\n"},
]


def _render(template: str, messages=None, **variables) -> str:
    tokenizer = byte_level_tokenizer(chat_template=template)
    return tokenizer.apply_chat_template(messages or TALK, **variables)


def test_chatml():
    assert _render(CHATML, TALK[:1]) == (
        "<|im_start|>user\nHi <b><|im_end|>\n<|im_start|>assistant\n"
    )
    assert not _render(CHATML, add_generation_prompt=False).endswith("assistant\n")


@pytest.mark.parametrize("name", [*REPRESENTABLE, "smollm2"])
@pytest.mark.parametrize("add_generation_prompt", [False, True])
def test_renders_as_transformers(name, add_generation_prompt, request):
    pytest.importorskip("transformers")
    from transformers.utils.chat_template_utils import render_jinja_template

    tokenizer = (
        request.getfixturevalue("smollm2_tokenizer")
        if name == "smollm2"
        else byte_level_tokenizer(chat_template=REPRESENTABLE[name])
    )
    for messages in (TALK[:1], TALK, TALK[:2]):
        (expected,), _ = render_jinja_template(
            conversations=[messages],
            chat_template=tokenizer.chat_template,
            add_generation_prompt=add_generation_prompt,
            bos_token=tokenizer.bos_token,
        )
        found = tokenizer.apply_chat_template(messages, add_generation_prompt)
        assert found == expected


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "Hi <b>"}'),
        ("{{ messages[2].content | tojson }}", '"日本語\\n"'),
        ("{{ {'b': [1], 'a': none} | tojson(indent=1, sort_keys=true) }}",)
        + ('{\n "a": null,\n "b": [\n  1\n ]\n}',),
        ("{{ bos_token }}|{{ eos_token }}|{{ pad_token }}", "<bos>|<eos>|"),
        ("{{ tools is none }}{{ documents is none }}", "TrueTrue"),
        ("{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}x", "x"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}", "012"),
        ("{{ '%s-%02d' % ('a', 7) }}{{ 'x' * 3 }}{{ [1] + [2] }}", "a-07xxx[1, 2]"),
        ("{{ messages | map(attribute='role') | unique | join('+') }}",)
        + ("user+assistant",),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "2"),
        ("{{ messages[::-1][0].content | trim }}", "日本語"),
        ("{% generation %}a{% endgeneration %}b", "ab"),
        ("{{ 'a' ~ 1 ~ missing }}{{ missing is defined }}", "a1False"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(1) }}", "<1>"),
        ("    {% if true %}\na\n    {% endif %}\nb", "a\nb"),
    ],
)
def test_template_features(template, text):
    if template.endswith("%}x"):
        template += "{% endfor %}"
    if template.startswith("{% set ns"):
        template += "{{ ns.n }}{% set ns.n = ns.n + 1 %}{% endfor %}"
    assert _render(template) == text


def test_strftime_now():
    year = _render("{{ strftime_now('%Y') }}")
    assert abs(int(year) - datetime.datetime.now().year) <= 1


def test_further_variables():
    template = "{{ tools[0].name }}{{ enable_thinking }}"
    text = _render(template, tools=[{"name": "add"}], enable_thinking=False)
    assert text == "addFalse"


def test_compile_and_render_errors_name_the_place():
    with pytest.raises(ChatTemplateError, match="line 2"):
        _render("a\n{% if %}")
    with pytest.raises(ChatTemplateError, match="no system messages"):
        _render(GEMMA, [{"role": "system", "content": "x"}])


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"content": "hi"}], r"messages\[0\]"),
        ([{"role": "user", "content": b"x"}], r"messages\[0\]\['content'\] is a bytes"),
    ],
)
def test_malformed_messages(messages, message):
    with pytest.raises(ValueError, match=message):
        _render(CHATML, messages)


@pytest.mark.parametrize("messages", ["hi", {"role": "user"}, ["hi"]])
def test_no_messages(messages):
    # With annotations checked, as in this suite, they are the first to object.
    with pytest.raises((ValueError, TypeError), match="messages"):
        _render(CHATML, messages)


def test_no_template():
    with pytest.raises(ValueError, match="has no chat_template"):
        byte_level_tokenizer().apply_chat_template(TALK)


_NO_BOS = CHATML
_WRITES_BOS = LLAMA3


@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("template", [_NO_BOS, _WRITES_BOS], ids=["none", "writes"])
def test_at_most_one_bos(add_bos, template):
    tokenizer = byte_level_tokenizer(chat_template=template, add_bos=add_bos)
    ids = tokenizer.encode_chat(TALK)
    wanted = add_bos or template == _WRITES_BOS
    assert ids.count(BOS) == wanted
    assert (ids[0] == tokenizer.bos_id) == wanted
    prompt = tokenizer.apply_chat_template(TALK)
    assert tokenizer.decode(ids).removeprefix("<bos>") == prompt.removeprefix("<bos>")


def test_conversation_without_bos():
    tokenizer = byte_level_tokenizer(chat_template=CHATML, bos_id=None)
    assert tokenizer.decode(tokenizer.encode_chat(TALK)) == _render(CHATML)


@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("template", [_NO_BOS, _WRITES_BOS], ids=["none", "writes"])
def test_exported_bos_in_llama_cpp(add_bos, template, tmp_path):
    """Raw text, and chats as llama-cpp-python tokenizes them."""
    formats = pytest.importorskip("llama_cpp.llama_chat_format")
    tokenizer = byte_level_tokenizer(chat_template=template, add_bos=add_bos)
    oracle = LlamaVocabulary(write_vocabulary(tmp_path / "v.gguf", tokenizer))
    raw = oracle.encode("hello", True, True)
    assert raw.count(BOS) == add_bos

    formatter = formats.Jinja2ChatFormatter(
        template=tokenizer.gguf_metadata()["tokenizer.chat_template"],
        eos_token="<eos>",
        bos_token="<bos>",
    )
    chat = formatter(messages=TALK)
    ids = oracle.encode(chat.prompt, not chat.added_special, True)
    assert ids.count(BOS) == (template == _WRITES_BOS)
    if template == _WRITES_BOS:
        assert ids == tokenizer.encode_chat(TALK)


def test_smollm2_chat(smollm2_tokenizer):
    ids = smollm2_tokenizer.encode_chat([{"role": "user", "content": "Hi"}])
    assert ids[0] == smollm2_tokenizer.bos_id == 1 and ids.count(1) == 3
    assert smollm2_tokenizer.decode(ids).endswith("<|im_start|>assistant\n")


def test_replacing_the_template():
    tokenizer = byte_level_tokenizer(chat_template=CHATML)
    changed = dataclasses.replace(tokenizer, chat_template="{{ messages | length }}")
    assert changed.apply_chat_template(TALK) == "3"
    assert tokenizer.apply_chat_template(TALK) != "3"
