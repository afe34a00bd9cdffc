"""Is a circuit necessary, and is it enough: the model runs without its features, or without all others.

Both are measured in the running model: attention, norms and the features that are left answer. What the
transcoders miss, their biases and what MLPs without transcoders write stay as they come out, so that with every
feature taken away something is left too; necessity and sufficiency are shares of what lies between.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.frozen import FrozenRun
from workbench.circuits.interventions import Clamp, measure, read_with
from workbench.circuits.targets import Target
from workbench.coders.attaching import attach
from workbench.coders.coder import Transcoders
from workbench.model import Model
from workbench.progress import track
from workbench.words import Site

Place = tuple[int, int, int]
"""Layer, number and position of a feature."""


@dataclass(frozen=True)
class Shares:
    """A target's value as the model is, with sets of features taken away, and with nothing but them.

    Attributes:
        whole: the model as it is.
        none: every feature taken away.
        without: each set taken away.
        only: every feature but those of each set taken away.
    """

    whole: float
    none: float
    without: Float[Tensor, " variant"]
    only: Float[Tensor, " variant"]

    @property
    def necessity(self) -> Float[Tensor, " variant"]:
        """The share of what all features do that is lost without each set; 1 if all is, NaN if they do nothing."""
        return self._share(self.whole - self.without)

    @property
    def sufficiency(self) -> Float[Tensor, " variant"]:
        """The share of what all features do that each set does alone; NaN if they do nothing."""
        return self._share(self.only - self.none)

    def _share(self, part: Float[Tensor, " variant"]) -> Float[Tensor, " variant"]:
        effect = self.whole - self.none
        return part / effect if abs(effect) > 1e-6 * max(abs(self.whole), 1.0) else torch.full_like(part, torch.nan)


@torch.no_grad()
def take_away(
    model: Model,
    run: FrozenRun,
    coders: Transcoders,
    sets: Sequence[Collection[Place]],
    target: Target,
    *,
    fill: str = "zero",
    keep_first: bool = True,
) -> Shares:
    """Take sets of features away, and everything but them.

    Args:
        model: a loaded model.
        run: what gives the prompt.
        coders: the transcoders whose features they are.
        sets: layer, number and position of the features of each.
        target: a logit or a difference of logits.
        fill: what stands in the place of a feature: "zero", or "mean", which is its mean over the prompt.
        keep_first: whether features at the first position are left alone, as in the graph.
    """
    start = 1 if keep_first else 0
    fills = {
        layer: coder.encode(run.layers[layer].mlp_in[start:]).mean(0)
        if fill == "mean"
        else torch.zeros(coder.width, dtype=run.stream.dtype, device=run.stream.device)
        for layer, coder in coders.items()
    }
    taken = [[Clamp(layer, pos, number, float(fills[layer][number])) for layer, number, pos in one] for one in sets]
    without = measure(model, run, coders, [[], *taken], [target])[:, 0]
    kept: list[Collection[Place]] = [(), *sets]
    only = [_only(model, run, coders, one, target, fills, start) for one in track(kept, "passes with sets alone")]
    return Shares(float(without[0]), only[0], without[1:], torch.tensor(only[1:], dtype=without.dtype))


def _only(
    model: Model,
    run: FrozenRun,
    coders: Transcoders,
    kept: Collection[Place],
    target: Target,
    fills: dict[int, Float[Tensor, " feature"]],
    start: int,
) -> float:
    """The target when the running model has these features alone."""
    changes = []
    for layer, coder in coders.items():
        mask = torch.zeros(len(run.ids), coder.width, dtype=torch.bool, device=run.stream.device)
        for place, number, pos in kept:
            if place == layer:
                mask[pos, number] = True

        def keep(
            values: Float[Tensor, "batch pos feature"], mask: Tensor = mask, layer: int = layer
        ) -> Float[Tensor, "batch pos feature"]:
            return torch.where(mask, values, fills[layer].to(values))

        changes.append((Site("mlp_out", layer), keep))
    return float(read_with(model, run, attach(coders, changes=changes, since=start), [target])[0, 0])
