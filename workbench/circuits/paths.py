"""Paths through a graph, with their products: which chains of features carry a token or an error to a target.

A feature's row sums to its pre-activation, which is its activation where it is active. So what a source adds
to a target along one chain is the product of the edges on it, each but the last over the value of the feature
that it enters; and the products of all chains that begin in a source which is no feature sum to the target.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.graph import AttributionGraph
from workbench.circuits.sources import KINDS

_TARGET = -1


@dataclass(frozen=True)
class Path:
    """One chain from a source to a target.

    Attributes:
        columns: the nodes from the source on, as columns of the graph; the target itself is not among them.
        product: what the source adds to the target along it, in the unit of the target; negative if it inhibits.
    """

    columns: tuple[int, ...]
    product: float


@dataclass
class _Chains:
    """The best chains from each column up to the target; a product of 0 stands for none.

    Attributes:
        above: the column that a chain goes through next, or the target.
        rank: which of that column's chains it goes on with.
    """

    products: Float[Tensor, "column chain"]
    above: Int[Tensor, "column chain"]
    rank: Int[Tensor, "column chain"]

    @classmethod
    def none(cls, columns: int, count: int) -> "_Chains":
        """No chain yet."""
        places = torch.zeros(columns, count, dtype=torch.long)
        return cls(torch.zeros(columns, count, dtype=torch.float64), places, places.clone())

    def lengthen(self, shares: Float[Tensor, " column"], node: int, products: Float[Tensor, " chain"]) -> None:
        """Add every edge into a node to each of its chains; each column keeps its best, either sign."""
        entering = shares.nonzero()[:, 0]
        new = shares[entering, None] * products
        merged = torch.cat([self.products[entering], new], dim=1)
        above = torch.cat([self.above[entering], torch.full(new.shape, node)], dim=1)
        rank = torch.cat([self.rank[entering], torch.arange(len(products)).expand(new.shape)], dim=1)
        best = merged.abs().argsort(dim=1, descending=True, stable=True)[:, : self.products.shape[1]]
        self.products[entering] = merged.gather(1, best)
        self.above[entering] = above.gather(1, best)
        self.rank[entering] = rank.gather(1, best)

    def path(self, column: int, place: int) -> Path:
        """A chain, followed up to the target."""
        product, columns = float(self.products[column, place]), [column]
        while (above := int(self.above[column, place])) != _TARGET:
            column, place = above, int(self.rank[column, place])
            columns.append(column)
        return Path(tuple(columns), product)


def find_paths(
    graph: AttributionGraph,
    target: int = 0,
    count: int = 20,
    *,
    ends: Collection[str] = KINDS[1:],
    direct: bool = True,
) -> list[Path]:
    """The paths with the largest products, negative ones too; exactly the largest, not a beam's.

    Every feature keeps its best chains to the target, and the sizes of products keep their order when the
    same edge is added to them, so going through the features from the top finds the best of all.

    Args:
        graph: a graph.
        target: which of its targets the paths lead to.
        count: how many paths to give.
        ends: the kinds of source in which paths may begin; a path from a "feature" counts all that comes
            through it, so it is no further part of the sum.
        direct: whether an edge straight to the target counts as a path; without it each goes through a feature.

    Raises:
        ValueError: there is no such target or kind, or the count is below 1.
    """
    if not 0 <= target < len(graph.targets):
        raise ValueError(f"target {target}: the graph has {len(graph.targets)} targets")
    if count < 1:
        raise ValueError(f"at least one path must be asked for, found {count}")
    if unknown := [kind for kind in ends if kind not in KINDS]:
        raise ValueError(f"paths cannot begin in {unknown[0]!r}: allowed are {', '.join(KINDS)}")
    features, edges = len(graph.features), graph.edges.double()
    chains = _Chains.none(graph.columns.count, count + 1)  # one more than asked for: it may be a direct one
    chains.lengthen(edges[features + target], _TARGET, torch.ones(1, dtype=torch.float64))
    for node in graph.features[:, 0].argsort(descending=True, stable=True).tolist():
        products = chains.products[node]
        if bool(products.any()):
            chains.lengthen(edges[node] / graph.values[node].double(), node, products[products != 0])
    return _best(graph, chains, count, ends, direct)


def _best(graph: AttributionGraph, chains: _Chains, count: int, ends: Collection[str], direct: bool) -> list[Path]:
    """The best chains that begin where paths may; ties go to the earlier column."""
    allowed = torch.zeros(graph.columns.count, 1, dtype=torch.bool)
    for kind in ends:
        allowed[graph.columns.slices[kind]] = True
    asked = allowed if direct else allowed & (chains.above != _TARGET)
    sizes = (chains.products.abs() * asked).flatten()
    order = sizes.argsort(descending=True, stable=True)[:count]
    width = chains.products.shape[1]
    return [chains.path(place // width, place % width) for place in order.tolist() if sizes[place] > 0]
