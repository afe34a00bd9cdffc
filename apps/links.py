"""Links from one page to another that carry what is selected."""

from collections.abc import Mapping

import streamlit as st

from apps.selection import AT, selection, written

OPEN = ":material/arrow_forward:"


def follow(pages: Mapping[str, st.Page], name: str, label: str, **query: str) -> None:
    """A link to a page by its name, with the selection and further parameters; nothing where there is no such page."""
    if name not in pages:
        return
    at = {AT: written(selection())} if selection() else {}
    st.page_link(pages[name], label=label, icon=OPEN, query_params={**at, **query})
