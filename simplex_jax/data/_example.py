"""One training example: a conversation and what is known about it."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._checks import one_of, refuse

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Turn:
    """One message of a conversation.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        content: the text; never blank.
    """

    role: str
    content: str

    def __post_init__(self):
        one_of("role", self.role, ROLES)
        if not self.content.strip():
            raise ValueError(
                f"the {self.role} turn is blank; give it text or remove it"
            )
        try:
            self.content.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the {self.role} turn has half a surrogate pair at character "
                f"{error.start}; write the character itself"
            ) from None


@dataclass(frozen=True)
class Example:
    """A conversation that ends with the answer to be learned.

    Attributes:
        messages: the turns in order; a system turn only first, the last one
            an assistant turn.
        metadata: JSON values. Generated examples carry ``id``, ``generator``,
            ``template``, ``split``, ``split_hash``, ``truth``, ``answer``,
            ``confidence`` (as stated) and ``posterior`` (not rounded).
        weight: how much its loss counts; finite and above 0.
    """

    messages: tuple[Turn, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0

    def __post_init__(self):
        if not self.messages:
            raise ValueError("messages is empty; give at least one assistant turn")
        late = [
            i for i, turn in enumerate(self.messages) if i and turn.role == "system"
        ]
        if late:
            raise ValueError(
                f"message {late[0]} is a system turn; only the first may be one"
            )
        if self.messages[-1].role != "assistant":
            raise ValueError(
                f"the last message is a {self.messages[-1].role} turn; end with the "
                "assistant's answer"
            )
        if not (math.isfinite(self.weight) and self.weight > 0):
            fix = "give a finite number above 0, or remove the example"
            refuse("weight", self.weight, fix)

    @classmethod
    def from_pair(
        cls,
        prompt: str,
        response: str,
        metadata: Mapping[str, Any] | None = None,
        weight: float = 1.0,
    ) -> "Example":
        """Build a conversation of one question and its answer.

        Args:
            prompt: the user's turn.
            response: the assistant's turn.
            metadata: JSON values.
            weight: how much its loss counts.

        Returns:
            The example.

        Raises:
            ValueError: a text is blank or the weight is not above 0.
        """
        turns = (Turn("user", prompt), Turn("assistant", response))
        return cls(turns, dict(metadata or {}), weight)

    @property
    def is_pair(self) -> bool:
        """Whether it is one user turn and one assistant turn."""
        return [turn.role for turn in self.messages] == ["user", "assistant"]

    @property
    def prompt(self) -> str:
        """The last user turn's text; raise ValueError where there is none."""
        for turn in reversed(self.messages):
            if turn.role == "user":
                return turn.content
        raise ValueError("the example has no user turn; read its messages instead")

    @property
    def response(self) -> str:
        """The last assistant turn's text."""
        return self.messages[-1].content

    def chat(self) -> list[dict[str, str]]:
        """Return the turns as chat templates take them, role and content."""
        return [{"role": turn.role, "content": turn.content} for turn in self.messages]


def prompt_hash(example: Example) -> str:
    """Hash what comes before the first assistant turn.

    Conversations that open alike have one hash, so that a split by it never
    shows in training what is asked in the evaluation.

    Args:
        example: the conversation.

    Returns:
        64 hexadecimal digits (SHA-256).
    """
    opening = []
    for turn in example.messages:
        if turn.role == "assistant":
            break
        opening.append([turn.role, turn.content])
    return hashlib.sha256(json.dumps(opening).encode()).hexdigest()


def deduplicate(examples: Iterable[Example]) -> list[Example]:
    """Keep the first of each conversation.

    Args:
        examples: in order.

    Returns:
        The examples whose turns did not occur before, in order. Two answers
        to one prompt are two examples.
    """
    first: dict[tuple[Turn, ...], Example] = {}
    for example in examples:
        first.setdefault(example.messages, example)
    return list(first.values())
