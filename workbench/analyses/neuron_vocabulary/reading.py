"""Decode the neurons of each layer, and random directions like them, in one stream over the vocabulary."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.lens import reads_out
from workbench.model import Model
from workbench.neurons import DIRECTIONS, Norms, mixtures, neuron_rows, usual_fold
from workbench.progress import track
from workbench.vocabulary import Extremes, Vocabulary
from workbench.weights import has_gates
from workbench.words import Site

SAMPLED = 8
"""Neurons on which the stream is compared with a full sort, in every run."""


@dataclass(frozen=True)
class Plan:
    """What is decoded: a direction, its folding, and which neurons."""

    direction: str
    fold: str
    layers: tuple[int, ...]
    neurons: tuple[int, ...]

    @classmethod
    def of(cls, model: Model, direction: str, fold: str, layers: tuple[int, ...], neurons: tuple[int, ...]) -> "Plan":
        """The plan with every layer and neuron named.

        Raises:
            ValueError: a layer or neuron that the model has not, or one named twice.
        """
        chosen = layers or model.capabilities.served["mlp_post"]
        for name, numbers in (("layers", layers), ("neurons", neurons)):
            if len(set(numbers)) < len(numbers):
                raise ValueError(f"{name} names a number twice: {numbers}")
        for layer in chosen:
            for neuron in neurons or (0,):
                model.check_site(Site("mlp_post", layer, neuron=max(neuron, 0)))
        if any(neuron < 0 for neuron in neurons):
            raise ValueError(f"neurons count from 0, found {min(neurons)}")
        return cls(direction, fold, tuple(chosen), neurons or tuple(range(model.shape.d_mlp)))


@dataclass(frozen=True)
class Ends:
    """Decoded directions: their tokens at both ends, and how alike those of the farther end are; on the CPU."""

    tokens: Extremes
    coherence: Float[Tensor, " row"]

    @staticmethod
    def joined(parts: "list[Ends]") -> "Ends":
        """The rows of several in a row."""
        return Ends(Extremes.joined([one.tokens for one in parts]), torch.cat([one.coherence for one in parts]))


@dataclass(frozen=True)
class Decoded:
    """All that was decoded.

    Attributes:
        neurons: the rows of the plan, layer by layer.
        null: random directions of the same layers.
        null_layers: how many of the null belong to each layer.
        idle: rows of zeros.
        gaps: for the sampled neurons, the largest error of their streamed z, and by how much their streamed
            tokens lie behind those of a full sort; both in z.
    """

    plan: Plan
    vocabulary: Vocabulary
    norms: Norms | None
    neurons: Ends
    null: Ends
    null_layers: tuple[int, ...]
    idle: Bool[Tensor, " row"]
    gaps: tuple[float, float]


@torch.no_grad()
def decode(model: Model, plan: Plan, top: int, draws: int, unused: bool, seed: int) -> Decoded:
    """Decode every neuron of the plan and the null.

    Raises:
        ValueError: fewer tokens than are asked for, or no neuron that does anything.
    """
    vocabulary = Vocabulary.of(model, unused)
    if top > len(vocabulary.ids):
        raise ValueError(f"{top} tokens were asked for at each end, but the vocabulary has {len(vocabulary.ids)}")
    norms = None if plan.fold == "none" else Norms.of(model)
    shares = [draws // len(plan.layers) + (place < draws % len(plan.layers)) for place in range(len(plan.layers))]
    chosen = torch.tensor(plan.neurons, device=model.device)
    parts, nulls, idle, sampled = [], [], [], []
    for place, layer in track(list(enumerate(plan.layers)), "layers decoded"):
        whole = neuron_rows(model, layer, plan.direction, plan.fold, norms)
        generator = torch.Generator().manual_seed(1000 * seed + layer)
        drawn = mixtures(whole, shares[place], generator)
        rows = whole[chosen].to(drawn.dtype)
        found = vocabulary.extremes(torch.cat([rows, drawn]), top)
        ends = _ends(vocabulary, found)
        parts.append(_rows(ends, slice(len(rows))))
        nulls.append(_rows(ends, slice(len(rows), None)))
        idle.append((rows == 0).all(1).cpu())
        sample = _sample(len(rows), place, len(plan.layers))
        sampled.append((rows[sample.to(rows.device)], parts[-1].tokens.rows(sample)))
    null = Ends.joined(nulls)
    if len(null.coherence) == 0:
        raise ValueError(f"every {plan.direction} row of the layers {list(plan.layers)} is zero: nothing to decode")
    sizes = tuple(len(one.coherence) for one in nulls)
    gaps = _gaps(vocabulary, torch.cat([rows for rows, _ in sampled]), Extremes.joined([one for _, one in sampled]))
    return Decoded(plan, vocabulary, norms, Ends.joined(parts), null, sizes, torch.cat(idle), gaps)


def side_by_side(model: Model, decoded: Decoded, places: list[tuple[int, int]], count: int) -> dict[str, Extremes]:
    """The same few neurons in every direction that the model has, each in its usual folding if it has a final norm."""
    directions = [one for one in DIRECTIONS if one != "gate" or has_gates(model)]
    norms = decoded.norms or (Norms.of(model) if reads_out(model.bridge) else None)
    found = {}
    for direction in directions:
        fold = usual_fold(direction) if norms is not None else "none"
        rows = torch.cat(
            [neuron_rows(model, layer, direction, fold, norms)[neuron : neuron + 1] for layer, neuron in places]
        )
        found[direction] = _on_cpu(decoded.vocabulary.extremes(rows, count))
    return found


def _ends(vocabulary: Vocabulary, found: Extremes) -> Ends:
    return Ends(_on_cpu(found), vocabulary.coherence(found.farther).float().cpu())


def _on_cpu(found: Extremes) -> Extremes:
    ids = (found.promoted.int().cpu(), found.suppressed.int().cpu())
    return Extremes(ids[0], found.promoted_z.float().cpu(), ids[1], found.suppressed_z.float().cpu())


def _rows(ends: Ends, chosen: slice) -> Ends:
    return Ends(ends.tokens.rows(chosen), ends.coherence[chosen])


def _sample(rows: int, place: int, layers: int) -> Int[Tensor, " sampled"]:
    """Rows of one layer that are sorted in full: a few in all, spread over the layers."""
    count = SAMPLED // layers + (place < SAMPLED % layers)
    return torch.linspace(0, rows - 1, min(count, rows)).long()


def _gaps(vocabulary: Vocabulary, rows: Float[Tensor, "row d_model"], found: Extremes) -> tuple[float, float]:
    """Errors of the stream on a few rows, against all scores in 64 bits, sorted."""
    whole = vocabulary.all_z(rows).cpu()
    tokens = vocabulary.ids.cpu()
    error, behind = 0.0, 0.0
    for ids, z, largest in ((found.promoted, found.promoted_z, True), (found.suppressed, found.suppressed_z, False)):
        own = whole.gather(1, torch.searchsorted(tokens, ids.long()))
        best = whole.sort(dim=1, descending=largest).values[:, : ids.shape[1]]
        error = max(error, float((own - z).abs().max()))
        behind = max(behind, float((own - best).abs().max()))
    return error, behind
