"""What is kept of the features of one layer while tokens stream by: counts, histograms, and a few examples of each."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

EDGES = 2.0 ** torch.arange(-12, 16.5, 0.5)
"""Where the bins of the histograms begin, in sizes of activations: two to a doubling; the last two are its ends."""
_BINS = len(EDGES) - 1
_NOWHERE = -1


@dataclass
class Kept:
    """For each feature the occasions with the largest keys, largest first; equal ones by place.

    Attributes:
        keys: -infinity where there are no more.
        places: in the corpus; -1 where there are no more.
        values: the activations.
    """

    keys: Float[Tensor, "feature rank"]
    places: Int[Tensor, "feature rank"]
    values: Float[Tensor, "feature rank"]

    @classmethod
    def empty(cls, width: int, count: int) -> "Kept":
        """Nothing seen yet."""
        keys = torch.full((width, count), -torch.inf)
        return cls(keys, torch.full((width, count), _NOWHERE, dtype=torch.int32), torch.zeros(width, count))

    def take(
        self,
        features: Int[Tensor, " occasion"],
        keys: Float[Tensor, " occasion"],
        places: Int[Tensor, " occasion"],
        values: Float[Tensor, " occasion"],
    ) -> None:
        """Let occasions in, given by ascending place."""
        count = self.keys.shape[1]
        order = keys.argsort(descending=True, stable=True)
        order = order[features[order].argsort(stable=True)]
        touched, sizes = features[order].unique_consecutive(return_counts=True)
        rank = torch.arange(len(order)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        rows = torch.arange(len(touched)).repeat_interleave(sizes)
        fits = rank < count
        order, rank, rows = order[fits], rank[fits], rows[fits]
        new = Kept.empty(len(touched), count)
        new.keys[rows, rank] = keys[order]
        new.places[rows, rank] = places[order].int()
        new.values[rows, rank] = values[order]
        both = torch.cat([self.keys[touched], new.keys], dim=1)
        best = both.argsort(dim=1, descending=True, stable=True)[:, :count]
        for name in ("keys", "places", "values"):
            held = getattr(self, name)
            held[touched] = torch.cat([held[touched], getattr(new, name)], dim=1).gather(1, best)


@dataclass
class Gathered:
    """The features of one layer over all tokens so far.

    Attributes:
        count: on how many tokens each is active.
        total: the sum of its activations.
        histogram: how many activations lie in each bin of `EDGES` by size; the first and last bins are open.
        top: its activations of the largest size.
        sample: activations drawn evenly from all of them, in no order of size.
    """

    count: Int[Tensor, " feature"]
    total: Float[Tensor, " feature"]
    histogram: Int[Tensor, "feature bin"]
    top: Kept
    sample: Kept

    @classmethod
    def empty(cls, width: int, tops: int, sampled: int) -> "Gathered":
        """Nothing seen yet."""
        return cls(
            torch.zeros(width, dtype=torch.long),
            torch.zeros(width, dtype=torch.float64),
            torch.zeros(width, _BINS, dtype=torch.long),
            Kept.empty(width, tops),
            Kept.empty(width, sampled),
        )

    def add(self, z: Float[Tensor, "token feature"], places: Int[Tensor, " token"], seed: int) -> None:
        """Take in the feature values at some places, ascending and behind those before."""
        token, feature = z.nonzero().unbind(1)
        values = z[token, feature].detach().float().cpu()
        token, feature = token.cpu(), feature.cpu()
        where, sizes = places[token], values.abs()
        self.count += feature.bincount(minlength=len(self.count))
        self.total.index_add_(0, feature, values.double())
        bins = (torch.bucketize(sizes, EDGES, right=True) - 1).clamp(0, _BINS - 1)
        self.histogram += (feature * _BINS + bins).bincount(minlength=self.histogram.numel()).view_as(self.histogram)
        self.top.take(feature, sizes, where, values)
        self.sample.take(feature, lots(where, seed), where, values)

    def dump(self) -> dict[str, Tensor]:
        """Everything, by name."""
        kept = {
            f"{name}.{part}": value for name in ("top", "sample") for part, value in vars(getattr(self, name)).items()
        }
        return {"count": self.count, "total": self.total, "histogram": self.histogram, **kept}

    @classmethod
    def restore(cls, tensors: dict[str, Tensor]) -> "Gathered":
        """What `dump` gave. Raises KeyError when something is missing."""
        kept = {
            name: Kept(*(tensors[f"{name}.{part}"] for part in ("keys", "places", "values")))
            for name in ("top", "sample")
        }
        return cls(tensors["count"], tensors["total"], tensors["histogram"], **kept)


def lots(places: Int[Tensor, " token"], seed: int) -> Float[Tensor, " token"]:
    """A number from 0 to 1 for each place, as if drawn; always the same for the same place and seed."""
    mixed = (places + 1 + seed * 1_000_003) * -7046029254386353131  # the constants of splitmix64
    mixed = (mixed ^ (mixed >> 30)) * -4658895280553007687
    mixed = (mixed ^ (mixed >> 27)) * -7723592293110705685
    return ((mixed ^ (mixed >> 31)) & 0xFFFFFF).float() / 0x1000000
