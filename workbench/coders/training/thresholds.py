"""JumpReLU with a gradient for its threshold, which it has none of its own (Rajamanoharan et al. 2024).

A jump has no slope, so the gradient is that of the expected value of the jump under a small spread of the
pre-activation: a rectangle of some width around the threshold (arXiv:2407.14435, section 3).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def jump(
    pre: Float[Tensor, "token feature"], threshold: Float[Tensor, " feature"], bandwidth: float
) -> Float[Tensor, "token feature"]:
    """Pre-activations above their threshold, and 0 elsewhere."""
    return _Jump.apply(pre, threshold, bandwidth)


def count_active(
    pre: Float[Tensor, "token feature"], threshold: Float[Tensor, " feature"], bandwidth: float
) -> Float[Tensor, "token feature"]:
    """1 above the threshold and 0 elsewhere; the gradient reaches the threshold alone."""
    return _Count.apply(pre, threshold, bandwidth)


def _near(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """1 / bandwidth within half a bandwidth of the threshold, else 0."""
    return ((pre - threshold).abs() < bandwidth / 2).to(pre) / bandwidth


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return pre * (pre > threshold)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:
        pre, threshold = ctx.saved_tensors
        moved = -threshold * _near(pre, threshold, ctx.bandwidth) * grads[0]
        return (pre > threshold) * grads[0], moved.sum(0), None


class _Count(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return (pre > threshold).to(pre)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[None, Tensor, None]:
        pre, threshold = ctx.saved_tensors
        return None, (-_near(pre, threshold, ctx.bandwidth) * grads[0]).sum(0), None
