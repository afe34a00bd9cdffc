"""What all texts say of every head together: where it rests, how differently, and on what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.analyses.attention_sinks.reading import HALF, Reading
from workbench.analyses.attention_sinks.resting import Head
from workbench.analyses.attention_sinks.texts import Texts

_SPREAD, _SELDOM = 0.3, 0.1


@dataclass(frozen=True)
class Found:
    """What all texts say of every head.

    Attributes:
        layers: those that attend.
        texts: the texts.
        readings: by kind of text and control.
    """

    layers: tuple[int, ...]
    texts: Texts
    readings: Mapping[str, Sequence[Reading]]

    @property
    def plain(self) -> list[Reading]:
        """The texts that are no control."""
        return [one for kind in self.texts.kinds for one in self.readings[kind]]

    def mean(self, name: str, kinds: Sequence[str]) -> Float[Tensor, "component ..."]:
        """A number of the readings, mean over the texts of each kind that have it."""
        return torch.stack(
            [torch.stack([getattr(one, name) for one in self.readings[kind]]).nanmean(0) for kind in kinds]
        )

    @property
    def sink(self) -> Float[Tensor, "component layer head"]:
        """Attention to the sink token on each kind of text."""
        return self.mean("sink", self.texts.kinds)

    @property
    def spread(self) -> Float[Tensor, "layer head"]:
        """How far it differs between the kinds; with one kind, how high it is."""
        sink = self.sink.nan_to_num()
        return sink[0] if len(sink) == 1 else sink.amax(0) - sink.amin(0)

    @property
    def drain(self) -> Float[Tensor, "layer head"]:
        """What each head would write of the sink token, over the median of the others."""
        return torch.stack([drain_ratio(one.written, self.texts.position) for one in self.plain]).mean(0)

    @property
    def norms(self) -> Float[Tensor, "component depth"]:
        """Length of the stream at the sink token, and at the others."""
        found = []
        for one in self.plain:
            others = _without(one.norms, self.texts.position)
            found.append(torch.stack([one.norms[:, self.texts.position], others.median(-1).values, others.amax(-1)]))
        return torch.stack(found).mean(0)

    def notable(self, count: int) -> list[Head]:
        """The heads whose rest differs most, the first ones."""
        return self.ranked()[:count]

    def others(self, count: int, seed: int) -> list[Head]:
        """As many random ones of the rest, or all of them."""
        rest = self.ranked()[count:]
        chosen = np.random.default_rng(seed).permutation(len(rest))[:count]
        return [rest[place] for place in sorted(chosen)]

    def ranked(self) -> list[Head]:
        """All heads, those first whose rest differs most."""
        spread = self.spread
        order = spread.flatten().argsort(descending=True, stable=True).tolist()
        return [(self.layers[place // spread.shape[1]], place % spread.shape[1]) for place in order]

    def place(self, head: Head) -> tuple[int, int]:
        """Where a head stands in the arrays."""
        return self.layers.index(head[0]), head[1]

    def kind_of(self, head: Head) -> str:
        """What a head does on the texts that are no control."""
        sink = self.sink.nan_to_num()[(slice(None), *self.place(head))]
        if len(sink) > 1 and float(sink.max() - sink.min()) >= _SPREAD:
            return "active-dormant"
        return "always" if float(sink.min()) > HALF else "never" if float(sink.max()) < _SELDOM else "at times"


def _without(values: Float[Tensor, "*some pos"], position: int) -> Float[Tensor, "*some others"]:
    return torch.cat([values[..., :position], values[..., position + 1 :]], dim=-1)


def drain_ratio(written: Float[Tensor, "layer head pos"], position: int) -> Float[Tensor, "layer head"]:
    """The ratio; 0 where the head writes nothing of the sink token, NaN where it writes of no other."""
    own, others = written[..., position], _without(written, position).median(-1).values
    return torch.where(own == 0, 0.0, torch.where(others > 0, own / others, torch.nan))
