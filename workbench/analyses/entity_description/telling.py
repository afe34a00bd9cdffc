"""What the analysis says: arrays, tables, views, checks and the finding."""

from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.analyses.entity_description.patching import Described
from workbench.analyses.entity_description.scoring import ENTITIES, Scores, first_hit
from workbench.hops import mentions
from workbench.questions import Match, names_of
from workbench.result import Check, Named, Result
from workbench.views import Heatmap, Lines, Table, View

_AXES = ("component", "pos", "source_layer", "target_layer")


def tell(described: Described, scores: Scores, positions: tuple[str, ...], description: str, match: Match) -> Result:
    """The result of all questions."""
    labels = {"component": ENTITIES, "pos": positions}
    unit = "share of the questions"
    arrays = {"share": Named(scores.said.mean(0), _AXES, unit, labels)}
    rates = {name: _nanmean(rate) for name, rate in scores.rates.items()}
    arrays |= {name: Named(rate, _AXES[:-1], unit, labels) for name, rate in rates.items()}
    return Result(
        arrays=arrays,
        tables={
            "layers": _layer_rows(scores, rates, positions),
            "descriptions": _description_rows(described, positions, match),
            "questions": [{"name": case.hop.name, "prompt": case.hop.prompt} for case in described.cases],
        },
        scalars={"questions": len(described.cases), "plain": described.plain},
        views=_views(positions),
        finding=_finding(scores, rates, positions),
        notes=_notes(described, description),
        checks=(
            Check("patches of the description with itself that change it", described.changed, 0),
            Check(
                f"of {described.looped} sampled patches, those the plain loop decodes differently",
                described.differing,
                0,
            ),
        ),
    )


def _nanmean(values: Float[np.ndarray, "example ..."]) -> Float[np.ndarray, "..."]:
    """The mean over the questions; NaN where there is no number."""
    known = np.isfinite(values)
    return np.where(known.all(0), np.where(known, values, 0).mean(0), np.nan)


def _layer_rows(
    scores: Scores, rates: dict[str, Float[np.ndarray, "component pos source_layer"]], positions: tuple[str, ...]
) -> list[dict[str, Any]]:
    """For each entity and position the source layer that is decoded most often, beside its controls."""
    rows: list[dict[str, Any]] = []
    for component, entity in enumerate(ENTITIES):
        for place, position in enumerate(positions):
            best = int(rates["decoded"][component, place].argmax())
            ever = scores.rates["decoded"][:, component, place].max(-1)
            numbers = {name: rate[component, place, best] for name, rate in rates.items()}
            rows.append(
                {
                    "described as the": entity,
                    "position": position,
                    "from any layer": float(ever.mean()),
                    "best source layer": best,
                    **{name: float(value) if np.isfinite(value) else None for name, value in numbers.items()},
                }
            )
    return rows


def _description_rows(described: Described, positions: tuple[str, ...], match: Match) -> list[dict[str, Any]]:
    """For each question and entity the first pair of layers that describes it, and what is said there."""
    rows: list[dict[str, Any]] = []
    for example, case in enumerate(described.cases):
        for position in positions:
            for entity in ENTITIES:
                names = names_of(case.hop, entity)
                trial = first_hit(described.said, names, example, position, match)
                rows.append(
                    {
                        "name": case.hop.name,
                        "position": position,
                        "described as the": entity,
                        "names": " / ".join(names),
                        "source": None if trial is None else trial.source,
                        "target": None if trial is None else trial.target,
                        "said": "" if trial is None else described.said[trial],
                    }
                )
    return rows


def _views(positions: tuple[str, ...]) -> tuple[View, ...]:
    places = [(c, p, entity, position) for c, entity in enumerate(ENTITIES) for p, position in enumerate(positions)]
    curves = tuple(
        Lines(
            ("decoded", "random_vector", "other_prompt", "other_names"),
            x="source_layer",
            select={"component": component, "pos": place},
            title=f"How often some target layer describes the {entity}, from the {position} position",
        )
        for component, place, entity, position in places
    )
    maps = tuple(
        Heatmap(
            "share",
            x="target_layer",
            y="source_layer",
            select={"component": component, "pos": place},
            title=f"How often the {entity} is described, from the {position} position",
        )
        for component, place, entity, position in places
    )
    return (
        *curves,
        *maps,
        Table("layers", title="The layer that is described best, beside its controls"),
        Table("descriptions", rows=20, title="The first description that names it"),
        Table("questions", rows=20, title="The questions"),
    )


def _finding(
    scores: Scores, rates: dict[str, Float[np.ndarray, "component pos source_layer"]], positions: tuple[str, ...]
) -> str:
    told = []
    for row in _layer_rows(scores, rates, positions):
        if not row["from any layer"]:
            continue
        random = row["random_vector"]
        told.append(
            f"the {row['described as the']} in {100 * row['decoded']:.0f}% (from the {row['position']} position, layer "
            f"{row['best source layer']}; random vectors {100 * (random or 0):.0f}%)"
        )
    count = len(scores.said)
    return f"Of {count} questions, descriptions name {'; '.join(told) if told else 'nothing that was sought'}."


def _notes(described: Described, description: str) -> tuple[str, ...]:
    notes = [
        f"Without a patch the description goes on with {described.plain!r}.",
        "NaN marks pairs of layers that were not patched, and controls that need more questions.",
    ]
    told = sorted(
        {
            name
            for case in described.cases
            for entity in ENTITIES
            for name in names_of(case.hop, entity)
            if mentions(f"{description} {described.plain}", [name])
        }
    )
    if told:
        notes.append(f"Said by the description without any patch: {', '.join(told)}; naming these proves nothing.")
    return tuple(notes)
