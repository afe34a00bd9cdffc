"""What the analysis says: shares with intervals and their baseline, one row a prompt, groups, and the finding."""

from collections.abc import Sequence

import numpy as np

from workbench.analyses.task_accuracy.answering import Answer, answer
from workbench.analyses.task_accuracy.questions import Question
from workbench.analyses.task_accuracy.shares import SHARES, Row, Share, share_of
from workbench.generate import greedy
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.views import Bars, Scatter, Table, View

_UNSTABLE = 1e-3
"""A lead of the most likely token below this could flip with the rounding of another kernel."""

_CHECKED = 3
_MANY = 12
"""A field of meta groups the prompts when it has from 2 to so many values."""


def tell(model: Model, questions: Sequence[Question], answers: Sequence[Answer], seed: int) -> Result:
    """The result of all rows."""
    rows = [Row(question, found) for question, found in zip(questions, answers, strict=True)]
    shares = {name: share for name in SHARES if (share := share_of(rows, name, seed)) is not None}
    problems = sum(bool(one.problems) for one in questions)
    return Result(
        arrays=_arrays(rows, shares),
        tables={
            "prompts": [_prompt_row(model, number, row) for number, row in enumerate(rows)],
            "problems": [
                {"example": number, "problem": problem}
                for number, one in enumerate(questions)
                for problem in one.problems
            ],
            "details": [_detail_row(model, number, row) for number, row in enumerate(rows)],
            "groups": _groups(rows),
        },
        scalars={
            "prompts": len(rows),
            **{name: share.value for name, share in shares.items()},
            "with problems": problems,
            **_pair_scalars(rows),
        },
        views=_views(shares, rows),
        finding=_finding(shares, rows, problems),
        notes=_notes(rows, shares),
        checks=_checks(model, rows),
    )


def _arrays(rows: list[Row], shares: dict[str, Share]) -> dict[str, Named]:
    labels = {"component": tuple(shares)}
    numbers = {
        "accuracy": [one.value for one in shares.values()],
        "lower": [one.limits[0] for one in shares.values()],
        "upper": [one.limits[1] for one in shares.values()],
        "permuted": [one.permuted for one in shares.values()],
        "permuted_lower": [one.permuted_limits[0] for one in shares.values()],
        "permuted_upper": [one.permuted_limits[1] for one in shares.values()],
    }
    found = {
        name: Named(np.array(values, dtype=np.float32), ("component",), "share of the prompts", labels)
        for name, values in numbers.items()
    }
    texts = {"example": tuple(row.question.prompt.text for row in rows)}
    each = {
        "probability": (
            [None if row.answer.target is None else np.exp(row.answer.target) for row in rows],
            "probability",
        ),
        "rank": ([row.answer.rank for row in rows], "rank"),
        "difference": ([row.answer.difference for row in rows], "nats"),
    }
    for name, (values, unit) in each.items():
        column = np.array([np.nan if value is None else value for value in values], dtype=np.float32)
        found[name] = Named(column, ("example",), unit, texts)
    return found


def _prompt_row(model: Model, number: int, row: Row) -> dict[str, object]:
    """One prompt, for the table; the longest column is the last."""
    question, found = row.question, row.answer
    return {
        "example": number,
        "says": row.says,
        "prefers": row.prefers,
        "probability": None if found.target is None else float(np.exp(found.target)),
        "rank": found.rank,
        "difference": found.difference,
        "target": model.tokenizer.decode(list(question.target)),
        "said": model.tokenizer.decode(list(found.said)),
        "prompt": question.prompt.text,
    }


def _detail_row(model: Model, number: int, row: Row) -> dict[str, object]:
    """What else there is to know of one prompt."""
    question = row.question
    return {
        "example": number,
        "aligned": not question.problems,
        "tokens": len(question.ids),
        "distractor": model.tokenizer.decode(list(question.distractor)),
        "corrupt difference": row.answer.corrupt_difference,
    }


def _groups(rows: list[Row]) -> list[dict[str, object]]:
    """Shares by the fields of meta that sort the prompts into a few kinds."""
    table: list[dict[str, object]] = []
    scored = [row for row in rows if row.says is not None]
    fields = dict.fromkeys(field for row in scored for field in row.question.prompt.meta if field != "corrupt")
    for field in fields:
        kinds: dict[str, list[Row]] = {}
        for row in scored:
            kinds.setdefault(str(row.question.prompt.meta.get(field, "")), []).append(row)
        if 2 <= len(kinds) <= _MANY:
            table += [_group_row(field, kind, kinds[kind]) for kind in sorted(kinds)]
    return table


def _group_row(field: str, kind: str, rows: list[Row]) -> dict[str, object]:
    known = {name: [getattr(row, name) for row in rows if getattr(row, name) is not None] for name in SHARES}
    shares = {name: float(np.mean(values)) if values else None for name, values in known.items()}
    return {"field": field, "kind": kind, "prompts": len(rows), **shares}


def _pair_scalars(rows: list[Row]) -> dict[str, object]:
    """Of pairs: how many could be patched, aligned, right when clean, and moved by the corruption."""
    pairs = [row for row in rows if row.question.corrupt]
    if not pairs:
        return {}
    ready = [
        row
        for row in pairs
        if not row.question.problems
        and row.prefers
        and row.answer.difference is not None
        and row.answer.corrupt_difference is not None
        and row.answer.corrupt_difference < row.answer.difference
    ]
    return {"pairs": len(pairs), "pairs ready to patch": len(ready)}


def _finding(shares: dict[str, Share], rows: list[Row], problems: int) -> str:
    words = {"says": "the target is said in", "prefers": "it is more probable than the distractor in"}
    told = ", and ".join(f"{words[name]} {share}" for name, share in shares.items())
    cut = (
        f"{problems} of {len(rows)} prompts have a problem with their tokens" if problems else "all tokens are aligned"
    )
    pairs = _pair_scalars(rows)
    ready = f"; {pairs['pairs ready to patch']} of {pairs['pairs']} pairs are ready to be patched" if pairs else ""
    return f"{told[0].upper()}{told[1:]}; {cut}{ready}."


def _notes(rows: list[Row], shares: dict[str, Share]) -> tuple[str, ...]:
    notes = []
    if any(row.says is None or row.prefers is None for row in rows):
        notes.append("NaN marks prompts without a target, or without a distractor that differs from it.")
    if any(np.isnan(share.permuted) for share in shares.values()):
        notes.append("permuted is NaN where fewer than two questions have answers whose first tokens differ.")
    questions = {(row.question.ids, row.question.target, row.question.distractor) for row in rows}
    if len(questions) < len(rows):
        notes.append(f"{len(rows)} rows ask {len(questions)} questions; the shares count each question once.")
    unstable = sum(row.answer.margin < _UNSTABLE for row in rows)
    if unstable:
        notes.append(f"In {unstable} of {len(rows)} prompts the most likely token leads by less than {_UNSTABLE:g}.")
    if any(len(ids) > 1 for row in rows for ids in (row.question.target, row.question.distractor)):
        notes.append(
            "Some answers are several tokens: their probability is the product over the tokens, their rank that of "
            "the first; the baseline of prefers compares first tokens."
        )
    if any(row.question.corrupt for row in rows):
        notes.append(
            "A pair is ready to be patched when it has no problem, the target is preferred behind the clean prompt, "
            "and less so behind the corrupt one."
        )
    return tuple(notes)


def _checks(model: Model, rows: list[Row]) -> tuple[Check, ...]:
    """A few prompts once more, each by itself."""
    few = [row for row in rows if row.answer.target is not None][:_CHECKED]
    alone = [answer(model, [row.question], 1)[0] for row in few]
    gaps = [abs(np.exp(one.target or 0) - np.exp(row.answer.target or 0)) for one, row in zip(alone, few, strict=True)]
    said = [tuple(greedy(model, row.question.ids, len(row.answer.said), cached=False)) for row in few]
    stable = [
        row.answer.said[0] != ids[0] for row, ids in zip(few, said, strict=True) if row.answer.margin >= _UNSTABLE
    ]
    return (
        Check("probability of a target, alone and in its batch, largest difference", float(max(gaps)), 1e-4),
        Check("first words that differ from those of a whole pass without a cache", sum(stable), 0),
    )


def _views(shares: dict[str, Share], rows: list[Row]) -> tuple[View, ...]:
    bars = Bars(
        ("accuracy", "permuted"),
        x="component",
        lower=("lower", "permuted_lower"),
        upper=("upper", "permuted_upper"),
        title="Share of prompts done, beside the answers of other rows",
    )
    views: list[View] = [bars, Table("prompts", title="Prompts", rows=50)]
    if "prefers" in shares:
        views.append(
            Scatter("probability", "difference", title="Probability of the target, and its lead over the distractor")
        )
    if any(row.question.problems for row in rows):
        views.append(Table("problems", title="Problems with tokens", rows=50))
    return (*views, Table("groups", title="Shares by kind of prompt")) if _groups(rows) else tuple(views)
