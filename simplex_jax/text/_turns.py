"""What a chat template writes around each message, found by rendering probes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence

from ._chat import ChatTemplateError, Message, render_chat
from ._vocabulary import Vocabulary

ROLES = ("system", "user", "assistant")


@dataclasses.dataclass(frozen=True)
class Turns:
    """Describe a conversation's text as fixed pieces around the contents.

    Args:
        opening: Text before everything else, at most the BOS text.
        default_system: Text after it where the first message is no system
            message.
        before: Text before the content of a message, by role; a role that the
            template refuses is missing.
        after: Text after the content of a message, by role.
        generation: Text that opens the assistant's next turn.
        trims: Whether the template strips white space around contents, which
            these pieces do not.
    """

    opening: str
    default_system: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    generation: str
    trims: bool

    def render(self, messages: Sequence[Message]) -> str:
        """Put a conversation together.

        Args:
            messages: ``{"role": ..., "content": ...}`` in order.

        Returns:
            The prompt, with the assistant's next turn opened.
        """
        starts_with_system = bool(messages) and messages[0]["role"] == "system"
        head = "" if starts_with_system else self.default_system
        turns = (
            self.before[m["role"]] + m["content"] + self.after[m["role"]]
            for m in messages
        )
        return self.opening + head + "".join(turns) + self.generation


def derive_turns(vocabulary: Vocabulary) -> Turns:
    """Find the pieces that a chat template writes around contents.

    They are checked on conversations of several turns with line breaks, quotes,
    braces and surrounding white space (left out where the template trims it).
    What a template does for tools, for reasoning in an assistant's content or
    for a last message of the assistant is not part of them. Dates that a
    template writes stay as they are now.

    Args:
        vocabulary: One with a chat template.

    Returns:
        The pieces; ``opening`` has no BOS where ``add_bos`` puts it there.

    Raises:
        ValueError: There is no chat template, or no fixed pieces give its text.
    """
    if vocabulary.chat_template is None:
        raise ValueError(
            "the tokenizer has no chat_template, so there are no turns to describe;"
            " set one with dataclasses.replace(tokenizer, chat_template=...)."
        )
    between = functools.partial(_between, vocabulary)
    start_user, after_user = between("user", generation=False)
    _, before_generation = between("user", generation=True)
    generation = _without_start(before_generation, after_user, "the user's last turn")
    start, to_assistant, to_user, _ = between("user", "assistant", "user")
    before_assistant = _without_start(to_assistant, after_user, "the user's turn")
    _, _, after_assistant = between("user", "assistant", generation=False)
    if not to_user.startswith(after_assistant):
        # The last message is closed differently; only earlier ones matter here.
        after_assistant = to_user[: len(to_user) - _common_end(to_user, start_user)]
    before_user = to_user[len(after_assistant) :]

    bos = vocabulary.bos_token
    # Where the assistant's turn starts with it too, it is a mark of turns.
    has_opening = bool(bos) and start_user.startswith(bos)
    opening = bos if has_opening and not before_assistant.startswith(bos) else ""
    kept = "" if vocabulary.add_bos else opening
    start = start.removeprefix(opening)
    default_system = _without_end(start, before_user, "the first user's turn")
    before = {"user": before_user, "assistant": before_assistant}
    after = {"user": after_user, "assistant": after_assistant}
    try:
        start_system, to_user, _ = between("system", "user")
    except ChatTemplateError:
        pass
    else:
        before["system"] = start_system.removeprefix(opening)
        after["system"] = _without_end(to_user, before_user, "the system's turn")
    turns = Turns(
        opening=kept,
        default_system=default_system,
        before=before,
        after=after,
        generation=generation,
        trims=_trims(vocabulary, before),
    )
    _check(vocabulary, turns, dropped=opening.removeprefix(kept))
    return turns


def _render(vocabulary: Vocabulary, messages: list[Message], generation: bool) -> str:
    return render_chat(vocabulary, messages, add_generation_prompt=generation)


def _between(vocabulary: Vocabulary, *roles: str, generation: bool = True) -> list[str]:
    """Give the texts before, between and after the contents of a conversation."""
    contents = [f"PROBE{i}CONTENT" for i in range(len(roles))]
    messages: list[Message] = [
        {"role": role, "content": content}
        for role, content in zip(roles, contents, strict=True)
    ]
    rest = _render(vocabulary, messages, generation)
    found = []
    for content in contents:
        before, middle, rest = rest.partition(content)
        if not middle or content in rest:
            raise _unfit(
                f"it does not write each content once, in order, for {', '.join(roles)}"
            )
        found.append(before)
    return [*found, rest]


def _unfit(reason: str) -> ValueError:
    return ValueError(
        f"the chat template has no equivalent Go template: {reason}; use a simpler"
        " chat template, such as ChatML."
    )


def _without_start(text: str, start: str, what: str) -> str:
    if not text.startswith(start):
        raise _unfit(f"after {what} it writes {text!r}, elsewhere {start!r}")
    return text[len(start) :]


def _without_end(text: str, end: str, what: str) -> str:
    if not text.endswith(end):
        raise _unfit(f"before {what} it writes {text!r}, elsewhere {end!r}")
    return text[: len(text) - len(end)]


def _common_end(a: str, b: str) -> int:
    longest = min(len(a), len(b))
    return next((n for n in range(longest) if a[-1 - n] != b[-1 - n]), longest)


def _trims(vocabulary: Vocabulary, roles: Collection[str]) -> bool:
    # A user's turn comes before and after, because many templates demand it.
    order = [role for role in ("system", "user", "assistant") if role in roles]
    messages: list[Message] = [
        {"role": role, "content": f" \n{i} \n"}
        for i, role in enumerate([*order, "user"])
    ]
    text = _render(vocabulary, messages, True)
    return any(m["content"] not in text for m in messages)


def _check(vocabulary: Vocabulary, turns: Turns, *, dropped: str) -> None:
    for messages in _conversations(turns):
        expected = _render(vocabulary, messages, True).removeprefix(dropped)
        found = turns.render(messages)
        if found != expected:
            at = next(
                i for i in range(len(found) + 1) if found[: i + 1] != expected[: i + 1]
            )
            raise _unfit(
                f"for the roles {', '.join(m['role'] for m in messages)} it writes"
                f" {expected[max(at - 20, 0) : at + 40]!r} where fixed pieces around"
                f" the contents give {found[max(at - 20, 0) : at + 40]!r}"
            )


def _conversations(turns: Turns) -> list[list[Message]]:
    plain = "What is 2 + 2?"
    awkward = "line one\n\n\"two\"\t'{{ .Content }}' {% raw %} \\n <b> 日本語 é"
    padded = awkward if turns.trims else f"  \n{awkward} \n\n"
    talks = [
        [plain],
        [awkward],
        [padded],
        [plain, awkward, plain],
        [plain, padded, padded, plain, awkward],
    ]
    found = []
    for talk in talks:
        roles = ("user", "assistant")
        messages: list[Message] = [
            {"role": roles[i % 2], "content": text} for i, text in enumerate(talk)
        ]
        found.append(messages)
        if "system" in turns.before:
            for text in (plain, padded):
                found.append([{"role": "system", "content": text}, *messages])
    return found
