"""What coders learn from: shuffled pairs of what they read and what they predict, of all layers in one pass."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.coders.training.recipe import Recipe
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.tracer import trace
from workbench.words import Site

_TOGETHER = 8
"""Texts in one pass."""


class Pairs(NamedTuple):
    """What a layer's coder reads, and what it should predict."""

    x: Float[Tensor, "token d_in"]
    y: Float[Tensor, "token d_out"]


class Buffer:
    """The activations of some texts after others; a batch depends on its step alone, so training can be resumed.

    Args:
        model: the model that the coders are for.
        texts: the texts; read again in another order as often as needed.
        layers: the layers of the coders.
        recipe: says how many tokens are held, and in which order.
    """

    def __init__(self, model: Model, texts: Prompts, layers: Sequence[int], recipe: Recipe) -> None:
        self._model, self._texts, self._layers, self._recipe = model, list(texts), tuple(layers), recipe
        self._since = int(recipe.spare_first)
        counts = [max(length - self._since, 0) for length in model.tokens(texts).lengths]
        if not sum(counts):
            raise ValueError("the texts hold no token to learn from: give texts of two tokens or more")
        self._groups = _groups(counts, recipe)
        self._chunk = -1
        self._held: dict[int, Pairs] = {}
        self._order = torch.empty(0, dtype=torch.long)

    def at(self, step: int) -> dict[int, Pairs]:
        """The batch of a step, by layer; steps must not go back."""
        chunk, place = divmod(step, self._recipe.batches)
        while self._chunk < chunk:
            group = next(self._groups)
            self._chunk += 1
            if self._chunk == chunk:
                self._fill(group)
        rows = self._order[place * self._recipe.batch : (place + 1) * self._recipe.batch]
        return {layer: Pairs(pairs.x[rows], pairs.y[rows]) for layer, pairs in self._held.items()}

    def _fill(self, group: list[int]) -> None:
        """Run the model over some texts and shuffle what was seen."""
        sites = [Site(kind, layer) for kind in ("mlp_in", "mlp_out") for layer in self._layers]
        seen: dict[Site, list[Tensor]] = {site: [] for site in sites}
        for start in range(0, len(group), _TOGETHER):
            texts = Prompts.of(*(self._texts[number] for number in group[start : start + _TOGETHER]))
            traced = trace(self._model, texts, sites)
            mask = traced.mask[:, self._since :]
            for site in sites:
                seen[site].append(traced[site][:, self._since :][mask].float())
        found = {site: torch.cat(parts) for site, parts in seen.items()}
        self._held = {
            layer: Pairs(found[Site("mlp_in", layer)], found[Site("mlp_out", layer)]) for layer in self._layers
        }
        generator = torch.Generator().manual_seed(self._recipe.seed * 1_000_003 + self._chunk)
        self._order = torch.randperm(len(self._held[self._layers[0]].x), generator=generator).to(self._model.device)


def _groups(counts: Sequence[int], recipe: Recipe) -> Iterator[list[int]]:
    """Without end: the numbers of texts that together fill a buffer, all texts once before any twice."""
    generator = torch.Generator().manual_seed(recipe.seed)
    wanted = recipe.batches * recipe.batch
    group: list[int] = []
    held = 0
    while True:
        for number in torch.randperm(len(counts), generator=generator).tolist():
            group.append(number)
            held += counts[number]
            if held >= wanted:
                yield group
                group, held = [], 0
