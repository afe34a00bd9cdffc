"""Examples of a feature with the text around them, and what the feature does there, computed anew."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.coders import Transcoder
from workbench.features.index import FeatureIndex
from workbench.model import Model
from workbench.tokens import token_text
from workbench.tracer import trace
from workbench.words import Site

_TOGETHER = 8
"""Passages in one pass."""


@dataclass(frozen=True)
class Example:
    """One activation of a feature.

    Attributes:
        band: "top", or which part of its activations it was drawn from, such as "50-75 %".
        place: in the corpus.
        value: as the index has it.
    """

    band: str
    place: int
    value: float


@dataclass(frozen=True)
class Excerpt:
    """An example with its surroundings.

    Attributes:
        example: what it shows.
        text: the tokens shown.
        values: what the feature does at each, computed anew; NaN at positions that are not counted.
        at: which of them the example is.
    """

    example: Example
    text: tuple[str, ...]
    values: Float[Tensor, " pos"]
    at: int

    @property
    def gap(self) -> float:
        """How far the activation is from the one in the index."""
        return abs(float(self.values[self.at]) - self.example.value)

    @property
    def sentence(self) -> str:
        """The text with the example between marks."""
        shown = [f"«{one}»" if place == self.at else one for place, one in enumerate(self.text)]
        spaced = any(" " in one for one in self.text)  # some tokenizers leave spaces out of their tokens
        return "".join(shown) if spaced else " ".join(shown)


def examples_of(index: FeatureIndex, layer: int, feature: int, bands: int = 4) -> list[Example]:
    """Examples of a feature: those of the largest size, then its even sample by quantile, the highest band first.

    Each band holds the same number of activations, as far as the sample goes.
    """
    top, sample = index[layer].top, index[layer].sample
    found = [
        Example("top", int(place), float(value))
        for place, value in zip(top.places[feature], top.values[feature], strict=True)
        if place >= 0
    ]
    held = sample.places[feature] >= 0
    places, values = sample.places[feature][held], sample.values[feature][held]
    order = values.abs().argsort(descending=True, stable=True)
    for band, part in enumerate(order.tensor_split(bands)):
        name = f"{100 - 100 * (band + 1) // bands}-{100 - 100 * band // bands} %"
        found += [Example(name, int(places[one]), float(values[one])) for one in part]
    return found


@torch.no_grad()
def read_excerpts(
    model: Model,
    coder: Transcoder,
    index: FeatureIndex,
    feature: int,
    examples: list[Example],
    *,
    before: int = 17,
    after: int = 6,
) -> list[Excerpt]:
    """Run the passages of some examples again, and show the tokens around them.

    Args:
        model: the model of the index.
        coder: the coder of the feature.
        index: where the examples come from.
        feature: the feature.
        examples: the examples.
        before: how many tokens to show before each.
        after: how many behind it.
    """
    spots = [index.passages.passage_at(one.place) for one in examples]
    ends: dict[int, int] = {}  # what comes behind an excerpt cannot change it
    for passage, at in spots:
        ends[passage] = max(ends.get(passage, 0), at + after + 1)
    passages = sorted(ends)
    values: dict[int, Float[Tensor, " pos"]] = {}
    for start in range(0, len(passages), _TOGETHER):
        rows = [index.passages.row(one)[: ends[one]] for one in passages[start : start + _TOGETHER]]
        found = _values(model, coder, feature, rows, index.since)
        values |= dict(zip(passages[start:], found, strict=False))
    excerpts = []
    for example, (passage, at) in zip(examples, spots, strict=True):
        shown = slice(max(at - before, 0), at + after + 1)
        text = token_text(model.tokenizer, index.passages.row(passage)[shown])
        excerpts.append(Excerpt(example, text, values[passage][shown], at - shown.start))
    return excerpts


def _values(
    model: Model, coder: Transcoder, feature: int, rows: list[list[int]], since: int
) -> list[Float[Tensor, " pos"]]:
    """What a feature does at every position of some rows of tokens."""
    site = Site(coder.read, coder.layer)
    traced = trace(model, model.tokens_of(rows), [site])
    found = []
    for inputs, row in zip(traced[site], rows, strict=True):
        values = coder.encode(inputs[: len(row)])[:, feature].float().cpu()
        values[:since] = torch.nan
        found.append(values)
    return found
