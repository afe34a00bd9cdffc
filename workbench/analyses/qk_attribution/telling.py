"""What the analysis says of one split score: arrays, tables, views, checks and the finding."""

from dataclasses import dataclass

import torch

from workbench.circuits.frozen import FrozenRun
from workbench.circuits.looking import Look
from workbench.circuits.scores import SUBLAYERS, SplitScore
from workbench.circuits.sources import KINDS
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.views import Bars, Heatmap, Table, Tokens

_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}


@dataclass(frozen=True)
class Found:
    """One score, split."""

    run: FrozenRun
    look: Look
    split: SplitScore
    query: int
    key: int
    coders: str

    @property
    def seen(self) -> list[int]:
        """The keys that the head may look at from there."""
        return (self.look.scores[self.query] > -torch.inf).nonzero()[:, 0].tolist()


def tell(model: Model, found: Found, top: int) -> Result:
    """The result of one score."""
    run, look, split = found.run, found.look, found.split
    kinds = KINDS if found.coders else SUBLAYERS
    tokens = {"key": tuple(run.text)}
    scores = look.scores[found.query].clone()
    scores[scores == -torch.inf] = float("nan")
    tolerance = _TOLERANCE[model.dtype]
    parts = _query_rows(found)
    return Result(
        arrays={
            "score": Named(scores.float().numpy(), ("key",), "raw score", tokens),
            "pattern": Named(look.pattern[found.query].float().numpy(), ("key",), "share of attention", tokens),
            "by_kind": Named(
                split.by_kind(kinds).float().numpy(),
                ("target_component", "source_component"),
                "raw score",
                {"target_component": kinds, "source_component": kinds},
            ),
        },
        tables={
            "pairs": _pair_rows(split, top),
            "query_parts": parts[:top],
            "key_parts": _key_rows(split)[:top],
        },
        scalars={
            "layer": look.layer,
            "head": look.head,
            "query": found.query,
            "key": found.key,
            "score": split.value,
            "score_elsewhere": _elsewhere(found),
            "attention": float(look.pattern[found.query, found.key]),
            "scale": look.scale,
            "soft_cap": look.cap,
        },
        views=(
            Table("query_parts", title="Parts of the query: why this key rather than another", rows=top),
            Table("pairs", title="Largest pairs: a part of the query with a part of the key", rows=top),
            Heatmap(
                "by_kind",
                x="source_component",
                y="target_component",
                diverging=True,
                title="The score by kinds of part: of the query (rows) and of the key (columns)",
            ),
            Tokens("pattern", axis="key", title="Where the head looks from there"),
            Bars("score", x="key", title="Raw score of each key"),
            Table("key_parts", title="Parts of the key", rows=top),
        ),
        finding=_finding(found, parts),
        notes=_notes(found),
        checks=(
            Check("all terms add up to the raw score", split.missing, tolerance),
            Check("turned queries and keys give the scores of the pass", look.gap, tolerance),
            Check("frozen norms and heads give what the model gave", run.gap, tolerance),
        ),
    )


def _elsewhere(found: Found) -> float | None:
    """The mean score of the other keys; None where there is no other."""
    others = [place for place in found.seen if place != found.key]
    return float(found.look.scores[found.query, others].double().mean()) if others else None


def _query_rows(found: Found) -> list[dict[str, object]]:
    """The parts of the query, those first that prefer this key most."""
    split, others = found.split, [place for place in found.seen if place != found.key]
    totals = split.query_totals()
    elsewhere = split.query_totals(found.look.keys[others]).mean(1) if others else torch.zeros_like(totals)
    advantages = totals - elsewhere
    return [
        {
            "part": split.query.names[place],
            "kind": split.query.kinds[place],
            "total": float(totals[place]),
            "elsewhere": float(elsewhere[place]),
            "advantage": float(advantages[place]),
        }
        for place in advantages.abs().argsort(descending=True, stable=True).tolist()
    ]


def _key_rows(split: SplitScore) -> list[dict[str, object]]:
    """The parts of the key, largest first."""
    totals = split.key_totals()
    return [
        {"part": split.key.names[place], "kind": split.key.kinds[place], "total": float(totals[place])}
        for place in totals.abs().argsort(descending=True, stable=True).tolist()
    ]


def _pair_rows(split: SplitScore, top: int) -> list[dict[str, object]]:
    """The largest terms."""
    return [
        {"rank": rank, "at_query": split.query.names[first], "at_key": split.key.names[second], "term": term}
        for rank, (first, second, term) in enumerate(split.strongest(top), start=1)
    ]


def _finding(found: Found, parts: list[dict[str, object]]) -> str:
    look, text, split = found.look, found.run.text, found.split
    attention = float(look.pattern[found.query, found.key])
    mean = _elsewhere(found)
    against = "" if mean is None else f" (other keys: {mean:.2f} on average)"
    told = (
        f"Head {look.layer}.{look.head} gives {text[found.key]!r}@{found.key} a score of {split.value:.2f}{against} "
        f"and {attention:.2f} of its attention from {text[found.query]!r}@{found.query}"
    )
    largest = split.strongest(1)
    if not largest:
        return f"{told}; its query or its key is zero, so nothing is compared."
    first, second, term = largest[0]
    return (
        f"{told}; what prefers this key most is {parts[0]['part']} ({parts[0]['advantage']:+.2f}), and the largest "
        f"pair is {split.query.names[first]} with {split.key.names[second]} ({term:+.2f})."
    )


def _notes(found: Found) -> tuple[str, ...]:
    notes = [
        "Terms that are alike at every key change nothing in the softmax; elsewhere is the mean over the other keys.",
        "Attention patterns below the head, and the sizes of all norms, are held as they were.",
    ]
    if len(found.seen) < len(found.run.text):
        notes.append("Keys that are masked have no score (NaN).")
    if found.look.cap is not None:
        notes.append(f"The raw score is split; the model caps it softly at {found.look.cap:g}.")
    return tuple(notes)
