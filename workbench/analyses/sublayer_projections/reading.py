"""One question: what its attentions and MLPs write, read as words."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.hops import TwoHops
from workbench.lens import read_out
from workbench.model import Model
from workbench.questions import Case, Names, first_tokens, names_of, other_names
from workbench.tracer import trace
from workbench.words import Site

SUBLAYERS = ("attn_out", "mlp_out")
SOUGHT: tuple[Names, ...] = ("bridge", "answer")

_NUMBERS = 32_000_000
"""Logits made at once: 128 MB."""


@dataclass(frozen=True)
class Seen:
    """What comes out of the sublayers of one question.

    Attributes:
        case: the question.
        rank: best rank of a token that begins the name.
        hit: whether it is among the top.
        null: share of other questions' names of which that holds.
        top: the token on top.
        adding: how far the final stream is from the sum of what was written, relative.
        reading: how far its reading is from the model's logits, relative.
    """

    case: Case
    rank: Int[np.ndarray, "component pos sublayer layer"]
    hit: Bool[np.ndarray, "component pos sublayer layer"]
    null: Float[np.ndarray, "component pos sublayer layer"]
    top: Int[np.ndarray, "pos sublayer layer"]
    adding: float
    reading: float


@torch.no_grad()
def read_question(model: Model, case: Case, pool: TwoHops, top: int) -> Seen:
    """Run one question and look for its bridge and its answer in what each sublayer writes.

    Args:
        model: a loaded model.
        case: the question.
        pool: questions whose names are the null.
        top: a name is seen when one of its first tokens is among so many.
    """
    layers, places = model.shape.n_layers, list(case.places.values())
    sites = [Site(kind, layer, pos=pos) for pos in places for kind in SUBLAYERS for layer in range(layers)]
    starts = [Site("resid_pre", 0, pos=pos) for pos in places]
    ends = [Site("resid_post", layers - 1, pos=pos) for pos in (*places, -1)]
    traced = trace(model, case.tokens, [*sites, *starts, *ends, Site("logits", pos=-1)])
    written, start, end = (torch.stack([traced[site][0] for site in some]) for some in (sites, starts, ends))
    sums = start.double() + written.double().unflatten(0, (len(places), -1)).sum(1)
    wanted = {kind: first_tokens(model, names_of(case.hop, kind)) for kind in SOUGHT}
    others = {kind: [first_tokens(model, names) for names in other_names(case.hop, pool, kind)] for kind in SOUGHT}
    parts = [
        look_for(read_out(model.bridge, some).float(), wanted, others, top)
        for some in written.split(max(1, _NUMBERS // model.shape.d_vocab))
    ]
    found = [np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)]
    rank, hit, null, best = (one.reshape(*one.shape[:-1], len(places), len(SUBLAYERS), layers) for one in found)
    logits = traced[Site("logits", pos=-1)].float()
    return Seen(
        case=case,
        rank=rank,
        hit=hit,
        null=null,
        top=best,
        adding=float(((sums - end[:-1]).norm(dim=-1) / end[:-1].double().norm(dim=-1)).max()),
        reading=float((read_out(model.bridge, end[-1:]) - logits).abs().max() / logits.abs().max()),
    )


def look_for(
    logits: Float[Tensor, "row vocab"],
    wanted: Mapping[Names, tuple[int, ...]],
    others: Mapping[Names, list[tuple[int, ...]]],
    top: int,
) -> tuple[np.ndarray, ...]:
    """Ranks of the names and whether they are among the top, the share of other names that are, and the top token.

    Equal logits count as larger ones, so that a sublayer that writes nothing names nothing.
    """
    bar = logits.topk(top + 1, dim=-1).values[:, -1]  # to be among the top is to lie above this

    def best(tokens: tuple[int, ...]) -> Float[Tensor, " row"]:
        return logits[:, list(tokens)].amax(-1) if tokens else torch.full_like(bar, -torch.inf)

    own = torch.stack([best(tokens) for tokens in wanted.values()])
    rank = torch.stack([(logits >= one[:, None]).sum(-1) - 1 for one in own])
    hits = [torch.stack([best(tokens) > bar for tokens in names]).double() for names in others.values() if names]
    null = torch.stack([some.mean(0) for some in hits]) if len(hits) == len(wanted) else torch.zeros(own.shape)
    return tuple(value.cpu().numpy() for value in (rank, own > bar, null, logits.argmax(-1)))
