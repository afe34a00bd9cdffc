"""The faithfulness curve: what is lost when the features that a graph calls strong are ablated, one after another.

Beside it stands the same for random features that write as much: activation times the length of the decoder,
which does not depend on how a coder is scaled. A graph that is right loses more than they do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.frozen import FrozenRun
from workbench.circuits.graph import AttributionGraph
from workbench.circuits.interventions import Clamp, measure
from workbench.circuits.pruning import influence_of
from workbench.coders.coder import Transcoders
from workbench.model import Model

_NEAREST = 5
"""A random partner is drawn from this many features of the most similar size."""


@dataclass(frozen=True)
class Curve:
    """A target's value when the first features of an order are ablated.

    Attributes:
        counts: how many are ablated; 0 is the model as it is.
        strongest: the value with the most influential ones ablated.
        random: the value with as many random features of the same size ablated, for each draw.
        sizes: how much the random features write together over what the strongest do, 1 where they match.
    """

    counts: tuple[int, ...]
    strongest: Float[Tensor, " count"]
    random: Float[Tensor, "draw count"]
    sizes: float


def ablate_by_influence(
    model: Model,
    run: FrozenRun,
    coders: Transcoders,
    graph: AttributionGraph,
    *,
    target: int = 0,
    counts: Sequence[int] = (1, 2, 4, 8, 16),
    draws: int = 5,
    seed: int = 0,
) -> Curve:
    """Ablate the features of largest influence, and random ones of the same size, and measure a target.

    Args:
        model: a loaded model.
        run: the run of the graph.
        coders: the transcoders of the graph.
        graph: a graph with its feature nodes.
        target: which of its targets is measured.
        counts: how many features to ablate; counts above half of the features are left out, since there
            would be nothing to compare with.
        draws: how many random orders.
        seed: of the draws.
    """
    half = len(graph.features) // 2
    asked = (0, *sorted({count for count in counts if 1 <= count <= half}))
    ranked = influence_of(graph)[: len(graph.features)].argsort(descending=True, stable=True)
    sizes = written_sizes(graph.features, graph.activations, coders)
    order = ranked[: max(asked)]
    generator = torch.Generator().manual_seed(seed)
    others = [random_partners(sizes, order, generator) for _ in range(draws)]
    variants = [_ablated(graph, one[:count]) for one in (order, *others) for count in asked]
    aim = graph.targets[target]
    values = measure(model, run, coders, variants, [aim])[:, 0].view(1 + draws, len(asked))
    together = [float(sizes[one].sum()) for one in others]
    match = sum(together) / max(1, len(together)) / max(float(sizes[order].sum()), torch.finfo(sizes.dtype).tiny)
    return Curve(asked, values[0], values[1:], match)


def written_sizes(
    features: Int[Tensor, "feature place"], activations: Float[Tensor, " feature"], coders: Transcoders
) -> Float[Tensor, " feature"]:
    """How much each feature (layer, position, number) writes: its value times the length of its decoder."""
    lengths = [float(coders[layer].w_dec[number].norm()) for layer, _, number in features.tolist()]
    return activations.abs() * torch.tensor(lengths, dtype=activations.dtype)


def random_partners(
    sizes: Float[Tensor, " feature"], order: Int[Tensor, " some"], generator: torch.Generator
) -> Int[Tensor, " some"]:
    """For each feature of an order another one of similar size, none twice and none of the order itself.

    There must be at least as many features outside the order as in it.
    """
    free = torch.ones(len(sizes), dtype=torch.bool)
    free[order] = False
    chosen = []
    for feature in order.tolist():
        places = free.nonzero()[:, 0]
        near = places[(sizes[places] - sizes[feature]).abs().argsort(stable=True)[:_NEAREST]]
        partner = int(near[int(torch.randint(len(near), (1,), generator=generator))])
        free[partner] = False
        chosen.append(partner)
    return torch.tensor(chosen, dtype=torch.long)


def _ablated(graph: AttributionGraph, features: Int[Tensor, " some"]) -> list[Clamp]:
    """Features of the graph, set to zero."""
    return [Clamp(layer, pos, number) for layer, pos, number in graph.features[features].tolist()]
