"""A Jinja environment in which no template runs long, grows large or gets out.

Jinja's own sandbox stops a template from reaching Python's internals. Here
every loop, call, filter, comparison and operator also spends from a budget, in
proportion to the work it is about to do or the text it is about to make, so
that a hostile template ends with an error in about a second.
"""

from __future__ import annotations

import functools
import html
import json
import re
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from datetime import datetime
from itertools import islice
from types import BuiltinMethodType, MethodType
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from ._budget import CURRENT, STEP_UNITS, BudgetExceeded

_MAX_SOURCE_CHARACTERS = 1 << 17
_MAX_INTEGER_BITS = 4096
_SLOT_UNITS = 8

_METHODS: dict[type, frozenset[str]] = {
    str: frozenset(
        "strip lstrip rstrip split rsplit splitlines partition rpartition startswith"
        " endswith removeprefix removesuffix lower upper title capitalize swapcase"
        " casefold replace join find rfind index rindex count center ljust rjust zfill"
        " isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric"
        " isprintable isspace istitle isupper".split()
    ),
    dict: frozenset("get items keys values copy".split()),
    list: frozenset("index count copy".split()),
    tuple: frozenset("index count".split()),
}
_OWNERS = (str, bytes, int, float, list, tuple, dict, set, type)
# These look at how values are arranged and never write them out or compare them.
_STRUCTURAL_FILTERS = frozenset(
    "attr count d default first items last length list map reject rejectattr reverse"
    " select selectattr".split()
)
_TEXT_FILTERS = frozenset(
    "abs capitalize dictsort float indent int join lower max min replace"
    " round sort string title trim unique upper".split()
)
_WEIGHTLESS_TESTS = frozenset(
    "boolean callable defined divisibleby escaped even false filter float integer"
    " iterable mapping none number odd sameas sequence string test true"
    " undefined".split()
)


class _Generation(Extension):
    """Accept ``{% generation %}``, which marks the assistant's text."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Meter(NodeTransformer):
    """Wrap what costs and is not a call or an operator."""

    def _metered(self, node: Any, name: str) -> nodes.Filter:
        return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)

    def _made(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        load = getattr(node, "ctx", "load") == "load"
        plain = not any(True for _ in node.iter_child_nodes())
        return self._metered(node, "_spend_tree") if load and not plain else node

    visit_List = visit_Tuple = visit_Dict = _made

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return self._metered(parts, "_concatenate")

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return self._metered(node, "_spend_slots")
        if not isinstance(node.arg, nodes.Const):
            node.arg = self._metered(node.arg, "_spend_text")
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        for holder in (node, *node.ops):
            if not isinstance(holder.expr, nodes.Const):
                holder.expr = self._metered(holder.expr, "_spend_tree")
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = self._metered(node.iter, "_loop")
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        data = (n.data for n in node.nodes if isinstance(n, nodes.TemplateData))
        length = nodes.Const(sum(map(len, data)), lineno=node.lineno)
        node.nodes.insert(0, self._metered(length, "_spend_output"))
        return node


def _spend_slots(value: Any) -> Any:
    budget = CURRENT.get()
    if isinstance(value, Iterator):
        value = list(islice(value, 1_000_000))
    if isinstance(value, str):
        budget.spend(len(value))
    elif hasattr(value, "__len__"):
        budget.spend(_SLOT_UNITS * len(value))
    return value


def _spend_tree(value: Any) -> Any:
    CURRENT.get().spend_value(value)
    return value


def _spend_output(length: int) -> str:
    CURRENT.get().spend(STEP_UNITS + length)
    return ""


def _loop(value: Any) -> Any:
    value = _spend_slots(value)
    if hasattr(value, "__len__"):
        CURRENT.get().spend(STEP_UNITS * len(value))
    return value


def _spend_text(value: Any) -> Any:
    if isinstance(value, Namespace):
        raise SecurityError("a namespace cannot be written out")
    return _spend_tree(value)


def _concatenate(parts: list[Any]) -> str:
    for part in parts:
        _spend_text(part)
    return "".join(map(str, parts))


@pass_context
def _finalize(context: Any, value: Any) -> Any:
    return _spend_text(value)


def _spend_growth(name: str, subject: Any, args: tuple, kwargs: dict) -> None:
    """Spend what the result of a text method or filter may exceed its input by."""
    budget = CURRENT.get()
    values = [*args, *kwargs.values()]
    for value in values:
        if isinstance(value, int):
            budget.spend(abs(value))
    if name == "replace" and len(values) >= 2:
        text, old, new = str(subject), str(values[0]), str(values[1])
        budget.spend(text.count(old) * len(new))
    elif name == "indent":
        width = values[0] if values else 4
        columns = len(width) if isinstance(width, str) else abs(int(width))
        budget.spend((str(subject).count("\n") + 1) * columns)
    elif name == "join":
        # A method joins its argument, a filter its subject.
        method = isinstance(subject, str)
        items, separator = (values[0], subject) if method else (subject, values[:1])
        count = len(items) if hasattr(items, "__len__") else 0
        budget.spend(count * len(separator if method else str(*separator)))


def _check_format(template: str) -> None:
    if re.search(r"\d{4}|\*", template):
        raise SecurityError("a % format may not pad by 1000 characters or by '*'")


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    _check_format(str(value))
    return str(value) % (kwargs or args)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    columns = len(indent) if isinstance(indent, str) else (indent or 0)
    if any(len(text) > 16 for text in separators or ()):
        raise SecurityError("tojson takes separators of at most 16 characters")
    CURRENT.get().spend_value(value, indent=columns)
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: Any) -> NoReturn:
    raise TemplateError(str(_spend_text(message)))


def _strftime_now(format: Any) -> str:
    format = str(_spend_text(format))
    if len(format) > 100 or re.search(r"%[-_0^#+]*\d", format):
        raise SecurityError("strftime_now takes a short format without widths")
    return datetime.now().strftime(format)


def _metered_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    # Jinja passes its context, environment or evaluation context first to some.
    subject_at = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def metered(*args: Any, **kwargs: Any) -> Any:
        CURRENT.get().spend(STEP_UNITS)
        subject, *others = args[subject_at:]
        for value in (*others, *kwargs.values()):
            _spend_text(value)
        if name in _STRUCTURAL_FILTERS:
            _spend_slots(subject)
        else:
            _spend_text(subject)
            _spend_growth(name, subject, tuple(others), kwargs)
        result = _spend_slots(function(*args, **kwargs))
        if name == "map":
            _spend_tree(result)
        return result

    return metered


def _metered_test(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def metered(*args: Any) -> Any:
        CURRENT.get().spend(STEP_UNITS)
        for value in args:
            _spend_text(value)
        return function(*args)

    return metered


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        budget = CURRENT.get()
        budget.spend(STEP_UNITS)
        if operator == "+":
            _spend_slots(left)
            _spend_slots(right)
        elif operator == "%" and isinstance(left, str):
            _check_format(left)
            _spend_text(left)
            _spend_text(right)
        elif operator in ("*", "**"):
            _spend_product(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, tuple):
            budget.spend_value(result)
        return result

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        CURRENT.get().spend(STEP_UNITS)
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, _OWNERS):
            _spend_method(owner, __obj.__name__, args, kwargs)
        elif isinstance(__obj, LoopContext):
            args = tuple(map(_loop, args))
        elif isinstance(owner, LoopContext):
            for value in args:
                _spend_tree(value)
        result = super().call(__context, __obj, *args, **kwargs)
        if isinstance(owner, dict):
            # A view is turned into a list, so that all values have known sizes.
            is_view = isinstance(result, KeysView | ValuesView | ItemsView)
            return _spend_slots(list(result) if is_view else result)
        return _spend_tree(result)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(
            f"the attribute {attribute!r} of {type(obj).__name__!r} is not available"
            " to chat templates"
        )

    def wrap_str_format(self, value: Any) -> Any:
        if (
            isinstance(value, BuiltinMethodType | MethodType)
            and isinstance(value.__self__, str)
            and value.__name__ in ("format", "format_map")
        ):
            raise SecurityError("str.format is not available to chat templates")
        return None


def _spend_method(owner: Any, name: str, args: tuple, kwargs: dict) -> None:
    if name not in _METHODS.get(type(owner), ()):
        raise SecurityError(
            f"the method {name!r} of {type(owner).__name__!r} is not available to chat"
            " templates"
        )
    for value in (owner, *args, *kwargs.values()):
        # Looking up or listing a mapping touches none of its values.
        (_spend_slots if isinstance(owner, dict) else _spend_text)(value)
    if isinstance(owner, str):
        _spend_growth(name, owner, args, kwargs)


def _spend_product(operator: str, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * (right if operator == "**" else 1)
        if bits + right.bit_length() > _MAX_INTEGER_BITS:
            raise BudgetExceeded("it makes too large an integer")
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(count, int):
            unit = 1 if isinstance(sequence, str) else _SLOT_UNITS
            CURRENT.get().spend(unit * len(sequence) * max(count, 0))


def _make_environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, loopcontrols],
        finalize=_finalize,
        # Folding constants would run filters while compiling, outside a budget.
        optimized=False,
    )
    known = environment.filters
    environment.filters = {
        name: _metered_filter(name, known[name])
        for name in _STRUCTURAL_FILTERS | _TEXT_FILTERS
    }
    environment.filters["tojson"] = _metered_filter("tojson", _tojson)
    environment.filters["format"] = _metered_filter("format", _format)
    # Jinja's return a string class whose methods would escape the meter.
    environment.filters["safe"] = _metered_filter("safe", str)
    environment.filters["e"] = environment.filters["escape"] = _metered_filter(
        "escape", html.escape
    )
    for function in (
        _spend_text,
        _spend_tree,
        _spend_slots,
        _spend_output,
        _loop,
        _concatenate,
    ):
        environment.filters[function.__name__] = function
    environment.tests = {
        name: test if name in _WEIGHTLESS_TESTS else _metered_test(test)
        for name, test in environment.tests.items()
    }
    del environment.globals["lipsum"]
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


_ENVIRONMENT = _make_environment()


@functools.lru_cache(maxsize=64)
def compile_template(source: str) -> Template:
    """Compile a chat template.

    Args:
        source: Jinja source of at most 131,072 characters.

    Returns:
        A template to be rendered with ``CURRENT`` set to a budget.

    Raises:
        Exception: Whatever Jinja or Python finds wrong with it.
    """
    if len(source) > _MAX_SOURCE_CHARACTERS:
        raise BudgetExceeded(
            f"its source has {len(source)} characters; at most"
            f" {_MAX_SOURCE_CHARACTERS} are accepted"
        )
    tree = _Meter().visit(_ENVIRONMENT.parse(source))
    code = _ENVIRONMENT.compile(tree)
    return Template.from_code(_ENVIRONMENT, code, _ENVIRONMENT.make_globals(None))
