"""Back-patches and their controls: every pair of layers of one prompt, in one sweep."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from workbench.edit import edited, patch
from workbench.generate import end_tokens, greedy
from workbench.model import Model
from workbench.questions import Asked, Case, Streams, random_like, spoken
from workbench.sweep import sweep
from workbench.variants import Row
from workbench.words import Site

Kind = Literal["own", "same layer", "random", "other prompt"]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Trial:
    """One patch: which vector, at which position, from behind which layer to behind which.

    The vector is this prompt's `own`, the same layer's own (which changes nothing), a `random` one of the
    same norm, or that of an `other prompt`.
    """

    position: str
    kind: Kind
    draw: int
    source: int
    target: int


@dataclass(frozen=True)
class Answer:
    """What was said under one patch; `lead` is the smallest lead of one of its tokens over the second best."""

    trial: Trial
    ids: tuple[int, ...]
    said: str
    lead: float


@dataclass(frozen=True)
class Patched:
    """One prompt under all its patches.

    Attributes:
        asked: the prompt, and what is said without any patch.
        answers: what is said under each patch.
        looped: how many of them were decoded again by the plain loop.
        differing: how many of those were something else there.
    """

    asked: Asked
    answers: list[Answer]
    looped: int
    differing: int

    def of_kind(self, position: str, kind: Kind) -> list[Answer]:
        """What was said under one kind of patch at one position."""
        return [one for one in self.answers if (one.trial.position, one.trial.kind) == (position, kind)]


def layer_pairs(model: Model, later_only: bool) -> list[Pair]:
    """Pairs (source, target) of different layers; the paper takes the later one as the source."""
    layers = range(model.shape.n_layers)
    return [(s, t) for s in layers for t in layers if (s > t if later_only else s != t)]


def patch_prompt(
    model: Model,
    asked: Asked,
    own: Streams,
    donors: list[Streams],
    pairs: list[Pair],
    draws: int,
    new_tokens: int,
    looped: int,
    generator: np.random.Generator,
) -> Patched:
    """Continue one prompt under every patch and every control.

    Args:
        model: a loaded model.
        asked: the prompt.
        own: its streams.
        donors: streams of other prompts, one for each draw; none when there is no other prompt.
        pairs: (source, target) layers.
        draws: random vectors for each source layer.
        new_tokens: length of a continuation at most.
        looped: how many trials to decode by the plain loop as well.
        generator: draws the random vectors and the trials of the loop.
    """
    vectors: dict[tuple[Kind, int], Streams] = {("own", 0): own, ("same layer", 0): own}
    vectors |= {("random", draw): random_like(own, generator) for draw in range(draws)}
    vectors |= {("other prompt", draw): donor for draw, donor in enumerate(donors)}
    case = asked.case
    trials = [trial for position in case.places for trial in _trials(model, position, list(vectors), pairs)]
    rows = [_row(case, trial, vectors[trial.kind, trial.draw]) for trial in trials]
    answers = _sweep(model, case, trials, rows, new_tokens)
    sample = generator.choice(len(rows), min(looped, len(rows)), replace=False).tolist()
    differing = sum(looped_ids(model, case, rows[row], new_tokens) != answers[row].ids for row in sample)
    return Patched(asked, answers, len(sample), differing)


def _trials(model: Model, position: str, vectors: list[tuple[Kind, int]], pairs: list[Pair]) -> list[Trial]:
    same = [(layer, layer) for layer in range(model.shape.n_layers)]
    return [
        Trial(position, kind, draw, source, target)
        for kind, draw in vectors
        for source, target in (same if kind == "same layer" else pairs)
    ]


def _sweep(model: Model, case: Case, trials: list[Trial], rows: list[Row], new_tokens: int) -> list[Answer]:
    """What is said under each trial, in their order."""
    answers: dict[int, Answer] = {}
    for found in sweep(model, case.tokens, rows, new_tokens=new_tokens, stop=end_tokens(model), with_logits=False):
        answers[found.row] = Answer(trials[found.row], found.ids, spoken(model, found.ids), min(found.leads))
    return [answers[row] for row in range(len(rows))]


def looped_ids(model: Model, case: Case, row: Row, new_tokens: int) -> tuple[int, ...]:
    """The plain loop: one patch at a time, decoded greedily token by token."""
    with edited(model, row):
        return tuple(greedy(model, case.ids, new_tokens, stop=end_tokens(model)))


def _row(case: Case, trial: Trial, streams: Streams) -> Row:
    site = Site("resid_post", trial.target, pos=case.places[trial.position])
    return [(site, patch(streams[trial.position][trial.source]))]
