"""Which features stand out on a text against a corpus, and how far pieces of the corpus itself stand out."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.analyses.feature_search.counting import Counted, count_active, excess, surprise
from workbench.coders import Transcoders
from workbench.features import FeatureIndex
from workbench.model import Model
from workbench.progress import track
from workbench.prompts import Prompts
from workbench.tracer import trace
from workbench.words import Site

_DRAWN = 8
"""Features that are shown token by token."""


@dataclass(frozen=True)
class Standing:
    """The features on a text.

    Attributes:
        coders, layers: what was searched.
        counted: on the text.
        scores: by layer; what they are ranked by.
        surprises, excesses: by layer.
        chance: the largest score of each draw, by layer.
        odd: the share of features, over all draws, that are active more often in a piece than in the whole corpus.
        ranked: layer and number of every feature, the largest score first.
        tokens: the text of the first prompt.
        activations: of the first features, on the first prompt.
    """

    coders: Transcoders
    layers: tuple[int, ...]
    by: str
    counted: Counted
    scores: dict[int, Float[Tensor, " feature"]]
    surprises: dict[int, Float[Tensor, " feature"]]
    excesses: dict[int, Float[Tensor, " feature"]]
    chance: dict[int, Float[np.ndarray, " draw"]]
    odd: float
    ranked: list[tuple[int, int]]
    tokens: tuple[str, ...]
    activations: Float[Tensor, "shown pos"]

    @property
    def largest_by_chance(self) -> float:
        """The largest score over all layers that 95 % of draws stay below."""
        return float(np.quantile(np.stack(list(self.chance.values())).max(0), 0.95))

    @property
    def above(self) -> int:
        """How many features lie above that."""
        return sum(int((scores > self.largest_by_chance).sum()) for scores in self.scores.values())


def search_text(
    model: Model,
    coders: Transcoders,
    index: FeatureIndex,
    prompts: Prompts,
    layers: tuple[int, ...],
    by: str,
    draws: int,
    seed: int,
) -> Standing:
    """Compare a text, and draws from the corpus, with the corpus.

    Raises:
        ValueError: the text has no token that counts.
    """
    rows = [model.tokens(prompt).ids[0].tolist() for prompt in prompts]
    counted = count_active(model, coders, layers, rows, [list(range(index.since, len(row))) for row in rows])
    if not counted.tokens:
        raise ValueError("the text has no token that counts: the first position is left out, so write two or more")
    surprises = {
        layer: surprise(counted.count[layer], counted.tokens, index[layer].count, index.tokens) for layer in layers
    }
    excesses = {layer: excess(counted, index, coders, layer) for layer in layers}
    scores = surprises if by == "surprise" else excesses
    chance: dict[int, list[float]] = {layer: [] for layer in layers}
    odd = 0
    generator = np.random.default_rng(seed)
    for _ in track(range(draws), "pieces of the corpus"):
        piece = count_active(model, coders, layers, *draw_piece(index, counted.tokens, generator))
        for layer in layers:
            rest = index[layer].count - piece.count[layer]
            odd += int((rest < 0).sum())
            other = surprise(piece.count[layer], piece.tokens, rest.clamp_min(0), max(index.tokens - piece.tokens, 1))
            scored = other if by == "surprise" else excess(piece, index, coders, layer)
            chance[layer].append(float(scored.max()))
    flat = torch.cat([scores[layer] for layer in layers])
    owners = [(layer, at) for layer in layers for at in range(coders[layer].width)]
    ranked = [owners[at] for at in flat.argsort(descending=True, stable=True).tolist()]
    tokens, activations = _activations(model, coders, index, prompts, ranked[:_DRAWN])
    return Standing(
        coders=coders,
        layers=layers,
        by=by,
        counted=counted,
        scores=scores,
        surprises=surprises,
        excesses=excesses,
        chance={layer: np.array(values) for layer, values in chance.items()},
        odd=odd / (draws * len(owners)),
        ranked=ranked,
        tokens=tokens,
        activations=activations,
    )


def draw_piece(
    index: FeatureIndex, tokens: int, generator: np.random.Generator
) -> tuple[list[list[int]], list[list[int]]]:
    """Passages drawn from the corpus, none twice, and the positions in them that make up so many tokens."""
    rows: list[list[int]] = []
    places: list[list[int]] = []
    for one in generator.permutation(len(index.passages)).tolist():
        if tokens <= 0:
            break
        row = index.passages.row(one)
        rows.append(row)
        places.append(list(range(index.since, len(row)))[:tokens])
        tokens -= len(places[-1])
    return rows, places


@torch.no_grad()
def _activations(
    model: Model, coders: Transcoders, index: FeatureIndex, prompts: Prompts, chosen: list[tuple[int, int]]
) -> tuple[tuple[str, ...], Float[Tensor, "shown pos"]]:
    """What some features do on the first prompt."""
    sites = {layer: Site(coders[layer].read, layer) for layer in sorted({layer for layer, _ in chosen})}
    traced = trace(model, prompts[0], sites.values())
    z = {layer: coders[layer].encode(traced[site][0]).float().cpu() for layer, site in sites.items()}
    values = torch.stack([z[layer][:, feature] for layer, feature in chosen])
    values[:, : index.since] = torch.nan
    return traced.tokens.text[0], values
