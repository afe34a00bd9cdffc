"""How often a patch brings the answer out, and how often it would by chance."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.analyses.back_patching.patching import Answer, Kind, Pair, Patched
from workbench.hops import TwoHop
from workbench.questions import Match, is_said, other_names

CONTROLS = ("back-patch", "other answers", "random vector", "other prompt", "held-out pair")
"""The rates, each of which is one number per prompt; all but the first are controls."""


@dataclass(frozen=True)
class Scores:
    """Whether each patch brought the answer out, and the rates.

    Attributes:
        success: 1 where the continuation names the answer, 0 where not, NaN where nothing was patched.
        rates: for each position and name of `CONTROLS` a number from 0 to 1 for each prompt; empty where
            the control cannot be had (too few prompts, no draws).
        chosen: for each position the pairs that halves of the prompts chose for the other halves.
    """

    success: Float[np.ndarray, "example pos source_layer target_layer"]
    rates: dict[tuple[str, str], Float[np.ndarray, " example"]]
    chosen: dict[str, list[Pair]]


def score_all(
    patched: list[Patched],
    pool: Iterable[TwoHop],
    positions: tuple[str, ...],
    layers: int,
    match: Match,
    generator: np.random.Generator,
) -> Scores:
    """Score every continuation, and every control.

    Args:
        patched: the prompts under their patches.
        pool: questions whose answers stand in for wrong ones.
        positions: names of the patched positions.
        layers: how many the model has.
        match: when a continuation counts as naming an answer.
        generator: splits the prompts for the held-out pairs.
    """
    success = np.full((len(patched), len(positions), layers, layers), np.nan, dtype=np.float32)
    rates: dict[tuple[str, str], np.ndarray] = {}
    chosen: dict[str, list[Pair]] = {}
    for place, position in enumerate(positions):
        for example, one in enumerate(patched):
            for answer in one.of_kind(position, "own"):
                cell = example, place, answer.trial.source, answer.trial.target
                success[cell] = is_said(answer.said, one.asked.case.hop.answer, match)
        held_out, chosen[position] = hold_out(success[:, place], generator)
        rates |= {
            (position, "back-patch"): np.nanmax(success[:, place], axis=(1, 2)),
            (position, "other answers"): _each(wrong_answers(one, pool, position, match) for one in patched),
            (position, "random vector"): _each(draws_that_hit(one, position, "random", match) for one in patched),
            (position, "other prompt"): _each(draws_that_hit(one, position, "other prompt", match) for one in patched),
            (position, "held-out pair"): held_out,
        }
    return Scores(success, rates, chosen)


def wrong_answers(one: Patched, pool: Iterable[TwoHop], position: str, match: Match) -> float | None:
    """The share of other questions whose answer is named under some patch of this one; None without any.

    Questions whose answer shares a name with anything in this one say nothing and are left out.
    """
    texts = {answer.said for answer in one.of_kind(position, "own")}
    others = other_names(one.asked.case.hop, pool, "answer")
    named = [any(is_said(text, aliases, match) for text in texts) for aliases in others]
    return float(np.mean(named)) if named else None


def draws_that_hit(one: Patched, position: str, kind: Kind, match: Match) -> float | None:
    """The share of the draws of a control in which some pair of layers brings the answer out."""
    by_draw: dict[int, list[Answer]] = {}
    for answer in one.of_kind(position, kind):
        by_draw.setdefault(answer.trial.draw, []).append(answer)
    wanted = one.asked.case.hop.answer
    hits = [any(is_said(answer.said, wanted, match) for answer in some) for some in by_draw.values()]
    return float(np.mean(hits)) if hits else None


def hold_out(
    success: Float[np.ndarray, "example source_layer target_layer"], generator: np.random.Generator
) -> tuple[Float[np.ndarray, " held_out"], list[Pair]]:
    """Success of each prompt at the one pair that works best on the other half of the prompts.

    Returns:
        0 or 1 for each prompt, and the two chosen pairs; both empty for a single prompt.
    """
    count = len(success)
    if count < 2:
        return np.zeros(0), []
    halves = np.array_split(generator.permutation(count), 2)
    hits, chosen = np.zeros(count), []
    for choosing, reporting in (halves, halves[::-1]):
        shares = np.nan_to_num(success[choosing].mean(0), nan=-1.0)
        source, target = divmod(int(shares.argmax()), shares.shape[1])
        hits[reporting] = success[reporting, source, target]
        chosen.append((source, target))
    return hits, chosen


def _each(values: Iterable[float | None]) -> Float[np.ndarray, " rated"]:
    """One number per prompt; nothing at all when a prompt has none."""
    found = list(values)
    return np.array([] if None in found else found, dtype=np.float64)
