"""The page that makes a report of collected runs and the author's own text."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from apps.basket import RUNS, collected, drop, move
from apps.printing import as_pdf, chromium_program
from apps.service import saved_result
from apps.trouble import tell_mistake
from apps.wording import inert, size
from workbench.mistakes import MISTAKES, sentence
from workbench.reports import report
from workbench.result import Result

_PREVIEW = 900
"""Pixels of height."""


def report_page() -> None:
    """Draw the page."""
    st.header("Report", anchor=False)
    st.markdown("Collect results with **Add to report** on their pages; order them here, write what they show, export.")
    runs = collected()
    if st.query_params.get(RUNS, "") != ",".join(runs):
        st.query_params[RUNS] = ",".join(runs)
    results = [found for run in runs if (found := _line(run)) is not None]
    title = st.text_input("Title", key="report title", placeholder="the title of the only result, or the model")
    text = st.text_area("Text to begin with", key="report text", help="Empty lines separate paragraphs. Plain text.")
    if not results:
        st.info("The report is empty: open a run and press Add to report.")
        return
    try:
        page, numbers = _written(results, title, text)
    except MISTAKES as error:
        tell_mistake(error)
        return
    _downloads(page, numbers)
    with st.expander("Preview", expanded=True):
        st.iframe(page.decode(), height=_PREVIEW)  # its own policy forbids requests and foreign scripts


def _line(run: str) -> Result | None:
    """One collected run with the buttons that move it."""
    buttons, words = st.columns([1, 5], vertical_alignment="center")
    with buttons.container(horizontal=True, gap="xxsmall"):
        for label, icon, call, arguments in (
            ("Up", "arrow_upward", move, (run, -1)),
            ("Down", "arrow_downward", move, (run, 1)),
            ("Take out", "close", drop, (run,)),
        ):
            look: dict[str, Any] = {"icon": f":material/{icon}:", "help": label, "type": "tertiary"}
            st.button("", key=f"{label} {run}", on_click=call, args=arguments, **look)
    try:
        found = saved_result(run)
    except MISTAKES as error:
        words.markdown(inert(sentence(error) or f"run {run} cannot be read"))
        return None
    words.markdown(f"**{inert(found.title)}** on {inert(str(found.model.get('name')))}: {inert(found.finding)}")
    return found


def _written(results: list[Result], title: str, text: str) -> tuple[bytes, bytes]:
    """The report as HTML, and the JSON beside it."""
    with tempfile.TemporaryDirectory() as folder:
        file = report(results, Path(folder) / "report.html", title=title or None, author_text=text or None)
        return file.read_bytes(), file.with_suffix(".json").read_bytes()


def _downloads(page: bytes, numbers: bytes) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        button = partial(st.download_button, on_click="ignore", icon=":material/download:")
        button("HTML", page, "report.html", mime="text/html")
        button("JSON", numbers, "report.json", mime="application/json")
        if chromium_program() is not None:
            button("PDF", lambda: as_pdf(page), "report.pdf", mime="application/pdf")
        st.caption(f"One HTML file of {size(len(page))} that opens with no network.")
