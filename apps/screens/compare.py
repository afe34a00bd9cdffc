"""The page that lays two runs of one analysis side by side."""

from html import escape

import streamlit as st

from apps.basket import collect_unsaved_button
from apps.screens.runs import FIRST, SECOND
from apps.service import saved_result, service
from apps.show import body
from apps.trouble import tell_mistake
from workbench.comparison import compare, comparison_key
from workbench.mistakes import MISTAKES
from workbench.store import Run


def compare_page() -> None:
    """Draw the page."""
    st.header("Compare", anchor=False)
    st.markdown("Two runs of one analysis, cell by cell, on one colour scale: two models, two prompts, two settings.")
    runs = {run.id: run for run in service().runs()}
    if len(runs) < 2:
        st.markdown("There is nothing to compare yet: save two runs of one analysis.")
        return
    left, right = st.columns(2)
    with left:
        first = _choice("First", FIRST, runs)
    same = {name: run for name, run in runs.items() if first is None or run.analysis == runs[first].analysis}
    with right:
        second = _choice("Second", SECOND, {name: run for name, run in same.items() if name != first})
    if first is None or second is None:
        st.markdown("Choose two runs of one analysis.")
        return
    try:
        sides = saved_result(first), saved_result(second)
        found = compare(*sides)
    except MISTAKES as error:
        tell_mistake(error)
        return
    st.html(f'<p style="font-size:1.2rem;font-weight:600;margin:0">{escape(found.finding)}</p>')
    collect_unsaved_button(found, comparison_key(*sides))
    body(found, f"{first} {second}")


def _choice(label: str, key: str, runs: dict[str, Run]) -> str | None:
    """A select box of runs; the address names the choice by the id of the run."""
    named = st.query_params.get(key)
    if key not in st.session_state and named in runs:
        st.session_state[key] = named
    told = {run: _told(runs[run]) for run in runs}
    found = st.selectbox(label, list(runs), index=None, key=key, format_func=lambda run: told.get(run, run))
    if found is not None and found != named:
        st.query_params[key] = found
    return found


def _told(run: Run) -> str:
    return f"{run.title} on {run.model_name}, {run.created[:16].replace('T', ' ')}, {run.id[:6]}: {run.finding[:60]}"
