"""Recipes: how large a model of the small world is, and how long it reads."""

import math
from dataclasses import dataclass, replace
from itertools import accumulate


@dataclass(frozen=True)
class Reading:
    """A part of the training in which the learning rate rises, stays and falls once.

    Attributes:
        mix: how often each genre writes: a key of `MIXES`.
        steps: optimiser steps.
        stages: length of the rows and share of the steps, in order.
        rate: the highest learning rate.
        cooling: the share of the steps, at the end, in which it falls to zero along a half cosine.
    """

    mix: str
    steps: int
    stages: tuple[tuple[int, float], ...] = ((256, 0.7), (512, 0.3))
    rate: float = 3e-3
    cooling: float = 0.35

    def row_length(self, step: int) -> int:
        """Tokens in a row of this step of the reading."""
        for (length, _), edge in zip(self.stages, accumulate(share for _, share in self.stages), strict=True):
            if step < edge * self.steps:
                return length
        return self.stages[-1][0]

    def rate_at(self, step: int, warmup: int) -> float:
        """The learning rate of this step of the reading."""
        left = (self.steps - step) / max(1.0, self.cooling * self.steps)
        fall = 0.5 - 0.5 * math.cos(math.pi * min(1.0, left))
        return self.rate * min(1.0, (step + 1) / warmup) * fall


@dataclass(frozen=True)
class Recipe:
    """Everything that decides which weights come out.

    Attributes:
        name: what the model is called.
        layers: blocks.
        width: d_model.
        mlp: neurons of a block.
        heads: query heads of a block.
        kv_heads: key-value heads of a block.
        steps: optimiser steps of the first reading.
        step_tokens: tokens of a step; rows are as long as the stage says, and as many as fit.
        stages: length of the rows and share of the steps, in order: short contexts first, they are cheaper.
        copying: share of the steps, at the beginning, in which every other document repeats random spans: copying by
            what stands in the context is learned late, and everything else that copies can build on it.
        warmup: steps in which the learning rate rises.
        rate: the highest learning rate.
        cooling: the share of the steps, at the end, in which it falls to zero along a half cosine.
        decay: weight decay of the matrices.
        seed: of the first weights and of the text.
        world: seed of the world.
        history: steps whose weights are kept.
        later: readings after the first, on a text with more of what was learned late.
    """

    name: str
    layers: int
    width: int
    mlp: int
    heads: int
    kv_heads: int
    steps: int
    step_tokens: int = 2048
    stages: tuple[tuple[int, float], ...] = ((128, 0.55), (256, 0.15), (512, 0.3))
    copying: float = 0.25
    warmup: int = 200
    rate: float = 3e-3
    cooling: float = 0.35
    decay: float = 0.1
    seed: int = 0
    world: int = 0
    history: tuple[int, ...] = ()
    later: tuple[Reading, ...] = ()

    @property
    def context(self) -> int:
        """The longest row, in tokens."""
        return max(length for length, _ in self.stages)

    @property
    def total(self) -> int:
        """The steps of all readings."""
        return self.steps + sum(reading.steps for reading in self.later)

    def mix_at(self, step: int) -> str:
        """The mix of genres of this step: a key of `MIXES`."""
        return self._reading(step)[0].mix

    def row_length(self, step: int) -> int:
        """Tokens in a row of this step."""
        reading, begun = self._reading(step)
        return reading.row_length(step - begun)

    def spans_at(self, step: int) -> float:
        """The share of documents of this step that are repeated spans, besides those of the mix of genres."""
        return 0.5 if step < self.copying * self.steps else 0.0

    def rate_at(self, step: int) -> float:
        """The learning rate of this step: in each reading a rise, a plain, and a fall along a half cosine."""
        reading, begun = self._reading(step)
        return reading.rate_at(step - begun, self.warmup)

    def _reading(self, step: int) -> tuple[Reading, int]:
        """The reading of this step, and where it begins."""
        begun, reading = 0, Reading("first", self.steps, self.stages, self.rate, self.cooling)
        for after in self.later:
            if step < begun + reading.steps:
                break
            begun, reading = begun + reading.steps, after
        return reading, begun


RECIPES = {
    "world": Recipe(
        "world",
        layers=6,
        width=256,
        mlp=512,
        heads=8,
        kv_heads=4,
        steps=9_000,
        later=(
            Reading("second", 6_500),
            Reading("third", 1_500, rate=1.5e-3, cooling=0.7),
            Reading("third", 800, rate=1e-3, cooling=0.7),
        ),
    ),
    "world-history": Recipe(
        "world-history",
        layers=2,
        width=96,
        mlp=256,
        heads=4,
        kv_heads=2,
        steps=3_000,
        stages=((128, 0.8), (256, 0.2)),
        warmup=100,
        rate=8e-3,
        copying=1.0,
        history=(0, 50, 200, 700, 1_400, 1_800, 2_000, 2_100, 2_150, 2_200, 2_250, 2_300, 2_350, 2_400, 2_500, 3_000),
    ),
}
"""The models that ship with the workbench."""


def recipe_of(name: str, steps: int | None = None) -> Recipe:
    """A recipe by name, perhaps with another number of steps.

    With fewer steps, a training that has begun cools down earlier, and so ends earlier: the last reading is cut
    first.

    Raises:
        KeyError: there is no such recipe.
    """
    if name not in RECIPES:
        raise KeyError(f"recipe {name!r} is unknown: allowed are {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    return recipe if steps is None else _cut(recipe, steps)


def _cut(recipe: Recipe, steps: int) -> Recipe:
    if not recipe.later:
        return replace(recipe, steps=steps)
    last = recipe.later[-1]
    before = recipe.total - last.steps
    if steps > before:
        return replace(recipe, later=(*recipe.later[:-1], replace(last, steps=steps - before)))
    return _cut(replace(recipe, later=recipe.later[:-1]), steps)
