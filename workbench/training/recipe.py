"""Recipes: how large a model of the small world is, and how long it reads."""

import math
from dataclasses import dataclass, replace
from itertools import accumulate


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
        steps: optimiser steps.
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
        again: steps of a second reading, after the first: the rate rises, stays and falls once more, on a text with
            more of what was learned late.
        again_stages: like `stages`, of the second reading.
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
    again: int = 0
    again_stages: tuple[tuple[int, float], ...] = ((256, 0.7), (512, 0.3))

    @property
    def context(self) -> int:
        """The longest row, in tokens."""
        return max(length for length, _ in self.stages)

    @property
    def total(self) -> int:
        """The steps of both readings."""
        return self.steps + self.again

    def mix_at(self, step: int) -> str:
        """The mix of genres of this step: a key of `MIXES`."""
        return "first" if step < self.steps else "second"

    def row_length(self, step: int) -> int:
        """Tokens in a row of this step."""
        begun, steps = self._reading(step)
        stages = self.again_stages if begun else self.stages
        for (length, _), edge in zip(stages, accumulate(share for _, share in stages), strict=True):
            if step - begun < edge * steps:
                return length
        return stages[-1][0]

    def spans_at(self, step: int) -> float:
        """The share of documents of this step that are repeated spans, besides those of the mix of genres."""
        return 0.5 if step < self.copying * self.steps else 0.0

    def rate_at(self, step: int) -> float:
        """The learning rate of this step: in each reading a rise, a plain, and a fall along a half cosine."""
        begun, steps = self._reading(step)
        left = (steps - (step - begun)) / max(1.0, self.cooling * steps)
        fall = 0.5 - 0.5 * math.cos(math.pi * min(1.0, left))
        return self.rate * min(1.0, (step - begun + 1) / self.warmup) * fall

    def _reading(self, step: int) -> tuple[int, int]:
        """Where the reading of this step begins, and how many steps it has."""
        return (0, self.steps) if step < self.steps else (self.steps, self.again)


RECIPES = {
    "world": Recipe("world", layers=6, width=256, mlp=512, heads=8, kv_heads=4, steps=9_000, again=6_500),
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

    With fewer steps, a training that has begun cools down earlier, and so ends earlier: the second reading is cut
    first.

    Raises:
        KeyError: there is no such recipe.
    """
    if name not in RECIPES:
        raise KeyError(f"recipe {name!r} is unknown: allowed are {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    if steps is None:
        return recipe
    first = min(steps, recipe.steps) if recipe.again else steps
    return replace(recipe, steps=first, again=steps - first)
