"""Many programs that vote as one."""

from collections.abc import Sequence

from ._program import Gate, Program, program, spelled


def committee(members: Sequence[Program], classes: int) -> Program:
    """Return one program with the votes of many.

        >>> members = [circuits.Program(2, (), ((i, False), (i, True))) for i in (0, 1)]
        >>> circuits.committee(members, classes=2).outputs
        ((0, False), (1, False), (0, True), (1, True))

    Group c of its outputs is the members' groups c, one after the other, so that the
    votes of ``GroupSum`` and ``Classifier`` are the sums of the members' votes. A gate
    that members have in common is there once.

    Args:
        members: with the same inputs; their outputs are groups of equal size, one a
            class.
        classes: how many.

    Returns:
        A simplified program, with as many outputs as all members together.

    Raises:
        ValueError: for no members, unequal inputs, or classes that do not divide the
            outputs of a member.
    """
    inputs = {member.inputs for member in members}
    if len(inputs) != 1:
        raise ValueError(
            f"members have {sorted(inputs)} inputs; give at least one program, and all "
            "with the same number"
        )
    (first,) = inputs
    gates: list[Gate] = []
    votes: list[list[Gate]] = [[] for _ in range(classes)]
    for member in members:
        count = len(member.outputs)
        if classes < 1 or count % classes:
            raise ValueError(
                f"classes is {classes}; give a divisor of each member's outputs, "
                f"of which one has {count}"
            )
        before, size = len(gates), count // classes
        moved = [
            (table, a + before * (a >= first), b + before * (b >= first))
            for table, a, b in spelled(member)
        ]
        gates += moved[: len(member.gates)]
        for c, group in enumerate(votes):
            start = len(member.gates) + c * size
            group += moved[start : start + size]
    outputs = [vote for group in votes for vote in group]
    return program(first, [*gates, *outputs], len(outputs))
