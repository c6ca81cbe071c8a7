"""Sentence templates that can be filled and read back."""

import functools
import hashlib
import re
from dataclasses import dataclass

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Template:
    """A text with named slots.

    Attributes:
        id: unique within its generator.
        split: ``train`` or ``heldout``.
        label: what the literal words stand for, a class or a kind of document.
        text: the words, with ``{slots}``; each slot occurs once.
    """

    id: str
    split: str
    label: str
    text: str

    @property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of the text's SHA-256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def literals(self) -> list[str]:
        """The words outside the slots, in lower case."""
        return re.findall(r"[a-z']+", _SLOT.sub(" ", self.text).lower())

    def fill(self, **slots: str) -> str:
        """Return the text with every slot filled."""
        return self.text.format(**slots)


@functools.cache
def pattern(text: str, slots: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    """Compile a template's text into the expression that reads it back.

    Args:
        text: the template's text.
        slots: the name of each slot and the expression its values match.

    Returns:
        An expression with one named group a slot.
    """
    known = dict(slots)
    parts = _SLOT.split(text)
    for i in range(0, len(parts), 2):
        parts[i] = re.escape(parts[i])
    for i in range(1, len(parts), 2):
        parts[i] = f"(?P<{parts[i]}>{known[parts[i]]})"
    return re.compile("".join(parts))


def read(
    prompt: str, templates: tuple[Template, ...], slots: tuple[tuple[str, str], ...]
) -> tuple[Template, dict[str, str]]:
    """Find the template that a prompt was written with.

    Args:
        prompt: the whole prompt.
        templates: tried in order.
        slots: the name of each slot and the expression its values match.

    Returns:
        The template and what stands in its slots.

    Raises:
        ValueError: no template fits.
    """
    for template in templates:
        match = pattern(template.text, slots).fullmatch(prompt)
        if match:
            return template, match.groupdict()
    raise ValueError(
        f"prompt {prompt[:60]!r} fits no template of this generator; verify only "
        "prompts that it generated"
    )
