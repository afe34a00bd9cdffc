"""What the analysis says: tables, arrays, views and the finding, from readings and scores."""

import numpy as np
import torch

from workbench.analyses.retrieval_heads.scoring import (
    UNSTABLE,
    Heads,
    Reading,
    Score,
    rows_that_differ,
    score_heads,
)
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.views import Heatmap, Scatter, Table


def tell(
    model: Model, readings: list[Reading], heads: Heads, masking: list[dict], score: Score, threshold: float
) -> Result:
    """The result of a scan in which at least one case was answered."""
    tables = {
        "heads": _head_rows(heads, threshold),
        "bins": _bin_rows(heads.mean),
        "cases": [_case_row(reading) for reading in readings],
    }
    if masking:
        tables["masking"] = masking
    return Result(
        arrays=_case_arrays(readings, score) | _head_arrays(model, heads),
        tables=tables,
        scalars=_scalars(readings, heads.mean, threshold),
        views=_views(masked=bool(masking)),
        finding=_finding(heads, readings, threshold, masking),
        notes=_notes(readings, model),
        checks=_checks(model, readings),
    )


def tell_failure(readings: list[Reading], recall_needed: float) -> Result:
    """The result when nothing was answered: no score, and the reason."""
    best = max(readings, key=lambda reading: reading.recall)
    finding = (
        f"The model answered none of {len(readings)} cases (recall above {recall_needed:g} needed, the best "
        f"is {best.recall:.2f} with {best.said!r}), so no head can be scored."
    )
    return Result(
        arrays={"recall": _recall_grid(readings)},
        tables={"cases": [_case_row(reading) for reading in readings]},
        scalars={"cases": len(readings), "answered": 0},
        views=(Heatmap("recall", x="length", y="depth", title=_GRID), Table("cases", title="What was said")),
        finding=finding,
    )


_GRID = "Share of the answer said, by prompt length and depth"


def _case_row(reading: Reading) -> dict[str, object]:
    case = reading.case
    return {
        "needle": case.needle.name,
        "length": case.length,
        "depth": case.depth,
        "answered": reading.answered,
        "recall": reading.recall,
        "said": reading.said,
        "tokens": case.tokens.lengths[0],
        "span": f"{case.span.start}-{case.span.stop - 1}",
        "passes": reading.decoded.passes,
        "unstable_rows": reading.unstable,
    }


def _case_arrays(readings: list[Reading], score: Score) -> dict[str, Named]:
    """Scores of every case, and the recall over the grid of lengths and depths."""
    scores = np.stack([score_heads(reading, score).cpu().numpy() for reading in readings])
    scores[[not reading.answered for reading in readings]] = np.nan
    names = tuple(f"{one.case.needle.name} {one.case.length}/{one.case.depth}%" for one in readings)
    named = Named(scores, ("example", "layer", "head"), "share of the answer", {"example": names})
    return {"case_score": named, "recall": _recall_grid(readings)}


def _recall_grid(readings: list[Reading]) -> Named:
    depths = sorted({reading.case.depth for reading in readings})
    lengths = sorted({reading.case.length for reading in readings})
    sums = np.zeros((2, len(depths), len(lengths)))
    for reading in readings:
        cell = depths.index(reading.case.depth), lengths.index(reading.case.length)
        sums[:, *cell] += reading.recall, 1
    labels = {"depth": tuple(f"{depth}%" for depth in depths), "length": tuple(map(str, lengths))}
    return Named((sums[0] / sums[1]).astype(np.float32), ("depth", "length"), "share of the words", labels)


def _head_arrays(model: Model, heads: Heads) -> dict[str, Named]:
    axes, unit = ("layer", "head"), "share of the answer"
    groups = heads.mean.reshape(len(heads.mean), model.shape.n_kv_heads, -1).amax(-1)
    return {
        "score": Named(heads.mean.numpy(), axes, unit),
        "frequency": Named(heads.active.numpy(), axes, "share of the cases"),
        "lower": Named(heads.low, axes, unit),
        "upper": Named(heads.high, axes, unit),
        "kv_group_score": Named(groups.numpy(), ("layer", "kv_head"), unit),
    }


def _head_rows(heads: Heads, threshold: float) -> list[dict[str, object]]:
    return [
        {
            "head": f"L{layer}.H{head}",
            "layer": layer,
            "number": head,
            "score": float(heads.mean[layer, head]),
            "lower": float(heads.low[layer, head]),
            "upper": float(heads.high[layer, head]),
            "frequency": float(heads.active[layer, head]),
            "retrieval": bool(heads.mean[layer, head] > threshold),
        }
        for layer, head in heads.ranked
    ]


def _bin_rows(mean: torch.Tensor) -> list[dict[str, object]]:
    """How many heads lie in each of the paper's four bins of the score."""
    bins = {
        "0": mean == 0,
        "0 to 0.1": (mean > 0) & (mean <= 0.1),
        "0.1 to 0.5": (mean > 0.1) & (mean < 0.5),
        "0.5 and more": mean >= 0.5,
    }
    return [
        {"score": name, "heads": int(inside.sum()), "share": float(inside.float().mean())}
        for name, inside in bins.items()
    ]


def _scalars(readings: list[Reading], mean: torch.Tensor, threshold: float) -> dict[str, object]:
    answered = [reading for reading in readings if reading.answered]
    unstable = sum(reading.unstable for reading in answered)
    return {
        "cases": len(readings),
        "answered": len(answered),
        "heads": mean.numel(),
        "retrieval_heads": int((mean > threshold).sum()),
        "best_score": float(mean.max()),
        "unstable_rows": unstable,
        "exact": unstable == 0,
    }


def _checks(model: Model, readings: list[Reading]) -> tuple[Check, ...]:
    """One case decoded again step by step: every token and every top key must be the same."""
    first = next(reading for reading in readings if reading.answered)
    differing = rows_that_differ(model, first)
    rows = first.decoded.rows.keys.numel()
    name = f"of {rows} rows, those that differ from step-by-step decoding (first answered case)"
    return (Check(name, differing, first.unstable),)


def _finding(heads: Heads, readings: list[Reading], threshold: float, masking: list[dict]) -> str:
    layer, head = heads.ranked[0]
    count = int((heads.mean > threshold).sum())
    answered = sum(reading.answered for reading in readings)
    said = (
        f"{count} of {heads.mean.numel()} heads retrieve (score above {threshold:g}); the strongest is "
        f"L{layer}.H{head} with {float(heads.mean[layer, head]):.2f}; {answered} of {len(readings)} cases "
        f"answered"
    )
    if not masking:
        return said + "."
    most = max(row["heads"] for row in masking)
    recall = {row["masked"]: row["recall"] for row in masking if row["heads"] in (0, most)}
    return (
        f"{said}; masking the best {most} takes recall from {recall['none']:.2f} to {recall['top']:.2f}, "
        f"masking {most} random others to {recall['random']:.2f}."
    )


def _notes(readings: list[Reading], model: Model) -> tuple[str, ...]:
    notes = ["NaN in case_score marks cases that the model did not answer; they count in no mean."]
    unstable = sum(reading.unstable for reading in readings)
    if unstable:
        notes.append(f"In {unstable} rows the top key leads by less than {UNSTABLE:g}: another kernel could flip them.")
    again = len(readings) - len({tuple(reading.case.ids) for reading in readings})
    if again:
        notes.append(
            f"{again} cases repeat the prompt of another: no sentence ends between their depths, and a needle "
            f"stands behind a sentence. Longer prompts tell such depths apart."
        )
    heads, groups = model.shape.n_heads, model.shape.n_kv_heads
    if groups < heads:
        notes.append(f"{heads} query heads share {groups} key-value heads: keys are common to a group.")
    return tuple(notes)


def _views(masked: bool) -> tuple[Heatmap | Scatter | Table, ...]:
    views = (
        Heatmap("score", x="head", y="layer", title="Retrieval score of every head"),
        Scatter("score", "frequency", table="heads", label="head", title="How much and how often a head copies"),
        Heatmap("recall", x="length", y="depth", title=_GRID),
        Table("heads", rows=15, title="Heads, best first"),
        Table("bins", title="Heads by score"),
    )
    return (*views, Table("masking", title="Recall with heads masked")) if masked else views
