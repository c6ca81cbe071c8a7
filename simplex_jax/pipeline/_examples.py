"""The material of a specialist: conversations whose answers are learned and judged."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, models, specialists
from ..export import chat_completion, chat_rows
from ..text import Tokenizer, chat_tokens
from ._answers import answer, judge
from ._config import RunConfig
from ._material import Material, Sequences, pack, require_fits, token_figures

_SAMPLES = 12


@dataclasses.dataclass(frozen=True)
class Examples(Material):
    """Examples of a generator, or the user's own.

    Args:
        config: of the run.
        splits: examples by the name of their split.
        shown: indices of held-out examples to show.
        max_new_tokens: long enough for any answer as long as those of the examples.
    """

    config: RunConfig
    splits: dict[str, list[data.Example]]
    shown: list[int]
    max_new_tokens: int

    def write(self, folder: Path) -> None:
        """Write the examples, a file a split."""
        for split, examples in self.splits.items():
            data.write_jsonl(folder / f"{split}.jsonl", examples)

    def examine(
        self,
        model: models.Decoder,
        tokenizer: Tokenizer,
        progress: Callable[[float], None] = lambda share: None,
    ) -> tuple[dict[str, Any], list[str]]:
        """Judge answers with the verifier, or measure how probable the given ones are.

        A specialist's answers are judged by its verifier; on a user's own data the loss
        and the token accuracy of the given answers are measured.
        """
        heldout, name = self.splits["heldout"], self.config.specialist

        def answers(examples: Sequence[data.Example]) -> list[str]:
            limit = self.max_new_tokens
            return answer(
                model, tokenizer, examples, max_new_tokens=limit, progress=progress
            )

        if name is not None:
            texts = answers(heldout)
            return judge(name, heldout, texts), [texts[i] for i in self.shown]
        batches = self.packed.once["heldout"]
        segments = (batch["segment_ids"].max(axis=1).sum() for batch in batches)
        figures = {
            **token_figures(model, batches),
            "sequences": sum(map(int, segments)),
        }
        return figures, answers([heldout[i] for i in self.shown])

    def samples(self, answers: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """Return prompts, given answers and both models', with verdicts if any."""
        name, found = self.config.specialist, []
        for i, before, after in zip(
            self.shown, answers["before"], answers["after"], strict=True
        ):
            example = self.splits["heldout"][i]
            sample = {"prompt": example.prompt, "expected": example.response}
            sample |= {"before": before, "after": after}
            if name is not None:
                verdicts = [
                    specialists.verify(name, example.prompt, text)
                    for text in (before, after)
                ]
                sample |= {
                    "expected": verdicts[0].expected,
                    "expected_confidence": verdicts[0].expected_confidence,
                    "before_correct": verdicts[0].correct,
                    "after_correct": verdicts[1].correct,
                }
            found.append(sample)
        return found

    def rows(self, model: models.Decoder, tokenizer: Tokenizer) -> list[list[int]]:
        """Return held-out conversations, answers included."""
        return chat_rows(model, tokenizer, self.splits["heldout"])

    def chat(self, path: Path) -> dict[str, Any]:
        """Let llama.cpp answer the first prompt that is shown."""
        example = self.splits["heldout"][self.shown[0]]
        return chat_completion(
            path,
            example.chat()[:-1],
            max_tokens=self.max_new_tokens,
            context_tokens=self.config.training.max_length + self.max_new_tokens,
        )


def make_examples(config: RunConfig, tokenizer: Tokenizer, context: int) -> Examples:
    """Generate or read the examples, split, encode and pack them.

    Args:
        config: of the run.
        tokenizer: with a chat template.
        context: the most tokens that the model can look at.

    Returns:
        The material; the same configuration and file give the same.

    Raises:
        ValueError: naming the file and line, or the example, that cannot be used.
        OSError: where a file cannot be read.
    """
    if tokenizer.chat_template is None:
        raise ValueError(
            f"base {config.base!r} has no chat template; take one that was tuned on "
            "instructions"
        )
    require_fits(config, context)
    found, removed = _splits(config)
    splits = {split: examples for split, examples in found.items() if examples}
    facts: dict[str, Any] = {"duplicates_removed": removed}
    sequences: dict[str, Sequences] = {}
    for split, examples in splits.items():
        facts[split] = {"examples": len(examples), "sha256": _digest(examples)}
        sequences[split] = _encode(split, examples, tokenizer)
    packed = pack(config, sequences)
    answers = [int(np.count_nonzero(loss)) for _, loss in sequences["train"]]
    fits = [
        i
        for i, (ids, _) in enumerate(sequences["heldout"])
        if len(ids) <= config.training.max_length + 1
    ]
    chosen = np.linspace(0, len(fits) - 1, min(_SAMPLES, len(fits))).round()
    return Examples(
        packed=packed,
        facts=facts | packed.facts,
        config=config,
        splits=splits,
        shown=[fits[int(i)] for i in chosen],
        max_new_tokens=min(max(answers) * 3 // 2 + 8, context // 2),
    )


def _splits(config: RunConfig) -> tuple[dict[str, list[data.Example]], int]:
    """Return the examples of each split, and how many duplicates were left out."""
    chosen, name = config.data, config.specialist
    if name is not None:
        count = chosen.train_examples
        found = specialists.generate(
            name, count + chosen.validation_examples, seed=chosen.seed
        )
        heldout = specialists.generate(
            name, chosen.heldout_examples, seed=chosen.seed, split="heldout"
        )
        # The generator leaves duplicates out by itself.
        splits = {"train": found[:count], "validation": found[count:]}
        return {**splits, "heldout": heldout}, 0
    assert chosen.file is not None
    read = data.read_jsonl(chosen.file)
    examples = data.deduplicate(read)
    try:
        rest, heldout = data.split_by_hash(
            examples, chosen.heldout_fraction, seed=chosen.seed
        )
        splits = {"train": rest, "validation": []}
        if chosen.validation_fraction:
            splits["train"], splits["validation"] = data.split_by_hash(
                rest, chosen.validation_fraction, seed=chosen.seed + 1
            )
    except ValueError as error:
        raise ValueError(
            f"{chosen.file}: {error} (training, validation and held-out data share no "
            "prompt; data.validation_fraction=0 does without the second)"
        ) from error
    return {**splits, "heldout": heldout}, len(read) - len(examples)


def _encode(
    split: str, examples: Sequence[data.Example], tokenizer: Tokenizer
) -> Sequences:
    found = []
    for i, example in enumerate(examples):
        try:
            if all(turn.role != "user" for turn in example.messages):
                raise ValueError("no user turn; give the assistant something to answer")
            found.append(chat_tokens(example, tokenizer))
        except ValueError as error:
            opening = repr(example.messages[0].content[:40])
            raise ValueError(f"{split} example {i}, {opening}: {error}") from error
    return found


def _digest(examples: Sequence[data.Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        text = repr((example.messages, example.weight))
        digest.update(text.encode())
    return digest.hexdigest()
