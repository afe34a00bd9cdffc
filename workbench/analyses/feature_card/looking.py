"""Read the weights of one feature: tokens at both ends, heads that it reads through, and features around it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from workbench.analyses.feature_card.wires import Edges, Ends, Similar, Wires
from workbench.coders import Transcoders
from workbench.features import FeatureIndex, Wiring, embedded
from workbench.model import Model
from workbench.neurons import mixtures
from workbench.vocabulary import Vocabulary
from workbench.words import Site

_HEADS = 3
_WEIGHED = 20
"""Features of layer 0 whose readings are added up."""
_CHANCE = 0.99
"""What chance gives is the size below which so many of its draws stay."""


@torch.no_grad()
def look_at_weights(
    model: Model,
    coders: Transcoders,
    index: FeatureIndex,
    place: tuple[int, int],
    heads: list[Site],
    top: int,
    draws: int,
    seed: int,
) -> Wires:
    """Everything that the weights say of a feature; norms are frozen on the first passage of the index."""
    wiring = Wiring.of(model, coders, index.passages.row(0))
    generator = torch.Generator().manual_seed(seed)
    look = _Look(model, wiring, index, place, Vocabulary.of(model), top, draws, generator)
    reach, reach_random = look.reach()
    chosen = _through(model, wiring, place[0], heads, reach, reach_random)
    similar, chance = look.similar()
    return Wires(
        ends=look.written() + look.read(chosen),
        before=look.before(),
        after=look.after(),
        through_heads=[one for layer, head in chosen for one in look.before((layer, head))],
        similar=similar,
        chance_cosine=chance,
        reach=reach,
        reach_random=reach_random,
        gap=wiring.gap,
        top=top,
    )


@dataclass(frozen=True)
class _Look:
    """One feature, and random directions of its layer beside it."""

    model: Model
    wiring: Wiring
    index: FeatureIndex
    place: tuple[int, int]
    vocabulary: Vocabulary
    top: int
    draws: int
    generator: torch.Generator

    @property
    def layer(self) -> int:
        return self.place[0]

    @property
    def decoder(self) -> Float[Tensor, " d_out"]:
        """What it writes, with length 1."""
        return self.wiring.decoders(self.layer)[self.place[1]]

    @property
    def reading(self) -> Float[Tensor, " d_model"]:
        """Along what it reads the stream."""
        return self.wiring.readings(self.layer, slice(self.place[1], self.place[1] + 1))[0]

    def random_decoders(self, layer: int) -> Float[Tensor, "draw d_out"]:
        """Random mixtures of what a layer writes, with length 1."""
        return normalize(mixtures(self.wiring.decoders(layer), self.draws, self.generator), dim=1)

    def random_readings(self) -> Float[Tensor, "draw d_model"]:
        """Random mixtures of what the layer reads, as long as the feature's own reading."""
        mixed = mixtures(self.wiring.readings(self.layer, slice(None)), self.draws, self.generator)
        return normalize(mixed, dim=1) * self.reading.norm()

    def written(self) -> list[Ends]:
        """The tokens that it makes more and less likely, by the direct way to the logits."""
        if not self.wiring.writes_stream(self.layer):
            return []
        rows = torch.cat([self.decoder[None], self.random_decoders(self.layer)])
        return [self._ends("writes", self.vocabulary, self.wiring.logit_rows(rows))]

    def read(self, heads: list[tuple[int, int]]) -> list[Ends]:
        """The tokens that it reads: directly, and through heads."""
        if not self.wiring.reads_stream(self.layer):
            return []
        vocabulary = embedded(self.model, self.vocabulary)
        rows = torch.cat([self.reading[None], self.random_readings()])
        found = [self._ends("reads", vocabulary, rows)]
        if self._sees_first(self.layer):
            found.append(self._ends("reads through features of layer 0", vocabulary, self._over_first(rows)))
        for layer, head in heads:
            fetched, name = self.wiring.through_head(layer, head, rows), f"reads through L{layer}.H{head}"
            found.append(self._ends(name, vocabulary, fetched))
            if self._sees_first(layer):
                found.append(self._ends(f"{name} and features of layer 0", vocabulary, self._over_first(fetched)))
        return found

    def _sees_first(self, layer: int) -> bool:
        """Whether there are features of layer 0, which mostly read single tokens, in front of a layer."""
        return 0 in self.wiring.coders and layer > 0 and self.wiring.reads_stream(0) and self.wiring.writes_stream(0)

    def _over_first(self, rows: Float[Tensor, "direction d_model"]) -> Float[Tensor, "direction d_model"]:
        """What the features of layer 0 that write most along each direction read, weighted by how much they do."""
        strengths = rows @ self.wiring.decoders(0).T
        most = strengths.topk(min(_WEIGHED, strengths.shape[1]), dim=1)
        kept = torch.zeros_like(strengths).scatter(1, most.indices, most.values.clamp_min(0))
        return kept @ self.wiring.readings(0, slice(None))

    def _ends(self, path: str, vocabulary: Vocabulary, rows: Float[Tensor, "direction d_model"]) -> Ends:
        """The ends of the first row, and what the other rows say of chance."""
        found = vocabulary.extremes(rows[:1], self.top)
        peaks = vocabulary.extremes(rows[1:], 1).peak
        chance = float(peaks.quantile(0.95)) if len(peaks) else 0.0
        slow = vocabulary.all_z(rows[:1])[0].cpu()
        ids = torch.searchsorted(vocabulary.ids.cpu(), found.promoted[0].cpu())
        gap = float((slow[ids] - found.promoted_z[0].cpu()).abs().max())
        return Ends(path, found, chance, float(vocabulary.moments(rows[:1])[1]), gap)

    def before(self, head: tuple[int, int] | None = None) -> list[Edges]:
        """The edges from every earlier feature: at the same token, or through a head from one it looks at."""
        if not self.wiring.reads_stream(self.layer):
            return []
        direction, height, through = self.reading, self.layer, ""
        if head is not None:
            direction, height = self.wiring.through_head(*head, direction[None])[0], head[0]
            through = f"L{head[0]}.H{head[1]}"
        found = []
        for source, (weights,) in self.wiring.inputs(height, direction[None]):
            usual = self.index.usual(source).to(weights) * self.wiring.sizes(source)
            chance = _size(self.random_decoders(source) @ direction)
            shares = self.index.density(source).to(weights)
            found.append(Edges(source, weights.cpu(), (weights * usual).cpu(), shares.cpu(), chance, through))
        return found

    def after(self) -> list[Edges]:
        """The edges to every later feature."""
        if not self.wiring.writes_stream(self.layer):
            return []
        own = self.index.usual(self.layer)[self.place[1]] * self.wiring.sizes(self.layer)[self.place[1]].cpu()
        share = self.index.density(self.layer)[self.place[1]].float()
        rows = torch.cat([self.decoder[None], self.random_decoders(self.layer)])
        found = []
        for target, edges in self.wiring.outputs(self.layer, rows):
            weights = edges[0].cpu()
            found.append(Edges(target, weights, weights * own, share.expand(len(weights)), _size(edges[1:])))
        return found

    def similar(self) -> tuple[list[Similar], float]:
        """The features of all layers whose decoders are most alike, and what chance gives."""
        wiring, (own_layer, own) = self.wiring, self.place
        rows = torch.cat([self.decoder[None], self.random_decoders(own_layer)])
        best: list[tuple[int, int, float]] = []
        chances = [torch.zeros(len(rows) - 1, device=rows.device)]
        for layer, one in wiring.coders.items():
            if one.d_out != rows.shape[1] or wiring.writes_stream(layer) != wiring.writes_stream(own_layer):
                continue
            cosines = rows @ wiring.decoders(layer).T
            chances.append(cosines[1:].abs().amax(1))
            if layer == own_layer:
                cosines[0, own] = 0
            first = cosines[0].abs().topk(min(self.top, one.width)).indices
            best += [(layer, at, float(cosines[0, at])) for at in first.tolist() if cosines[0, at] != 0]
        best = sorted(best, key=lambda one: -abs(one[2]))[: self.top]
        most = torch.stack(chances).amax(0)
        found = [Similar(layer, at, cosine, self._reading_cosine(layer, at)) for layer, at, cosine in best]
        return found, float(most.quantile(0.95)) if len(most) else 0.0

    def _reading_cosine(self, layer: int, feature: int) -> float | None:
        if not (self.wiring.reads_stream(layer) and self.wiring.reads_stream(self.layer)):
            return None
        other = self.wiring.readings(layer, slice(feature, feature + 1))[0]
        return float(torch.nn.functional.cosine_similarity(self.reading, other, dim=0))

    def reach(self) -> tuple[Float[Tensor, "layer head"] | None, Float[Tensor, "layer head"] | None]:
        """How long the feature's reading, and random ones, are in front of each head that feeds it."""
        layers = range(self.wiring.heads_in_front(self.layer)) if self.wiring.reads_stream(self.layer) else range(0)
        if not layers:
            return None, None
        own = torch.cat([self.wiring.head_norms(layer, self.reading[None]) for layer in layers])
        random = self.random_readings()
        usual = torch.stack([self.wiring.head_norms(layer, random).mean(0) for layer in layers])
        return own.cpu(), usual.cpu()


def _size(values: Float[Tensor, "..."]) -> float:
    """The size below which nearly all values stay."""
    flat = values.abs().flatten()
    return float(torch.quantile(flat[:: len(flat) // 1_000_000 + 1], _CHANCE)) if len(flat) else 0.0


def _through(
    model: Model,
    wiring: Wiring,
    layer: int,
    heads: list[Site],
    reach: Float[Tensor, "layer head"] | None,
    usual: Float[Tensor, "layer head"] | None,
) -> list[tuple[int, int]]:
    """The heads to look through: those that were named, or those that pass on most, against random readings.

    Raises:
        ValueError: a site that is no head, or a head that does not feed the feature.
    """
    for site in heads:
        if site.head is None or site.kind != "z" or site.pos is not None:
            raise ValueError(f"site {site}: heads are named as L9.H1.z, without a position")
        model.check_site(site)
        if site.block >= wiring.heads_in_front(layer):
            raise ValueError(f"site {site}: this head writes behind what the coder of layer {layer} reads")
    if heads or reach is None or usual is None:
        return [(site.block, site.head or 0) for site in heads]
    ratio = torch.where(usual > 0, reach / usual.clamp_min(1e-30), 0.0).flatten()
    best = ratio.topk(min(_HEADS, len(ratio))).indices.tolist()
    return [divmod(one, reach.shape[1]) for one in best if ratio[one] > 0]
