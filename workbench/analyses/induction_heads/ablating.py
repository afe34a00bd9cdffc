"""What is lost in the second copy when heads say what they say on average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.analyses.induction_heads.matching import Repeated
from workbench.edit import edited, patch
from workbench.model import Model
from workbench.progress import track
from workbench.tokens import Tokens
from workbench.tracer import trace
from workbench.words import Site

Head = tuple[int, int]
Means = Mapping[int, Float[Tensor, "head d_head"]]

PLAIN, INDUCTION, PREVIOUS, RANDOM = "plain", "no induction heads", "no previous-token heads", "no random heads"

_BUDGET = 64_000_000
"""Logits held at once: 256 MB."""


@dataclass(frozen=True)
class Losses:
    """Losses of the sequences that are said twice, in nats, mean over the sequences.

    Attributes:
        plain: of every token but the first.
        single: without one head.
        sets: without several: each name, with the heads of each of its sets.
        set_losses: in the same order.
        gap: the largest change of a loss when heads are given what they say anyway.
    """

    plain: Float[Tensor, " pos"]
    single: Mapping[Head, Float[Tensor, " pos"]]
    sets: Mapping[str, Sequence[Sequence[Head]]]
    set_losses: Mapping[str, Float[Tensor, "draw pos"]]
    gap: float


def ablate(
    model: Model,
    said: Repeated,
    induction: list[Head],
    previous: list[Head],
    others: list[Head],
    draws: int,
    seed: int,
) -> Losses:
    """Take out the best heads, each by itself and together, and sets of random others.

    Args:
        model: a loaded model.
        said: the sequences.
        induction: the best induction heads, the best first.
        previous: the best previous-token heads.
        others: the heads of which random ones are taken, as many as there are induction heads.
        draws: sets of random heads.
        seed: seed of the sets.
    """
    sets = {INDUCTION: [induction], PREVIOUS: [previous]}
    if len(others) >= len(induction):
        generator = np.random.default_rng(seed)
        chosen = [generator.choice(len(others), len(induction), replace=False) for _ in range(draws)]
        sets[RANDOM] = [[others[place] for place in places] for places in chosen]
    means = _mean_outputs(model, said.twice, {layer for some in sets.values() for heads in some for layer, _ in heads})
    plain = losses(model, said.twice)
    single = {
        head: _without(model, said.twice, [head], means) for head in track([*induction, *previous], "heads taken out")
    }
    some = {
        name: torch.stack([_without(model, said.twice, heads, means) for heads in track(list(drawn), name)])
        for name, drawn in sets.items()
    }
    return Losses(plain.mean(0), single, sets, some, _unchanged_gap(model, said.twice, induction[0], plain))


@torch.no_grad()
def losses(model: Model, tokens: Tokens) -> Float[Tensor, "row pos"]:
    """The loss of each token but the first, given those before it, in nats."""
    ids = tokens.ids
    size = max(1, _BUDGET // (ids.shape[1] * model.shape.d_vocab))
    found = []
    for part in ids.split(size):
        logits = model.forward(part)[:, :-1].float()
        own = logits.gather(-1, part[:, 1:, None])[..., 0]
        found.append((logits.logsumexp(-1) - own).cpu())
    return torch.cat(found)


def _mean_outputs(model: Model, tokens: Tokens, layers: set[int]) -> Means:
    """What the heads of some layers write on average over all tokens, as z."""
    traced = trace(model, tokens, [Site("z", layer) for layer in sorted(layers)])
    return {layer: traced[Site("z", layer)].float().mean(dim=(0, 1)) for layer in layers}


def _without(model: Model, tokens: Tokens, heads: Sequence[Head], means: Means) -> Float[Tensor, " pos"]:
    """The losses with the mean of each head in the place of what it says."""
    edits = [(Site("z", layer, head=head), patch(means[layer][head])) for layer, head in heads]
    with edited(model, edits):
        return losses(model, tokens).mean(0)


def _unchanged_gap(model: Model, tokens: Tokens, head: Head, plain: Float[Tensor, "row pos"]) -> float:
    """The largest change of a loss when a head is given what it says in the first sequence, in that sequence."""
    first = model.tokens_of([tokens.ids[0].tolist()])
    site = Site("z", head[0], head=head[1])
    with edited(model, [(site, patch(trace(model, first, site)[site]))]):
        return float((losses(model, first)[0] - plain[0]).abs().max())
