"""The attribution graph of one prompt: who adds how much to whom, as signed numbers that add up.

Rows are what is explained (active features, then targets), columns everything that writes into the stream. A
row sums to the pre-activation or the logit that it explains, which `account` shows for every graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.circuits.backward import Readings, sweep_back
from workbench.circuits.frozen import FrozenRun
from workbench.circuits.sources import KINDS, Columns, find_sources
from workbench.circuits.targets import Target
from workbench.coders.coder import Transcoders

_MOST = 1 << 30
"""The most edges that are held at once: 4 GB."""

_ROUNDED = 0.01
"""Of the bound of a row: what is smaller is made of rounding."""


@dataclass(frozen=True)
class AttributionGraph:
    """Everything on the CPU.

    Attributes:
        ids: the tokens of the prompt.
        text: the same as text.
        columns: where each kind of source has its columns.
        features: layer, position and number of each feature node; the first rows, and the first columns.
        activations: their values.
        targets: what the last rows explain.
        edges: what each column adds to each row, in the unit of the row.
        values: what each row must add up to, as the model itself computed it.
        left_out: what features that are no nodes any more add to each row.
        bounds: the most that each row's reading could be: the length of what it reads times that of its direction.
        gap: the largest relative error of a frozen norm or map against the pass.
    """

    ids: tuple[int, ...]
    text: tuple[str, ...]
    columns: Columns
    features: Int[Tensor, "feature place"]
    activations: Float[Tensor, " feature"]
    targets: tuple[Target, ...]
    edges: Float[Tensor, "row column"]
    values: Float[Tensor, " row"]
    left_out: Float[Tensor, " row"]
    bounds: Float[Tensor, " row"]
    gap: float

    @property
    def weights(self) -> Float[Tensor, " target"]:
        """How much each target counts."""
        return torch.tensor([target.weight for target in self.targets], dtype=self.edges.dtype)

    def sums(self, kind: str) -> Float[Tensor, " row"]:
        """What all columns of a kind add to each row."""
        return self.edges[:, self.columns.slices[kind]].double().sum(1)

    def missing(self) -> Float[Tensor, " row"]:
        """What each row lacks to its value, over its largest part, its value, or a hundredth of its bound.

        The last is for readings that are zero but for rounding, of which nothing relative can be said.
        """
        found = self.edges.double().sum(1) + self.left_out.double()
        parts = torch.stack([self.edges.abs().amax(1), self.values.abs(), _ROUNDED * self.bounds])
        size = parts.amax(0).double().clamp_min(torch.finfo(self.edges.dtype).tiny)
        return (found - self.values.double()).abs() / size

    def account(self, rows: Sequence[int] | None = None) -> list[dict[str, float | str]]:
        """For each row, the targets by default: its parts by kind, their sum, and the value that it must have."""
        chosen = range(len(self.features), len(self.values)) if rows is None else rows
        sums = {kind: self.sums(kind) for kind in KINDS}
        lost = self.missing()
        table = []
        for row in chosen:
            parts = {kind: float(sums[kind][row]) for kind in KINDS} | {"left_out": float(self.left_out[row])}
            whole = {"sum": sum(parts.values()), "value": float(self.values[row]), "missing": float(lost[row])}
            table.append({"target": self.name(row), **parts, **whole})
        return table

    def name(self, row: int) -> str:
        """A row as a person would write it."""
        if row >= len(self.features):
            return self.targets[row - len(self.features)].name
        return self.column_name(row)

    def column_name(self, column: int) -> str:
        """A column as a person would write it."""
        return self.columns.name(column, self.features, self.text)

    def only(self, kept: Bool[Tensor, " feature"]) -> "AttributionGraph":
        """The graph with some of its features; what the others add to the rows is kept in `left_out`."""
        dropped = torch.cat([~kept, torch.zeros(self.columns.count - len(kept), dtype=torch.bool)])
        rows = torch.cat([kept, torch.ones(len(self.targets), dtype=torch.bool)])
        lost = self.edges[:, dropped].double().sum(1).to(self.edges.dtype)
        return replace(
            self,
            columns=replace(self.columns, n_features=int(kept.sum())),
            features=self.features[kept],
            activations=self.activations[kept],
            edges=self.edges[rows][:, ~dropped],
            values=self.values[rows],
            left_out=(self.left_out + lost)[rows],
            bounds=self.bounds[rows],
        )

    def square(self) -> Float[Tensor, "node node"]:
        """The matrix in circuit-tracer's layout: features, errors, tokens and targets, row by target node."""
        slices = self.columns.slices
        count = slices["token"].stop
        size = count + len(self.targets)
        square = self.edges.new_zeros(size, size)
        features = len(self.features)
        square[:features, :count] = self.edges[:features, :count]
        square[count:, :count] = self.edges[features:, :count]
        return square


def explain(
    run: FrozenRun, coders: Transcoders, targets: Sequence[Target], *, keep_first: bool = True, rows_at_once: int = 512
) -> AttributionGraph:
    """The whole attribution graph of a frozen run: every active feature is a node, every row is exact.

    Args:
        run: one forward pass, frozen.
        coders: transcoders of some or all layers.
        targets: what to explain.
        keep_first: see `find_sources`.
        rows_at_once: how many rows are carried together.

    Raises:
        ValueError: no target is named, or the coders do not fit the model.
    """
    if not targets:
        raise ValueError("no target was named: an attribution graph explains at least one")
    sources = find_sources(run, coders, keep_first=keep_first)
    rows = len(sources.features) + len(targets)
    if rows * sources.columns.count > _MOST:
        raise ValueError(
            f"{len(sources.features)} features are active on {len(run.ids)} tokens, so the graph would have "
            f"{rows * sources.columns.count:.1e} edges (at most {_MOST:.0e}): shorten the prompt, or use sparser coders"
        )
    readings = Readings.of(sources, list(targets))
    edges = sweep_back(run, sources, readings, rows_at_once)
    aims = torch.tensor([target.value for target in targets], dtype=edges.dtype)
    return AttributionGraph(
        ids=run.ids,
        text=run.text,
        columns=sources.columns,
        features=sources.features.cpu(),
        activations=sources.values.cpu(),
        targets=tuple(targets),
        edges=edges,
        values=torch.cat([sources.pre.cpu(), aims]),
        left_out=torch.zeros(len(edges), dtype=edges.dtype),
        bounds=_bounds(run, readings).cpu(),
        gap=run.gap,
    )


def _bounds(run: FrozenRun, readings: Readings) -> Float[Tensor, " row"]:
    """The most that each reading could be, by the lengths of what it reads and of its direction."""
    read = [layer.mlp_in.norm(dim=-1) for layer in run.layers] + [run.final(run.stream).norm(dim=-1)]
    return torch.stack(read)[readings.layers, readings.positions] * readings.vectors.norm(dim=-1)
