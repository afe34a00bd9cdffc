"""How far the measures agree, and where they do not."""

import numpy as np
from jaxtyping import Float

from workbench.analyses.activation_patching.collecting import Grid
from workbench.stats import pearson, spearman

_TOP = 10
"""So many of the largest effects of two measures are compared by name."""

_DECIMALS = 6
"""Effects below a millionth of the difference are taken for nothing, for there is only rounding."""


def rank_correlations(grid: Grid) -> Float[np.ndarray, "measure other"]:
    """Spearman's correlation of every two measures over all places; NaN for a measure that is nowhere above 0."""
    return np.array([[_rank_correlation(one, two) for two in grid.mean] for one in grid.mean])


def agreement(grid: Grid, where: str, names: list[list[str]], one: str, two: str) -> dict[str, object]:
    """How two measures agree, and the place at which they are widest apart.

    Args:
        grid: the effects.
        where: what is patched, for the table.
        names: of every place, by layer.
        one: a measure.
        two: another one.
    """
    first, second = (grid.of(name).round(_DECIMALS) for name in (one, two))
    best = largest(first) | largest(second)
    apart = np.unravel_index(int(np.nanargmax(np.abs(first - second))), first.shape)
    rank, straight = _rank_correlation(first, second), pearson(first.ravel(), second.ravel())
    return {
        "where": where,
        "measure": one,
        "other": two,
        "spearman": None if np.isnan(rank) else rank,
        "widest apart at": names[apart[0]][apart[1]],
        "measure there": float(first[apart]),
        "other there": float(second[apart]),
        "pearson": None if np.isnan(straight) else straight,
        "shared of the largest": len(largest(first) & largest(second)) / min(_TOP, first.size),
        "opposite signs among these": int(sum(first[place] * second[place] < 0 for place in best)),
    }


def largest(values: Float[np.ndarray, "layer place"]) -> set[tuple[int, int]]:
    """The places of the largest effects, either sign."""
    order = np.argsort(-np.abs(values), axis=None, kind="stable")[:_TOP]
    return {(int(layer), int(place)) for layer, place in zip(*np.unravel_index(order, values.shape), strict=True)}


def _rank_correlation(first: Float[np.ndarray, "layer place"], second: Float[np.ndarray, "layer place"]) -> float:
    return spearman(first.round(_DECIMALS).ravel(), second.round(_DECIMALS).ravel())
