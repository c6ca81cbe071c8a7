"""Templates that loop, grow or reach out end with an error, quickly and small."""

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from text_vocabularies import byte_level_tokenizer

from simplex_jax.text import ChatTemplateError

_DOUBLING = "{% set ns = namespace(x=START) %}{% for i in range(60) %}STEP{% endfor %}"


def _doubling(start: str, step: str, use: str = "") -> str:
    return _DOUBLING.replace("START", start).replace("STEP", step) + use


HOSTILE = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% endfor %}{% endfor %}",
    "loops that print": "{% for a in range(99999) %}" + "x" * 9999 + "{% endfor %}",
    "recursive loop": "{% for x in [[1] * 999] * 999 recursive %}{{ loop([1] * 99) }}"
    "{% endfor %}",
    "macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "macro tree": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}"
    "{% endmacro %}{{ f(60) }}",
    "block calling itself": "{% block b %}{{ self.b() }}{% endblock %}",
    "long repetition": "{{ 'a' * 10 ** 10 }}",
    "long list": "{% set x = [0] * 10 ** 10 %}",
    "large power": "{{ 10 ** (10 ** 10) }}",
    "large product": _doubling("3", "{% set ns.x = ns.x * ns.x %}"),
    "large range": "{% for i in range(10 ** 9) %}{% endfor %}",
    "text doubling by +": _doubling("'ab'", "{% set ns.x = ns.x + ns.x %}"),
    "text doubling by ~": _doubling("'ab'", "{% set ns.x = ns.x ~ ns.x %}"),
    "text doubling by join": _doubling("'ab'", "{% set ns.x = [ns.x, ns.x]|join %}"),
    "text doubling by method": _doubling("'ab'", "{% set ns.x = ns.x.join('123') %}"),
    "text doubling by replace": _doubling(
        "'aa'", "{% set ns.x = ns.x.replace('a', 'aa') %}"
    ),
    "text doubling by filter": _doubling(
        "'aa'", "{% set ns.x = ns.x|replace('a', 'aaa') %}"
    ),
    "text doubling by %": _doubling("'ab'", "{% set ns.x = '%s%s' % (ns.x, ns.x) %}"),
    "text doubling by format": _doubling(
        "'ab'", "{% set ns.x = '%s%s'|format(ns.x, ns.x) %}"
    ),
    "text doubling by set": "{% set x0 = 'ab' %}"
    + "".join(
        f"{{% set x{i + 1} %}}{{{{ x{i} * 2 }}}}{{% endset %}}" for i in range(60)
    )
    + "{{ x60 }}",
    "text doubling by macro": "".join(
        f"{{% macro m{i}() %}}{{{{ m{i - 1}() * 2 if {i} else 'aaa' }}}}"
        "{% endmacro %}"
        for i in range(60)
    )
    + "{{ m59() }}",
    "list doubling": _doubling("[0]", "{% set ns.x = ns.x + ns.x %}"),
    "list of itself": _doubling("[0]", "{% set ns.x = [ns.x, ns.x] %}", "{{ ns.x }}"),
    "tuple of itself": _doubling(
        "(0,)", "{% set ns.x = (ns.x, ns.x) %}", "{{ {ns.x: 1} }}"
    ),
    "mapping of itself": _doubling(
        "{'a': 1}", "{% set ns.x = dict(a=ns.x, b=ns.x) %}", "{{ ns.x|tojson }}"
    ),
    "comparison of twins": _doubling(
        "{'a': 0, 'b': 0}",
        "{% set ns.x = {'a': [ns.x.a, ns.x.a], 'b': [ns.x.b, ns.x.b]} %}",
        "{{ ns.x.a == ns.x.b }}",
    ),
    "namespace of itself": "{% set n0 = namespace() %}"
    + "".join(f"{{% set n{i + 1} = namespace(a=n{i}, b=n{i}) %}}" for i in range(60))
    + "{{ n60 }}{{ '' ~ n60 }}",
    "namespace in an error": "{% set n0 = namespace() %}"
    + "".join(f"{{% set n{i + 1} = namespace(a=n{i}, b=n{i}) %}}" for i in range(60))
    + "{{ raise_exception(n60) }}",
    "wide format": "{{ '%1000000000d' % 1 }}",
    "wide format filter": "{{ '%1000000000d'|format(1) }}",
    "starred format": "{{ '%*d' % (1000000000, 1) }}",
    "wide str.format": "{{ '{:>1000000000}'.format(1) }}",
    "center": "{{ 'a'.center(10 ** 9) }}",
    "ljust": "{{ 'a'.ljust(10 ** 9) }}",
    "zfill": "{{ 'a'.zfill(10 ** 9) }}",
    "center filter": "{{ 'a'|center(10 ** 9) }}",
    "indent filter": "{{ ('a\\n' * 9999)|indent(9999) }}",
    "tojson indent": "{{ ([0] * 9999)|tojson(indent=10 ** 6) }}",
    "batch": "{{ [1]|batch(10 ** 9, 0)|list }}",
    "many searches": "{% set x = 'a' * 999999 %}{% for i in range(9999) %}"
    "{{ 'b' in x }}{% endfor %}",
    "many slices": "{% set x = 'a' * 999999 %}{% for i in range(9999) %}"
    "{% set y = x[1:] %}{% endfor %}",
    "many splits": "{% set x = 'a ' * 99999 %}{% for i in range(9999) %}"
    "{% set y = x.split() %}{% endfor %}",
    "bytes of an integer": "{{ (1).to_bytes(10 ** 10, 'big') }}",
    "lipsum": "{{ lipsum(10 ** 6) }}",
    "attributes": "{{ ''.__class__.__mro__ }}",
    "attribute printed": "{{ ''.__class__ }}",
    "attribute by filter": "{{ ''|attr('__class__') }}",
    "attribute by item": "{{ namespace['__init__'].__globals__ }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "format attributes": "{{ '{0.__class__}'.format('') }}",
    "messages changed": "{{ messages.append(1) }}",
    "include": "{% include 'secret' %}",
    "import": "{% import 'secret' as s %}",
    "raises": "{{ raise_exception('roles must alternate') }}",
    "divides by zero": "{{ 1 / 0 }}",
    "syntax": "{% for %}",
    "unclosed": "{% if true %}",
    "unknown tag": "{% trans %}",
    "unknown filter": "{{ 'a'|shell }}",
    "nested too deep": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "long source": "{{ 1 }}" * 100_000,
}


def _use(template: str) -> None:
    tokenizer = dataclasses.replace(byte_level_tokenizer(), chat_template=template)
    tokenizer.apply_chat_template([{"role": "user", "content": "hello"}])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_template_is_stopped(name):
    with pytest.raises(
        ChatTemplateError, match="the chat template (was stopped|failed)"
    ):
        _use(HOSTILE[name])


def test_hostile_templates_stay_small():
    script = """
        import resource, sys
        resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
        sys.path.insert(0, sys.argv[1])
        from test_text_hostile_templates import HOSTILE, ChatTemplateError, _use
        for name, template in HOSTILE.items():
            try:
                _use(template)
            except ChatTemplateError as error:
                assert len(str(error)) < 2000, name
                assert "MemoryError" not in str(error), name
            else:
                raise SystemExit(f"{name} was rendered")
    """

    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), folder],
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("count", [1, 300])
def test_plain_templates_have_room(count):
    template = (
        "{% for m in messages %}{% if m.role == 'user' and '<x>' not in m.content %}"
        "{{ '<user>' + m.content | trim + '\\n' }}{% elif m.role != 'user' %}"
        "{{ m.content.split('</think>')[-1].lstrip('\\n') }}{% endif %}{% endfor %}"
        "{{ messages | tojson(indent=2) | length }}"
    )
    tokenizer = dataclasses.replace(byte_level_tokenizer(), chat_template=template)
    messages = [{"role": "user", "content": " long " * 200}] * count
    assert tokenizer.apply_chat_template(messages).count("<user>") == count
