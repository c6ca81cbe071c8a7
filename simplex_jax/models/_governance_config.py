"""Which governance heads a decoder has, as config.json says it."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from .._checks import at_least, one_of

_MEMORIES = ("none", "forget", "delta", "both")


@dataclasses.dataclass(frozen=True)
class GovernanceConfig:
    """Say which heads govern a decoder's attention.

    Args:
        policy: whether a low-rank bilinear bias is added to the scores.
        policy_rank: its rank r, from 1 on.
        veto_gate: whether each key has a gate that takes it out of attention.
        memory: ``none``; ``forget``, keys fade at a rate that depends on the data;
            ``delta``, an associative state beside attention; or ``both``.
        memory_dim: width M of the state's keys and values; each layer has one state
            (M, M) a key head.

    Raises:
        ValueError: where no head is on, or a value is out of range.
    """

    policy: bool = True
    policy_rank: int = 5
    veto_gate: bool = True
    memory: str = "both"
    memory_dim: int = 32

    def __post_init__(self):
        """Check the values."""
        one_of("governance.memory", self.memory, _MEMORIES)
        for name in ("policy_rank", "memory_dim"):
            at_least(f"governance.{name}", getattr(self, name))
        if not (self.policy or self.veto_gate or self.forgets or self.associates):
            raise ValueError(
                "governance has no head; turn policy, veto_gate or memory on, or give "
                "governance=None"
            )

    @property
    def forgets(self) -> bool:
        """Return whether keys fade."""
        return self.memory in ("forget", "both")

    @property
    def associates(self) -> bool:
        """Return whether there is an associative state."""
        return self.memory in ("delta", "both")


def governance_from_json(raw: Mapping[str, Any]) -> GovernanceConfig:
    """Read the ``governance`` object of a config.json.

    Args:
        raw: names and values; what is left out has its default.

    Returns:
        The configuration.

    Raises:
        ValueError: on an unknown name, with the nearest known one, or a value of the
            wrong kind or range.
    """
    kinds = {f.name: type(f.default) for f in dataclasses.fields(GovernanceConfig)}
    for name, value in raw.items():
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, 1, 0.0)[0]
            raise ValueError(
                f"governance.{name} is unknown; did you mean governance.{near}?"
            )
        if type(value) is not kinds[name]:
            raise ValueError(
                f"governance.{name}={value!r} (expected {kinds[name].__name__})"
            )
    return GovernanceConfig(**raw)
