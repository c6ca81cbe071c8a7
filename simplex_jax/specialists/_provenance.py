"""What every generated example says about itself."""

from typing import Any

from ._posterior import Solution
from ._protocols import Split
from ._template import Template


def provenance(
    generator: str,
    split: Split,
    seed: int,
    index: int,
    template: Template,
    truth: str,
    answer: str,
    solution: Solution,
) -> dict[str, Any]:
    """Return a generated example's metadata.

    Args:
        generator: its name in the catalog.
        split: which half of the templates was drawn from.
        seed: of the generator.
        index: of the example.
        template: the one that was filled.
        truth: what was hidden.
        answer: the most probable truth, in the words of this prompt.
        solution: holds its posterior.

    Returns:
        ``id``, ``generator``, ``template``, ``split``, ``split_hash``, ``truth``,
        ``answer``, ``confidence`` (as stated) and ``posterior`` (exact, as a float).
    """
    return {
        "id": f"{generator}/{split}/{seed}/{index}",
        "generator": generator,
        "template": template.id,
        "split": split,
        "split_hash": template.hash,
        "truth": truth,
        "answer": answer,
        "confidence": float(solution.confidence),
        "posterior": float(solution.posterior),
    }
