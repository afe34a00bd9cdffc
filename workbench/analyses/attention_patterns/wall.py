"""The pictures of one prompt: a small pooled map of every head, and one head as it is."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.analyses.attention_patterns.reading import CHUNK, Factors, attending_layers, written_sizes
from workbench.analyses.attention_patterns.roles import value_weighted
from workbench.attention import stream_rows
from workbench.model import Model
from workbench.sites import MASKED
from workbench.tokens import Tokens

Pool = Literal["max", "mean"]

LONGEST = 512
"""The map of the chosen head is pooled to this many cells a side where the prompt is longer."""


@dataclass(frozen=True)
class Pictures:
    """What is drawn of one prompt.

    Attributes:
        tokens: the prompt.
        chosen: layer and number of the head that is shown in full.
        thumbnails: the pooled map of every head.
        pattern: the attention of the chosen head; NaN at keys that a query cannot see.
        weighted: the same, value-weighted; None where values cannot be read.
        starts: the first position of each cell of these two.
        top_keys: the keys with the largest weights of the chosen head, by query; -1 beyond its keys.
        top_weights: their weights.
    """

    tokens: Tokens
    chosen: tuple[int, int]
    thumbnails: Float[Tensor, "layer head cell cell"]
    pattern: Float[Tensor, "shown shown"]
    weighted: Float[Tensor, "shown shown"] | None
    starts: list[int]
    top_keys: Int[Tensor, "query rank"]
    top_weights: Float[Tensor, "query rank"]

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return self.tokens.lengths[0]

    @property
    def name(self) -> str:
        """The chosen head, as in L3.H2."""
        return "L{}.H{}".format(*self.chosen)

    @property
    def pooled(self) -> bool:
        """Whether the chosen head's map is smaller than the prompt."""
        return len(self.starts) < self.length


def pool_rows(
    rows: Float[Tensor, "*heads query key"], start: int, length: int, cells: int, how: Pool
) -> Float[Tensor, "*heads cell key_cell"]:
    """Rows of a map pooled to cells, to be added up (`mean`) or joined by their maximum over all rows.

    Args:
        rows: the queries from `start` on, over the keys up to the last of them.
        start: position of the first row.
        length: tokens of the whole prompt.
        cells: cells a side.
        how: `max`, the largest weight of a cell; `mean`, what falls into its keys on average over its queries.
    """
    queries, keys = rows.shape[-2:]
    across = torch.arange(keys, device=rows.device) * cells // length
    down = torch.arange(start, start + queries, device=rows.device) * cells // length
    if how == "mean":
        of_cell = torch.bincount(torch.arange(length, device=rows.device) * cells // length, minlength=cells)
        rows = rows / of_cell[down][:, None]
    reduce = "amax" if how == "max" else "sum"
    narrow = rows.new_zeros(*rows.shape[:-1], cells).scatter_reduce_(-1, across.expand(rows.shape), rows, reduce)
    small = rows.new_zeros(*rows.shape[:-2], cells, cells)
    return small.scatter_reduce_(-2, down[:, None].expand(narrow.shape), narrow, reduce)


@dataclass
class _Drawer:
    """Pools the rows of one prompt as they pass, and keeps those of one head."""

    tokens: Tokens
    chosen: tuple[int, int]
    cells: int
    how: Pool
    top: int
    factors: Factors | None
    small: dict[int, Tensor] = field(default_factory=dict)
    maps: dict[str, Tensor] = field(default_factory=dict)
    reach: Tensor = field(default_factory=lambda: torch.ones(1, 1, dtype=torch.bool))
    sizes: list[Tensor] = field(default_factory=list)
    best: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return self.tokens.lengths[0]

    def take_v(self, layer: int, _start: int, v: Float[Tensor, "batch pos kv_head d_head"]) -> None:
        """Sizes of what the chosen head would write."""
        if self.factors is not None and layer == self.chosen[0]:
            self.sizes.append(written_sizes(v, self.factors[layer])[0, self.chosen[1]])

    def take_scores(self, layer: int, _start: int, scores: Float[Tensor, "batch head query key"]) -> None:
        """The keys that the chosen head can see."""
        if layer == self.chosen[0]:
            self.reach = scores[0, self.chosen[1]] >= MASKED

    def take_pattern(self, layer: int, start: int, pattern: Float[Tensor, "batch head query key"]) -> None:
        """Pool all heads; of the chosen one keep more."""
        rows = pattern[0].float()
        self._join(self.small, layer, pool_rows(rows, start, self.length, self.cells, self.how), self.how)
        if layer == self.chosen[0]:
            self._take_head(rows[self.chosen[1]], start)

    def _take_head(self, rows: Float[Tensor, "query key"], start: int) -> None:
        cells = min(self.length, LONGEST)
        shown = {"pattern": rows}
        if self.sizes:
            shown["weighted"] = value_weighted(rows, torch.cat(self.sizes))
        shown["reach"] = self.reach.float()
        for name, one in shown.items():
            self._join(self.maps, name, pool_rows(one, start, self.length, cells, "max"), "max")
        weights, keys = torch.nn.functional.pad(rows, (0, max(0, self.top - rows.shape[1]))).topk(self.top)
        self.best.append((keys.where(weights > 0, -1), weights))

    @staticmethod
    def _join(table: dict, name: object, part: Tensor, how: Pool) -> None:
        before = table.get(name)
        joined = part if before is None else torch.maximum(before, part) if how == "max" else before + part
        table[name] = joined

    def pictures(self, layers: tuple[int, ...]) -> Pictures:
        """What was kept, on the CPU."""
        unseen = self.maps.pop("reach") == 0
        maps = {name: one.masked_fill(unseen, float("nan")).cpu() for name, one in self.maps.items()}
        cells = len(unseen)
        return Pictures(
            tokens=self.tokens,
            chosen=self.chosen,
            thumbnails=torch.stack([self.small[layer] for layer in layers]).cpu(),
            pattern=maps["pattern"],
            weighted=maps.get("weighted"),
            starts=[-(-cell * self.length // cells) for cell in range(cells)],
            top_keys=torch.cat([keys for keys, _ in self.best]).cpu(),
            top_weights=torch.cat([weights for _, weights in self.best]).cpu(),
        )


def draw(
    model: Model, tokens: Tokens, chosen: tuple[int, int], cells: int, how: Pool, top: int, factors: Factors | None
) -> Pictures:
    """Run one prompt once, and keep a thumbnail of every head and the rows of the chosen one."""
    drawer = _Drawer(tokens, chosen, min(cells, tokens.lengths[0]), how, top, factors)
    takes = {"scores": drawer.take_scores, "pattern": drawer.take_pattern}
    stream_rows(model, tokens, takes if factors is None else {"v": drawer.take_v, **takes}, chunk=CHUNK)
    return drawer.pictures(attending_layers(model))


def tile(thumbnails: Float[np.ndarray, "down across cell cell"]) -> Float[np.ndarray, "row column"]:
    """All thumbnails in rows and columns, with a line of NaN between them."""
    down, across, cells, _ = thumbnails.shape
    framed = np.full((down, across, cells + 1, cells + 1), np.nan, dtype=np.float32)
    framed[:, :, :cells, :cells] = thumbnails
    return framed.transpose(0, 2, 1, 3).reshape(down * (cells + 1), across * (cells + 1))
