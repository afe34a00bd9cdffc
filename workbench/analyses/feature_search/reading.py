"""Which features are active where a token is read, which read its embedding, and which write it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.analyses.feature_search.counting import Counted, count_active, surprise
from workbench.analyses.feature_search.standing_out import draw_piece
from workbench.coders import Transcoders
from workbench.features import FeatureIndex, Wiring, embedded
from workbench.model import Model
from workbench.neurons import mixtures
from workbench.progress import track
from workbench.vocabulary import Vocabulary

_PASSAGES = 64
"""Passages with the token that are read."""
_MIXTURES = 1000
"""Random directions of each layer."""


@dataclass(frozen=True)
class Directions:
    """The z of a token for every feature's direction, by layer, and for random directions.

    Attributes:
        null: z of random mixtures of the layer's directions.
        gap: the largest error of a z against the slow definition, for the farthest feature of each layer.
    """

    z: dict[int, Float[Tensor, " feature"]]
    null: dict[int, Float[Tensor, " draw"]]
    gap: float

    def by_chance(self, z: float) -> float:
        """How many of as many random directions would lie at least as far out."""
        return sum(
            len(self.z[layer]) * float((null.abs() >= abs(z)).double().mean())
            for layer, null in self.null.items()
            if len(null)
        )


@dataclass(frozen=True)
class Belonging:
    """A token's features.

    Attributes:
        token: its id.
        counted: where the token is read, on up to 64 passages of the corpus; none, if it is not in it.
        surprises: of that, by layer.
        chance: the largest surprise of as many tokens drawn from the corpus, that 95 % of draws stay below.
        reading: the z of its embedding for what features read.
        writing: the z of its unembedding for what features write.
    """

    token: int
    counted: Counted
    surprises: dict[int, Float[Tensor, " feature"]]
    chance: float
    reading: Directions
    writing: Directions


@torch.no_grad()
def search_token(
    model: Model,
    coders: Transcoders,
    index: FeatureIndex,
    token: int,
    layers: tuple[int, ...],
    draws: int,
    seed: int,
) -> Belonging:
    """Search every feature of some layers for a token, in three ways."""
    rows, places = _with_token(index, token)
    counted = count_active(model, coders, layers, rows, places)
    surprises = {
        layer: surprise(counted.count[layer], counted.tokens, index[layer].count, index.tokens) for layer in layers
    }
    wiring, vocabulary = Wiring.of(model, coders, index.passages.row(0)), Vocabulary.of(model)
    return Belonging(
        token=token,
        counted=counted,
        surprises=surprises,
        chance=_chance(model, coders, index, layers, counted.tokens, draws, seed) if counted.tokens else 0.0,
        reading=_directions(
            embedded(model, vocabulary),
            token,
            {
                layer: lambda layer=layer: wiring.readings(layer, slice(None))
                for layer in layers
                if wiring.reads_stream(layer)
            },
            seed,
        ),
        writing=_directions(
            vocabulary,
            token,
            {
                layer: lambda layer=layer: wiring.logit_rows(wiring.decoders(layer))
                for layer in layers
                if wiring.writes_stream(layer)
            },
            seed + 1,
        ),
    )


def _with_token(index: FeatureIndex, token: int) -> tuple[list[list[int]], list[list[int]]]:
    """Passages that hold the token, and where."""
    rows: list[list[int]] = []
    places: list[list[int]] = []
    spots = [index.passages.passage_at(place) for place in (index.passages.ids == token).nonzero()[:, 0].tolist()]
    for passage in dict.fromkeys(passage for passage, at in spots if at >= index.since):
        if len(rows) == _PASSAGES:
            break
        rows.append(index.passages.row(passage))
        places.append([at for one, at in spots if one == passage and at >= index.since])
    return rows, places


def _chance(
    model: Model,
    coders: Transcoders,
    index: FeatureIndex,
    layers: tuple[int, ...],
    tokens: int,
    draws: int,
    seed: int,
) -> float:
    """The largest surprise of as many tokens drawn from all over the corpus."""
    generator = np.random.default_rng(seed + 1)
    found = []
    for _ in track(range(draws), "tokens of the corpus"):
        rows, places = draw_piece(index, 4 * tokens, generator)
        spots = [(row, at) for row, some in enumerate(places) for at in some]
        kept = [spots[at] for at in sorted(generator.permutation(len(spots))[:tokens].tolist())]
        chosen = [[at for one, at in kept if one == row] for row in range(len(rows))]
        piece = count_active(model, coders, layers, rows, chosen)
        scores = [surprise(piece.count[layer], piece.tokens, index[layer].count, index.tokens) for layer in layers]
        found.append(float(torch.cat(scores).max()))
    return float(np.quantile(found, 0.95))


def _directions(vocabulary: Vocabulary, token: int, rows_of: dict[int, Callable[[], Tensor]], seed: int) -> Directions:
    """The z of a token for all rows of every layer."""
    z, null, gap = {}, {}, 0.0
    column = int(torch.searchsorted(vocabulary.ids.cpu(), token))
    known = column < len(vocabulary.ids) and int(vocabulary.ids[column]) == token
    ids = torch.tensor([token], device=vocabulary.weight.device)
    for layer, make in track(list(rows_of.items()), "layers searched"):
        rows = make()
        generator = torch.Generator().manual_seed(1000 * seed + layer)
        z[layer] = vocabulary.z(rows, ids)[:, 0].float().cpu()
        drawn = mixtures(rows, _MIXTURES, generator)
        null[layer] = vocabulary.z(drawn, ids)[:, 0].float().cpu() if len(drawn) else torch.zeros(0)
        best = int(z[layer].abs().argmax())
        if known:
            slow = float(vocabulary.all_z(rows[best : best + 1])[0, column])
            gap = max(gap, abs(slow - float(z[layer][best])))
    return Directions(z, null, gap)
