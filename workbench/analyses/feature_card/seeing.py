"""Where a feature is active: its numbers in the index, its examples, and what it does on texts of one's own."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.coders import Transcoders
from workbench.features import Example, Excerpt, FeatureIndex, examples_of, read_excerpts
from workbench.model import Model
from workbench.progress import track
from workbench.prompts import Prompts
from workbench.tracer import trace
from workbench.words import Site

_OWN = 3
"""Texts of one's own that are shown."""
_SHOWN = 48
"""Tokens of each, around the largest activation."""


@dataclass(frozen=True)
class Seen:
    """One feature on the corpus.

    Attributes:
        place: its layer and number.
        excerpts: all examples that the index holds, the strongest first, then by falling band.
        strips: those to be shown token by token.
        own: texts of one's own, around the feature's largest value there.
        density: on which share of the tokens it is active.
        count: on how many.
        tokens: how many tokens there are.
        usual: its mean activation where it is active.
        size: the length of its decoder.
        histogram: its activations by size, in the bins of `EDGES`.
        sizes: an even sample of the sizes of its activations.
        dead: how many features of its layer are dead, and how many there are.
        denser: the share of the layer's features that are active less often.
    """

    coders: Transcoders
    index: FeatureIndex
    place: tuple[int, int]
    excerpts: list[Excerpt]
    strips: list[Excerpt]
    own: list[Excerpt]
    density: float
    count: int
    tokens: int
    usual: float
    size: float
    histogram: Int[Tensor, " bin"]
    sizes: Float[Tensor, " sampled"]
    dead: tuple[int, int]
    denser: float

    @property
    def name(self) -> str:
        """Its short name."""
        return f"L{self.place[0]}.F{self.place[1]}"

    @property
    def largest(self) -> float:
        """Its activation of the largest size; 0 for a dead one."""
        return self.excerpts[0].example.value if self.excerpts else 0.0


def see(
    model: Model,
    coders: Transcoders,
    index: FeatureIndex,
    place: tuple[int, int],
    own: Prompts | None,
    shown: int,
) -> Seen:
    """Gather what the index says of a feature, and read its examples again."""
    layer, feature = place
    gathered, density = index[layer], index.density(layer)
    excerpts = read_excerpts(model, coders[layer], index, feature, examples_of(index, layer, feature))
    sample = gathered.sample
    return Seen(
        coders=coders,
        index=index,
        place=place,
        excerpts=excerpts,
        strips=_chosen(excerpts, shown),
        own=_on_own(model, coders, index, place, own) if own else [],
        density=float(density[feature]),
        count=int(gathered.count[feature]),
        tokens=index.tokens,
        usual=float(index.usual(layer)[feature]),
        size=float(coders[layer].w_dec[feature].float().norm()),
        histogram=gathered.histogram[feature],
        sizes=sample.values[feature][sample.places[feature] >= 0].abs(),
        dead=(int(index.dead(layer).sum()), coders[layer].width),
        denser=float((density < density[feature]).double().mean()),
    )


def _chosen(excerpts: list[Excerpt], shown: int) -> list[Excerpt]:
    """The first of the top, and as many of the lower bands, spread over them."""
    bands: dict[str, list[Excerpt]] = {}
    for one in excerpts:
        bands.setdefault(one.example.band, []).append(one)
    top = bands.pop("top", [])[:shown]
    lower = [part[turn] for turn in range(shown) for part in bands.values() if turn < len(part)]
    seen = {one.example.place for one in top}
    return top + [one for one in lower if one.example.place not in seen][: max(shown, len(bands))]


@torch.no_grad()
def _on_own(
    model: Model, coders: Transcoders, index: FeatureIndex, place: tuple[int, int], texts: Prompts
) -> list[Excerpt]:
    """The first few texts of one's own, each around the feature's largest value."""
    layer, feature = place
    site = Site(coders[layer].read, layer)
    found = []
    for text in track(texts[:_OWN], "texts of one's own"):
        traced = trace(model, text, [site])
        values = coders[layer].encode(traced[site][0])[:, feature].float().cpu()
        values[: index.since] = torch.nan
        at = int(values.abs().nan_to_num().argmax())
        start = max(0, min(at - _SHOWN // 2, len(values) - _SHOWN))
        part = slice(start, start + _SHOWN)
        example = Example("own", at, float(values[at]))
        found.append(Excerpt(example, traced.tokens.text[0][part], values[part], at - start))
    return found
