"""Hold neurons at values of both signs, prompt by prompt, and read what the logits do."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.analyses.neuron_clamp.choosing import Chosen
from workbench.analyses.neuron_clamp.seeing import Seen, gate_of, measure_units
from workbench.attribution import token_directions
from workbench.edit import SiteEdit, onward, patch
from workbench.metrics import kl_divergence
from workbench.model import Model
from workbench.neurons import norm_behind
from workbench.norms import freeze
from workbench.progress import track
from workbench.prompts import Prompts
from workbench.sweep import sweep
from workbench.weights import has_gates, neuron_outputs
from workbench.words import Site

NUMBERS = ("write", "read", "random_tokens", "predicted", "log_probability", "kl", "said")


@dataclass(frozen=True)
class Clamped:
    """All clamps.

    Attributes:
        kinds: what is clamped: `activation`, and `up` where there are gates.
        steps: the multiples.
        numbers: for each name of `NUMBERS` the values [prompt, kind, chosen, own and controls, step].
        units: the value of multiple 1, [kind, chosen, own and controls].
        gates: act(gate) of each chosen neuron at the last position, [prompt, chosen].
        quiet: how many neurons never fired on the prompts, so that the layer's largest value is their unit.
        same_gap: largest relative change of the logits when neurons are held at their own values.
        product_gap: largest error of gate times up against the activation.
    """

    kinds: tuple[str, ...]
    steps: tuple[int, ...]
    numbers: dict[str, Float[np.ndarray, "prompt kind chosen member step"]]
    units: Float[np.ndarray, "kind chosen member"]
    gates: Float[np.ndarray, "prompt chosen"] | None
    quiet: int
    same_gap: float
    product_gap: float


@torch.no_grad()
def clamp_all(
    model: Model,
    prompts: Prompts,
    chosen: list[Chosen],
    steps: tuple[int, ...],
    everywhere: bool,
    random_tokens: int,
    seed: int,
) -> Clamped:
    """Clamp every chosen neuron and its controls in every prompt.

    Raises:
        ValueError: a prompt of one token.
    """
    layers = sorted({one.layer for one in chosen})
    seen = [Seen.of(model, prompt, layers) for prompt in track(list(prompts), "prompts read")]
    kinds = ("activation", "up") if has_gates(model) else ("activation",)
    units, quiet = measure_units(seen, chosen, kinds)
    drawn = torch.randint(model.shape.d_vocab, (random_tokens,), generator=torch.Generator().manual_seed(seed + 1))
    shape = (len(seen), len(kinds), len(chosen), len(chosen[0].group), len(steps))
    numbers = {name: np.zeros(shape, np.float32) for name in NUMBERS}
    gaps = []
    for number, one in track(list(enumerate(seen)), "prompts clamped"):
        work = _Work(model, one, chosen, kinds, steps, units, everywhere, drawn.to(model.device))
        for place, values in work.clamps():
            for name, value in values.items():
                numbers[name][number][place] = value
        gaps.append(work.same_gap())
    gates = None
    if "up" in kinds:
        gates = np.array([[float(gate_of(one, each)) for each in chosen] for one in seen], np.float32)
    product = max(activity.gap for one in seen for activity in one.activity.values())
    return Clamped(kinds, steps, numbers, units, gates, quiet, max(gaps), product)


@dataclass(frozen=True)
class _Work:
    """The clamps of one prompt."""

    model: Model
    seen: Seen
    chosen: list[Chosen]
    kinds: tuple[str, ...]
    steps: tuple[int, ...]
    units: Float[np.ndarray, "kind chosen member"]
    everywhere: bool
    drawn: Int[Tensor, " token"]

    def clamps(self) -> Iterator[tuple[tuple[int, int, int, int], dict[str, float]]]:
        """For each clamp its place in the arrays, and the numbers."""
        keys = [
            (kind, row, member, step)
            for kind in range(len(self.kinds))
            for row, one in enumerate(self.chosen)
            for member in range(len(one.group))
            for step in range(len(self.steps))
        ]
        values = [self._value(*key) for key in keys]
        rows = [[self._edit(key, value)] for key, value in zip(keys, values, strict=True)]
        base = self.seen.traced[Site("logits", pos=-1)][0].float()
        slopes = [self._slopes(one) for one in self.chosen]
        for number, logits in self._swept(rows):
            kind, row, member, step = keys[number]
            one = self.chosen[row]
            moved = float(values[number][-1] - self.seen.activity[one.layer].post[-1, one.group[member]])
            numbers = _compare(base, logits, one, self.drawn)
            yield (kind, row, member, step), {**numbers, "predicted": moved * float(slopes[row][member])}

    def same_gap(self) -> float:
        """How far the logits move when each chosen neuron is held at what it is anyway."""
        base = self.seen.traced[Site("logits", pos=-1)][0].float()
        rows = []
        for one in self.chosen:
            own = self.seen.activity[one.layer].post[:, one.neuron]
            rows.append([self._at(one.layer, one.neuron, own)])
        moved = [(logits - base).abs().max() for _, logits in self._swept(rows)]
        return float(torch.stack(moved).max() / base.abs().max())

    def _swept(self, rows: list[list[SiteEdit]]) -> Iterator[tuple[int, Float[Tensor, " vocab"]]]:
        """The logits of each row, as they come."""
        for outcome in sweep(self.model, self.seen.prompt, rows):
            assert outcome.logits is not None, "a sweep gives logits unless told otherwise"
            yield outcome.row, outcome.logits.float()

    def _value(self, kind: int, row: int, member: int, step: int) -> Float[Tensor, " pos"]:
        """What the activation is held at, at each position."""
        one = self.chosen[row]
        activity, neuron = self.seen.activity[one.layer], one.group[member]
        held = self.steps[step] * float(self.units[kind, row, member])
        if self.kinds[kind] == "activation":
            return torch.full_like(activity.post[:, neuron], held)
        assert activity.gate is not None, "`up` is clamped only where there are gates"
        return held * activity.gate[:, neuron]

    def _edit(self, key: tuple[int, int, int, int], value: Float[Tensor, " pos"]) -> SiteEdit:
        one = self.chosen[key[1]]
        return self._at(one.layer, one.group[key[2]], value)

    def _at(self, layer: int, neuron: int, value: Float[Tensor, " pos"]) -> SiteEdit:
        site = Site("mlp_post", layer, neuron=neuron)
        if self.everywhere:
            return onward(site, patch(value[1:]), 1)
        return SiteEdit(Site("mlp_post", layer, neuron=neuron, pos=-1), patch(value[-1]))

    def _slopes(self, one: Chosen) -> Float[Tensor, " member"]:
        """Logits above the mean logit, of the written token, per unit of activation at the last position."""
        model, traced = self.model, self.seen.traced
        last = traced[Site("resid_post", model.shape.n_layers - 1, pos=-1)][0]
        direction = token_directions(model, torch.tensor([one.write], device=model.device), None)
        rows = freeze(model.bridge.ln_final.original_component, last).pulled(direction.rows)
        inner = norm_behind(model, traced, one.layer).pulled(rows)
        return neuron_outputs(model, one.layer)[list(one.group)].to(inner.dtype) @ inner[0]


def _compare(
    base: Float[Tensor, " vocab"], logits: Float[Tensor, " vocab"], one: Chosen, drawn: Int[Tensor, " token"]
) -> dict[str, float]:
    """How the logits of one clamp differ from those without."""
    before, after = base.log_softmax(-1), logits.log_softmax(-1)
    change = (logits - logits.mean()) - (base - base.mean())
    return {
        "write": float(change[one.write]),
        "read": float(change[one.read]),
        "random_tokens": float(change[drawn].square().mean().sqrt()),
        "log_probability": float(after[one.write] - before[one.write]),
        "kl": float(kl_divergence(before, after)),
        "said": float(logits.argmax() == one.write),
    }
