"""Why a head looked there: its score as a sum over pairs of what was written at the query and at the key.

score = scale * (sum of parts of the query) . (sum of parts of the key), so every pair of parts has a term, and all
terms add up to the score. The parts are the sources of an attribution graph (features, errors, tokens, positions,
biases), brought to either place by the frozen sweep, or without transcoders what each head and MLP below wrote at
the place itself.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.backward import Readings, sweep_back
from workbench.circuits.frozen import FrozenLayer, FrozenRun
from workbench.circuits.looking import Look, Side
from workbench.circuits.sources import KINDS, find_sources
from workbench.coders.coder import Transcoders

SUBLAYERS = ("token", "position", "head", "mlp", "bias")
"""The kinds of part without transcoders."""

_ROWS = 1024


@dataclass(frozen=True)
class Parts:
    """A query or a key as a sum, without parts that are zero.

    Attributes:
        names: what each part is; a feature as "L0.F3@2", a head's output as "L0.H2@5".
        kinds: of what kind each is: one of the kinds of columns, or of `SUBLAYERS`.
        vectors: what each puts into the query or key.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    vectors: Float[Tensor, "part d_head"]

    @classmethod
    def of(cls, names: list[str], kinds: list[str], vectors: Float[Tensor, "part d_head"]) -> "Parts":
        """The parts that are not zero."""
        kept = (vectors != 0).any(1).tolist()
        return cls(
            tuple(name for name, keep in zip(names, kept, strict=True) if keep),
            tuple(kind for kind, keep in zip(kinds, kept, strict=True) if keep),
            vectors[torch.tensor(kept)],
        )


@dataclass(frozen=True)
class SplitScore:
    """One score of one head, split over pairs of parts.

    Attributes:
        query: the parts of the query.
        key: the parts of the key.
        scale: what their product is multiplied by.
        value: the score of the pass, before any soft cap; what all terms add up to.
        size: the largest score that the head gave from there, which says what is small.
    """

    query: Parts
    key: Parts
    scale: float
    value: float
    size: float

    def query_totals(self, keys: Float[Tensor, "key d_head"] | None = None) -> Float[Tensor, "..."]:
        """What each part of the query adds, over all parts of the key; or the same against other whole keys."""
        if keys is None:
            return self.scale * self.query.vectors.double() @ self.key.vectors.double().sum(0)
        return self.scale * self.query.vectors.double() @ keys.double().T

    def key_totals(self) -> Float[Tensor, " part"]:
        """What each part of the key adds, over all parts of the query."""
        return self.scale * self.key.vectors.double() @ self.query.vectors.double().sum(0)

    def by_kind(self, kinds: tuple[str, ...]) -> Float[Tensor, "kind other_kind"]:
        """The terms summed by the kinds of their two parts: of the query, of the key."""
        query, key = (_summed(parts, kinds) for parts in (self.query, self.key))
        return self.scale * query @ key.T

    def strongest(self, count: int) -> list[tuple[int, int, float]]:
        """The largest terms of either sign: a part of the query, a part of the key, and what the two add."""
        found: list[tuple[int, int, float]] = []
        for first in range(0, len(self.query.names), _ROWS):
            terms = self.scale * self.query.vectors[first : first + _ROWS].double() @ self.key.vectors.double().T
            best = terms.abs().flatten().argsort(descending=True, stable=True)[:count].tolist()
            width = terms.shape[1]
            found += [(first + place // width, place % width, float(terms.flatten()[place])) for place in best]
        return sorted(found, key=lambda one: -abs(one[2]))[:count]

    @property
    def missing(self) -> float:
        """What the sum of all terms lacks to the score, over the largest part's share or the largest score."""
        totals = self.query_totals()
        size = max(self.size, float(totals.abs().max()), float(self.key_totals().abs().max()), 1e-30)
        return abs(float(totals.sum()) - self.value) / size


@torch.no_grad()
def split_score(
    run: FrozenRun, look: Look, query: int, key: int, coders: Transcoders | None = None, *, keep_first: bool = True
) -> SplitScore:
    """Split the score that a head gave to a key.

    Args:
        run: the frozen run of the look.
        look: a head (`freeze_look`).
        query: the position that looks.
        key: the position that is looked at.
        coders: with transcoders, parts are the sources of the graph at any position; without, what the heads and
            MLPs below wrote at the two positions.
        keep_first: see `find_sources`.

    Raises:
        ValueError: the head cannot look there.
    """
    value = float(look.scores[query, key])
    if value == -torch.inf:
        raise ValueError(f"head {look.layer}.{look.head} cannot look from position {query} at {key}: the key is masked")
    below = run.below(look.layer)
    ends = ((look.query_side, query), (look.key_side, key))
    if coders is None:
        first, second = (_by_sublayer(below, side, pos) for side, pos in ends)
    else:
        first, second = _by_source(below, coders, ends, keep_first)
    seen = look.scores[query][look.scores[query] > -torch.inf]
    return SplitScore(first, second, look.scale, value, float(seen.abs().max()))


def _by_source(
    below: FrozenRun, coders: Transcoders, ends: tuple[tuple[Side, int], ...], keep_first: bool
) -> tuple[Parts, Parts]:
    """Query and key by the columns of a graph: every number of the two is a reading of the stream."""
    reached = {layer: coder for layer, coder in coders.items() if layer < len(below.layers)}
    sources = find_sources(below, reached, keep_first=keep_first)
    rows, constants = zip(*(side.rows_at(pos) for side, pos in ends), strict=True)
    size = len(constants[0])
    positions = torch.tensor([pos for _, pos in ends]).repeat_interleave(size)
    readings = Readings(
        torch.full_like(positions, len(below.layers)), positions, torch.cat(list(rows)), torch.cat(list(constants))
    )
    edges = sweep_back(below, sources, readings)
    columns = sources.columns
    names = [columns.name(column, sources.features, below.text) for column in range(columns.count)]
    kinds = [kind for kind in KINDS for _ in range(columns.slices[kind].start, columns.slices[kind].stop)]
    first, second = (Parts.of(names, kinds, part.T) for part in edges.split(size))
    return first, second


def _by_sublayer(below: FrozenRun, side: Side, pos: int) -> Parts:
    """A query or key by what was written at its own position: the embedding, each head, each MLP."""
    rows, constants = side.rows_at(pos)
    pulled = below.final.pulled_at(pos, rows)
    names = [f"token {below.text[pos]!r}@{pos}", f"position {pos}"]
    kinds = ["token", "position"]
    found = [pulled @ below.token_part[pos], pulled @ below.position_part[pos]]
    bias = rows @ below.final.bias + constants
    for place, layer in enumerate(below.layers):
        inner = layer.behind_attention.pulled_at(pos, pulled)
        bias = bias + inner @ layer.output_bias + pulled @ layer.behind_attention.bias
        heads = _heads_at(layer, pos) @ inner.T
        names += [f"L{place}.H{head}@{pos}" for head in range(len(heads))] + [f"L{place}.mlp@{pos}"]
        kinds += ["head"] * len(heads) + ["mlp"]
        found += [*heads, pulled @ layer.mlp_out[pos]]
    return Parts.of([*names, "bias"], [*kinds, "bias"], torch.stack([*found, bias]))


def _heads_at(layer: FrozenLayer, pos: int) -> Float[Tensor, "head d_model"]:
    """What each head gives at a position, before any norm behind attention."""
    normed = layer.before_attention(layer.resid_pre)[: pos + 1]
    v = torch.einsum("km,hmd->hkd", normed, layer.values) + layer.value_bias[:, None]
    shared = v.repeat_interleave(len(layer.outputs) // len(layer.values), dim=0)
    z = torch.einsum("hk,hkd->hd", layer.pattern[:, pos, : pos + 1], shared)
    return torch.einsum("hd,hdm->hm", z, layer.outputs)


def _summed(parts: Parts, kinds: tuple[str, ...]) -> Float[Tensor, "kind d_head"]:
    """The vectors summed by kind."""
    summed = torch.zeros(len(kinds), parts.vectors.shape[1], dtype=torch.float64)
    places = torch.tensor([kinds.index(kind) for kind in parts.kinds], dtype=torch.long)
    return summed.index_add_(0, places, parts.vectors.double())
