"""The first page: a finished example to click into, what was found lately, and what there is to do.

It needs no model and no torch.
"""

from collections.abc import Iterator, Mapping

import streamlit as st

from apps.pictures import pictures
from apps.service import saved_result, service
from apps.session import RUN
from apps.show import finding_line
from apps.trouble import tell_mistake
from apps.wording import inert
from workbench.entry import Entry
from workbench.examples import example_runs
from workbench.mistakes import MISTAKES
from workbench.store import Run
from workbench.views import Table

QUESTIONS = {
    "Look": ("lens", "attention", "neurons"),
    "Cause": ("causes",),
    "Find": ("features", "circuits", "depth", "learning"),
    "Change": ("changes",),
}
"""What a researcher asks, and the families of analyses that answer."""
_NEWEST = 5
_OPEN = ":material/arrow_forward:"


def welcome_page(entries: Mapping[str, Entry], pages: Mapping[str, st.Page]) -> None:
    """Draw the first page.

    Args:
        entries: the catalogue.
        pages: the page of each analysis.
    """
    st.header("Look inside a language model", anchor=False)
    left, right = st.columns([5, 3], gap="large")
    with left:
        _example(pages)
    with right:
        _newest_runs(pages)
        _analyses(entries, pages)


def _example(pages: Mapping[str, st.Page]) -> None:
    """One finished result, to be clicked into; the buttons above choose another."""
    runs = {run.id: run for run in example_runs() if run.analysis in pages}
    if not runs:
        return
    chosen = st.pills(
        "Finished examples: click into the pictures, no model is needed",
        list(runs),
        format_func=lambda name: inert(runs[name].title),
        default=next(iter(runs)),
        required=True,
        wrap=True,
        key="example",
    )
    try:
        result = saved_result(chosen)
    except MISTAKES as error:
        tell_mistake(error)
        return
    finding_line(result)
    tables = [place for place, view in enumerate(result.views) if isinstance(view, Table)]
    drawn = [place for place in range(len(result.views)) if place not in tables]
    pictures(result, chosen, [*drawn[:1], *tables[:1]])
    label = "Open it: all pictures and tables, how it was made, the same with your own prompt"
    st.page_link(pages[result.analysis], label=label, icon=_OPEN, query_params={RUN: chosen})


def _newest_runs(pages: Mapping[str, st.Page]) -> None:
    st.subheader("Newest findings", anchor=False)
    runs = [run for run in service().store.runs() if run.analysis in pages][:_NEWEST]
    if not runs:
        st.markdown("Nothing is saved yet: open an analysis and press **Run**. What it finds is kept and listed here.")
    for run in runs:
        _run_card(run, pages[run.analysis])


def _run_card(run: Run, page: st.Page) -> None:
    with st.container(border=True, gap="xxsmall"):
        label = f"**{inert(run.title)}** on {inert(run.model_name)}"
        st.page_link(page, label=label, icon=_OPEN, query_params={RUN: run.id})
        st.text(run.finding)
        failed = "" if run.passed else " A self-check FAILED."
        st.caption(f"{inert(run.created[:16].replace('T', ' '))} UTC, run {run.id}.{failed}")


def _analyses(entries: Mapping[str, Entry], pages: Mapping[str, st.Page]) -> None:
    st.subheader("Analyses", anchor=False)
    for question, members in by_question(entries):
        st.markdown(f"**{question}**")
        with st.container(gap="xxsmall"):
            for entry in members:
                st.page_link(pages[entry.name], label=inert(entry.title), help=inert(entry.summary), icon=_OPEN)


def by_question(entries: Mapping[str, Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """The analyses that answer each question, where there are any."""
    for question, families in QUESTIONS.items():
        members = [entry for family in families for entry in entries.values() if entry.family == family]
        if members:
            yield question, members
