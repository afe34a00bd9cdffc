"""The first page: what was found lately, and what there is to do. It needs no model and no torch."""

from collections.abc import Iterator, Mapping

import streamlit as st

from apps.service import service
from apps.session import RUN
from apps.wording import inert
from workbench.entry import Entry
from workbench.store import Run

QUESTIONS = {
    "Look": ("lens", "attention", "neurons"),
    "Cause": ("causes",),
    "Find": ("features", "circuits", "depth", "learning"),
    "Change": ("changes",),
}
"""What a researcher asks, and the families of analyses that answer."""
_NEWEST = 12
_OPEN = ":material/arrow_forward:"


def welcome_page(entries: Mapping[str, Entry], pages: Mapping[str, st.Page]) -> None:
    """Draw the first page.

    Args:
        entries: the catalogue.
        pages: the page of each analysis.
    """
    st.header("Look inside a language model", anchor=False)
    left, right = st.columns(2, gap="large")
    with left:
        _newest_runs(pages)
    with right:
        _analyses(entries, pages)


def _newest_runs(pages: Mapping[str, st.Page]) -> None:
    st.subheader("Newest findings", anchor=False)
    runs = [run for run in service().store.runs() if run.analysis in pages][:_NEWEST]
    if not runs:
        st.markdown("Nothing is saved yet: choose an analysis and press **Run**, or type `workbench tour` in a shell.")
    for run in runs:
        _run_card(run, pages[run.analysis])


def _run_card(run: Run, page: st.Page) -> None:
    with st.container(border=True):
        label = f"**{inert(run.title)}** on {inert(run.model_name)}"
        st.page_link(page, label=label, icon=_OPEN, query_params={RUN: run.id})
        st.text(run.finding)
        failed = "" if run.passed else " A self-check FAILED."
        st.caption(f"{inert(run.created[:16].replace('T', ' '))} UTC, run {run.id}.{failed}")


def _analyses(entries: Mapping[str, Entry], pages: Mapping[str, st.Page]) -> None:
    st.subheader("Analyses", anchor=False)
    for question, members in by_question(entries):
        st.markdown(f"**{question}**")
        for entry in members:
            with st.container(border=True):
                st.page_link(pages[entry.name], label=f"**{inert(entry.title)}**", icon=_OPEN)
                st.caption(inert(entry.summary))


def by_question(entries: Mapping[str, Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """The analyses that answer each question, where there are any."""
    for question, families in QUESTIONS.items():
        members = [entry for family in families for entry in entries.values() if entry.family == family]
        if members:
            yield question, members
