"""What the analysis says: arrays, tables, views, checks and the finding."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from workbench.analyses.attention_knockout.cutting import KEYS, READ, Cutting, window
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.stats import bootstrap_mean
from workbench.views import Lines, Table, View

_AXES = ("component", "key", "layer")
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}
_CUT = {"entity": "the entity's last token", "name": "the entity's name", "others": "as many other tokens"}


def tell(model: Model, cuttings: list[Cutting], reach: int, draws: int, seed: int) -> Result:
    """The result when at least one question was cut."""
    probability = np.stack([one.probability for one in cuttings])
    plain = np.stack([one.plain for one in cuttings])
    change = probability - plain[:, :, None, None]
    mean, low, high = _means(change, seed)
    turned = _nanmean(np.stack([one.turned for one in cuttings]))
    labels = {"component": READ, "key": KEYS}
    names = {"example": tuple(one.case.hop.name for one in cuttings)}
    arrays = {
        "change": Named(mean, _AXES, "probability", labels),
        "change_low": Named(low, _AXES, "probability", labels),
        "change_high": Named(high, _AXES, "probability", labels),
        "turned": Named(turned, _AXES[1:], "share of the questions", {"key": KEYS}),
        "probability": Named(probability, ("example", *_AXES), "probability", labels | names),
        "plain": Named(plain, ("example", "component"), "probability", {"component": READ} | names),
    }
    best = int(mean[0, 0].argmin())
    return Result(
        arrays=arrays,
        tables={
            "windows": _window_rows(mean, low, high, turned, reach),
            "questions": [_question_row(model, one) for one in cuttings],
        },
        scalars={
            "questions": len(cuttings),
            "strongest_window": best,
            "change_there": float(mean[0, 0, best]),
            "change_of_others_there": float(mean[0, 2, best]),
        },
        views=_views(reach),
        finding=_finding(mean, turned, best, reach, len(cuttings)),
        notes=_notes(model, probability, draws),
        checks=_checks(model, cuttings),
    )


def tell_failure(asked: int, tested: str) -> Result:
    """The result when no question passes the filters."""
    wanted = {"correct": "right", "incorrect": "wrong"}[tested]
    return Result(
        scalars={"questions": 0},
        finding=f"None of {asked} questions is known and answered {wanted}, so nothing was cut.",
    )


def _means(
    change: Float[np.ndarray, "example component key layer"], seed: int
) -> tuple[Float[np.ndarray, "component key layer"], ...]:
    """Means over the questions that have a number, and the ends of their intervals."""
    ends = np.full((2, *change.shape[1:]), np.nan)
    for place in np.ndindex(change.shape[1:3]):
        known = change[:, *place][np.isfinite(change[:, *place]).all(-1)]
        if len(known):
            ends[:, *place] = bootstrap_mean(known, seed=seed)
    return _nanmean(change), ends[0], ends[1]


def _nanmean(values: Float[np.ndarray, "example ..."]) -> Float[np.ndarray, "..."]:
    """The mean over the questions that have a number; NaN where none has."""
    known = np.isfinite(values)
    counts = known.sum(0)
    return np.where(counts > 0, np.where(known, values, 0).sum(0) / np.maximum(counts, 1), np.nan)


def _window_rows(
    mean: Float[np.ndarray, "component key layer"],
    low: Float[np.ndarray, "component key layer"],
    high: Float[np.ndarray, "component key layer"],
    turned: Float[np.ndarray, "key layer"],
    reach: int,
) -> list[dict[str, Any]]:
    """For each set of tokens its strongest window, by what the model says."""
    rows: list[dict[str, Any]] = []
    for place, key in enumerate(KEYS):
        if not np.isfinite(mean[0, place]).all():
            continue
        middle = int(np.abs(mean[0, place]).argmax())
        rows.append(
            {
                "cut": _CUT[key],
                "layers": _layers(mean.shape[-1], middle, reach),
                "change of what is said": float(mean[0, place, middle]),
                "lower": float(low[0, place, middle]),
                "upper": float(high[0, place, middle]),
                "change of the bridge": _number(mean[1, place, middle]),
                "change of the answer": _number(mean[2, place, middle]),
                "turned": float(turned[place, middle]),
            }
        )
    return rows


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _layers(layers: int, middle: int, reach: int) -> str:
    held = window(layers, middle, reach)
    return f"layers {held[0]}-{held[-1]}" if len(held) > 1 else f"layer {held[0]}"


def _question_row(model: Model, one: Cutting) -> dict[str, Any]:
    middle = int(one.probability[0, 0].argmin())
    return {
        "name": one.case.hop.name,
        "prompt": one.case.hop.prompt,
        "said": model.tokenizer.decode([one.said]),
        "probability": float(one.plain[0]),
        "tokens of the name": one.cuts[1],
        "strongest window": middle,
        "probability there": float(one.probability[0, 0, middle]),
        "with others cut": _number(one.probability[0, 2, middle]),
    }


def _views(reach: int) -> tuple[View, ...]:
    of = {"said": "what the model says", "bridge": "the bridge", "answer": "the answer"}
    curves = tuple(
        Lines(
            "change",
            x="layer",
            series="key",
            lower="change_low",
            upper="change_high",
            select={"component": component},
            title=f"Change of the probability of {of[name]}",
            caption=f"Each layer is the middle of a window of {2 * reach + 1} in which the last token is kept from "
            "attending to these tokens.",
        )
        for component, name in enumerate(READ)
    )
    return (
        *curves,
        Lines("turned", x="layer", series="key", title="How often another token comes first"),
        Table("windows", title="The strongest window for each set of tokens"),
        Table("questions", rows=20, title="Questions, and where each depends most on the entity"),
    )


def _finding(
    mean: Float[np.ndarray, "component key layer"],
    turned: Float[np.ndarray, "key layer"],
    best: int,
    reach: int,
    count: int,
) -> str:
    beside = ""
    if np.isfinite(mean[0, 2, best]):
        beside = f", with as many other tokens cut by {mean[0, 2, best]:+.3f}"
    return (
        f"Kept from the entity's last token in {_layers(mean.shape[-1], best, reach)}, the probability of "
        f"what the model says changes by {mean[0, 0, best]:+.3f} on average over {count} questions{beside}; another "
        f"token comes first in {100 * turned[0, best]:.0f}%."
    )


def _notes(model: Model, probability: Float[np.ndarray, "example component key layer"], draws: int) -> tuple[str, ...]:
    idle = [str(layer) for layer in range(model.shape.n_layers) if layer not in model.capabilities.writable["scores"]]
    notes = [f"Of the other tokens {draws} random sets were cut for each question; the first token is never in one."]
    if idle:
        notes.append(
            f"The attention of the layers {', '.join(idle)} has no effect in this model: nothing is cut there."
        )
    if np.isnan(probability).any():
        notes.append("NaN: a question has too few other tokens, or a name that is no word of the vocabulary.")
    return tuple(notes)


def _checks(model: Model, cuttings: list[Cutting]) -> tuple[Check, ...]:
    allowed = _TOLERANCE[model.dtype]
    looped = sum(one.looped for one in cuttings)
    return (
        Check("without a cut a row gives the plain probability", max(one.identity_gap for one in cuttings), allowed),
        Check(f"{looped} sampled cuts by the plain loop give the same", max(one.loop_gap for one in cuttings), allowed),
    )
