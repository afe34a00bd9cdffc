"""The selection: one layer, head, position, ... that all views and pages of a tab look at, kept in the address."""

import re
from collections.abc import Mapping

import streamlit as st

from workbench.named import Named

AT = "at"
"""The parameter of the address that holds the selection, such as `layer5.head1`."""
SHARED = ("layer", "head", "pos", "neuron", "feature", "batch")
"""The axes whose numbers mean the same in every result on one model and prompt."""
_PART = re.compile(rf"({'|'.join(SHARED)})(\d{{1,9}})")


def selection() -> Mapping[str, int]:
    """What is selected, by axis. The address counts when a tab opens; afterwards it follows."""
    if AT not in st.session_state:
        parts = [_PART.fullmatch(part) for part in st.query_params.get(AT, "").split(".")]
        st.session_state[AT] = {part[1]: int(part[2]) for part in parts if part}
    return st.session_state[AT]


def choose(**axes: int) -> None:
    """Select an index on some axes; the others stay as they are."""
    st.session_state[AT] = {**selection(), **axes}


def show_selection() -> None:
    """Write the selection into the address, where it is not yet."""
    text = ".".join(f"{axis}{index}" for axis, index in sorted(selection().items()))
    if text and st.query_params.get(AT) != text:
        st.query_params[AT] = text


def index_on(array: Named, axis: str) -> int | None:
    """Where the selection lies on an axis of an array; None when it is not there, or nothing is selected.

    An axis that names its entries by numbers (the layers 4, 8 and 12) is searched by name.
    """
    if axis not in SHARED or (wanted := selection().get(axis)) is None:
        return None
    names = _numbers(array, axis)
    if names is not None:
        return names.index(wanted) if wanted in names else None
    return wanted if wanted < array.size(axis) else None


def choose_on(array: Named, indices: Mapping[str, int]) -> None:
    """Select what lies at these indices of an array's axes; axes that are not shared are left out."""
    found = {}
    for axis, index in indices.items():
        names = _numbers(array, axis)
        if axis in SHARED and 0 <= index < array.size(axis):
            found[axis] = index if names is None else names[index]
    choose(**found)


def _numbers(array: Named, axis: str) -> list[int] | None:
    """The names of an axis of units as numbers, None when it has no names or others (those of `pos` are tokens)."""
    names = array.labels.get(axis) if axis in ("layer", "head", "neuron", "feature") else None
    return [int(name) for name in names] if names and all(name.isdecimal() for name in names) else None
