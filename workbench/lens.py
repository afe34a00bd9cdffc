"""Reading the residual stream through the model's own final norm and unembedding (the logit lens)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


def read_out(bridge: Any, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
    """The logits that the model would give if the stream ended here.

    The final norm uses the statistic of this very stream; a final logit scale (Granite) and a soft
    cap (Gemma 2) are applied where the model applies them. At load it is checked that the last
    residual gives the model's own logits.
    """
    return cap(bridge, unembed(bridge, resid))


def reads_out(bridge: Any) -> bool:
    """Whether a final norm and an unembedding lead from the residual stream to the logits."""
    return hasattr(bridge, "ln_final") and hasattr(bridge, "unembed")


def unembed(bridge: Any, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
    """Final norm and unembedding, before any scale or soft cap of the logits.

    Raises:
        ValueError: the architecture has no final norm (OPT-350m).
    """
    _refuse_without_norm(bridge)
    return bridge.unembed(bridge.ln_final(resid))


def _refuse_without_norm(bridge: Any) -> None:
    if not reads_out(bridge):
        name = type(bridge.original_model).__name__
        raise ValueError(f"{name} has no final norm before its unembedding: its residual stream cannot be read out")


def read_tokens(
    bridge: Any, resid: Float[Tensor, "... d_model"], ids: Int[Tensor, " token"]
) -> Float[Tensor, "... token"]:
    """`read_out` for some tokens alone: the rest of the vocabulary is not computed.

    Raises:
        ValueError: the architecture has no final norm, or its unembedding is quantised.
    """
    _refuse_without_norm(bridge)
    weight, bias = unembedding(bridge)
    hidden = bridge.ln_final(resid).to(weight.dtype)
    return cap(bridge, torch.nn.functional.linear(hidden, weight[ids], None if bias is None else bias[ids]))


def cap(bridge: Any, logits: Float[Tensor, "... vocab"]) -> Float[Tensor, "... vocab"]:
    """The final scale and soft cap of the logits, in models that have them."""
    config = bridge.original_model.config.get_text_config()
    if scaling := getattr(config, "logits_scaling", None):
        logits = logits / scaling
    if bound := _bound(bridge):
        logits = (logits / bound).tanh() * bound
    return logits


def caps_logits(bridge: Any) -> bool:
    """Whether the model bends its logits (soft cap), so that they are no linear map of the stream."""
    return bool(_bound(bridge))


def _bound(bridge: Any) -> float | None:
    """The largest logit that a soft cap allows (under Gemma's and RecurrentGemma's name for it)."""
    config = bridge.original_model.config.get_text_config()
    return getattr(config, "final_logit_softcapping", None) or getattr(config, "logits_soft_cap", None)


@dataclass(frozen=True)
class Readings:
    """What each layer's stream would say at each position, as numbers instead of vocabulary tables.

    `best_ids` are the most likely tokens at the listed positions, best first, and `best` their probabilities.
    """

    target_probability: Float[Tensor, "layer pos"]
    target_rank: Float[Tensor, "layer pos"]
    entropy: Float[Tensor, "layer pos"]
    kl: Float[Tensor, "layer pos"]
    best: Float[Tensor, "layer listed rank"]
    best_ids: Int[Tensor, "layer listed rank"]


@torch.no_grad()
def read_layers(
    bridge: Any,
    streams: Float[Tensor, "layer pos d_model"],
    ids: Int[Tensor, " pos"],
    top: int = 0,
    first: int = 0,
) -> Readings:
    """Read many streams at once, a slice of the vocabulary at a time.

    The unembedding is read from memory once for all layers, and no [rows, vocab] table is made: sums over
    the vocabulary are carried along with a running maximum, as in a streamed softmax.

    Args:
        bridge: the TransformerBridge.
        streams: residual streams; the last layer is the one that KL compares to.
        ids: the target token at each position.
        top: how many of the most likely tokens to keep.
        first: the position from which on they are kept.
    """
    hidden = bridge.ln_final(streams).float()
    weight, bias = unembedding(bridge)
    own = _scores(bridge, hidden, weight[ids], None if bias is None else bias[ids])
    sums, best = _Sums.empty(hidden), _Best.empty(hidden[:, first:])
    step = max(256, min(4096, _NUMBERS // (hidden.shape[0] * hidden.shape[1])))
    for start in range(0, weight.shape[0], step):
        part = slice(start, start + step)
        logits = torch.nn.functional.linear(hidden, weight[part].float(), None if bias is None else bias[part])
        logits = cap(bridge, logits)
        sums.take(logits, own, ids - start)
        best.take(logits[:, first:], start, top)
    return sums.readings(own, best, first)


_NUMBERS = 8_000_000
"""Logits made at once: 32 MB."""


def unembedding(bridge: Any) -> tuple[Float[Tensor, "vocab d_model"], Float[Tensor, " vocab"] | None]:
    """The unembedding and its bias.

    Raises:
        ValueError: the weights are quantised, so that no row can be read by itself.
    """
    module = bridge.original_model.get_output_embeddings()
    module = getattr(module, "original_component", module)
    if not (isinstance(module.weight, Tensor) and module.weight.is_floating_point()):
        raise ValueError("the unembedding is quantised: its rows cannot be read one by one")
    return module.weight, getattr(module, "bias", None)


def _scores(
    bridge: Any,
    hidden: Float[Tensor, "layer pos d_model"],
    rows: Float[Tensor, "pos d_model"],
    bias: Tensor | None,
) -> Float[Tensor, "layer pos"]:
    """The logit of one token per position."""
    logits = torch.einsum("lpd,pd->lp", hidden, rows.float())
    return cap(bridge, logits if bias is None else logits + bias)


@dataclass
class _Sums:
    """Running sums over the vocabulary, relative to the largest logit so far."""

    top: Float[Tensor, "layer pos"]
    mass: Float[Tensor, "layer pos"]
    mean: Float[Tensor, "layer pos"]
    cross: Float[Tensor, "layer pos"]
    above: Float[Tensor, "layer pos"]

    @classmethod
    def empty(cls, hidden: Float[Tensor, "layer pos d_model"]) -> "_Sums":
        """Nothing seen yet."""
        zeros = [torch.zeros(hidden.shape[:2], dtype=torch.float64, device=hidden.device) for _ in range(4)]
        return cls(torch.full(hidden.shape[:2], -torch.inf, device=hidden.device), *zeros)

    def take(
        self,
        logits: Float[Tensor, "layer pos part"],
        own: Float[Tensor, "layer pos"],
        ids: Int[Tensor, " pos"],
    ) -> None:
        """Add a slice of the vocabulary; `ids` are the targets counted from its first token."""
        top = torch.maximum(self.top, logits.amax(-1))
        moved = (self.top - top).double()
        moved = torch.where(self.mass > 0, moved, 0)  # nothing to move before the first slice
        shrink = moved.exp()
        below = logits - top[..., None]  # sums of small numbers, so that none is lost to rounding
        weights = below.exp()
        self.mean = (self.mean + moved * self.mass) * shrink + torch.linalg.vecdot(weights, below)
        self.cross = (self.cross + moved * self.mass[-1]) * shrink[-1] + torch.linalg.vecdot(weights[-1], below)
        self.mass = self.mass * shrink + weights.sum(-1)
        better = logits > own[..., None]
        inside = (ids >= 0) & (ids < logits.shape[-1])
        better[:, inside, ids[inside]] = False  # the target itself, whose logit is rounded in another order
        self.above += better.sum(-1)
        self.top = top

    def readings(self, own: Float[Tensor, "layer pos"], best: "_Best", first: int) -> Readings:
        """The finished numbers, on the CPU."""
        log_mass = self.mass.log()
        entropy = log_mass - self.mean / self.mass
        surprise = log_mass - self.cross / self.mass[-1]
        kl = surprise - surprise[-1]
        probability = (own.double() - self.top.double() - log_mass).exp()
        likely = (best.logits.double() - (self.top.double() + log_mass)[:, first:, None]).exp()
        numbers = (probability, self.above, entropy.clamp_min(0), kl.clamp_min(0), likely)
        return Readings(*(number.float().cpu() for number in numbers), best.ids.cpu())


@dataclass
class _Best:
    """The largest logits so far and whose they are, the largest first."""

    logits: Float[Tensor, "layer listed rank"]
    ids: Int[Tensor, "layer listed rank"]

    @classmethod
    def empty(cls, hidden: Float[Tensor, "layer listed d_model"]) -> "_Best":
        """Nothing seen yet."""
        nothing = hidden.new_empty((*hidden.shape[:2], 0))
        return cls(nothing, nothing.long())

    def take(self, logits: Float[Tensor, "layer listed part"], start: int, count: int) -> None:
        """Add a slice of the vocabulary whose first token is `start`, and keep the `count` largest."""
        if not count:
            return
        part = logits.topk(min(count, logits.shape[-1]))
        values = torch.cat([self.logits, part.values], -1)
        ids = torch.cat([self.ids, part.indices + start], -1)
        kept = values.topk(min(count, values.shape[-1]))
        self.logits, self.ids = kept.values, ids.gather(-1, kept.indices)
