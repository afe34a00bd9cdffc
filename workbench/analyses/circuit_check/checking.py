"""The circuit that is asked for, or that a graph keeps, and the runs without it and with it alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workbench.circuits.faithfulness import random_partners, written_sizes
from workbench.circuits.frozen import FrozenRun, freeze_run
from workbench.circuits.graph import explain
from workbench.circuits.interventions import Clamp, frozen_effects
from workbench.circuits.pruning import prune, strongest
from workbench.circuits.sources import Sources, find_sources
from workbench.circuits.sufficiency import Place, Shares, take_away
from workbench.circuits.supernodes import Supernode, feature_place, read_supernodes
from workbench.circuits.targets import Target, asked_targets
from workbench.coders.coder import Transcoders
from workbench.features import fitted_coders, refuse_other_feature
from workbench.model import Model
from workbench.prompts import Prompts

_MOST = 500
"""How many features an attribution graph may have before it is pruned."""


@dataclass(frozen=True)
class Asked:
    """The knobs of the analysis, by the same names."""

    nodes: str
    coders: str
    target: str
    against: str
    pos: int
    fill: str
    node_threshold: float
    keep_first: bool
    draws: int
    seed: int


@dataclass(frozen=True)
class Found:
    """What was measured.

    Attributes:
        groups: the circuit, by its supernodes.
        places: layer, number and position of the features of each.
        activations: their values on the prompt, and `direct` what ablating each does with everything else held.
        active: how many features are active in all.
        shares: the circuit first, then each supernode where there are several.
        random: the random sets.
        size: how much the random sets write over what the circuit writes.
        apart: whether the random sets have nothing in common with the circuit.
        whole_gap: by how much the target changes when every active feature is kept; None where that was not run.
    """

    coders: Transcoders
    target: Target
    groups: tuple[Supernode, ...]
    places: list[list[Place]]
    activations: dict[Place, float]
    direct: dict[Place, float]
    active: int
    shares: Shares
    random: Shares
    size: float
    apart: bool
    whole_gap: float | None

    @property
    def circuit(self) -> list[Place]:
        """All features of the circuit."""
        return [place for one in self.places for place in one]


def check_circuit(model: Model, prompts: Prompts, asked: Asked) -> Found:
    """Take the circuit away, and everything but it, and the same with random sets.

    Raises:
        ValueError: a feature does not exist, is named twice, or no feature is active.
    """
    coders = fitted_coders(model, asked.coders)
    run = freeze_run(model, model.tokens(prompts))
    coders = coders.to(dtype=run.stream.dtype)
    target, *_ = asked_targets(
        model, run, prompts[0], target=asked.target, against=asked.against, pos=asked.pos, most=1
    )
    sources = find_sources(run, coders, keep_first=asked.keep_first)
    if not len(sources.features):
        raise ValueError(f"no feature of {coders.name} is active on this prompt: do they belong to {model.name}?")
    groups = read_supernodes(asked.nodes) if asked.nodes else _kept(run, coders, target, asked)
    places = _read_places(groups, run, coders)
    sets = [sum(places, []), *(places if len(places) > 1 else [])]
    random, size, apart = _random_sets(sources, coders, sets[0], asked)
    active = [(layer, number, pos) for layer, pos, number in sources.features.tolist()]
    whole = [active] if asked.fill == "zero" else []
    settings = {"fill": asked.fill, "keep_first": asked.keep_first}
    found = take_away(model, run, coders, [*sets, *random, *whole], target, **settings)
    ends = len(sets), len(sets) + len(random)
    return Found(
        coders=coders,
        target=target,
        groups=groups,
        places=places,
        activations={place: _activation(run, coders, place) for place in sets[0]},
        direct={place: _direct(run, coders, place, target, asked) for place in sets[0]},
        active=len(active),
        shares=_part(found, slice(0, ends[0])),
        random=_part(found, slice(*ends)),
        size=size,
        apart=apart,
        whole_gap=abs(float(found.only[-1]) - found.whole) if whole else None,
    )


def _kept(run: FrozenRun, coders: Transcoders, target: Target, asked: Asked) -> tuple[Supernode, ...]:
    """The features that an attribution graph keeps, as one circuit."""
    graph = explain(run, coders, [target], keep_first=asked.keep_first)
    graph = strongest(graph, _MOST) if len(graph.features) > _MOST else graph
    nodes = prune(graph, asked.node_threshold, 1.0).nodes[: len(graph.features)]
    kept = graph.features[nodes].tolist()
    if not kept:
        raise ValueError("the attribution graph keeps no feature: name some, or raise node_threshold")
    return (Supernode("circuit", tuple(f"{layer}_{number}_{pos}" for layer, pos, number in kept)),)


def _read_places(groups: Sequence[Supernode], run: FrozenRun, coders: Transcoders) -> list[list[Place]]:
    """The features of each group."""
    seen: set[Place] = set()
    found = []
    for one in groups:
        places = [feature_place(node) for node in one.nodes]
        for layer, number, pos in places:
            refuse_other_feature(coders, layer, number)
            if pos >= len(run.ids):
                raise ValueError(f"feature L{layer}.F{number}@{pos}: the prompt has {len(run.ids)} tokens")
            if (layer, number, pos) in seen:
                raise ValueError(f"feature L{layer}.F{number}@{pos} is named twice")
            seen.add((layer, number, pos))
        found.append(places)
    return found


def _random_sets(
    sources: Sources, coders: Transcoders, circuit: list[Place], asked: Asked
) -> tuple[list[list[Place]], float, bool]:
    """As many random features of the same size; where more than half are in the circuit, any that are active."""
    features = sources.features.cpu()
    rows = [(layer, number, pos) for layer, pos, number in features.tolist()]
    sizes = written_sizes(features, sources.values.cpu(), coders)
    order = torch.tensor([place for place, row in enumerate(rows) if row in set(circuit)], dtype=torch.long)
    apart = 2 * len(order) <= len(rows)
    generator = torch.Generator().manual_seed(asked.seed)
    chosen = [
        random_partners(sizes, order, generator)
        if apart
        else torch.randperm(len(rows), generator=generator)[: len(order)]
        for _ in range(asked.draws)
    ]
    together = sum(float(sizes[one].sum()) for one in chosen) / len(chosen)
    size = together / max(float(sizes[order].sum()), torch.finfo(sizes.dtype).tiny)
    return [[rows[place] for place in one.tolist()] for one in chosen], size, apart


def _activation(run: FrozenRun, coders: Transcoders, place: Place) -> float:
    layer, number, pos = place
    return float(coders[layer].encode(run.layers[layer].mlp_in[pos])[number])


def _direct(run: FrozenRun, coders: Transcoders, place: Place, target: Target, asked: Asked) -> float:
    layer, number, pos = place
    return float(frozen_effects(run, coders, [Clamp(layer, pos, number)], [target], keep_first=asked.keep_first)[0])


def _part(shares: Shares, chosen: slice) -> Shares:
    """Some of the sets."""
    return Shares(shares.whole, shares.none, shares.without[chosen], shares.only[chosen])
