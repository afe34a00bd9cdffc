"""Features set to a value: held, in the running model, and random ones beside them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.faithfulness import random_partners, written_sizes
from workbench.circuits.frozen import FrozenRun, freeze_run
from workbench.circuits.interventions import Clamp, frozen_effects, measure
from workbench.circuits.sources import Sources, find_sources
from workbench.circuits.targets import Target, asked_targets
from workbench.coders.coder import Transcoders
from workbench.features import fitted_coders, refuse_other_feature
from workbench.model import Model
from workbench.prompts import Prompts

_FEATURE = re.compile(r"L(\d+)\.F(\d+)@(-?\d+)")
_CANDIDATES = 64
"""Of how many features that write much the one of the largest direct effect is searched."""


@dataclass(frozen=True)
class Asked:
    """What to set, and what to compare with."""

    coders: str
    features: str
    value: float
    keep_first: bool
    draws: int
    seed: int


@dataclass(frozen=True)
class Ablated:
    """What it did.

    Attributes:
        coders: the transcoders.
        text: the tokens.
        targets: what was watched.
        clamps: what was set.
        before: the value of each feature on the prompt.
        direct: change of each target with everything else held: each feature alone, then all together
            where there are several.
        values: the targets in the running model: as it is, then the same.
        random: the targets with as many random features of the same size set, for each draw; none where
            there are too few.
    """

    coders: Transcoders
    text: tuple[str, ...]
    targets: list[Target]
    clamps: tuple[Clamp, ...]
    before: tuple[float, ...]
    direct: Float[Tensor, "component target"]
    values: Float[Tensor, "variant target"]
    random: Float[Tensor, "draw target"]


def ablate(model: Model, prompts: Prompts, asked: Asked, wishes: Mapping[str, Any]) -> Ablated:
    """Set the features, each alone and all together, held and running.

    Args:
        model: a loaded model.
        prompts: one prompt.
        asked: what to set.
        wishes: what to watch, see `asked_targets`.

    Raises:
        ValueError: no feature is active, or one that is named does not exist.
    """
    coders = fitted_coders(model, asked.coders)
    run = freeze_run(model, model.tokens(prompts))
    coders = coders.to(dtype=run.stream.dtype)
    targets = asked_targets(model, run, prompts[0], **wishes)
    sources = find_sources(run, coders, keep_first=asked.keep_first)

    def held(clamps: Sequence[Clamp]) -> Float[Tensor, " target"]:
        return frozen_effects(run, coders, clamps, targets, keep_first=asked.keep_first)

    if asked.features:
        clamps = read_clamps(asked.features, run, coders, asked.value)
    else:
        clamps = [max(_candidates(sources, coders, asked.value), key=lambda one: abs(float(held([one])[0])))]
    sets = [[one] for one in clamps] + [list(clamps)] * (len(clamps) > 1)
    random = _random_sets(sources, coders, clamps, asked)
    values = measure(model, run, coders, [[], *sets, *random], targets)
    return Ablated(
        coders=coders,
        text=run.text,
        targets=targets,
        clamps=tuple(clamps),
        before=tuple(
            float(coders[one.layer].encode(run.layers[one.layer].mlp_in[one.pos])[one.feature]) for one in clamps
        ),
        direct=torch.stack([held(one) for one in sets]).cpu(),
        values=values[: 1 + len(sets)],
        random=values[1 + len(sets) :],
    )


def read_clamps(words: str, run: FrozenRun, coders: Transcoders, value: float) -> list[Clamp]:
    """Features written as L0.F0@3, with commas between them.

    Raises:
        ValueError: one is not written so, is named twice, or there is no such layer, feature or position.
    """
    found: list[Clamp] = []
    for word in filter(None, (part.strip() for part in words.split(","))):
        parts = _FEATURE.fullmatch(word)
        if parts is None:
            raise ValueError(f"feature {word!r} is not written like L0.F0@3 (layer, number, position)")
        layer, number, pos = map(int, parts.groups())
        refuse_other_feature(coders, layer, number)
        if not -len(run.ids) <= pos < len(run.ids):
            raise ValueError(f"feature {word!r}: the prompt has {len(run.ids)} tokens (0-{len(run.ids) - 1})")
        one = Clamp(layer, pos % len(run.ids), number, value)
        if one in found:
            raise ValueError(f"feature {word!r} is named twice")
        found.append(one)
    if not found:
        raise ValueError(f"no feature is named in {words!r}: write one like L0.F0@3, or nothing")
    return found


def _candidates(sources: Sources, coders: Transcoders, value: float) -> list[Clamp]:
    """The features that write most."""
    if not len(sources.features):
        raise ValueError(f"no feature of {coders.name} is active on this prompt: name features, or another prompt")
    sizes = written_sizes(sources.features.cpu(), sources.values.cpu(), coders)
    order = sizes.argsort(descending=True, stable=True)[:_CANDIDATES]
    places = sources.features.cpu()[order].tolist()
    return [Clamp(layer, pos, number, value) for layer, pos, number in places]


def _random_sets(sources: Sources, coders: Transcoders, clamps: Sequence[Clamp], asked: Asked) -> list[list[Clamp]]:
    """As many random features of the same size; nothing where fewer are left than are set."""
    features = sources.features.cpu()
    wanted = {(one.layer, one.pos, one.feature) for one in clamps}
    order = [place for place, found in enumerate(features.tolist()) if tuple(found) in wanted]
    if not order or 2 * len(order) > len(features):
        return []
    sizes = written_sizes(features, sources.values.cpu(), coders)
    generator = torch.Generator().manual_seed(asked.seed)
    chosen = [random_partners(sizes, torch.tensor(order), generator) for _ in range(asked.draws)]
    return [
        [replace(clamps[0], layer=layer, pos=pos, feature=number) for layer, pos, number in features[one].tolist()]
        for one in chosen
    ]
