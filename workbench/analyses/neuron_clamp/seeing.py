"""What neurons do on a prompt that nothing is clamped in, and the unit in which clamps are measured."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.analyses.neuron_clamp.choosing import Chosen
from workbench.model import Model
from workbench.prompts import Prompt, Prompts
from workbench.tracer import Trace, trace
from workbench.weights import has_gates, neuron_gates, neuron_inputs
from workbench.words import Site


@dataclass(frozen=True)
class Activity:
    """What the neurons of one layer do on one prompt; gate (behind its activation function) and up multiply to post."""

    post: Float[Tensor, "pos d_mlp"]
    gate: Float[Tensor, "pos d_mlp"] | None
    up: Float[Tensor, "pos d_mlp"] | None

    @property
    def gap(self) -> float:
        """How far gate times up is from post, over the largest post."""
        if self.gate is None or self.up is None:
            return 0.0
        largest = self.post.abs().max().clamp_min(torch.finfo(self.post.dtype).tiny)
        return float((self.gate * self.up - self.post).abs().max() / largest)


@dataclass(frozen=True)
class Seen:
    """One prompt as it is without a clamp."""

    prompt: Prompt
    traced: Trace
    activity: dict[int, Activity]

    @classmethod
    def of(cls, model: Model, prompt: Prompt, layers: list[int]) -> "Seen":
        """Trace what the clamps need."""
        whole = [Site(kind, layer) for kind in ("mlp_in", "mlp_post") for layer in layers]
        last = [Site("mlp_out", layer, pos=-1) for layer in layers]
        ends = [Site("resid_post", model.shape.n_layers - 1, pos=-1), Site("logits", pos=-1)]
        traced = trace(model, Prompts.of(prompt), [*whole, *last, *ends])
        if traced.tokens.lengths[0] < 2:
            raise ValueError(
                f"prompt {prompt.text!r} is one token: the first position is left out, so write two or more"
            )
        return cls(prompt, traced, {layer: _activity(model, traced, layer) for layer in layers})


def _activity(model: Model, traced: Trace, layer: int) -> Activity:
    post = traced[Site("mlp_post", layer)][0].float()
    if not has_gates(model):
        return Activity(post, None, None)
    entered, mlp = traced[Site("mlp_in", layer)][0], model.bridge.blocks[layer].mlp
    gate = torch.nn.functional.linear(entered, neuron_gates(model, layer), mlp.b_gate)
    up = torch.nn.functional.linear(entered, neuron_inputs(model, layer), mlp.b_in)
    return Activity(post, _bend(model)(gate).float(), up.float())


def _bend(model: Model) -> Any:
    """The activation function behind the gates, by its name in the configuration."""
    from transformers.activations import ACT2FN

    config = model.bridge.original_model.config.get_text_config()
    return ACT2FN[getattr(config, "hidden_activation", None) or config.hidden_act]


def gate_of(seen: Seen, chosen: Chosen) -> Float[Tensor, ""]:
    """How far a neuron's gate is open at the last position: act(gate)."""
    gate = seen.activity[chosen.layer].gate
    assert gate is not None, "only asked for where there are gates"
    return gate[-1, chosen.neuron]


def measure_units(
    seen: list[Seen], chosen: list[Chosen], kinds: tuple[str, ...]
) -> tuple[Float[np.ndarray, "kind chosen member"], int]:
    """The largest size of each neuron on the prompts, the first position aside; the layer's for a silent one."""
    units = np.zeros((len(kinds), len(chosen), len(chosen[0].group)), np.float32)
    silent = set()
    for place, kind in enumerate(kinds):
        for row, one in enumerate(chosen):
            values = [getattr(each.activity[one.layer], "post" if kind == "activation" else "up") for each in seen]
            largest = torch.stack([value[1:].abs().amax(0) for value in values]).amax(0)
            own = largest[list(one.group)]
            if not largest.any():
                raise ValueError(
                    f"no neuron of L{one.layer} fires on these prompts, so a clamp has no measure: add prompts"
                )
            silent |= {(one.layer, member) for member, size in zip(one.group, own.tolist(), strict=True) if size == 0}
            units[place, row] = own.where(own > 0, largest.max()).cpu().numpy()
    return units, len(silent)
