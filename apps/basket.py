"""The basket: the runs that this tab has collected for a report, in order. The address of the report page holds it."""

from collections.abc import Sequence

import streamlit as st

from apps.service import service
from workbench.result import Result

RUNS = "runs"
"""The parameter of the address of the report page that names its runs."""


def collected() -> list[str]:
    """The ids of the collected runs."""
    if RUNS not in st.session_state:
        st.session_state[RUNS] = [run for run in st.query_params.get(RUNS, "").split(",") if run]
    return st.session_state[RUNS]


def collect(runs: Sequence[str]) -> None:
    """Add runs at the end; those that are there already stay where they are."""
    st.session_state[RUNS] = list(dict.fromkeys([*collected(), *runs]))


def drop(run: str) -> None:
    """Take a run out."""
    st.session_state[RUNS] = [one for one in collected() if one != run]


def move(run: str, steps: int) -> None:
    """Move a run by some places towards the end, or towards the front if negative."""
    runs = collected()
    place = runs.index(run)
    rest = runs[:place] + runs[place + 1 :]
    target = min(max(place + steps, 0), len(rest))
    st.session_state[RUNS] = [*rest[:target], run, *rest[target:]]


def collect_unsaved_button(result: Result, key: str) -> None:
    """A button that saves a result under its key and adds it to the report."""
    run = service().store.find(key)
    if run is not None:
        collect_button(run)
    else:
        st.button("Add to report", icon=":material/add:", on_click=_save_and_collect, args=(result, key))


def _save_and_collect(result: Result, key: str) -> None:
    collect([service().store.put(result, key)])


def collect_button(run: str) -> None:
    """A button that adds a run to the report, or says that it is there."""
    if run in collected():
        st.button("In the report", icon=":material/check:", on_click=drop, args=(run,), help="Take it out again")
    else:
        st.button("Add to report", icon=":material/add:", on_click=collect, args=([run],))
