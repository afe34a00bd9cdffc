"""A rehearsal: the first steps of a training that ships, taken again, and their losses beside those it had."""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from workbench.sources import find_source
from workbench.training.card import TRAINING
from workbench.training.recipe import recipe_of
from workbench.training.trainer import train

TOLERANCE = 0.02
"""Nats per token by which the mean loss of fifty steps may differ: another machine, or a compiled model, rounds
otherwise. On one machine, compiled or not as it was, nothing differs."""


@dataclass(frozen=True)
class Rehearsal:
    """What came out of a training that was begun again.

    Attributes:
        same_words: whether the tokenizer came out as the one that ships, byte by byte.
        losses: for every fiftieth step the mean loss of the fifty steps before it, in nats per token: as it ships,
            and now.
    """

    same_words: bool
    losses: dict[int, tuple[float, float]]

    @property
    def largest_gap(self) -> float:
        """The largest difference between a loss that ships and the one of now, in nats per token."""
        return max(abs(told - now) for told, now in self.losses.values())

    @property
    def reproduced(self) -> bool:
        """Whether the tokenizer is the same and no loss differs by more than the tolerance."""
        return self.same_words and self.largest_gap <= TOLERANCE


def rehearse(name: str, steps: int, device: torch.device, compiled: bool = False) -> Rehearsal:
    """Train a bundled model anew for its first steps: tokenizer, text, first weights and optimiser.

    Args:
        name: of the bundled model.
        steps: how many steps; a multiple of fifty.
        device: where to compute.
        compiled: whether the model is compiled first.

    Raises:
        KeyError: no recipe has this name.
        ValueError: the steps are not a multiple of fifty, or more than the first reading has before it cools down.
    """
    recipe, shipped = recipe_of(name), Path(find_source(name).place)
    last = int(recipe.steps * (1 - recipe.cooling)) // 50 * 50
    if steps % 50 or not 50 <= steps <= last:
        raise ValueError(f"a rehearsal of {steps} steps was asked for: allowed is a multiple of 50 from 50 to {last}")
    told = json.loads((shipped / TRAINING).read_text(encoding="utf-8"))["losses"]
    with TemporaryDirectory() as folder:
        out = train(recipe, Path(folder), device=device, compiled=compiled, until=steps)
        now = json.loads((out / TRAINING).read_text(encoding="utf-8"))["losses"]
        same = (out / "tokenizer.json").read_bytes() == (shipped / "tokenizer.json").read_bytes()
    return Rehearsal(same, {int(step): (told[step], loss) for step, loss in now.items()})
