"""What the pages of one head and of one neuron share: which one, and the saved runs that may speak of it."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from apps.held import held
from apps.selection import choose, selection
from apps.service import saved_result, service
from apps.session import RUN
from apps.wording import inert
from workbench.result import Result


def which(unit: str) -> tuple[int, int]:
    """The layer and the number that two number fields say, which are the selected ones."""
    left, right, _ = st.columns([1, 1, 4])
    fields = []
    for place, axis in ((left, "layer"), (right, unit)):
        now, change = partial(_chosen_on, axis), partial(_choose_on, axis)
        widget = held(f"card {axis}", now(), now, change)
        fields.append(place.number_input(axis, min_value=0, step=1, value=now(), **widget))
    return fields[0], fields[1]


def _chosen_on(axis: str) -> int:
    return selection().get(axis, 0)


def _choose_on(axis: str, index: int) -> None:
    choose(**{axis: index})


def newest_runs(model: str) -> dict[str, Result]:
    """The newest run of each analysis on a model."""
    found: dict[str, str] = {}
    for run in service().runs():
        if run.model_name == model:
            found.setdefault(run.analysis, run.id)
    return {run: saved_result(run) for run in found.values()}


def place_of(row: Mapping[str, Any]) -> int:
    """Where a unit stands: by absolute value where there are both signs."""
    return row["rank_of_size"] or row["rank"]


def measures(rows: list[dict[str, Any]], name: str, unit: str) -> None:
    """The best place in words, and all measures as a table."""
    best = min(rows, key=place_of)
    words = inert(best["measure"].replace("_", " "))
    told = f"Of {best[f'{unit}s']} {unit}s {name} is number {place_of(best)} in {words}: {best['value']:.3g}."
    st.markdown(f"**{told}**")
    st.dataframe(rows, hide_index=True, column_config={"value": st.column_config.NumberColumn(format="%.4g")})
    st.caption("Rank 1 is the highest value; rank of size counts by absolute value where there are both signs.")


def sources(pages: Mapping[str, st.Page], results: Mapping[str, Result], analyses: set[str]) -> None:
    """Links to the runs that the numbers are from."""
    for run, result in results.items():
        if result.analysis in analyses and result.analysis in pages:
            st.page_link(pages[result.analysis], label=f"Open {inert(result.title)}", query_params={RUN: run})
            st.caption(inert(result.finding))
