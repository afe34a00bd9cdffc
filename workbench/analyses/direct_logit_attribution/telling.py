"""What the analysis says: arrays, tables, views, checks and the finding, from the readings of the prompts."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from workbench.analyses.direct_logit_attribution.reading import Reading, Shares
from workbench.attribution import logit_scale
from workbench.lens import caps_logits
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.stats import bootstrap_mean
from workbench.views import Bars, Heatmap, Table, Tokens, View

_MEAN = "mean of the vocabulary"
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}


@dataclass(frozen=True)
class _Means:
    """What parts of one kind add on average over the prompts; limits when there are several."""

    asked: Float[np.ndarray, "*parts"]
    random: Float[np.ndarray, "*parts"]
    limits: tuple[Float[np.ndarray, "*parts"], Float[np.ndarray, "*parts"]] | None = None

    @classmethod
    def of(cls, shares: list[Shares]) -> "_Means":
        """Plain means; the baseline is a root mean square over the prompts too."""
        asked = np.mean([one.asked for one in shares], axis=0)
        return cls(asked, np.sqrt(np.mean([one.random**2 for one in shares], axis=0)))

    @classmethod
    def with_limits(cls, shares: list[Shares], seed: int) -> "_Means":
        """Means with 95% intervals, if there are several prompts."""
        means = cls.of(shares)
        if len(shares) == 1:
            return means
        return replace(means, limits=bootstrap_mean(np.stack([one.asked for one in shares]), seed=seed))

    def strongest(self, count: int) -> list[tuple[int, ...]]:
        """The places of the largest contributions, either sign, largest first."""
        order = np.argsort(-np.abs(self.asked), axis=None, kind="stable")[:count]
        return [tuple(map(int, np.unravel_index(place, self.asked.shape))) for place in order]

    def row(self, place: tuple[int, ...]) -> dict[str, object]:
        """The numbers of one part, for a table."""
        ends = zip(("lower", "upper"), self.limits or (), strict=False)
        limits = {name: float(end[place]) for name, end in ends}
        return {"contribution": float(self.asked[place]), **limits, "random": float(self.random[place])}


def tell(model: Model, readings: list[Reading], top: int, draws: int, seed: int) -> Result:
    """The result of all prompts."""
    component = _Means.with_limits([one.component for one in readings], seed)
    head = _Means.with_limits([one.head for one in readings], seed)
    by_neuron = [one.neuron for one in readings if one.neuron is not None]
    neuron = _Means.of(by_neuron) if by_neuron else None
    names = _component_names(model)
    best = head.strongest(top)
    tables = {
        "components": [{"component": name, **component.row((place,))} for place, name in enumerate(names)],
        "heads": [_head_row(head, readings, *place) for place in best],
        "prompts": [_prompt_row(place, one) for place, one in enumerate(readings)],
    }
    if neuron is not None:
        tables["neurons"] = [_neuron_row(neuron, *place) for place in neuron.strongest(top)]
    scalars = _scalars(readings, component, names, "L{}.H{}".format(*best[0]))
    return Result(
        arrays=_arrays(component, head, neuron, names) | _source_arrays(readings, best),
        tables=tables,
        scalars=scalars,
        views=_views(readings, neurons=neuron is not None),
        finding=_finding(readings, component, head, scalars),
        notes=_notes(model, readings, draws),
        checks=_checks(model, readings),
    )


def _component_names(model: Model) -> tuple[str, ...]:
    layers = range(model.shape.n_layers)
    return ("embed", *(f"L{layer}.{kind}" for layer in layers for kind in ("attn_out", "mlp_out")), "bias")


def _head_row(means: _Means, readings: list[Reading], layer: int, head: int) -> dict[str, object]:
    """One head; for a single prompt also the token from which it adds most, and how much."""
    row = {"head": f"L{layer}.H{head}", "layer": layer, "number": head, **means.row((layer, head))}
    if len(readings) > 1 or readings[0].sources is None:
        return row
    sources = readings[0].sources[layer, head]
    key = int(np.abs(sources).argmax())
    return {**row, "reads": readings[0].tokens[key], "at": key, "from_there": float(sources[key])}


def _neuron_row(means: _Means, layer: int, neuron: int) -> dict[str, object]:
    return {"neuron": f"L{layer}.N{neuron}", "layer": layer, "number": neuron, **means.row((layer, neuron))}


def _prompt_row(place: int, reading: Reading) -> dict[str, object]:
    return {
        "example": place,
        "target": reading.target,
        "distractor": reading.distractor or _MEAN,
        "difference": reading.difference,
        "says": reading.said,
        "left_over": max(reading.gaps.values()),
    }


def _arrays(component: _Means, head: _Means, neuron: _Means | None, names: tuple[str, ...]) -> dict[str, Named]:
    labels = {"component": names}
    arrays = {
        "component": Named(component.asked, ("component",), "logits", labels),
        "component_random": Named(component.random, ("component",), "logits", labels),
        "head": Named(head.asked, ("layer", "head"), "logits"),
        "head_random": Named(head.random, ("layer", "head"), "logits"),
    }
    for name, limit in zip(("lower", "upper"), component.limits or (), strict=False):
        arrays[f"component_{name}"] = Named(limit, ("component",), "logits", labels)
    if neuron is not None:
        arrays["neuron"] = Named(neuron.asked, ("layer", "neuron"), "logits")
    return arrays


def _source_arrays(readings: list[Reading], best: list[tuple[int, ...]]) -> dict[str, Named]:
    """Contributions by the token that is read: of each layer, of the largest heads, and in all."""
    maps = [one.sources for one in readings if one.sources is not None]
    if not maps:
        return {}
    layers, heads = map(list, zip(*best, strict=True))
    split = {
        "source": (("layer", "key"), [one.sum(1) for one in maps]),
        "head_source": (("head", "key"), [one[layers, heads] for one in maps]),
        "token": (("key",), [one.sum((0, 1)) for one in maps]),
    }
    labels = {"head": tuple(f"L{layer}.H{head}" for layer, head in best)}
    if len(readings) == 1:
        labels["key"] = readings[0].tokens
    arrays = {}
    for name, (axes, values) in split.items():
        own = {axis: labels[axis] for axis in axes if axis in labels}
        if len(values) == 1:
            arrays[name] = Named(values[0], axes, "logits", own)
        else:
            arrays[name] = Named(_padded(values), ("example", *axes), "logits", own)
    return arrays


def _padded(values: list[Float[np.ndarray, "..."]]) -> Float[np.ndarray, "example ..."]:
    """One array with NaN at keys beyond the end of a shorter prompt."""
    width = max(one.shape[-1] for one in values)
    around = [(0, 0)] * (values[0].ndim - 1)
    return np.stack([np.pad(one, [*around, (0, width - one.shape[-1])], constant_values=np.nan) for one in values])


def _scalars(readings: list[Reading], component: _Means, names: tuple[str, ...], head: str) -> dict[str, object]:
    branches = component.asked[1:-1]
    mlp_biases = [one.mlp_bias for one in readings if one.mlp_bias is not None]
    return {
        "difference": float(np.mean([one.difference for one in readings])),
        "embed": float(component.asked[0]),
        "attention": float(branches[0::2].sum()),
        "mlp": float(branches[1::2].sum()),
        "bias": float(component.asked[-1]),
        "attention_bias": float(np.mean([one.attention_bias for one in readings])),
        "mlp_bias": float(np.mean(mlp_biases)) if mlp_biases else None,
        "top_component": names[component.strongest(1)[0][0]],
        "top_head": head,
    }


def _finding(readings: list[Reading], component: _Means, head: _Means, scalars: dict[str, object]) -> str:
    first, several = readings[0], len(readings) > 1
    of, side = f"The logit of {first.target!r}", repr(first.distractor)
    if several:
        of, side = f"On average over {len(readings)} prompts the logit of the target", "the distractor"
    above = f"that of {side}" if first.distractor else f"the {_MEAN}"
    part, place = component.strongest(1)[0], head.strongest(1)[0]
    return (
        f"{of} is {scalars['difference']:.2f} above {above}; the largest component is {scalars['top_component']} "
        f"({component.asked[part]:+.2f}, {component.random[part]:.2f} for random tokens), the largest head "
        f"{scalars['top_head']} ({head.asked[place]:+.2f}, {head.random[place]:.2f} for random tokens)."
    )


def _checks(model: Model, readings: list[Reading]) -> tuple[Check, ...]:
    """The worst of all prompts, each relative to the difference or the largest component, whichever is larger."""
    tolerance = _TOLERANCE[model.dtype]
    sums = [
        Check(f"{name} add up to the logit difference", max(one.gaps[name] for one in readings), tolerance)
        for name in readings[0].gaps
    ]
    return (
        *sums,
        Check("frozen norms give what the model's norms gave", max(one.norm_gap for one in readings), tolerance),
        Check("the final stream gives the model's logits", max(one.logit_gap for one in readings), tolerance),
    )


def _notes(model: Model, readings: list[Reading], draws: int) -> tuple[str, ...]:
    first = readings[0]
    notes = [
        "The statistic of every norm is frozen at its value in this run, so a contribution is not what would "
        "change if its part were removed.",
        f"random: root mean square of what the same part adds to {draws} random "
        + ("pairs of tokens." if first.distractor else f"tokens, each against the {_MEAN}."),
    ]
    if caps_logits(model.bridge):
        notes.append("Logits before the soft cap: behind it the difference is smaller than the sum of the parts.")
    scale = logit_scale(model)
    if abs(scale - 1) > 1e-9:
        notes.append(f"The model's logit scale ({scale:g}) is part of every contribution.")
    if first.neuron is None:
        notes.append(f"No neurons: {model.capabilities.reason('mlp_post') or 'not every layer has them'}.")
    if first.sources is None:
        notes.append("No source tokens: z is not made of pattern and v in every layer of this model.")
    if len({one.distractor == "" for one in readings}) > 1:
        notes.append(f"Some prompts have a distractor; the others are compared with the {_MEAN}.")
    if len({len(one.tokens) for one in readings}) > 1:
        notes.append("NaN marks keys beyond the end of a shorter prompt.")
    return tuple(notes)


def _views(readings: list[Reading], neurons: bool) -> tuple[View, ...]:
    title = "What each component adds to the logit difference"
    several = len(readings) > 1
    bars = (
        Bars("component", x="component", lower="component_lower", upper="component_upper", title=title)
        if several
        else Bars(("component", "component_random"), x="component", title=title)
    )
    views: list[View] = [bars, Heatmap("head", x="head", y="layer", diverging=True, title="What each head adds")]
    if readings[0].sources is not None:
        if not several:
            views.append(Tokens("token", axis="key", diverging=True, title="What attention adds from each token"))
        views.append(Heatmap("head_source", x="key", y="head", diverging=True, title="The largest heads, by token"))
        views.append(Heatmap("source", x="key", y="layer", diverging=True, title="All heads of a layer, by token"))
    views.append(Table("heads", title="Largest heads, either sign"))
    if neurons:
        views.append(Table("neurons", title="Largest neurons, either sign"))
    return (*views, Table("prompts", title="Prompts")) if several else tuple(views)
