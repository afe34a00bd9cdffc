"""The dashboard: `workbench app`, or `streamlit run apps/dashboard.py`.

One page for each analysis of the catalogue, made from its entry. Torch is imported when the first model is
loaded, not before.
"""

from functools import partial

import streamlit as st

from apps.screens.analysis import analysis_page
from apps.screens.welcome import by_family, welcome_page
from apps.service import service
from apps.session import adopt_link
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
    pages = {
        entry.name: st.Page(partial(analysis_page, entry), title=entry.title, url_path=entry.name)
        for entry in entries.values()
    }
    first = st.Page(partial(welcome_page, entries, pages), title="Welcome", url_path="welcome", default=True)
    families = {family.capitalize(): [pages[entry.name] for entry in members] for family, members in by_family(entries)}
    page = st.navigation({"": [first], **families}, position="top")
    adopt_link()
    side_bar()
    page.run()


if __name__ == "__main__":
    dashboard()
