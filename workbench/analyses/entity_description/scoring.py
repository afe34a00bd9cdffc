"""Which names the descriptions say, and how often controls say them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Float

from workbench.analyses.entity_description.patching import Described, Kind, Trial
from workbench.hops import TwoHop, mentions
from workbench.questions import Match, Names, names_of, other_names

ENTITIES: tuple[Names, ...] = get_args(Names)
CONTROLS: dict[str, Kind] = {"decoded": "own", "random_vector": "random", "other_prompt": "other prompt"}
"""The rates that come from descriptions of one kind each."""


@dataclass(frozen=True)
class Scores:
    """Where names are said.

    Attributes:
        said: 1 where the description names it, 0 where not, NaN where nothing was patched.
        rates: for `CONTROLS` and `other_names`, whether some target layer makes the description name it
            (for `other_names`: the share of other questions' names); NaN where there are none.
    """

    said: Float[np.ndarray, "example component pos source_layer target_layer"]
    rates: dict[str, Float[np.ndarray, "example component pos source_layer"]]


def score_all(
    described: Described, pool: Iterable[TwoHop], positions: tuple[str, ...], layers: int, match: Match
) -> Scores:
    """Look for every name in every description.

    Args:
        described: the descriptions.
        pool: questions whose names are the control.
        positions: names of the positions.
        layers: how many the model has.
        match: when a name counts as said.
    """
    shape = (len(described.cases), len(ENTITIES), len(positions), layers, layers)
    found = {kind: np.full(shape, np.nan) for kind in CONTROLS.values()}
    texts: dict[tuple[int, str, int], set[str]] = {}
    for trial, said in described.said.items():
        place = positions.index(trial.position)
        names = {kind: names_of(described.cases[trial.example].hop, kind) for kind in ENTITIES}
        for component, right in enumerate(described_as(said, names, match)):
            found[trial.kind][trial.example, component, place, trial.source, trial.target] = right
        if trial.kind == "own":
            texts.setdefault((trial.example, trial.position, trial.source), set()).add(said)
    rates = {name: found[kind].max(-1, where=~np.isnan(found[kind]), initial=-1) for name, kind in CONTROLS.items()}
    rates = {name: np.where(rate < 0, np.nan, rate) for name, rate in rates.items()}
    return Scores(
        found["own"], rates | {"other_names": _others(described, texts, tuple(pool), shape[:-1], positions, match)}
    )


def described_as(said: str, names: dict[Names, tuple[str, ...]], match: Match) -> list[bool]:
    """For each of `ENTITIES` whether it is named; by the paper's rule at most the first of them."""
    if match == "words":
        return [mentions(said, names[kind]) for kind in ENTITIES]
    first = next((kind for kind in ENTITIES if _is_framed(said, names[kind])), None)
    return [kind == first for kind in ENTITIES]


def _is_framed(said: str, names: tuple[str, ...]) -> bool:
    """Whether a name stands behind a colon, closed by a space or a sign, or in front of one."""
    lower = said.lower()
    shapes = (": {} ", ": {},", ": {}.", ": {}:", "{}: ")
    return any(shape.format(name.lower()) in lower for name in names for shape in shapes)


def _others(
    described: Described,
    texts: dict[tuple[int, str, int], set[str]],
    pool: tuple[TwoHop, ...],
    shape: tuple[int, ...],
    positions: tuple[str, ...],
    match: Match,
) -> Float[np.ndarray, "example component pos source_layer"]:
    """The share of other questions' names that some target layer makes the description say."""
    found = np.full(shape, np.nan)
    for example, case in enumerate(described.cases):
        for component, kind in enumerate(ENTITIES):
            others = other_names(case.hop, pool, kind)
            for (one, position, source), some in texts.items():
                if one == example and others:
                    hits = [any(_is_named(text, names, match) for text in some) for names in others]
                    found[example, component, positions.index(position), source] = np.mean(hits)
    return found


def _is_named(text: str, names: tuple[str, ...], match: Match) -> bool:
    return mentions(text, names) if match == "words" else _is_framed(text, names)


def first_hit(
    said: dict[Trial, str], names: tuple[str, ...], example: int, position: str, match: Match
) -> Trial | None:
    """The trial of the lowest source and target layer whose description names it."""
    hits = [
        trial
        for trial, text in said.items()
        if (trial.example, trial.position, trial.kind) == (example, position, "own") and _is_named(text, names, match)
    ]
    return min(hits, key=lambda trial: (trial.source, trial.target), default=None)
