"""Run a model plainly, with coders in place of what they predict, and with that set to zero or to its mean."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.coders import Transcoders, attach
from workbench.coders.scoring import Tally
from workbench.edit import Given, edited, onward, patch, zero
from workbench.metrics import kl_divergence
from workbench.model import Model
from workbench.progress import track
from workbench.prompts import Prompts
from workbench.tokens import Tokens
from workbench.tracer import trace
from workbench.words import Site

_CHUNK = 16_000_000
"""Logits that are compared at once."""

ORIGINAL, ZERO, MEAN = "original", "zero ablation", "mean ablation"


@dataclass(frozen=True)
class Conditions:
    """What is put in place of what.

    Attributes:
        sets: the sets of coders, fitted to the model.
        layers: the layers that are replaced, each alone and then all at once.
        since: positions before this one are spared and not scored.
    """

    sets: tuple[Transcoders, ...]
    layers: tuple[int, ...]
    since: int

    def __post_init__(self) -> None:
        for one in self.sets:
            missing = [layer for layer in self.layers if layer not in one]
            if missing:
                raise ValueError(f"coders {one.name} have no layer {missing[0]}: name layers that every set has")
            if [one[layer].write for layer in self.layers] != self.kinds:
                raise ValueError(
                    f"coders {one.name} and {self.sets[0].name} predict different places: compare one kind"
                )

    @property
    def kinds(self) -> list[str]:
        """The kind of site that is predicted in each layer."""
        return [self.sets[0][layer].write for layer in self.layers]

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """Each layer alone, then all of them where there are several."""
        alone: list[tuple[int, ...]] = [(layer,) for layer in self.layers]
        return [*alone, self.layers] if len(alone) > 1 else alone

    @property
    def names(self) -> list[str]:
        """The rows of the losses: the original, both ablations, and each set of coders."""
        return [ORIGINAL, ZERO, MEAN, *(one.name for one in self.sets)]

    def edits(self, name: str, group: tuple[int, ...], means: dict[int, Tensor]) -> list[Given]:
        """What puts a condition in place in some layers."""
        for one in self.sets:
            if one.name == name:
                return [attach(one, keep_error=False, since=self.since, layers=group)]
        places = [Site(self.kinds[self.layers.index(layer)], layer) for layer in group]
        return [onward(site, zero() if name == ZERO else patch(means[site.block]), self.since) for site in places]


@dataclass
class Measured:
    """What was seen: tallies by set and layer, and sums over tokens by condition and group of layers.

    Attributes:
        tokens: how many tokens were scored by loss.
        loss: sums of the cross-entropy, in nats.
        kl: sums of KL(original || replaced), in nats.
        attached_gap: the largest change of a logit by coders attached with their error.
    """

    conditions: Conditions
    tallies: list[dict[int, Tally]]
    tokens: int = 0
    loss: Float[Tensor, "component group"] = field(init=False)
    kl: Float[Tensor, "component group"] = field(init=False)
    attached_gap: float = 0.0

    def __post_init__(self) -> None:
        shape = len(self.conditions.names), len(self.conditions.groups)
        self.loss, self.kl = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)


def scored_tokens(lengths: Sequence[int], since: int) -> int:
    """How many tokens are scored: those that have a next one, from `since` on."""
    return sum(max(length - 1 - since, 0) for length in lengths)


@torch.no_grad()
def measure(model: Model, prompts: Prompts, conditions: Conditions) -> Measured:
    """Tally the coders on the plain run, then run every condition.

    Raises:
        ValueError: no token is left to score.
    """
    texts = [model.tokens(prompt) for prompt in prompts]
    if not scored_tokens([text.lengths[0] for text in texts], conditions.since):
        raise ValueError("no token can be scored: give texts of three tokens or more")
    tallies = [
        {layer: Tally(one[layer].width, one[layer].d_out) for layer in conditions.layers} for one in conditions.sets
    ]
    measured = Measured(conditions, tallies)
    for text in track(texts, "texts, features"):
        _tally(model, text, measured)
    means = {layer: tally.mean.to(model.dtype) for layer, tally in tallies[0].items()}
    for text in track(texts, "texts, losses"):
        if text.lengths[0] > conditions.since + 1:
            _run(model, text, measured, means)
    return measured


def _tally(model: Model, text: Tokens, measured: Measured) -> None:
    """Compare what each coder predicts with what the model computed, on one text."""
    conditions = measured.conditions
    reads = {Site(one.read, layer) for coders in conditions.sets for layer, one in coders.items()}
    writes = {Site(kind, layer) for kind, layer in zip(conditions.kinds, conditions.layers, strict=True)}
    traced = trace(model, text, sorted(reads | writes))
    for coders, tallies in zip(conditions.sets, measured.tallies, strict=True):
        inputs = {layer: traced[Site(one.read, layer)][0, conditions.since :] for layer, one in coders.items()}
        z = {layer: one.encode(inputs[layer]) for layer, one in coders.items()}
        for layer, tally in tallies.items():
            wanted = traced[Site(coders[layer].write, layer)][0, conditions.since :]
            tally.add(z[layer], wanted, coders.predict(layer, z, inputs[layer]))


def _run(model: Model, text: Tokens, measured: Measured, means: dict[int, Tensor]) -> None:
    """One text under every condition."""
    conditions = measured.conditions
    plain = trace(model, text, "logits").logits[0]
    with edited(model, [attach(one) for one in conditions.sets]):
        kept = trace(model, text, "logits").logits[0]
    measured.attached_gap = max(measured.attached_gap, float((kept - plain).abs().max()))
    since, ids = conditions.since, text.ids[0, conditions.since + 1 :]
    plain = plain[since:-1]
    measured.tokens += len(ids)
    loss, _ = _compare(plain, plain, ids)
    measured.loss[0] += loss
    for row, name in enumerate(conditions.names[1:], start=1):
        for column, group in enumerate(conditions.groups):
            with edited(model, conditions.edits(name, group, means)):
                logits = trace(model, text, "logits").logits[0, since:-1]
            loss, kl = _compare(logits, plain, ids)
            measured.loss[row, column] += loss
            measured.kl[row, column] += kl


def _compare(
    logits: Float[Tensor, "pos vocab"], plain: Float[Tensor, "pos vocab"], ids: Int[Tensor, " pos"]
) -> tuple[float, float]:
    """The sums over positions of the cross-entropy, and of KL(plain || logits)."""
    loss = kl = 0.0
    step = max(1, _CHUNK // logits.shape[1])
    for here, before, wanted in zip(logits.split(step), plain.split(step), ids.split(step), strict=True):
        said = here.float().log_softmax(-1)
        loss -= float(said.gather(-1, wanted[:, None]).cpu().double().sum())
        kl += float(kl_divergence(before.float().log_softmax(-1), said).cpu().double().sum())
    return loss, kl
