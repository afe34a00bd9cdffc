"""The dashboard: `workbench app`, or `streamlit run apps/dashboard.py`.

One page for each analysis of the catalogue, made from its entry and grouped by the question it answers; beside
them a page per head, and those that keep: runs, comparison, report. Torch is imported when the first model is
loaded, not before.
"""

from functools import partial

import streamlit as st

from apps.screens.analysis import analysis_page, leave_other_pages
from apps.screens.attention import attention_result
from apps.screens.circuit import circuit_result
from apps.screens.compare import compare_page
from apps.screens.head import head_page
from apps.screens.neuron import neuron_page
from apps.screens.report import report_page
from apps.screens.runs import runs_page
from apps.screens.welcome import by_question, welcome_page
from apps.selection import show_selection
from apps.service import service
from apps.session import adopt_link
from apps.show import show
from apps.sidebar import side_bar
from apps.trouble import tell_mistake
from workbench import catalog
from workbench.mistakes import MISTAKES


def dashboard() -> None:
    """Draw the page that the address names, and the side bar."""
    st.set_page_config(page_title="Workbench", layout="wide")
    try:
        service()
    except MISTAKES as error:  # the folder of saved runs cannot be used
        tell_mistake(error)
        st.stop()
    entries = catalog.CATALOG
    pages: dict[str, st.Page] = {}
    drawn = {
        "transcoder_circuit": partial(circuit_result, pages),
        "attention_patterns": partial(attention_result, pages),
    }
    for name, entry in entries.items():
        draw = partial(analysis_page, entry, draw=drawn.get(name, show))
        pages[name] = st.Page(draw, title=entry.title, url_path=name)
    first = st.Page(partial(welcome_page, entries, pages), title="Welcome", url_path="welcome", default=True)
    sections = {question: [pages[entry.name] for entry in members] for question, members in by_question(entries)}
    head = pages["head"] = st.Page(partial(head_page, pages), title="Head", url_path="head")
    neuron = pages["neuron"] = st.Page(partial(neuron_page, pages), title="Neuron", url_path="neuron")
    compare = st.Page(compare_page, title="Compare", url_path="compare")
    runs = st.Page(partial(runs_page, pages, compare), title="Runs", url_path="runs")
    sections["Find"] = [head, neuron, *sections.get("Find", [])]
    sections["Keep"] = [runs, compare, st.Page(report_page, title="Report", url_path="report")]
    page = st.navigation({"": [first], **sections}, position="top")
    leave_other_pages(page.url_path)
    adopt_link()
    show_selection()
    side_bar()
    page.run()


if __name__ == "__main__":
    dashboard()
