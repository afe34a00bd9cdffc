"""What the analysis says: arrays, tables, views, checks and the finding."""

import numpy as np
import torch
from jaxtyping import Float

from workbench.analyses.sublayer_projections.reading import SOUGHT, Seen
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.stats import bootstrap_mean
from workbench.views import Lines, Table, View

_WORDS = ("attention", "MLP")
_AXES = ("component", "pos", "sublayer", "layer")
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}


def tell(model: Model, seen: list[Seen], positions: tuple[str, ...], top: int, seed: int) -> Result:
    """The result of all questions."""
    hits = np.stack([one.hit for one in seen]).astype(np.float64)
    share, null = hits.mean(0), np.mean([one.null for one in seen], axis=0)
    low, high = bootstrap_mean(hits, seed=seed)
    labels = {"component": SOUGHT, "pos": positions, "sublayer": _WORDS}
    shares = {"share": share, "null": null, "share_low": low, "share_high": high}
    arrays = {name: Named(values, _AXES, "share of the questions", labels) for name, values in shares.items()}
    names = {"example": tuple(one.case.hop.name for one in seen)}
    arrays["rank"] = Named(np.stack([one.rank for one in seen]), ("example", *_AXES), "rank", labels | names)
    return Result(
        arrays=arrays,
        tables={
            "sightings": _sightings(share, null, low, high, positions),
            "questions": [
                row for one in seen for place, name in enumerate(positions) for row in _rows(model, one, place, name)
            ],
        },
        scalars={"questions": len(seen)},
        views=_views(positions, top),
        finding=_finding(share, null, positions, len(seen)),
        notes=_notes(seen),
        checks=_checks(model, seen),
    )


def _sightings(
    share: Float[np.ndarray, "component pos sublayer layer"],
    null: Float[np.ndarray, "component pos sublayer layer"],
    low: Float[np.ndarray, "component pos sublayer layer"],
    high: Float[np.ndarray, "component pos sublayer layer"],
    positions: tuple[str, ...],
) -> list[dict[str, object]]:
    """The sublayers that name something more often than it is named anyway, most often first."""
    places = [place for place in np.ndindex(share.shape) if share[place] > null[place]]
    places.sort(key=lambda place: null[place] - share[place])
    return [
        {
            "name of the": SOUGHT[place[0]],
            "position": positions[place[1]],
            "sublayer": _WORDS[place[2]],
            "layer": place[3],
            "share": float(share[place]),
            "lower": float(low[place]),
            "upper": float(high[place]),
            "null": float(null[place]),
        }
        for place in places
    ]


def _rows(model: Model, one: Seen, place: int, position: str) -> list[dict[str, object]]:
    """Where each name of one question ranks best, and what is on top there."""
    rows = []
    for component, sought in enumerate(SOUGHT):
        ranks = one.rank[component, place]
        sublayer, layer = divmod(int(ranks.argmin()), ranks.shape[1])
        rows.append(
            {
                "name": one.case.hop.name,
                "position": position,
                "name of the": sought,
                "sought": " / ".join(getattr(one.case.hop, sought)),
                "best rank": int(ranks.min()),
                "sublayer": _WORDS[sublayer],
                "layer": layer,
                "on top there": model.tokenizer.decode([int(one.top[place, sublayer, layer])]),
                "seen in": int(one.hit[component, place].sum()),
            }
        )
    return rows


def _views(positions: tuple[str, ...], top: int) -> tuple[View, ...]:
    among = "on top" if top == 1 else f"among the top {top}"
    curves = tuple(
        Lines(
            ("share", "null"),
            x="layer",
            series="sublayer",
            select={"component": component, "pos": place},
            title=f"How often the {sought} is {among} of what a sublayer writes at the {position} position",
        )
        for component, sought in enumerate(SOUGHT)
        for place, position in enumerate(positions)
    )
    return (
        *curves,
        Table("sightings", rows=20, title="Sublayers that name it more often than other questions' names"),
        Table("questions", rows=20, title="Where each name ranks best"),
    )


def _finding(
    share: Float[np.ndarray, "component pos sublayer layer"],
    null: Float[np.ndarray, "component pos sublayer layer"],
    positions: tuple[str, ...],
    count: int,
) -> str:
    told = []
    for component, sought in enumerate(SOUGHT):
        for place, position in enumerate(positions):
            gain = share[component, place] - null[component, place]
            sublayer, layer = divmod(int(gain.argmax()), gain.shape[1])
            if gain.max() <= 0:
                told.append(f"at the {position} position no sublayer names the {sought}")
                continue
            here = (component, place, sublayer, layer)
            told.append(
                f"at the {position} position the {_WORDS[sublayer]} of layer {layer} names the {sought} in "
                f"{100 * share[here]:.0f}% (other questions' names in {100 * null[here]:.1f}%)"
            )
    return f"Of {count} questions: {'; '.join(told)}."


def _notes(seen: list[Seen]) -> tuple[str, ...]:
    notes = ["Only the first tokens of names are looked for, which other words may share."]
    unknown = sum(int(one.rank[component].min() == one.rank[component].max()) for one in seen for component in (0, 1))
    if unknown:
        notes.append(f"{unknown} names rank the same everywhere: they may be no words of this vocabulary.")
    return tuple(notes)


def _checks(model: Model, seen: list[Seen]) -> tuple[Check, ...]:
    allowed = _TOLERANCE[model.dtype]
    return (
        Check("all that is written adds up to the final stream, relative", _worst(seen, "adding"), allowed),
        Check("the final stream read out gives the model's logits, relative", _worst(seen, "reading"), allowed),
    )


def _worst(seen: list[Seen], name: str) -> float:
    return max(getattr(one, name) for one in seen)
