"""What the weights of one feature say, as data: tokens at both ends, features around it, heads in front of it."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from workbench.vocabulary import Extremes


@dataclass(frozen=True)
class Ends:
    """The tokens at both ends of one direction.

    Attributes:
        path: how the direction meets the tokens: "writes", "reads", or "reads through L0.H1".
        tokens: the tokens, of one row.
        chance: below which size of z the farthest token of 95 % of random directions of the layer stays.
        deviation: the standard deviation of the tokens' scores, for a vector of length 1 or the feature's reading.
        gap: the largest error of a z against the slow definition.
    """

    path: str
    tokens: Extremes
    chance: float
    deviation: float
    gap: float


@dataclass(frozen=True)
class Edges:
    """The edges between the feature and all those of another layer.

    Attributes:
        layer: the other layer.
        weights: what one unit of the source adds to the target's pre-activation.
        effects: times the source's mean activation where it is active.
        shares: on which share of the tokens the source is active.
        chance: below which size 99 % of the edges of random directions stay.
        through: the head that they pass, or nothing.
    """

    layer: int
    weights: Float[Tensor, " feature"]
    effects: Float[Tensor, " feature"]
    shares: Float[Tensor, " feature"]
    chance: float
    through: str = ""

    def strongest(self, count: int) -> list[int]:
        """The features of the strongest edges, and those of the largest mean effects."""
        by_weight = self.weights.abs().topk(min(count, len(self.weights))).indices.tolist()
        mean = (self.effects * self.shares).abs()
        both = dict.fromkeys(by_weight + mean.topk(min(count, len(mean))).indices.tolist())
        return [one for one in both if self.weights[one] != 0]


@dataclass(frozen=True)
class Similar:
    """Features whose decoders point the same way, or the opposite one.

    Attributes:
        layer, feature: which.
        cosine: of the decoders.
        reading_cosine: of the directions of the stream along which they read; None where they do not read it.
    """

    layer: int
    feature: int
    cosine: float
    reading_cosine: float | None


@dataclass(frozen=True)
class Wires:
    """All of it.

    Attributes:
        ends: tokens, by path.
        before, after, through_heads: edges from earlier features, to later ones, and from earlier ones through heads.
        similar: features with similar decoders.
        reach: how long the feature's reading is in front of each head whose layer feeds it; None without any.
        reach_random: the same for random readings of the same length, on average.
        chance_cosine: the largest cosine of a random direction with a decoder, for 95 % of them.
        gap: of the frozen maps.
    """

    ends: list[Ends]
    before: list[Edges]
    after: list[Edges]
    through_heads: list[Edges]
    similar: list[Similar]
    chance_cosine: float
    reach: Float[Tensor, "layer head"] | None
    reach_random: Float[Tensor, "layer head"] | None
    gap: float
    top: int
