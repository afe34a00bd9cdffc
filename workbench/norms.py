"""Norms with their statistic frozen: affine maps, through which the parts of a stream pass one by one.

A norm divides by a size in which the whole stream has a say, so it treats no part of it by itself. With that
size frozen at what it was in a run, what the norm gives is the sum of what it gives for the parts. Gain, bias
and centring are found by showing the module two vectors, so that LayerNorm, RMSNorm and Gemma's 1 + w are read
alike, and what was found is compared with what the module gave in the run.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Norm = Callable[[Tensor], Tensor]

_LOUD = 1024.0
"""Size of the vectors that are shown to a norm: so large that its epsilon is lost, and exact in every dtype."""


@dataclass(frozen=True)
class FrozenNorm:
    """The map x -> gain * (x, or x - mean(x) where `centred`) + bias, with the size that divides inside `gain`.

    Attributes:
        gap: its largest error on the stream at which it was frozen, over the largest value there.
    """

    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    centred: bool
    gap: float

    def __call__(self, stream: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """What the norm gives for a stream, or but for the bias for a part of it."""
        return self.gain * (stream - stream.mean(-1, keepdim=True) if self.centred else stream) + self.bias

    def pulled(self, directions: Float[Tensor, "direction d_model"]) -> Float[Tensor, "direction d_model"]:
        """Directions before the norm along which a part measures what it measures behind it, but for the bias."""
        before = directions * self.gain
        return before - before.mean(-1, keepdim=True) if self.centred else before


@torch.no_grad()
def freeze(
    norm: Norm, stream: Float[Tensor, " d_model"], normed: Float[Tensor, " d_model"] | None = None
) -> FrozenNorm:
    """A norm frozen at what it did to a stream.

    Args:
        norm: LayerNorm, RMSNorm or a kin of them.
        stream: what went into it.
        normed: what came out of it in the run; by default it is asked now.
    """
    bias = norm(torch.zeros_like(stream))
    flat = torch.full_like(stream, _LOUD)
    signs = torch.ones_like(stream)
    signs[1::2] = -1
    gain = (norm(flat * signs) - bias) * signs  # its mean is 0 and its size _LOUD, centred or not
    centred = (norm(flat) - bias).norm() < gain.norm() / 2  # nothing is left of a flat vector
    return _fit(gain, bias, bool(centred), stream, norm(stream) if normed is None else normed)


@torch.no_grad()
def norm_between(
    raw: Float[Tensor, " d_model"], written: Float[Tensor, " d_model"], norms: Iterable[Norm]
) -> FrozenNorm:
    """The way from what a branch gives to what it adds to the stream: a plain factor, or one of the norms.

    Gemma 2 and 3 and OLMo 2 norm each branch before they add it, Granite multiplies it by a constant,
    most models do nothing. The way with the smallest gap is taken, so look at its `gap`.
    """
    plain = _fit(torch.ones_like(raw), torch.zeros_like(raw), centred=False, stream=raw, normed=written)
    ways = [plain, *(freeze(norm, raw, written) for norm in norms)]
    return min(ways, key=lambda way: way.gap)


def _fit(
    gain: Float[Tensor, " d_model"],
    bias: Float[Tensor, " d_model"],
    centred: bool,
    stream: Float[Tensor, " d_model"],
    normed: Float[Tensor, " d_model"],
) -> FrozenNorm:
    """The norm with the one factor that brings it closest to what it gave (the factor is 1 / its size)."""
    exact = torch.promote_types(stream.dtype, torch.float32)
    gain, bias, stream, normed = (vector.to(exact) for vector in (gain, bias, stream, normed))
    unscaled = FrozenNorm(gain, torch.zeros_like(bias), centred, 0.0)(stream)
    size = unscaled.square().sum()
    factor = (unscaled @ (normed - bias)) / size if size > 0 else torch.ones_like(size)
    error = (unscaled * factor + bias - normed).abs().max()
    gap = float(error / normed.abs().max().clamp_min(torch.finfo(exact).tiny))
    return FrozenNorm(gain * factor, bias, centred, gap)
