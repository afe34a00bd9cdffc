"""One forward pass, frozen: with its attention patterns and norm scales held, a decoder is an affine map.

What the sweep goes back through is kept here, layer by layer: the norms as gains, the patterns, the value and
output weights of the heads. Which norm stands where is not looked up but found, by asking which one gives what
the pass showed, so GPT-2, Llama, Gemma with its norms behind the branches, and parallel blocks are read alike.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.attribution import norm_behind, read_uncapped
from workbench.bridge import QuietNorm
from workbench.model import Model
from workbench.norms import FrozenNorm, freeze, norm_between
from workbench.tokens import Tokens
from workbench.tracer import Trace, trace
from workbench.weights import attention_bias, head_outputs, head_values, value_bias
from workbench.words import Site

_NO_WAY = 0.1
"""A frozen map that misses what the pass showed by more than this is the wrong one: rounding is far below it."""

_KINDS = ("resid_pre", "attn_out", "v", "pattern", "mlp_in", "mlp_out")


@dataclass(frozen=True)
class FrozenNorms:
    """A norm frozen at every position: x -> gain * (x, or x - mean(x) where `centred`) + bias.

    Attributes:
        gain: by position, with the size that divides inside.
        gap: the largest error against what the norm gave in the pass, over the largest value there.
    """

    gain: Float[Tensor, "pos d_model"]
    bias: Float[Tensor, " d_model"]
    centred: bool
    gap: float = 0.0

    def __call__(self, stream: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos d_model"]:
        """What the norm gives for the whole stream."""
        return self.moved(stream) + self.bias

    def moved(self, change: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos d_model"]:
        """How what comes out changes with what goes in."""
        return self.gain * (change - change.mean(-1, keepdim=True) if self.centred else change)

    def pulled(self, grads: Float[Tensor, "some row d_model"]) -> Float[Tensor, "some row d_model"]:
        """Gradients in front of the norm, from those behind it, at the first positions."""
        before = grads * self.gain[: len(grads), None]
        return before.sub_(before.mean(-1, keepdim=True)) if self.centred else before

    def pulled_at(self, pos: int, vectors: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
        """The same at one position."""
        before = vectors * self.gain[pos]
        return before - before.mean(-1, keepdim=True) if self.centred else before

    @classmethod
    def nothing(cls, pos: int, d_model: int, dtype: torch.dtype = torch.float32) -> "FrozenNorms":
        """The norm that changes nothing (a model without norms)."""
        return cls(torch.ones(pos, d_model, dtype=dtype), torch.zeros(d_model, dtype=dtype), centred=False)


@dataclass(frozen=True)
class FrozenLayer:
    """What one block did in the pass, as affine maps.

    Attributes:
        before_attention: from the stream to what the heads read.
        values: what each key-value head makes of that, but for `value_bias`.
        pattern: what each head weighed the values with.
        outputs: what each head's mixture is multiplied by, but for `output_bias`.
        behind_attention: from there to what is added to the stream (a norm in Gemma 2 and 3, else a factor).
        before_mlp: from the stream to what the MLP reads.
        sequential: whether the MLP reads what attention wrote; in a parallel block it does not.
        resid_pre: the stream that entered the block.
        mlp_in: what the MLP read.
        mlp_out: what the MLP added to the stream.
        gap: the largest error of these maps against the pass, each over its largest value.
    """

    before_attention: FrozenNorms
    values: Float[Tensor, "kv_head d_model d_head"]
    value_bias: Float[Tensor, "kv_head d_head"]
    pattern: Float[Tensor, "head query key"]
    outputs: Float[Tensor, "head d_head d_model"]
    output_bias: Float[Tensor, " d_model"]
    behind_attention: FrozenNorms
    before_mlp: FrozenNorms
    sequential: bool
    resid_pre: Float[Tensor, "pos d_model"]
    mlp_in: Float[Tensor, "pos d_model"]
    mlp_out: Float[Tensor, "pos d_model"]
    gap: float = 0.0

    @cached_property
    def attention_bias(self) -> Float[Tensor, "pos d_model"]:
        """What attention adds to the stream at each query by biases alone: its own, and of the norms around it."""
        values = self.value_bias + torch.einsum("m,gmd->gd", self.before_attention.bias, self.values)
        heads = values.repeat_interleave(len(self.outputs) // len(values), 0)
        mixed = torch.einsum("hq,hd,hdm->qm", self.pattern.sum(-1), heads, self.outputs)
        return self.behind_attention(mixed + self.output_bias)


@dataclass(frozen=True)
class FrozenRun:
    """A whole forward pass, frozen.

    Attributes:
        ids: the tokens.
        text: the same as text.
        layers: the blocks.
        token_part: what the embedding of each token puts into the stream.
        position_part: what its position does; zero where positions are not learned.
        final: the norm in front of the unembedding.
        stream: the final stream.
    """

    ids: tuple[int, ...]
    text: tuple[str, ...]
    layers: tuple[FrozenLayer, ...]
    token_part: Float[Tensor, "pos d_model"]
    position_part: Float[Tensor, "pos d_model"]
    final: FrozenNorms
    stream: Float[Tensor, "pos d_model"]

    @property
    def gap(self) -> float:
        """The largest error of a frozen map against what the pass showed."""
        return max([self.final.gap, *(layer.gap for layer in self.layers)])

    @cached_property
    def embedding_by_head(self) -> dict[str, Float[Tensor, "head pos d_model"]]:
        """What each head of the first layer makes of the token and the position at a key; no part of zeros."""
        first, parts = self.layers[0], {"token": self.token_part, "position": self.position_part}
        values = first.values.repeat_interleave(len(first.outputs) // len(first.values), 0)
        read = {kind: first.before_attention.moved(part) for kind, part in parts.items() if bool(part.any())}
        return {kind: vectors @ values @ first.outputs for kind, vectors in read.items()}

    def below(self, layer: int) -> "FrozenRun":
        """The run up to a layer: its final stream is what enters that layer, behind the norm that its heads read."""
        here = self.layers[layer]
        return replace(self, layers=self.layers[:layer], final=here.before_attention, stream=here.resid_pre)

    @property
    def size(self) -> tuple[int, int]:
        """How many layers and positions there are."""
        return len(self.layers), len(self.ids)


@torch.no_grad()
def freeze_run(model: Model, tokens: Tokens) -> FrozenRun:
    """Run one prompt once, and freeze what every block did.

    Args:
        model: a loaded model.
        tokens: one prompt.

    Raises:
        ValueError: there are several prompts, a site is missing, or a block is no such sum of affine maps.
    """
    if len(tokens.lengths) != 1:
        raise ValueError(f"an attribution graph is made of one prompt, found {len(tokens.lengths)}")
    depth = model.shape.n_layers
    ends = (Site("embed"), Site("resid_post", depth - 1))
    traced = trace(model, tokens, [*ends, *(Site(kind, layer) for kind in _KINDS for layer in range(depth))])
    exact = torch.promote_types(model.dtype, torch.float32)
    stream = traced[ends[1]][0]
    norm = model.bridge.ln_final.original_component
    entering = traced[Site("resid_pre", 0)][0].to(exact)
    position = _position_part(model, tokens, traced).to(exact)
    return FrozenRun(
        ids=tuple(tokens.ids[0].tolist()),
        text=tokens.text[0],
        layers=tuple(_freeze_layer(model, traced, layer, exact) for layer in range(depth)),
        token_part=entering - position,
        position_part=position,
        final=spread(freeze(norm, stream[-1]), stream, norm(stream)),
        stream=stream.to(exact),
    )


def _position_part(model: Model, tokens: Tokens, traced: Trace) -> Float[Tensor, "pos d_model"]:
    """What the embedding gives beside the token's own vector, if that is the same for other tokens."""
    sites = (Site("embed"), Site("resid_pre", 0))
    vector, entering = (traced[site][0] for site in sites)
    turned = model.tokens_of([tokens.ids[0].flip(0).tolist()])
    other = trace(model, turned, sites)
    rest, other_rest = entering - vector, other[sites[1]][0] - other[sites[0]][0]
    size = entering.abs().max()
    learned = (rest - other_rest).abs().max() <= 1e-4 * size
    return rest if learned else torch.zeros_like(rest)


def _freeze_layer(model: Model, traced: Trace, layer: int, exact: torch.dtype) -> FrozenLayer:
    """One block: its two branches, and the norms around them."""
    resid, attn_out, v, pattern, mlp_in, mlp_out = (traced[Site(kind, layer)][0] for kind in _KINDS)
    values, bias = head_values(model, layer).to(exact), value_bias(model, layer).to(exact)
    outputs, output_bias = head_outputs(model, layer).to(exact), attention_bias(model, layer).to(exact)
    before, value_gap = _before_attention(model, layer, resid, v.to(exact), values, bias)
    shared = v.to(exact).repeat_interleave(len(outputs) // len(values), dim=1)
    raw = torch.einsum("hqk,khd,hdm->qm", pattern.to(exact), shared, outputs) + output_bias
    way = norm_behind(model, Site("attn_out", layer), raw[-1], attn_out[-1])
    behind = spread(way, raw, attn_out)
    sequential = model.capabilities.reason("resid_mid") is None
    read = resid + attn_out if sequential else resid
    reading = norm_between(read[-1], mlp_in[-1], _norms(model, layer))
    before_mlp = spread(reading, read, mlp_in)
    gaps = {"v": value_gap, "attn_out": behind.gap, "mlp_in": before_mlp.gap}
    for kind, gap in gaps.items():
        if not gap <= _NO_WAY:
            raise ValueError(
                f"site {Site(kind, layer)}: in {model.name} it is no frozen norm and linear map of the residual "
                f"stream (nearest: {gap:.0e} off), so no attribution graph can be made"
            )
    return FrozenLayer(
        before_attention=before,
        values=values,
        value_bias=bias,
        pattern=pattern.to(exact),
        outputs=outputs,
        output_bias=output_bias,
        behind_attention=behind,
        before_mlp=before_mlp,
        sequential=sequential,
        resid_pre=resid.to(exact),
        mlp_in=mlp_in.to(exact),
        mlp_out=mlp_out.to(exact),
        gap=max(gaps.values()),
    )


def _norms(model: Model, layer: int) -> list[Callable[[Tensor], Tensor]]:
    """The norms of a block, wherever in it they stand."""
    parts = model.places.blocks[layer].children()
    return [part.original_component for part in parts if isinstance(part, QuietNorm)]


def _before_attention(
    model: Model,
    layer: int,
    resid: Float[Tensor, "pos d_model"],
    v: Float[Tensor, "pos kv_head d_head"],
    values: Float[Tensor, "kv_head d_model d_head"],
    bias: Float[Tensor, "kv_head d_head"],
) -> tuple[FrozenNorms, float]:
    """The norm, or none, behind which the value weights give the values of the pass, and how well they do."""
    ways = [(norm_between(resid[-1], resid[-1], []), resid)]
    ways += [(freeze(norm, resid[-1]), norm(resid)) for norm in _norms(model, layer)]
    found = []
    for way, normed in ways:
        made = torch.einsum("pm,hmd->phd", normed.to(v.dtype), values) + bias
        gap = float((made - v).abs().max() / v.abs().max().clamp_min(torch.finfo(v.dtype).tiny))
        found.append((gap, way, normed))
    gap, way, normed = min(found, key=lambda one: one[0])
    norms = spread(way, resid, normed)
    return norms, max(gap, norms.gap)


def spread(norm: FrozenNorm, streams: Float[Tensor, "pos width"], normed: Float[Tensor, "pos width"]) -> FrozenNorms:
    """A norm that was frozen at one position, frozen at all of them: only the size that divides is fitted again."""
    exact = norm.gain.dtype
    streams, normed = streams.to(exact), normed.to(exact)
    unscaled = replace(norm, bias=torch.zeros_like(norm.bias))(streams)
    size = torch.linalg.vecdot(unscaled, unscaled)
    factor = torch.linalg.vecdot(unscaled, normed - norm.bias) / size.clamp_min(torch.finfo(exact).tiny)
    factor = torch.where(size > 0, factor, 1.0)[:, None]
    error = (unscaled * factor + norm.bias - normed).abs().max()
    gap = float(error / normed.abs().max().clamp_min(torch.finfo(exact).tiny))
    return FrozenNorms(norm.gain * factor, norm.bias, norm.centred, gap)


@torch.no_grad()
def logits_at(model: Model, run: FrozenRun, pos: int) -> Float[Tensor, " vocab"]:
    """The logits before any soft cap at a position, by the model's own norm and unembedding."""
    return read_uncapped(model, run.stream[pos].to(model.dtype)[None])[0].double()


def place_of(run: FrozenRun, pos: int) -> int:
    """A position counted from the front.

    Raises:
        ValueError: the prompt is too short.
    """
    length = len(run.ids)
    if not -length <= pos < length:
        raise ValueError(f"position {pos} was asked for, but the prompt has {length} tokens (0-{length - 1})")
    return pos % length
