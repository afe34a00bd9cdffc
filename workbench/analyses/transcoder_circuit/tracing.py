"""One prompt: its attribution graph, what is kept of it, its best paths, and what ablating it does."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.analyses.transcoder_circuit.carrying import Carried, carry
from workbench.circuits.faithfulness import Curve, ablate_by_influence
from workbench.circuits.frozen import FrozenRun, freeze_run
from workbench.circuits.graph import AttributionGraph, explain
from workbench.circuits.interventions import Clamp, frozen_effects
from workbench.circuits.paths import Path, find_paths
from workbench.circuits.pruning import Pruned, Scores, influence_of, prune, score, strongest
from workbench.circuits.sources import find_sources
from workbench.circuits.targets import asked_targets
from workbench.coders.coder import Transcoders
from workbench.coders.fitting import fit
from workbench.coders.loading import load_named_or_own
from workbench.model import Model
from workbench.prompts import Prompts

_COUNTS = (1, 2, 4, 8, 16, 32)
_ENDS = ("error", "token", "position", "first")


@dataclass(frozen=True)
class Settings:
    """The knobs of the analysis, by the same names."""

    coders: str
    target: str
    against: str
    pos: int
    mass: float
    most: int
    max_nodes: int
    node_threshold: float
    edge_threshold: float
    paths: int
    similarity: float
    keep_first: bool
    draws: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("most", "max_nodes", "paths", "draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, found {getattr(self, name)}")
        for name in ("mass", "node_threshold", "edge_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, found {getattr(self, name)}")


@dataclass(frozen=True)
class Traced:
    """Everything that is told of one prompt.

    Attributes:
        found: how many features are active in all.
        graph: the graph with its feature nodes.
        missing: by how much the worst row of the whole graph misses its value, relative.
        influence: of each node of the graph on the targets.
        paths: the best to the first target that go through a feature and begin in anything but a bias.
        carried: what heads carry.
        column_gap: error of a frozen ablation against its column of the graph, relative.
        error_share: length of what the transcoders miss over that of what the MLP writes.
        active: how many features are active.
    """

    run: FrozenRun
    coders: Transcoders
    found: int
    graph: AttributionGraph
    missing: float
    scores: Scores
    influence: Float[Tensor, " node"]
    pruned: Pruned
    paths: list[Path]
    curve: Curve
    carried: Carried
    column_gap: float
    error_share: Float[Tensor, "layer pos"]
    active: Int[Tensor, "layer pos"]


def trace_circuit(model: Model, prompts: Prompts, settings: Settings) -> Traced:
    """Run the prompt, make its graph, and ablate what it calls strong.

    Raises:
        ValueError: there is more than one prompt, no coders are named, or no feature is active.
    """
    if len(prompts) != 1:
        raise ValueError(f"an attribution graph is made of one prompt, found {len(prompts)}: choose one of them")
    coders = fit(load_named_or_own(settings.coders, model.name), model)
    run = freeze_run(model, model.tokens(prompts))
    coders = coders.to(dtype=run.stream.dtype)
    wishes = {name: getattr(settings, name) for name in ("target", "against", "pos", "mass", "most")}
    targets = asked_targets(model, run, prompts[0], **wishes)
    whole = explain(run, coders, targets, keep_first=settings.keep_first)
    if not len(whole.features):
        raise ValueError(f"no feature of {coders.name} is active on this prompt: do they belong to {model.name}?")
    graph = strongest(whole, settings.max_nodes) if len(whole.features) > settings.max_nodes else whole
    pruned = prune(graph, settings.node_threshold, settings.edge_threshold)
    return Traced(
        run=run,
        coders=coders,
        found=len(whole.features),
        graph=graph,
        missing=float(whole.missing().max()),
        scores=score(graph),
        influence=influence_of(graph),
        pruned=pruned,
        paths=find_paths(graph, count=settings.paths, ends=_ENDS, direct=False),
        curve=ablate_by_influence(model, run, coders, graph, counts=_COUNTS, draws=settings.draws, seed=settings.seed),
        carried=carry(run, coders, graph, pruned.edges, settings.keep_first),
        column_gap=_column_gap(run, coders, graph, settings.keep_first),
        error_share=_error_share(run, coders, settings.keep_first),
        active=_active(whole),
    )


def _column_gap(run: FrozenRun, coders: Transcoders, graph: AttributionGraph, keep_first: bool) -> float:
    """The strongest feature ablated with everything held: its effect against its column of the graph."""
    first = len(graph.features)
    node = int(influence_of(graph)[:first].argmax())
    layer, pos, number = graph.features[node].tolist()
    effects = frozen_effects(run, coders, [Clamp(layer, pos, number)], graph.targets, keep_first=keep_first)
    column = graph.edges[first:, node]
    size = torch.maximum(column.abs(), graph.edges[first:].abs().amax(1)).clamp_min(torch.finfo(column.dtype).tiny)
    return float(((effects + column).abs() / size).max())


def _error_share(run: FrozenRun, coders: Transcoders, keep_first: bool) -> Float[Tensor, "layer pos"]:
    """How much of what each MLP writes is missed; NaN at a first position that is kept whole."""
    sources = find_sources(run, coders, keep_first=keep_first)
    missed = torch.stack([layer.error.norm(dim=-1) for layer in sources.layers])
    written = torch.stack([layer.mlp_out.norm(dim=-1) for layer in run.layers])
    share = missed / written.clamp_min(torch.finfo(missed.dtype).tiny)
    share[:, : sources.start] = float("nan")
    return share.cpu()


def _active(graph: AttributionGraph) -> Int[Tensor, "layer pos"]:
    """How many features are active in each layer at each position."""
    columns = graph.columns
    counted = torch.bincount(
        graph.features[:, 0] * columns.n_pos + graph.features[:, 1], minlength=columns.n_layers * columns.n_pos
    )
    return counted.view(columns.n_layers, columns.n_pos)
