"""How well a coder predicts, and how sparsely: sums over tokens, taken in as they come."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class Tally:
    """What was seen of one coder, over all tokens so far.

    Attributes:
        tokens: how many tokens were taken in.
        outputs: the sum of what was to be predicted.
        power: the sum of its squares.
        error: the sum of the squares of what the coder missed.
        largest_error: the largest number that it missed by.
        active: on how many tokens each feature was active.
    """

    width: int
    d_out: int
    tokens: int = 0
    power: float = 0.0
    error: float = 0.0
    largest_error: float = 0.0
    outputs: Float[Tensor, " d_out"] = field(init=False)
    active: Float[Tensor, " feature"] = field(init=False)

    def __post_init__(self) -> None:
        self.outputs = torch.zeros(self.d_out, dtype=torch.float64)
        self.active = torch.zeros(self.width, dtype=torch.float64)

    def add(
        self,
        z: Float[Tensor, "pos feature"],
        wanted: Float[Tensor, "pos d_out"],
        predicted: Float[Tensor, "pos d_out"],
    ) -> None:
        """Take in some tokens: their feature values, what was to be predicted, and what was predicted."""
        wanted, predicted = wanted.cpu().double(), predicted.cpu().double()  # not every device has 64 bits
        gap = wanted - predicted
        self.tokens += len(wanted)
        self.outputs += wanted.sum(0)
        self.power += float(wanted.square().sum())
        self.error += float(gap.square().sum())
        self.largest_error = max(self.largest_error, float(gap.abs().max())) if len(gap) else self.largest_error
        self.active += (z != 0).sum(0).cpu()

    @property
    def mean(self) -> Float[Tensor, " d_out"]:
        """The mean of what was to be predicted."""
        return self.outputs / max(self.tokens, 1)

    @property
    def unexplained(self) -> float:
        """Fraction of variance unexplained, from 0 (exact) up; 1 is what the mean gets. NaN without variance."""
        variance = self.power - self.tokens * float(self.mean.square().sum())
        return self.error / variance if variance > 1e-12 * self.power else float("nan")

    @property
    def l0(self) -> float:
        """How many features are active on a token, on average."""
        return float(self.active.sum()) / max(self.tokens, 1)

    @property
    def density(self) -> Float[Tensor, " feature"]:
        """The share of tokens on which each feature is active."""
        return self.active / max(self.tokens, 1)
