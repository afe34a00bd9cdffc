"""What one tab has chosen. Widgets keep it under these keys, and the address bar shows it."""

from contextlib import suppress
from dataclasses import dataclass

import streamlit as st

from apps.circuit_choice import CIRCUIT
from apps.controls import adopt
from apps.selection import AT
from apps.service import saved_result
from workbench.mistakes import MISTAKES

RUN = "run"
"""The parameter of the address that names the run on show."""


@dataclass(frozen=True)
class Choice:
    """The model and the prompts of the side bar."""

    model: str
    dtype: str
    prompts: tuple[str, ...]


def chosen() -> Choice:
    """What the side bar says."""
    state = st.session_state
    lines = tuple(line for line in state["prompts"].splitlines() if line.strip())
    return Choice((state["model"] or "").strip(), state["dtype"], lines)


def shown_run(analysis: str) -> str | None:
    """The run that the page of an analysis shows: that of the address, else the last one seen here."""
    run = st.query_params.get(RUN) or st.session_state.get(f"{analysis} run")
    if run is not None:
        show_run(analysis, run)
    return run


def show_run(analysis: str, run: str) -> None:
    """Make a run the one that the page shows and its address names."""
    st.session_state[f"{analysis} run"] = st.session_state["adopted"] = run
    if st.query_params.get(RUN) != run:
        st.query_params[RUN] = run


def adopt_link() -> None:
    """When the address names nothing but a saved run (and what is selected), set all widgets as they were for that run.

    Must be called before any widget is drawn. A run that is not here is left to its page to explain.
    """
    run = st.query_params.get(RUN)
    if run is None or set(st.query_params) - {AT, CIRCUIT} != {RUN} or st.session_state.get("adopted") == run:
        return
    st.session_state["adopted"] = run
    with suppress(*MISTAKES):
        adopt(saved_result(run))
