"""What each part of a run adds to a reading of its final stream: exact sums, with every norm frozen.

The logits are read from the normed final stream, which is the sum of what the embedding, each attention
and each MLP wrote. A direction of that reading is pulled back through the frozen norms to the place where
heads, neurons and source tokens write, and there the share of each is one inner product.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.bridge import QuietNorm
from workbench.lens import cap, unembed, unembedding
from workbench.model import Model
from workbench.norms import FrozenNorm, freeze, norm_between
from workbench.tracer import Trace
from workbench.weights import attention_bias, head_outputs, mlp_bias, neuron_outputs
from workbench.words import Site

_NO_WAY = 0.1
"""A frozen norm that misses by more than this is not the norm that stands there: rounding is far below it."""


@dataclass(frozen=True)
class Directions:
    """Readings of the normed final stream: its inner product with a row, and a constant."""

    rows: Float[Tensor, "direction d_model"]
    constants: Float[Tensor, " direction"]


@dataclass(frozen=True)
class Split:
    """The attention or the MLP outputs of all layers, by their units (heads or neurons) and their biases."""

    units: Float[Tensor, "layer unit direction"]
    biases: Float[Tensor, "layer direction"]


@dataclass(frozen=True)
class Attribution:
    """What each part of one run adds at one position to each of some readings; all on the CPU.

    Attributes:
        embed: the stream that enters the first layer, positions included.
        attention: each attention output, its bias included.
        mlp: each MLP output, its bias included.
        bias: the bias of the final norm, and the constants of the readings.
        heads: `attention` once more, by heads.
        neurons: `mlp` once more, by neurons; None where the MLP has none.
        sources: to the first reading, what each head adds of what it fetches at each token; over the
            tokens they make `heads`. None where z is not made of pattern and v.
        norm_gap: the largest relative error of a frozen norm against what the model's norm gave.
    """

    embed: Float[Tensor, " direction"]
    attention: Float[Tensor, "layer direction"]
    mlp: Float[Tensor, "layer direction"]
    bias: Float[Tensor, " direction"]
    heads: Split
    neurons: Split | None
    sources: Float[Tensor, "layer head key"] | None
    norm_gap: float

    @property
    def components(self) -> Float[Tensor, "component direction"]:
        """The embedding, attention and MLP of each layer in turn, and the bias."""
        layers = torch.stack([self.attention, self.mlp], dim=1).flatten(0, 1)
        return torch.cat([self.embed[None], layers, self.bias[None]])

    def totals(self) -> dict[str, float]:
        """The first reading, added up again from each kind of part that the model has."""
        ways = {
            "components": [self.attention, self.mlp],
            "heads": [self.heads.units, self.heads.biases, self.mlp],
        }
        if self.neurons is not None:
            ways["neurons"] = [self.attention, self.neurons.units, self.neurons.biases]
        if self.sources is not None:
            ways["source tokens"] = [self.sources[..., None], self.heads.biases, self.mlp]
        ends = [self.embed, self.bias]
        return {
            name: sum(float(part[..., 0].double().sum()) for part in [*ends, *parts]) for name, parts in ways.items()
        }


@torch.no_grad()
def token_directions(
    model: Model, targets: Int[Tensor, " direction"], others: Int[Tensor, " direction"] | None
) -> Directions:
    """The logits of tokens minus those of others, or minus the mean over the vocabulary.

    They are logits before any soft cap; a logit scale (Granite) is in the rows.

    Raises:
        ValueError: the unembedding is quantised.
    """
    weight, bias = unembedding(model.bridge)
    exact = torch.promote_types(model.dtype, torch.float32)
    bias = torch.zeros(len(weight), dtype=exact, device=weight.device) if bias is None else bias.to(exact)
    rows, constants = weight[targets].to(exact), bias[targets]
    if others is None:
        sums = [part.to(exact).sum(0) for part in weight.split(4096)]
        rows, constants = rows - torch.stack(sums).sum(0) / len(weight), constants - bias.mean()
    else:
        rows, constants = rows - weight[others].to(exact), constants - bias[others]
    return Directions(rows * logit_scale(model), constants * logit_scale(model))


def logit_scale(model: Model) -> float:
    """What the model multiplies its logits by, but for a soft cap: 1 in most (the slope of the cap at 0)."""
    step = 1e-6
    return float(cap(model.bridge, torch.tensor([step], dtype=torch.float64))) / step


@torch.no_grad()
def read_uncapped(model: Model, stream: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
    """The logits of a final stream, scaled but before any soft cap, by the model's own norm and unembedding."""
    return unembed(model.bridge, stream) * logit_scale(model)


def part_sites(model: Model, pos: int) -> tuple[Site, ...]:
    """The sites that `attribute` reads at a position.

    Raises:
        ValueError: the model has not got attention outputs, MLP outputs and z in every layer.
    """
    layers = range(model.shape.n_layers)
    sites = [Site(kind, layer, pos=pos) for kind in ("attn_out", "mlp_out", "z") for layer in layers]
    if _has(model, "mlp_post"):
        sites += [Site("mlp_post", layer, pos=pos) for layer in layers]
    if _has(model, "pattern", "v"):
        sites += [Site("pattern", layer, pos=pos) for layer in layers] + [Site("v", layer) for layer in layers]
    ends = (Site("resid_pre", 0, pos=pos), Site("resid_post", layers[-1], pos=pos))
    for site in (*ends, *sites):
        model.check_site(site)
    return (*ends, *sites)


@torch.no_grad()
def attribute(model: Model, traced: Trace, pos: int, directions: Directions) -> Attribution:
    """Split readings of the final stream over everything that wrote into it.

    Args:
        model: the model of the trace.
        traced: one prompt, with `part_sites(model, pos)`.
        pos: the position.
        directions: the readings; sources are split for the first of them.

    Raises:
        ValueError: a branch of this architecture is changed in an unknown way before it is added.
    """
    run = _Run(model, traced, pos)
    layers = range(model.shape.n_layers)
    stream = run.at("resid_post", layers[-1])
    final = freeze(model.bridge.ln_final.original_component, stream)
    rows = final.pulled(directions.rows)
    heads = [run.split_attention(layer, rows) for layer in layers]
    neurons = [run.split_mlp(layer, rows) for layer in layers] if _has(model, "mlp_post") else []
    sources = [branch.sources for branch in heads if branch.sources is not None]
    return Attribution(
        embed=(rows @ run.at("resid_pre", 0).to(rows.dtype)).cpu(),
        attention=_stacked([rows @ run.at("attn_out", layer).to(rows.dtype) for layer in layers]),
        mlp=_stacked([rows @ run.at("mlp_out", layer).to(rows.dtype) for layer in layers]),
        bias=(directions.rows @ final.bias + directions.constants).cpu(),
        heads=_joined(heads),
        neurons=_joined(neurons) if neurons else None,
        sources=_stacked(sources) if sources else None,
        norm_gap=max([final.gap, *(branch.gap for branch in heads + neurons)]),
    )


@dataclass(frozen=True)
class _Branch:
    """What the units and the bias of one attention or MLP add, and how well its norm was frozen."""

    units: Float[Tensor, "unit direction"]
    bias: Float[Tensor, " direction"]
    gap: float
    sources: Float[Tensor, "head key"] | None = None


@dataclass(frozen=True)
class _Run:
    """The activations of one prompt at one position."""

    model: Model
    traced: Trace
    pos: int

    def at(self, kind: str, layer: int) -> Tensor:
        """What a site holds at the position."""
        return self.traced[Site(kind, layer, pos=self.pos)][0]

    def split_attention(self, layer: int, rows: Float[Tensor, "direction d_model"]) -> _Branch:
        """One attention by its heads, and by the tokens that they read."""
        weights = head_outputs(self.model, layer).to(rows.dtype)
        z = self.at("z", layer).to(rows.dtype)
        bias = attention_bias(self.model, layer).to(rows.dtype)
        norm = self._norm_behind("attn_out", layer, torch.einsum("hd,hdm->m", z, weights) + bias)
        inner = norm.pulled(rows)
        worth = torch.einsum("hdm,cm->hdc", weights, inner)  # of each number of z, along each direction
        units = torch.einsum("hd,hdc->hc", z, worth)
        return _Branch(units, inner @ bias + rows @ norm.bias, norm.gap, self._sources(layer, worth[..., 0]))

    def _sources(self, layer: int, worth: Float[Tensor, "head d_head"]) -> Float[Tensor, "head key"] | None:
        """What each head adds of what it fetches at each token."""
        if Site("v", layer) not in self.traced:
            return None
        pattern, v = self.at("pattern", layer), self.traced[Site("v", layer)][0]
        shared = v.repeat_interleave(len(worth) // v.shape[1], dim=1).to(worth.dtype)
        return pattern.to(worth.dtype) * torch.einsum("khd,hd->hk", shared, worth)

    def split_mlp(self, layer: int, rows: Float[Tensor, "direction d_model"]) -> _Branch:
        """One MLP by its neurons."""
        weights = neuron_outputs(self.model, layer).to(rows.dtype)
        post = self.at("mlp_post", layer).to(rows.dtype)
        bias = mlp_bias(self.model, layer).to(rows.dtype)
        norm = self._norm_behind("mlp_out", layer, post @ weights + bias)
        inner = norm.pulled(rows)
        return _Branch(post[:, None] * (weights @ inner.T), inner @ bias + rows @ norm.bias, norm.gap)

    def _norm_behind(self, kind: str, layer: int, raw: Float[Tensor, " d_model"]) -> FrozenNorm:
        """What stands between a branch and the stream."""
        return norm_behind(self.model, Site(kind, layer), raw, self.at(kind, layer))


def norm_behind(
    model: Model, site: Site, raw: Float[Tensor, " d_model"], written: Float[Tensor, " d_model"]
) -> FrozenNorm:
    """What stands between a branch (an attention, an MLP) and the stream, frozen at one position.

    Args:
        model: a loaded model.
        site: the branch's output, `attn_out` or `mlp_out` of a layer.
        raw: what the units and the bias of the branch give at the position.
        written: what the site holds there.

    Raises:
        ValueError: the architecture changes the branch in an unknown way before it is added.
    """
    parts = model.places.blocks[site.block].children()
    norms = [part.original_component for part in parts if isinstance(part, QuietNorm)]
    way = norm_between(raw.to(model.dtype), written, norms)
    if not way.gap <= _NO_WAY:
        raise ValueError(
            f"{site}: {model.name} adds neither a multiple of what its units give nor one of "
            f"the block's norms of it (nearest: {way.gap:.0e} off), so it cannot be split"
        )
    return way


def _has(model: Model, *kinds: str) -> bool:
    """Whether every layer has these kinds of site."""
    served = model.capabilities.served
    return all(len(served.get(kind, ())) == model.shape.n_layers for kind in kinds)


def _joined(branches: list[_Branch]) -> Split:
    return Split(_stacked([one.units for one in branches]), _stacked([one.bias for one in branches]))


def _stacked(parts: list[Tensor]) -> Float[Tensor, "layer ..."]:
    """One tensor with a layer axis, on the CPU."""
    return torch.stack(parts).cpu()
