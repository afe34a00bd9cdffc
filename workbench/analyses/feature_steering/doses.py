"""What is done to a feature, and the directions that are pushed along: its own, random ones, those of others."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from workbench.coders import Attached, Transcoders, attach
from workbench.features import FeatureIndex
from workbench.model import Model
from workbench.neurons import mixtures
from workbench.prompts import Prompts
from workbench.tracer import trace
from workbench.words import Site

Directions = dict[int, Float[Tensor, "direction d_out"]]
"""What one unit of the feature writes into each layer: its own decoder first, then those of the controls."""


@dataclass(frozen=True)
class Plan:
    """A way of steering, at some doses.

    Attributes:
        coders: coders that were fitted to the model.
        place: the feature's layer and number.
        way: clamp, add or ablate.
        doses: in percent.
        unit: the activation that is 100 %.
        everywhere: steer from the second position on, or from the last.
        directions: of the feature, then random ones, then those of other features, as many.
    """

    coders: Transcoders
    place: tuple[int, int]
    way: str
    doses: tuple[int, ...]
    unit: float
    everywhere: bool
    directions: Directions

    def __post_init__(self) -> None:
        if not self.doses or len(set(self.doses)) < len(self.doses):
            raise ValueError(f"doses are different whole numbers, in percent: found {self.doses}")
        if self.way == "ablate" and not all(0 <= dose <= 100 for dose in self.doses):
            raise ValueError(f"what is taken away is 0-100 % of an activation: found {self.doses}")

    @property
    def name(self) -> str:
        """The feature's short name."""
        return f"L{self.place[0]}.F{self.place[1]}"

    @property
    def read_site(self) -> Site:
        """Where the feature is computed from."""
        return Site(self.coders[self.place[0]].read, self.place[0])

    def since(self, length: int) -> int:
        """The first position of a prompt that is steered."""
        return min(1, length - 1) if self.everywhere else length - 1

    def changed(self, z: Float[Tensor, "*places"], dose: int) -> Float[Tensor, "*places"]:
        """Feature values after a dose."""
        if self.way == "ablate":
            return z if dose == 0 else z * (1 - dose / 100)
        amount = dose / 100 * self.unit
        return z + amount if self.way == "add" else torch.full_like(z, amount)

    def attached(self, length: int, dose: int | None, row: int = 0) -> Attached:
        """The coders in the running model, with a dose along one of the directions; None changes nothing."""
        layer, feature = self.place
        site = Site(self.coders[layer].write, layer, feature=feature)
        function = (lambda z: z) if dose is None else (lambda z: self.changed(z, dose))
        return attach(self._swapped(row), changes=[(site, function)], since=self.since(length))

    def _swapped(self, row: int) -> Transcoders:
        """The coders that write, with the feature writing along another direction."""
        layer, feature = self.place
        one = self.coders[layer]
        kept = self.coders if one.w_across is not None else self.coders.only((layer,))
        if row == 0:
            return kept
        w_dec = one.w_dec.clone()
        w_dec[feature] = self.directions[layer][row].to(w_dec)
        across = None if one.w_across is None else one.w_across.clone()
        if across is not None:
            for target in self.directions.keys() - {layer}:
                across[target - layer - 1, feature] = self.directions[target][row].to(across)
        return replace(kept, layers={**kept.layers, layer: replace(one, w_dec=w_dec, w_across=across)})


def unit_of(
    model: Model, prompts: Prompts, coders: Transcoders, place: tuple[int, int], index: FeatureIndex | None
) -> float:
    """The size of the feature's largest activation, in an index or on the prompts, first positions aside.

    Raises:
        ValueError: it is active nowhere there.
    """
    layer, feature = place
    if index is not None:
        found = float(index[layer].top.keys[feature, 0].clamp_min(0))
    else:
        site = Site(coders[layer].read, layer)
        seen = [coders[layer].encode(trace(model, text, [site])[site][0]) for text in prompts]
        found = max(float(z[1:, feature].abs().max()) if len(z) > 1 else 0.0 for z in seen)
    if found == 0:
        where = "in the index" if index is not None else "on these prompts"
        raise ValueError(
            f"L{layer}.F{feature} is active nowhere {where}, so 100 % of it is 0: give unit=<activation>, or an index "
            "of a corpus in which it is active"
        )
    return found


def draw_directions(coders: Transcoders, place: tuple[int, int], count: int, seed: int) -> Directions:
    """Directions of the length of the feature's own decoder: mixtures of the layer's, and other features' own.

    Raises:
        ValueError: the feature writes nothing, or too few others write anything.
    """
    layer, feature = place
    one = coders[layer]
    generator = torch.Generator().manual_seed(seed)
    others = [at for at in (one.w_dec.norm(dim=1) > 0).nonzero()[:, 0].tolist() if at != feature]
    if not one.w_dec[feature].any():
        raise ValueError(f"L{layer}.F{feature} writes nothing: its decoder is zero")
    if len(others) < count:
        raise ValueError(
            f"layer {layer} has {len(others)} other features that write anything, {count} controls were asked for"
        )
    chosen = [others[at] for at in torch.randperm(len(others), generator=generator)[:count].tolist()]
    found: Directions = {}
    for target in coders:
        decoder = one.decoder_to(target)
        if decoder is None:
            continue
        own = decoder[feature].float()
        random = mixtures(decoder, count, generator)
        controls = torch.cat([random, decoder[chosen].float()]) if len(random) else own.new_zeros(2 * count, len(own))
        found[target] = torch.cat([own[None], normalize(controls, dim=1) * own.norm()])
    return found
