"""Explanations: what a figure shows, how its numbers are made, when they lie, and where the method is from."""

import re

import streamlit as st

from apps.wording import inert
from workbench.catalog import CATALOG
from workbench.entry import Entry
from workbench.result import Result
from workbench.views import View
from workbench.views.texts import words_of

_PARTS = re.compile(r"\n+(?=(?:Idea|Score|Differs from|Beware|Reference)\b)")
"""Where a part of an analysis's description begins."""
_HEADINGS = {"Idea": "Idea", "Score": "Formula", "Beware": "When it lies", "Reference": "Source"}
"""What a figure tells of these parts, and under which words."""


def explain_analysis(entry: Entry) -> None:
    """A question mark that tells all that the analysis says of itself."""
    with st.popover("", icon=":material/help:", help="What it finds, how, and when it lies", type="tertiary"):
        for part in _PARTS.split(entry.about):
            st.markdown(inert(part))
        st.markdown(f"It gives: {inert(entry.returns)}")


def explain_figure(result: Result, view: View, key: str) -> None:
    """A question mark that tells what one figure shows, by which formula, from which source, and when it lies."""
    with st.popover("", icon=":material/help:", help="What this shows, and when it lies", type="tertiary", key=key):
        st.markdown(f"**What it shows.** {inert(_shown(result, view))}")
        entry = CATALOG.get(result.analysis)
        for name, text in described(entry.about if entry else "").items():
            st.markdown(f"**{_HEADINGS[name]}.** {inert(text)}")
        for note in result.notes:
            st.markdown(f"**Note.** {inert(note)}")


def source_link(reference: str) -> str:
    """The source as Markdown, a link where it has an address."""
    kind, _, name = reference.partition(":")
    if kind.lower() == "arxiv":
        return f"[{reference}](https://arxiv.org/abs/{name.strip()})"
    return f"[{reference}](https://doi.org/{name.strip()})" if kind.lower() == "doi" else inert(reference)


def described(about: str) -> dict[str, str]:
    """The parts of an analysis's description by their first word, without it.

    Example:
        >>> described("Title: what.\\n\\nIdea. One look.\\nScore. 0 to 1.\\nReference: folklore.")
        {'Idea': 'One look.', 'Score': '0 to 1.', 'Reference': 'folklore.'}
    """
    pairs = (re.split(r"[.:]\s+", part, maxsplit=1) for part in _PARTS.split(about)[1:])
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[0] in _HEADINGS}


def _shown(result: Result, view: View) -> str:
    """The title and caption of a view, and what its arrays are measured in and spread over."""
    told = [f"{view.title or result.title}."]
    told += [view.caption] if view.caption else []
    for name in dict.fromkeys(view.read_arrays):
        array = result.named(name)
        unit = f" in {array.unit}" if array.unit else ""
        told.append(f"{words_of(name)}{unit}, by {', '.join(map(words_of, array.axes)) or 'nothing'}.")
    for name, columns in view.read_columns.items():
        shown = columns or tuple(result.tables[name][0] if result.tables[name] else ())
        told.append(f"Table {words_of(name)}: {', '.join(map(words_of, shown))}.")
    return " ".join(told)
