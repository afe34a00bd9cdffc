"""What coders learn from: shuffled pairs of what they read and what they predict, of all layers in one pass.

An autoencoder predicts what it reads; its activations are held once.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.coders.training.capture import Capture
from workbench.coders.training.recipe import Course
from workbench.coders.training.texts import Row
from workbench.model import Model
from workbench.tokens import Tokens
from workbench.words import KINDS, Site

_TOGETHER = 4096
"""Tokens in one pass."""

_PROBE = 16
"""Tokens by which it is found where the plain model shows what is wanted."""


class Pairs(NamedTuple):
    """What a layer's coder reads, and what it should predict."""

    x: Float[Tensor, "token d_in"]
    y: Float[Tensor, "token d_out"]


class Buffer:
    """The activations of some rows after others; a batch depends on its step alone, so training can be resumed.

    Args:
        model: the model that the coders are for.
        rows: what it reads; again in another order as often as needed.
        layers: the layers of the coders.
        recipe: says how many tokens are held, and in which order.
        read: the kind of site that the coders read.
        write: the kind of site that they predict.
    """

    def __init__(
        self,
        model: Model,
        rows: Sequence[Row],
        layers: Sequence[int],
        recipe: Course,
        read: str = "mlp_in",
        write: str = "mlp_out",
    ) -> None:
        self._model, self._rows, self._layers, self._recipe = model, rows, tuple(layers), recipe
        self._read, self._write = read, write
        self._since = int(recipe.spare_first)
        self._counts = [max(len(row) - self._since, 0) for row in rows]
        if not sum(self._counts):
            raise ValueError("the texts hold no token to learn from: give texts of two tokens or more")
        self._sites = [Site(kind, layer) for kind in dict.fromkeys((read, write)) for layer in layers]
        probe = max(rows, key=len)[:_PROBE]
        self._capture = Capture(model, self._sites, _tokens([probe], model.device))
        self._groups = _groups(self._counts, recipe)
        self._chunk = -1
        self._held: dict[Site, Float[Tensor, "token width"]] = {}
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
        return self._pairs({site: values[rows].float() for site, values in self._held.items()})

    def blank(self) -> dict[int, Pairs]:
        """A pair of zeros for each layer, as wide as its pairs are."""
        return self._pairs({site: torch.zeros_like(values).float() for site, values in self._empty(1).items()})

    def _pairs(self, values: Mapping[Site, Float[Tensor, "token width"]]) -> dict[int, Pairs]:
        """What each layer's coder reads and predicts, out of what the sites show."""
        return {
            layer: Pairs(values[Site(self._read, layer)], values[Site(self._write, layer)]) for layer in self._layers
        }

    def _empty(self, count: int) -> dict[Site, Float[Tensor, "token width"]]:
        """Room for some tokens of each site."""
        model = self._model
        sizes = {"d_model": model.shape.d_model, "d_mlp": model.shape.d_mlp}
        widths = {site: sizes[KINDS[site.kind].split()[-1]] for site in self._sites}
        return {
            site: torch.empty(count, width, dtype=model.dtype, device=model.device) for site, width in widths.items()
        }

    def _fill(self, group: list[int]) -> None:
        """Run the model over some rows, up to the last layer that is needed, and shuffle what was seen."""
        total, model = sum(self._counts[number] for number in group), self._model
        self._held = {}  # the old ones go before the new ones come
        self._held = self._empty(total)
        done = 0
        for part in self._parts(group):
            tokens = _tokens(part, model.device)
            seen, mask = self._capture(tokens), tokens.mask[:, self._since :]
            end = done + sum(max(length - self._since, 0) for length in tokens.lengths)
            for site, into in self._held.items():
                into[done:end] = _kept(seen[site][:, self._since :], mask)
            done = end
        generator = torch.Generator().manual_seed(self._recipe.seed * 1_000_003 + self._chunk)
        self._order = torch.randperm(total, generator=generator).to(model.device)

    def _parts(self, group: list[int]) -> Iterator[list[Row]]:
        """The rows of a group, those of like length together, so that little is padded."""
        part: list[Row] = []
        for number in sorted(group, key=lambda number: -self._counts[number]):
            if part and (len(part) + 1) * len(part[0]) > _TOGETHER:
                yield part
                part = []
            if self._counts[number]:
                part.append(self._rows[number])
        if part:
            yield part


def _kept(values: Float[Tensor, "batch pos width"], mask: Bool[Tensor, "batch pos"]) -> Float[Tensor, "token width"]:
    """The values at real tokens."""
    return values.flatten(0, 1) if bool(mask.all()) else values[mask]


def _tokens(rows: Sequence[Row], device: torch.device) -> Tokens:
    """Rows as one batch, padded on the right; nobody reads them as text, so none is made."""
    lengths = tuple(map(len, rows))
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True).long()
    blank = (("",) * len(padded[0]),) * len(rows)
    return Tokens(padded.to(device), lengths, blank, tuple(((0, 0),) * length for length in lengths))


def _groups(counts: Sequence[int], recipe: Course) -> Iterator[list[int]]:
    """Without end: the numbers of rows that together fill a buffer, all rows once before any twice."""
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
