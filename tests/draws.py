"""How many examples a property-based test draws: as its author says, or ten times so.

Hypothesis' profile counts only where a test names no number, and most do: some need few
examples, because each compiles, and some many.
"""

from typing import Any

from hypothesis import settings

# Hypothesis' own number of examples.
ORDINARY = 100
settings.register_profile("nightly", max_examples=10 * ORDINARY, deadline=None)


def draws(examples: int = ORDINARY, **options: Any) -> settings:
    """Return settings for so many examples, more under ``make nightly``'s profile."""
    wider = settings().max_examples / ORDINARY
    return settings(max_examples=round(examples * wider), deadline=None, **options)
