"""The page of the saved runs: open, collect, compare, delete."""

from collections.abc import Mapping, Sequence

import streamlit as st

from apps.basket import collect
from apps.service import service
from apps.session import RUN
from apps.wording import counted, inert, size
from workbench.store import Run

FIRST, SECOND = "first", "second"
"""The parameters of the address of the comparison page."""


def runs_page(pages: Mapping[str, st.Page], compare: st.Page) -> None:
    """Draw the page.

    Args:
        pages: the page of each analysis.
        compare: the comparison page.
    """
    st.header("Runs", anchor=False)
    runs = service().store.runs()
    if not runs:
        st.markdown("Nothing is saved yet: choose an analysis and press **Run**.")
        return
    shown = _filtered(runs)
    st.caption(f"{counted(len(shown), 'run')} of {len(runs):,}, {size(sum(run.bytes for run in shown))}. Tick rows.")
    event = st.dataframe(
        [_row(run) for run in shown],
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key="run table",
        column_config={"finding": st.column_config.TextColumn(width=360)},
    )
    ticked = [shown[row] for row in event["selection"]["rows"] if row < len(shown)]
    with st.container(horizontal=True):
        _actions(ticked, pages, compare)


def _filtered(runs: Sequence[Run]) -> list[Run]:
    """The runs of the chosen analyses and models, newest first."""
    left, right = st.columns(2)
    analyses = left.multiselect("Analysis", sorted({run.analysis for run in runs}), key="runs of", placeholder="all")
    models = right.multiselect("Model", sorted({run.model_name for run in runs}), key="runs on", placeholder="all")
    return [
        run for run in runs if (not analyses or run.analysis in analyses) and (not models or run.model_name in models)
    ]


def _row(run: Run) -> dict[str, object]:
    return {
        "analysis": run.title,
        "model": run.model_name,
        "finding": run.finding,
        "checks": "passed" if run.passed else "FAILED",
        "seconds": None if run.seconds is None else round(run.seconds, 1),
        "made (UTC)": run.created[:16].replace("T", " "),
        "run": run.id,
    }


def _actions(ticked: Sequence[Run], pages: Mapping[str, st.Page], compare: st.Page) -> None:
    """What can be done with the ticked runs."""
    ids = [run.id for run in ticked]
    for run in ticked[:1]:
        if len(ticked) == 1 and run.analysis in pages:
            label = f"Open {inert(run.title)}"
            st.page_link(pages[run.analysis], label=label, icon=":material/open_in_new:", query_params={RUN: run.id})
    if st.button("Add to report", disabled=not ids, icon=":material/add:"):
        collect(ids)
        st.toast(f"{counted(len(ids), 'run')} added to the report")
    if len(ticked) == 2 and ticked[0].analysis == ticked[1].analysis:
        query = {FIRST: ids[1], SECOND: ids[0]}  # the older one first
        st.page_link(compare, label="Compare", icon=":material/compare_arrows:", query_params=query)
    with st.popover("Delete", disabled=not ids, icon=":material/delete:"):
        st.markdown(f"Delete {counted(len(ids), 'run')}? This cannot be undone.")
        if st.button("Delete for good", type="primary"):
            for run in ids:
                service().store.delete(run)
            st.rerun()
