"""The effects of all pairs put together: means as shares of the difference, and what positions stand for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.alignment import ROLES
from workbench.analyses.activation_patching.cases import Case
from workbench.analyses.activation_patching.estimating import AT_CLEAN, AT_CORRUPT, DIRECT, INTEGRATED
from workbench.analyses.activation_patching.patching import ABLATIONS, DENOISE, NOISE, NULL, Patched
from workbench.stats import bootstrap_mean

MEASURES = (DIRECT, DENOISE, NOISE, *ABLATIONS, AT_CORRUPT, AT_CLEAN, INTEGRATED, NULL)
"""All measures, in the order in which they are shown."""


@dataclass(frozen=True)
class Studied:
    """One pair under all measures.

    Attributes:
        case: the pair.
        patched: its exact effects.
        effects: for each measure and kind of site [layer, head] or [layer, pos], exact and estimated, in
            units of the metric.
        total: what the integrated gradients add up to over the tokens that enter; None without a path.
    """

    case: Case
    patched: Patched
    effects: dict[tuple[str, str], Float[np.ndarray, "layer place"]]
    total: float | None

    def stacked(self, measures: Sequence[str], kind: str) -> Float[np.ndarray, "component layer place"]:
        """The effects of some measures at one kind of site; NaN where there is none."""
        shape = next(values.shape for (_, where), values in self.effects.items() if where == kind)
        return np.stack([self.effects.get((name, kind), np.full(shape, np.nan)) for name in measures])


@dataclass(frozen=True)
class Grid:
    """All effects at one kind of site.

    Attributes:
        measures: their names.
        raw: of each pair, in units of the metric; NaN where a pair has none.
        mean: over the pairs, as a share of the mean difference between clean and corrupt.
        limits: the ends of the 95% bootstrap intervals of `mean`; None for a single pair.
    """

    measures: tuple[str, ...]
    raw: Float[np.ndarray, "example component layer place"]
    mean: Float[np.ndarray, "component layer place"]
    limits: tuple[Float[np.ndarray, "component layer place"], Float[np.ndarray, "component layer place"]] | None

    def of(self, measure: str) -> Float[np.ndarray, "layer place"]:
        """The mean of one measure."""
        return self.mean[self.measures.index(measure)]


def head_grid(studied: Sequence[Studied], kind: str, seed: int) -> Grid:
    """The effects at the heads, with intervals."""
    measures, gap = _measures(studied, kind), mean_gap(studied)
    raw = np.stack([one.stacked(measures, kind) for one in studied])
    shares = [values[np.isfinite(values[:, 0, 0])] / gap for values in raw.swapaxes(0, 1)]
    limits = None
    if len(studied) > 1:
        ends = [bootstrap_mean(values, seed=seed) for values in shares]
        limits = np.stack([low for low, _ in ends]), np.stack([high for _, high in ends])
    return Grid(measures, raw, np.stack([values.mean(0) for values in shares]), limits)


def mean_gap(studied: Sequence[Studied]) -> float:
    """By how much clean is above corrupt on average, in units of the metric."""
    return float(np.mean([one.patched.gap for one in studied]))


def _measures(studied: Sequence[Studied], kind: str) -> tuple[str, ...]:
    return tuple(name for name in MEASURES if any((name, kind) in one.effects for one in studied))


@dataclass(frozen=True)
class Places:
    """What the columns of the grids of positions stand for.

    Attributes:
        labels: of each column.
        columns: for each pair, the column of every position from the first changed token on.
        aligned: whether a column is one and the same position in every pair, or else a role.
    """

    labels: tuple[str, ...]
    columns: tuple[tuple[int, ...], ...]
    aligned: bool


def find_places(studied: Sequence[Studied]) -> Places:
    """Positions as they are where all pairs have the same length and change the same ones, else their roles."""
    cases = [one.case for one in studied]
    first = cases[0].aligned
    if all((case.length, case.aligned.changed) == (first.length, first.changed) for case in cases):
        places = range(first.first, first.length)
        texts = [[case.aligned.tokens.text[0][pos] for case in cases] for pos in places]
        labels = tuple(
            f"{pos}: {some[0] if len(set(some)) == 1 else first.role(pos)}"
            for pos, some in zip(places, texts, strict=True)
        )
        return Places(labels, tuple(tuple(range(len(places))) for _ in cases), aligned=True)
    columns = tuple(
        tuple(ROLES.index(case.aligned.role(pos)) for pos in range(case.first, case.length)) for case in cases
    )
    used = sorted({column for some in columns for column in some})
    return Places(
        tuple(ROLES[column] for column in used),
        tuple(tuple(used.index(column) for column in some) for some in columns),
        aligned=False,
    )


def place_grid(studied: Sequence[Studied], kind: str, places: Places) -> Grid:
    """The effects at the positions: of each pair the mean over the positions of a column, then over the pairs."""
    measures, grids = _measures(studied, kind), []
    for one, columns in zip(studied, places.columns, strict=True):
        member = np.array(columns)[:, None] == np.arange(len(places.labels))
        count = member.sum(0)
        sums = one.stacked(measures, kind)[..., -len(columns) :] @ member
        grids.append(np.divide(sums, count, out=np.full(sums.shape, np.nan), where=count > 0))
    raw = np.stack(grids)
    return Grid(measures, raw, np.nanmean(raw, axis=0) / mean_gap(studied), None)
