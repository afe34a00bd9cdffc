"""The descriptions: every stream of every question put into one prompt, in one sweep."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from workbench.edit import edited, patch
from workbench.generate import end_tokens, greedy
from workbench.model import Model
from workbench.questions import Case, Streams, random_like, read_streams, spoken
from workbench.sweep import sweep
from workbench.tokens import Tokens
from workbench.tracer import trace
from workbench.variants import Row
from workbench.words import Site

Kind = Literal["own", "random", "other prompt", "same"]

_LOOPED = 4
"""Rows that are decoded by the plain loop as well."""


@dataclass(frozen=True)
class Trial:
    """One stream put into the description.

    It is the question's `own`, a `random` vector of the same norm, that of an `other prompt`, or the
    description's `own` at the `same` layer, which changes nothing.
    """

    example: int
    position: str
    kind: Kind
    source: int
    target: int


@dataclass(frozen=True)
class Described:
    """What the description says of every stream.

    Attributes:
        cases: the questions.
        said: the continuation under each trial.
        plain: the continuation without a patch.
        changed: how many patches of the description with itself changed it.
        looped: how many trials were decoded by the plain loop as well.
        differing: how many of those said something else there.
    """

    cases: list[Case]
    said: dict[Trial, str]
    plain: str
    changed: int
    looped: int
    differing: int


def place_of(tokens: Tokens, description: str, placeholder: str) -> int:
    """The last token of the placeholder's last occurrence.

    Raises:
        ValueError: the placeholder is empty, not in the description, or not a run of whole tokens.
    """
    start = description.rfind(placeholder)
    if not placeholder.strip() or start < 0:
        raise ValueError(f"the placeholder {placeholder!r} must stand in the description {description!r}")
    try:
        return tokens.between(0, start, start + len(placeholder))[-1]
    except ValueError as error:
        raise ValueError(f"placeholder {placeholder!r}: {error}") from error


def describe_all(
    model: Model,
    cases: list[Case],
    tokens: Tokens,
    place: int,
    same_layer: bool,
    new_tokens: int,
    generator: np.random.Generator,
) -> Described:
    """Continue the description under every stream.

    Args:
        model: a loaded model.
        cases: the questions.
        tokens: the description.
        place: the position in it at which the streams are put.
        same_layer: only from each layer into the same.
        new_tokens: length of a continuation at most.
        generator: draws the random vectors, the other questions, and the rows of the plain loop.
    """
    rows = _rows(model, cases, place, same_layer, generator)
    layers = range(model.shape.n_layers)
    own = trace(model, tokens, [Site("resid_post", layer, pos=place) for layer in layers])
    for layer in layers:
        site = Site("resid_post", layer, pos=place)
        rows[Trial(-1, "", "same", layer, layer)] = [(site, patch(own[site][0]))]
    stop, trials = end_tokens(model), list(rows)
    plain = tuple(greedy(model, tokens.ids[0].tolist(), new_tokens, stop=stop))
    ids = {
        trials[outcome.row]: outcome.ids
        for outcome in sweep(model, tokens, list(rows.values()), new_tokens=new_tokens, stop=stop, with_logits=False)
    }
    sample = [trials[row] for row in generator.choice(len(trials), min(_LOOPED, len(trials)), replace=False)]
    differing = 0
    for trial in sample:
        with edited(model, rows[trial]):
            differing += tuple(greedy(model, tokens.ids[0].tolist(), new_tokens, stop=stop)) != ids[trial]
    return Described(
        cases=cases,
        said={trial: spoken(model, ids[trial]) for trial in trials if trial.kind != "same"},
        plain=spoken(model, plain),
        changed=sum(made != plain for trial, made in ids.items() if trial.kind == "same"),
        looped=len(sample),
        differing=differing,
    )


def _rows(
    model: Model, cases: list[Case], place: int, same_layer: bool, generator: np.random.Generator
) -> dict[Trial, Row]:
    """Every trial and its edit; without a second question there is no other prompt."""
    layers = range(model.shape.n_layers)
    streams = [read_streams(model, case) for case in cases]
    rows: dict[Trial, Row] = {}
    for example, own in enumerate(streams):
        kinds: dict[Kind, Streams] = {"own": own, "random": random_like(own, generator)}
        if len(cases) > 1:
            other = (example + 1 + int(generator.integers(len(cases) - 1))) % len(cases)
            kinds["other prompt"] = streams[other]
        for position in cases[example].places:
            for kind, given in kinds.items():
                for source in layers:
                    for target in [source] if same_layer else layers:
                        trial = Trial(example, position, kind, source, target)
                        rows[trial] = [(Site("resid_post", target, pos=place), patch(given[position][source]))]
    return rows
