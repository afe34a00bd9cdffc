"""Tables on a page: first the rows of what is selected, then all; a click on a row selects what it is about."""

from functools import partial
from typing import Any

import pandas
import streamlit as st
from pandas.api.types import is_integer_dtype, is_numeric_dtype

from apps.selection import SHARED, choose, selection
from apps.wording import counted
from workbench.views.texts import visible, words_of


def sheet(frame: pandas.DataFrame, key: str) -> None:
    """Draw a table; `key` names its widgets."""
    places = places_of(frame)
    wanted = {axis: selection()[axis] for axis in places if axis in selection()}
    if wanted:
        rows = frame[(places[list(wanted)] == pandas.Series(wanted)).all(axis=1)]
        told = ", ".join(f"{words_of(axis)} {index}" for axis, index in wanted.items())
        st.caption(f"At {told}: {counted(len(rows), 'row')} of {len(frame):,}")
        if len(rows):
            st.dataframe(readable(rows), hide_index=True, key=f"{key} selected")
    listen: dict[str, Any] = {}
    if len(places.columns):
        listen = {"on_select": partial(_row_clicked, places, key), "selection_mode": "single-row"}
    st.dataframe(readable(frame), hide_index=True, key=key, **listen)


def places_of(frame: pandas.DataFrame) -> pandas.DataFrame:
    """What each row is about: a column for each shared axis, from numbers or from names such as L3.H2."""
    axes = [axis for axis in SHARED if axis != "source"]  # a column of that name is mostly that of an edge
    found = {axis: frame[axis] for axis in axes if axis in frame and is_integer_dtype(frame[axis])}
    for axis in ("head", "neuron", "feature"):
        if axis in frame and axis not in found:
            parts = frame[axis].astype(str).str.extract(r"^L(\d+)\.[HNF](\d+)$")
            if len(parts) and parts.notna().all(axis=None):
                found |= {"layer": parts[0].astype(int), axis: parts[1].astype(int)}
    return pandas.DataFrame({axis: found[axis] for axis in axes if axis in found}, index=frame.index)


def _row_clicked(places: pandas.DataFrame, key: str) -> None:
    """Select what the clicked row is about."""
    if rows := st.session_state[key].selection.rows:
        choose(**{str(axis): int(index) for axis, index in places.iloc[rows[0]].items()})


def readable(frame: pandas.DataFrame) -> pandas.DataFrame:
    """The table with the hidden characters of its texts shown."""
    told = {name: column if is_numeric_dtype(column) else _readable(column) for name, column in frame.items()}
    return pandas.DataFrame(told, index=frame.index)


def _readable(column: pandas.Series) -> pandas.Series:
    """Many cells hold the same text, so each text is made readable once."""
    shown = {text: visible(text, limit=200) for text in {cell for cell in column if isinstance(cell, str)}}
    return column.map(lambda cell: shown[cell] if isinstance(cell, str) else cell)
