"""The two sides of one head: from the stream at a position to its query or key, as linear maps.

The score of a query and a key is scale * q . k, with q and k behind their own norms (Gemma 3, Qwen 3) and turned
by their positions (rotary embeddings). With the norms frozen both are affine in the stream, so the score is
bilinear in what was written there. Nothing of this is looked up by architecture: the maps are compared with the
scores of the pass, and refused where they do not give them (linear biases, other ways to turn).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.frozen import FrozenNorms, FrozenRun, spread
from workbench.model import Model
from workbench.norms import freeze
from workbench.replay import recorded_calls
from workbench.sites import MASKED
from workbench.tracer import trace
from workbench.weights import head_keys, head_queries, key_bias, query_bias
from workbench.words import Site

_NO_WAY = 0.03
"""Maps whose scores miss those of the pass by more than this are the wrong ones: rounding is below it."""

_SATURATED = 0.99
"""Of a soft cap: scores nearer to it than this say nothing about the scale."""


@dataclass(frozen=True)
class Side:
    """From the normed stream to what a head compares: its turned queries, or its turned keys.

    Attributes:
        weight: what the normed stream is multiplied by.
        bias: what is added to that.
        norm: the head's own norm behind it, frozen at every position.
        cos: with `sin`, by how much the first numbers of the head are turned at each position; none where empty.
    """

    weight: Float[Tensor, "d_model d_head"]
    bias: Float[Tensor, " d_head"]
    norm: FrozenNorms
    cos: Float[Tensor, "pos turned"]
    sin: Float[Tensor, "pos turned"]

    def vectors(self, normed: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos d_head"]:
        """The queries or keys of all positions."""
        return self._turned(self.norm(normed @ self.weight + self.bias), self.cos, self.sin)

    def rows_at(self, pos: int) -> tuple[Float[Tensor, "d_head d_model"], Float[Tensor, " d_head"]]:
        """What each number of the query or key at a position reads of the normed stream, and its constant."""
        held = torch.cat([self.weight, self.bias[None]])
        inner = held - held.mean(-1, keepdim=True) if self.norm.centred else held
        inner = inner * self.norm.gain[pos]
        inner[-1] += self.norm.bias
        rows = self._turned(inner, self.cos[pos], self.sin[pos])
        return rows[:-1].T, rows[-1]

    def _turned(
        self, vectors: Float[Tensor, "some d_head"], cos: Float[Tensor, "... turned"], sin: Float[Tensor, "... turned"]
    ) -> Float[Tensor, "some d_head"]:
        """Rotary embedding of the first numbers: each is turned with the one half of them further on."""
        width = cos.shape[-1]
        first, second = vectors[:, : width // 2], vectors[:, width // 2 : width]
        across = torch.cat([-second, first], dim=-1)
        return torch.cat([vectors[:, :width] * cos + across * sin, vectors[:, width:]], dim=-1)


@dataclass(frozen=True)
class Look:
    """One head in one pass, with its scores as a bilinear form.

    Attributes:
        query_side: from the normed stream to its queries.
        key_side: the same of its keys.
        queries: the turned queries.
        keys: the turned keys.
        scale: what their product is multiplied by.
        cap: the soft cap through which scores go; None where there is none.
        scores: before that cap; those that are masked are minus infinity.
        pattern: what the head made of them.
        gap: the largest error of these scores against the pass, over the largest one.
    """

    layer: int
    head: int
    query_side: Side
    key_side: Side
    queries: Float[Tensor, "pos d_head"]
    keys: Float[Tensor, "pos d_head"]
    scale: float
    cap: float | None
    scores: Float[Tensor, "query key"]
    pattern: Float[Tensor, "query key"]
    gap: float


@torch.no_grad()
def freeze_look(model: Model, run: FrozenRun, layer: int, head: int) -> Look:
    """Freeze how one head compared queries with keys.

    Args:
        model: a loaded model.
        run: one forward pass, frozen.
        layer: the layer.
        head: the head.

    Raises:
        ValueError: there is no such head, the model does not show q, k and scores, or its scores are no such form.
    """
    sites = {kind: Site(kind, layer) for kind in ("q", "k", "scores")}
    model.check_site(Site("z", layer, head=head))
    for site in sites.values():
        model.check_site(site)
    with recorded_calls(model.bridge) as calls:
        traced = trace(model, model.tokens_of([run.ids]), list(sites.values()))
    like, frozen = run.stream, run.layers[layer]
    group = head // (model.shape.n_heads // model.shape.n_kv_heads)
    attention = model.bridge.blocks[layer].attn
    q, k, shown = (traced[sites[kind]][0] for kind in ("q", "k", "scores"))
    norms = _own_norm(attention, "q_norm", q, head, like), _own_norm(attention, "k_norm", k, group, like)
    weights = [held.detach().to(like) for held in (head_queries(model, layer)[head], head_keys(model, layer)[group])]
    biases = [held.detach().to(like) for held in (query_bias(model, layer)[head], key_bias(model, layer)[group])]
    normed = frozen.before_attention(frozen.resid_pre)
    cap = getattr(attention.original_component, "attn_logit_softcapping", None)
    ways = []
    for cos, sin in _turns(calls[layer].kwargs, like):
        sides = [Side(*held, cos, sin) for held in zip(weights, biases, norms, strict=True)]
        queries, keys = (side.vectors(normed) for side in sides)
        scale, gap = _compared(queries @ keys.T, shown[head].to(like), cap)
        raw = shown[head].to(like) if cap is None else queries @ keys.T * scale
        scores = raw.masked_fill(shown[head] < MASKED, -math.inf)
        ways.append(Look(layer, head, *sides, queries, keys, scale, cap, scores, frozen.pattern[head], gap))
    best = min(ways, key=lambda way: way.gap)
    if not best.gap <= _NO_WAY:
        raise ValueError(
            f"head {layer}.{head}: in {model.name} its scores are no product of turned queries and keys "
            f"(nearest: {best.gap:.0e} off), so they cannot be split"
        )
    return best


def _turns(
    words: Mapping[str, Any], like: Float[Tensor, "pos d_model"]
) -> list[tuple[Float[Tensor, "pos turned"], Float[Tensor, "pos turned"]]]:
    """Cosines and sines by which a layer may turn: those that its block was called with, or none."""
    none = like.new_zeros(len(like), 0)
    held = words.get("position_embeddings")
    if held is None:
        return [(none, none)]
    cos, sin = (part.to(like).view(-1, part.shape[-1]) for part in held)
    return [(cos, sin), (none, none)]


def _own_norm(
    attention: Any, name: str, vectors: Float[Tensor, "pos head d_head"], head: int, like: Float[Tensor, "pos d_model"]
) -> FrozenNorms:
    """The norm of the queries or keys of one head, frozen; one over all heads at once is cut down to the head."""
    length, heads, size = vectors.shape
    norm = getattr(attention, name, None)
    if norm is None:
        return FrozenNorms.nothing(length, size, like.dtype)
    module = norm.original_component
    width = getattr(module, "weight", torch.empty(0)).numel()
    if width not in (size, heads * size):
        raise ValueError(f"{name} of {type(module).__name__} norms neither one head nor all: scores cannot be split")
    read = vectors[:, head] if width == size else vectors.flatten(1)
    found = spread(freeze(module, read[-1]), read, module(read))
    if width == size:
        return found
    own = slice(head * size, (head + 1) * size)
    return replace(found, gain=found.gain[:, own], bias=found.bias[own])


def _compared(
    products: Float[Tensor, "query key"], shown: Float[Tensor, "query key"], cap: float | None
) -> tuple[float, float]:
    """The one factor that brings the products closest to the scores, and the largest error that is left."""
    seen = shown >= MASKED
    products, shown = products[seen].double(), shown[seen].double()
    clear = torch.ones_like(shown, dtype=torch.bool) if cap is None else shown.abs() < _SATURATED * cap
    raw = shown[clear] if cap is None else cap * (shown[clear] / cap).atanh()
    scale = float(products[clear] @ raw / (products[clear] @ products[clear]).clamp_min(1e-300))
    made = products * scale if cap is None else cap * (products * scale / cap).tanh()
    return scale, float((made - shown).abs().max() / shown.abs().max().clamp_min(1e-30))
