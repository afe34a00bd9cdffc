"""Which of several sets of coders are worth having: those that no other beats in sparsity and quality at once."""

from collections.abc import Sequence
from typing import Any

from workbench.views import Scatter, View

QUALITIES = {"explained_variance": "on_variance_front", "loss_recovered": "on_loss_front"}
"""What is bought with active features, and the column that says whether a point is on its front."""


def fronts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A point for each set and layer, with 1 where no other set of the same layer beats it and 0 elsewhere.

    Args:
        rows: the rows of `quality`.
    """
    points = [{name: row[name] for name in ("coders", "layer", "l0", *QUALITIES)} for row in rows]
    for point in points:
        rivals = [other for other in points if other["layer"] == point["layer"]]
        point["point"] = f"{point['coders']}, layer {point['layer']}"
        for quality, column in QUALITIES.items():
            point[column] = int(_unbeaten(point, rivals, quality))
    return points


def _unbeaten(point: dict[str, Any], rivals: Sequence[dict[str, Any]], quality: str) -> bool:
    """Whether no rival has as few active features and as much quality, and more of one of the two."""
    if point[quality] is None:
        return False
    here = (-point["l0"], point[quality])
    others = [(-rival["l0"], rival[quality]) for rival in rivals if rival[quality] is not None]
    return not any(other != here and other[0] >= here[0] and other[1] >= here[1] for other in others)


def views() -> list[View]:
    """Both plots, of the table `pareto`."""
    titles = {"explained_variance": "explained variance", "loss_recovered": "loss recovered"}
    return [
        Scatter(
            *("l0", quality),
            table="pareto",
            colour=column,
            label="point",
            title=f"Pareto plot: sparsity against {titles[quality]}",
            caption="Up and to the left is better. 1: on the front of its layer, where no other set has as few active "
            "features and as much quality; 0: beaten.",
        )
        for quality, column in QUALITIES.items()
    ]


def sentence(points: Sequence[dict[str, Any]], what: str) -> str:
    """Which sets are on the fronts; of several layers with all of them replaced, L0 and variance as their means.

    Args:
        points: what `fronts` gave.
        what: how the last layer of the points is replaced, in words.
    """
    here = [point for point in points if point["layer"] == points[-1]["layer"]]
    told = []
    for column, name in (("on_variance_front", "explained variance"), ("on_loss_front", "loss recovered")):
        best = [point["coders"] for point in sorted(here, key=lambda point: point["l0"]) if point[column]]
        told.append(f"on L0 and {name} {', '.join(best) or 'none'}")
    return f"Unbeaten among these {len(here)} sets with {what}: {'; '.join(told)}."
