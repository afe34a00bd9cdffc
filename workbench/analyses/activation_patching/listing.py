"""The tables of a study."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.analyses.activation_patching.collecting import Grid, Places, Studied
from workbench.analyses.activation_patching.comparing import agreement, rank_correlations
from workbench.analyses.activation_patching.estimating import AT_CLEAN, AT_CORRUPT, DIRECT, INTEGRATED
from workbench.analyses.activation_patching.patching import ABLATIONS, DENOISE, NOISE, Plan

_CAUSES = (DIRECT, DENOISE, NOISE, *ABLATIONS)
_COMPARED = (
    *combinations(_CAUSES, 2),
    *((DENOISE, AT_CORRUPT), (DENOISE, INTEGRATED), (NOISE, AT_CLEAN), (NOISE, INTEGRATED)),
)
"""The measures that are compared: what has an effect with each other, and each estimate with what it estimates."""

_LISTED = 50
"""Heads at single positions that are listed."""

Row = dict[str, Any]


def head_names(plan: Plan, layers: int) -> list[list[str]]:
    """What each head of each layer is called."""
    letter = "KV" if plan.head_kind in ("k", "v") else "H"
    return [[f"L{layer}.{letter}{head}" for head in range(plan.heads)] for layer in range(layers)]


def pair_rows(studied: Sequence[Studied]) -> list[Row]:
    """Every pair and what it gives without a patch."""
    return [_pair_row(number, one) for number, one in enumerate(studied)]


def _pair_row(number: int, one: Studied) -> Row:
    pair = one.case.aligned.pair
    return {
        "example": number,
        "target": pair.target,
        "distractor": pair.distractor,
        "clean": one.patched.clean,
        "corrupt": one.patched.corrupt,
        "difference": one.patched.gap,
        "clean prompt": pair.clean,
        "corrupt prompt": pair.corrupt,
        "tokens": one.case.length,
        "first changed": one.case.first,
    }


def agreement_rows(grid: Grid, where: str, names: list[list[str]]) -> list[Row]:
    """How the measures of a grid agree, two at a time; `names` are those of its places."""
    return [agreement(grid, where, names, *two) for two in _COMPARED if set(two) <= set(grid.measures)]


def head_tables(heads: Grid, names: list[list[str]]) -> dict[str, list[Row]]:
    """Every head under every measure, its ranks (1 speaks most for the answer), and how the ranks correlate."""
    ranks = {name: np.argsort(np.argsort(-heads.of(name), axis=None, kind="stable")) for name in heads.measures}
    size = np.abs(heads.of(DENOISE)) + np.abs(heads.of(NOISE))
    return {
        "heads": [
            {"head": names[layer][head], **{name: float(heads.of(name)[layer, head]) for name in heads.measures}}
            for layer, head in ordered(-size)
        ],
        "ranks": [
            {
                "head": names[layer][head],
                **{name: int(rank.reshape(size.shape)[layer, head]) + 1 for name, rank in ranks.items()},
            }
            for layer, head in ordered(-heads.of(DENOISE))
        ],
        "correlations": [
            {"measure": name, **dict(zip(heads.measures, map(_known, row), strict=True))}
            for name, row in zip(heads.measures, rank_correlations(heads).tolist(), strict=True)
        ],
    }


def head_at_rows(apart: list[Grid], names: list[list[str]], places: Places) -> list[Row]:
    """The heads and positions whose patches do most in either direction."""
    rows: list[Row] = [
        {"head": names[layer][head], "position": label}
        | {name: float(grid.of(name)[layer, place]) for name in grid.measures}
        for head, grid in enumerate(apart)
        for layer in range(len(names))
        for place, label in enumerate(places.labels)
    ]
    return sorted(rows, key=lambda row: -abs(row[DENOISE]) - abs(row[NOISE]))[:_LISTED]


def ordered(values: Float[np.ndarray, "layer place"]) -> list[tuple[int, int]]:
    """The places from the smallest value to the largest."""
    order = np.unravel_index(np.argsort(values, axis=None, kind="stable"), values.shape)
    return [(int(layer), int(head)) for layer, head in zip(*order, strict=True)]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
