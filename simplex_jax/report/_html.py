"""The few HTML parts of a report; every text that enters one is escaped here."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Nothing is fetched and no script runs, whatever a model has answered.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #ffffff; --faint: #6a6f76;
  --line: #d9dce0; --good: #1a7f37; --bad: #c62828; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e9; --paper: #16181b;
  --faint: #9aa0a8; --line: #363a40; --good: #4cc46a; --bad: #ff7b72; } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { margin: 0; font-size: 1.7rem; } h2 { margin: 2.5rem 0 .5rem; font-size: 1.2rem; }
h3 { margin: 1.5rem 0 .3rem; font-size: 1rem; }
.good { border-left: .3rem solid var(--good); padding-left: .7rem; }
.bad { border-left: .3rem solid var(--bad); padding-left: .7rem; }
.missing, figcaption, caption { color: var(--faint); font-size: .9rem; }
caption { text-align: left; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0;
  font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem 1.2rem .3rem 0;
  text-align: left; vertical-align: top; }
td { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 5.5rem;
  unicode-bidi: isolate; }
figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; overflow: visible; }
"""


def text(value: Any) -> str:
    """Escape a value for HTML.

    Args:
        value: anything; None reads ``not computed``, a float gets four digits.

    Returns:
        Text that is safe inside elements and attributes and encodes as UTF-8.
    """
    if value is None:
        value = "not computed"
    elif isinstance(value, bool):
        value = "yes" if value else "no"
    elif isinstance(value, float):
        value = f"{value:.4g}"
    # A half of a surrogate pair, which JSON may hold, would not encode.
    return html.escape(str(value).encode("utf-8", "replace").decode())


def paragraph(value: Any, kind: str = "") -> str:
    """Return one paragraph.

    Args:
        value: its text.
        kind: ``good``, ``bad``, ``missing`` or nothing.

    Returns:
        HTML.
    """
    return f'<p class="{kind}">{text(value)}</p>' if kind else f"<p>{text(value)}</p>"


def missing(names: Iterable[str]) -> str:
    """Say what was not computed.

    Args:
        names: of what is missing.

    Returns:
        HTML of one line; nothing where nothing is missing.
    """
    listed = ", ".join(names)
    return paragraph(f"Not computed: {listed}.", "missing") if listed else ""


def table(
    header: Sequence[str], rows: Iterable[Sequence[Any]], caption: str | None = None
) -> str:
    """Return a table.

    Args:
        header: of the columns.
        rows: one cell a column.
        caption: a line above it.

    Returns:
        HTML.
    """
    title = "" if caption is None else f"<caption>{text(caption)}</caption>"
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def facts(values: Mapping | None, names: Mapping[str, str]) -> str:
    """Return a table of named values, and a line about those that are missing.

    Args:
        values: by key; None where there are none at all.
        names: what to show, by key.

    Returns:
        HTML.
    """
    values = values or {}
    rows = [(n, values[key]) for key, n in names.items() if values.get(key) is not None]
    absent = [n.lower() for key, n in names.items() if values.get(key) is None]
    return (table(("", "Value"), rows) if rows else "") + missing(absent)


def figure(svg: str, caption: str) -> str:
    """Return a plot with its caption.

    Args:
        svg: an ``<svg>`` element of the library's own making.
        caption: what it shows.

    Returns:
        HTML.
    """
    return f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>"


def details(summary: str, content: str) -> str:
    """Fold content away behind a line.

    Args:
        summary: the line.
        content: HTML.

    Returns:
        HTML.
    """
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def page(title: str, top: str, sections: Iterable[tuple[str, str]]) -> str:
    """Return a whole page that needs no other file.

    Args:
        title: its name.
        top: HTML under the title.
        sections: heading and HTML of each.

    Returns:
        HTML.
    """
    body = "\n".join(
        f"<section><h2>{text(name)}</h2>\n{content}</section>"
        for name, content in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{text(title)}</title>
<style>{_STYLE}</style>
</head>
<body><main>
<header><h1>{text(title)}</h1>
{top}</header>
{body}
</main></body>
</html>
"""
