"""What the analysis says: arrays, tables, views and the finding."""

import re

import numpy as np
from jaxtyping import Float

from workbench.analyses.back_patching.patching import Answer, Patched
from workbench.analyses.back_patching.scoring import CONTROLS, Scores
from workbench.questions import PARTS, Asked, Tested
from workbench.result import Check, Named, Result
from workbench.stats import bootstrap_mean
from workbench.views import Bars, Heatmap, Table

_UNSTABLE = 1e-3
"""A token that leads by less than this could be another one with the rounding of another kernel."""
_SHOWN = 4
"""Continuations in the table of examples: so many successes and so many failures per prompt and position."""
_WANTED = {"incorrect": "answered wrong", "correct": "answered right"}


def tell(
    asked: list[Asked],
    patched: list[Patched],
    scores: Scores,
    positions: tuple[str, ...],
    new_tokens: int,
    seed: int,
) -> Result:
    """The result when at least one prompt was patched."""
    controls = [_control_row(scores, position, name, seed) for position in positions for name in CONTROLS]
    examples = [
        _example_row(one, scores, position, index, place)
        for index, one in enumerate(patched)
        for place, position in enumerate(positions)
    ]
    generations = [
        row
        for index, one in enumerate(patched)
        for place, position in enumerate(positions)
        for row in _generation_rows(one, position, scores.success[index, place])
    ]
    scalars = {re.sub("[ -]", "_", f"{row['position']} {row['rate of']}"): row["rate"] for row in controls}
    return Result(
        arrays=_arrays(patched, scores, positions, new_tokens),
        tables={
            "controls": controls,
            "examples": examples,
            "generations": generations,
            "questions": [_question_row(one) for one in asked],
        },
        scalars={"questions": len(asked), "patched": len(patched), **scalars},
        views=_views(positions),
        finding=_finding(scores, positions),
        notes=_notes(patched, controls),
        checks=_checks(patched),
    )


def tell_failure(asked: list[Asked], tested: Tested) -> Result:
    """The result when no prompt passes the filters: what was said, and why there is nothing to patch."""
    both = [one for one in asked if one.hops_known]
    known = [one for one in asked if one.known]
    right = [one for one in known if one.right["prompt"]]
    finding = (
        f"None of {len(asked)} questions passes the filters, so nothing was patched: of {len(both)} both hops "
        f"are known, of {len(known)} also without a shortcut, and {len(right)} of these are answered right, "
        f"but questions {_WANTED[tested]} are wanted."
    )
    return Result(
        tables={"questions": [_question_row(one) for one in asked]},
        scalars={"questions": len(asked), "patched": 0},
        views=(Table("questions", title=_QUESTIONS),),
        finding=finding,
    )


_QUESTIONS = "What the model says to the questions and their parts"


def _arrays(patched: list[Patched], scores: Scores, positions: tuple[str, ...], new_tokens: int) -> dict[str, Named]:
    axes = ("example", "pos", "source_layer", "target_layer")
    labels = {"example": tuple(one.asked.case.hop.name for one in patched), "pos": positions}
    ids = np.full((*scores.success.shape, new_tokens), -1, dtype=np.int32)
    for example, one in enumerate(patched):
        for place, position in enumerate(positions):
            for answer in (*one.of_kind(position, "own"), *one.of_kind(position, "same layer")):
                cell = example, place, answer.trial.source, answer.trial.target
                ids[cell][: len(answer.ids)] = answer.ids
    means = [[_mean(scores.rates[position, name]) for name in CONTROLS] for position in positions]
    at = {"pos": positions}
    return {
        "share": Named(scores.success.mean(0), axes[1:], "share of the prompts", at),
        "success": Named(scores.success, axes, "", labels),
        "said_ids": Named(ids, (*axes, "step"), "token id", labels),
        "rates": Named(np.array(means), ("pos", "component"), "share of the prompts", at | {"component": CONTROLS}),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _control_row(scores: Scores, position: str, name: str, seed: int) -> dict[str, object]:
    values = scores.rates[position, name]
    low, high = bootstrap_mean(values, seed=seed) if len(values) else (None, None)
    chosen = ", ".join(f"L{source} to L{target}" for source, target in scores.chosen[position])
    return {
        "position": position,
        "rate of": name,
        "rate": float(values.mean()) if len(values) else None,
        "lower": None if low is None else float(low),
        "upper": None if high is None else float(high),
        "prompts": len(values),
        "pairs": chosen if name == "held-out pair" else "any",
    }


def _example_row(one: Patched, scores: Scores, position: str, index: int, place: int) -> dict[str, object]:
    hop = one.asked.case.hop
    hits = np.argwhere(scores.success[index, place] == 1)
    tried = int(np.isfinite(scores.success[index, place]).sum())
    said = {(a.trial.source, a.trial.target): a.said for a in one.of_kind(position, "own")}
    rates = {name: float(rate[index]) if len(rate := scores.rates[position, name]) else None for name in CONTROLS[1:]}
    return {
        "name": hop.name,
        "prompt": hop.prompt,
        "position": position,
        "answer": hop.answer[0],
        "plain": one.asked.said["prompt"],
        "pairs": tried,
        "successes": len(hits),
        "first pair": f"L{hits[0][0]} to L{hits[0][1]}" if len(hits) else "",
        "patched": said[int(hits[0][0]), int(hits[0][1])] if len(hits) else "",
        **rates,
    }


def _generation_rows(
    one: Patched, position: str, success: Float[np.ndarray, "source_layer target_layer"]
) -> list[dict[str, object]]:
    """Some of what was said under the prompt's own patches: successes first, evenly spread over the pairs."""
    hop = one.asked.case.hop
    kinds: dict[bool, list[Answer]] = {True: [], False: []}
    for answer in one.of_kind(position, "own"):
        kinds[bool(success[answer.trial.source, answer.trial.target])].append(answer)
    return [
        {
            "name": hop.name,
            "position": position,
            "source": answer.trial.source,
            "target": answer.trial.target,
            "names the answer": right,
            "said": answer.said,
            "plain": one.asked.said["prompt"],
            "lead": answer.lead,
        }
        for right, some in kinds.items()
        for answer in _spread(some)
    ]


def _spread(answers: list[Answer]) -> list[Answer]:
    count = min(_SHOWN, len(answers))
    return [answers[index * len(answers) // count] for index in range(count)]


def _question_row(one: Asked) -> dict[str, object]:
    row: dict[str, object] = {"name": one.case.hop.name, "known": one.known}
    for part in PARTS:
        row |= {f"{part} right": one.right.get(part), f"{part} said": one.said.get(part)}
    return row


def _checks(patched: list[Patched]) -> tuple[Check, ...]:
    same = [
        (one, answer)
        for one in patched
        for place in one.asked.case.places
        for answer in one.of_kind(place, "same layer")
    ]
    changed = sum(answer.ids != one.asked.plain for one, answer in same)
    looped, differing = (sum(getattr(one, name) for one in patched) for name in ("looped", "differing"))
    return (
        Check(f"of {len(same)} patches of a layer with itself, those that change what is said", changed, 0),
        Check(f"of {looped} sampled patches, those that the plain loop decodes differently", differing, 0),
    )


def _finding(scores: Scores, positions: tuple[str, ...]) -> str:
    parts = []
    for position in positions:
        own, *others = (scores.rates[position, name] for name in CONTROLS)
        told = [
            f"{name} {100 * rate.mean():.0f}%" for name, rate in zip(CONTROLS[1:], others, strict=True) if len(rate)
        ]
        beside = f" ({', '.join(told)})" if told else ""
        parts.append(f"at the {position} position {int(own.sum())} of {len(own)} questions name the answer{beside}")
    return f"With one layer's stream put back behind another, {'; '.join(parts)}."


def _notes(patched: list[Patched], controls: list[dict]) -> tuple[str, ...]:
    notes = [
        "NaN in success and share marks pairs of layers that were not patched; in rates, a control that "
        "could not be had."
    ]
    missing = {row["rate of"] for row in controls if row["rate"] is None}
    if missing:
        notes.append(f"No rate of {', '.join(sorted(missing))}: these controls need other prompts or draws.")
    right = sum(one.asked.right["prompt"] for one in patched)
    if right:
        notes.append(
            f"{right} of {len(patched)} questions are answered without any patch: success there is no finding."
        )
    answers = [answer for one in patched for answer in one.answers]
    unstable = sum(answer.lead < _UNSTABLE for answer in answers)
    if unstable:
        notes.append(
            f"In {unstable} of {len(answers)} continuations a token leads by less than {_UNSTABLE:g}: "
            "another kernel could choose another."
        )
    return tuple(notes)


def _views(positions: tuple[str, ...]) -> tuple[Heatmap | Bars | Table, ...]:
    maps = [
        Heatmap(
            "share",
            x="target_layer",
            y="source_layer",
            select={"pos": place},
            title=f"Share of questions answered when patched at the {position} position",
        )
        for place, position in enumerate(positions)
    ]
    return (
        *maps,
        Bars("rates", x="component", series="pos", title="Success beside its controls"),
        Table("controls", title="Success and its controls, with 95% intervals over prompts"),
        Table("examples", rows=20, title="Questions: plain answer and first successful patch"),
        Table("generations", rows=20, title="What was said under some patches"),
        Table("questions", rows=20, title=_QUESTIONS),
    )
