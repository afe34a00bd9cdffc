"""Count on which tokens features are active, and how surprising that is against a corpus."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Real
from torch import Tensor

from workbench.coders import Transcoders
from workbench.features import FeatureIndex
from workbench.model import Model
from workbench.tracer import trace
from workbench.words import Site

_TOGETHER = 16
"""Rows in one pass."""


@dataclass
class Counted:
    """How often features are active on some tokens, by layer.

    Attributes:
        tokens: how many tokens were counted.
        count: on how many of them each feature is active.
        total: the sum of its activations.
    """

    tokens: int = 0
    count: dict[int, Float[Tensor, " feature"]] = field(default_factory=dict)
    total: dict[int, Float[Tensor, " feature"]] = field(default_factory=dict)


@torch.no_grad()
def count_active(
    model: Model, coders: Transcoders, layers: Sequence[int], rows: list[list[int]], places: list[list[int]]
) -> Counted:
    """Count over some positions of some rows of tokens, a few rows at a time."""
    counted = Counted()
    sites = {layer: Site(coders[layer].read, layer) for layer in layers}
    for layer in layers:
        counted.count[layer], counted.total[layer] = (
            torch.zeros(coders[layer].width, dtype=torch.float64) for _ in range(2)
        )
    asked = [(row, at) for row, at in zip(rows, places, strict=True) if at]
    for start in range(0, len(asked), _TOGETHER):
        part = asked[start : start + _TOGETHER]
        traced = trace(model, model.tokens_of([row for row, _ in part]), sites.values())
        counted.tokens += sum(len(at) for _, at in part)
        for layer, site in sites.items():
            inputs = torch.cat([traced[site][number, at] for number, (_, at) in enumerate(part)])
            z = coders[layer].encode(inputs).double().cpu()
            counted.count[layer] += (z != 0).sum(0)
            counted.total[layer] += z.sum(0)
    return counted


def surprise(
    count: Real[Tensor, " feature"], tokens: int, usual: Real[Tensor, " feature"], usual_tokens: int
) -> Float[Tensor, " feature"]:
    """The signed root of the log-likelihood ratio of two shares: 0 where equal, positive where the first is larger.

    Args:
        count: on how many tokens each feature is active.
        tokens: of how many.
        usual: on how many tokens of the corpus.
        usual_tokens: of how many.
    """
    count, usual = count.double(), usual.double()
    share = (count + usual) / (tokens + usual_tokens)

    def part(seen: Tensor, of: int) -> Float[Tensor, " feature"]:
        """What one side adds, active and silent tokens; 0 log 0 is 0."""
        return torch.xlogy(seen, seen / (of * share).clamp_min(1e-300)) + torch.xlogy(
            of - seen, (of - seen) / (of * (1 - share)).clamp_min(1e-300)
        )

    ratio = 2 * (part(count, tokens) + part(usual, usual_tokens))
    return ratio.clamp_min(0).sqrt() * torch.sign(count / max(tokens, 1) - usual / max(usual_tokens, 1))


def excess(counted: Counted, index: FeatureIndex, coders: Transcoders, layer: int) -> Float[Tensor, " feature"]:
    """How much more a feature writes on these tokens than on the corpus, on average: a length of the stream."""
    here = counted.total[layer] / max(counted.tokens, 1)
    usual = index[layer].total / max(index.tokens, 1)
    return (here - usual) * coders[layer].w_dec.double().norm(dim=1).cpu()
