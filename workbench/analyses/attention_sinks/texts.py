"""The texts that are looked at: kinds of text, and for each its controls."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workbench.model import Model
from workbench.prompts import Prompt, Prompts
from workbench.vocabulary import usable_tokens

RANDOM, SAME = "random tokens", "one token over and over"
CONTROLS = (RANDOM, SAME)
_ONLY = "the prompts"
_LEAST = 3

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Texts:
    """Token ids of every text, with its kind; the controls of all texts behind them.

    Attributes:
        rows: kinds and texts.
        kinds: the kinds of text without the controls, in the order in which they first appear.
        position: the place of the sink token.
        words: the tokens of the first text, for labels.
    """

    rows: Sequence[tuple[str, Ids]]
    kinds: tuple[str, ...]
    position: int
    words: tuple[str, ...]

    @classmethod
    def of(cls, model: Model, prompts: Prompts, domain: str, texts: int, position: int, seed: int) -> "Texts":
        """Some prompts of each kind, and their controls.

        Raises:
            ValueError: a prompt does not name its kind, a kind is named as a control is, or a prompt is too short.
        """
        kept = choose(prompts, domain, texts)
        if clash := [kind for kind in kept if kind in CONTROLS]:
            raise ValueError(f"a kind of text is named {clash[0]!r}, as a control is: name it otherwise")
        tokens = model.tokens(Prompts([prompt for some in kept.values() for prompt in some]))
        rows = [tuple(row[:length].tolist()) for row, length in zip(tokens.ids, tokens.lengths, strict=True)]
        for number, row in enumerate(rows):
            if len(row) < position + _LEAST:
                raise ValueError(
                    f"prompt {number} has {len(row)} tokens, but a sink at position {position} needs "
                    f"{position + _LEAST} or more"
                )
        kinds = [kind for kind, some in kept.items() for _ in some]
        controls = [(RANDOM, row) for row in _random(model, rows, position, seed)]
        controls += [(SAME, row[: position + 1] + (row[position + 1],) * (len(row) - position - 1)) for row in rows]
        return cls([*zip(kinds, rows, strict=True), *controls], tuple(kept), position, tokens.text[0])

    @property
    def plain(self) -> list[tuple[str, Ids]]:
        """The texts without the controls."""
        return [(kind, row) for kind, row in self.rows if kind in self.kinds]


def choose(prompts: Prompts, domain: str, texts: int) -> dict[str, list[Prompt]]:
    """The first prompts of each kind. Raises ValueError when one does not name its kind."""
    kept: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        some = kept.setdefault(_kind(prompt, domain), [])
        if len(some) < texts:
            some.append(prompt)
    return kept


def _kind(prompt: Prompt, domain: str) -> str:
    if not domain:
        return _ONLY
    if domain not in prompt.meta:
        held = ", ".join(prompt.meta) or "nothing"
        raise ValueError(f"prompt {prompt.text[:40]!r} has no {domain!r} in its meta, which holds {held}")
    return str(prompt.meta[domain])


def _random(model: Model, rows: list[Ids], position: int, seed: int) -> list[Ids]:
    """The texts with all tokens behind the sink replaced."""
    words = usable_tokens(model)
    generator = torch.Generator().manual_seed(seed)
    kept = position + 1
    drawn = [words[torch.randint(len(words), (len(row) - kept,), generator=generator)].tolist() for row in rows]
    return [(*row[:kept], *some) for row, some in zip(rows, drawn, strict=True)]
