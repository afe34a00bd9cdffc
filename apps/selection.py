"""The selection: one layer, head, position, ... that all views and pages of a tab look at, kept in the address."""

import re
from collections.abc import Mapping

import streamlit as st

from workbench.named import Named

AT = "at"
"""The parameter of the address that holds the selection, such as `layer5.head1`."""
SHARED = ("layer", "head", "pos", "source", "neuron", "feature", "batch")
"""What can be selected: the axes whose numbers mean the same in every result on one model and prompt."""
_ROLES = {"query": "pos", "key": "source"}
"""What the axes of an attention map select."""
_PART = re.compile(rf"({'|'.join(SHARED)})(\d{{1,9}})")
_UNIT = re.compile(r"L(\d+)\.[HNF](\d+)")
_PLACE = re.compile(r".*@(\d+)", re.DOTALL)


def selection() -> Mapping[str, int]:
    """What is selected, by axis. The address counts when a tab opens; afterwards it follows."""
    if AT not in st.session_state:
        parts = [_PART.fullmatch(part) for part in st.query_params.get(AT, "").split(".")]
        st.session_state[AT] = {part[1]: int(part[2]) for part in parts if part}
    return st.session_state[AT]


def select(**axes: int) -> None:
    """Select an index on some axes; the others stay as they are. What is drawn again for it is left to the caller."""
    st.session_state[AT] = {**selection(), **axes}


def choose(**axes: int) -> None:
    """Select, and draw the whole page for it. A callback calls this last: it does not return."""
    select(**axes)
    st.rerun()


def forget(axis: str) -> None:
    """Select nothing on an axis, and draw the whole page for it. A callback calls this last: it does not return."""
    st.session_state[AT] = {name: index for name, index in selection().items() if name != axis}
    st.rerun()


def show_selection() -> None:
    """Write the selection into the address, where it is not yet."""
    text = written(selection())
    if text and st.query_params.get(AT) != text:
        st.query_params[AT] = text
    elif not text:
        st.query_params.pop(AT, None)


def written(chosen: Mapping[str, int]) -> str:
    """A selection as the address holds it."""
    return ".".join(f"{axis}{index}" for axis, index in sorted(chosen.items()))


def index_on(array: Named, axis: str) -> int | None:
    """Where the selection lies on an axis of an array; None when it is not there, or nothing is selected.

    An axis that names its entries by numbers (the layers 4, 8 and 12), by units (L4.H1) or by positions (" the"@31)
    is searched by name.
    """
    chosen = selection()
    if not chosen or _selects(axis) not in chosen:
        return None
    meant = enumerate(_meanings(array, axis))
    return next((index for index, what in meant if what and what.items() <= chosen.items()), None)


def choose_on(array: Named, indices: Mapping[str, int]) -> None:
    """Select what lies at these indices of an array's axes; axes that are not shared are left out."""
    found: dict[str, int] = {}
    for axis, index in indices.items():
        if 0 <= index < array.size(axis):
            found |= _meanings(array, axis)[index]
    choose(**found)


def _selects(axis: str) -> str:
    """What an axis selects."""
    return _ROLES.get(axis, axis)


def _meanings(array: Named, axis: str) -> list[dict[str, int]]:
    """For each entry of an axis, what it selects; nothing where the axis is not shared or the entry has another name.

    The labels of `pos` are tokens, so its entries count by their places.
    """
    what, names = _selects(axis), array.labels.get(axis)
    if what not in SHARED:
        return [{}] * array.size(axis)
    if names is None or what == "batch":
        return [{what: index} for index in range(array.size(axis))]
    if what in ("pos", "source"):
        places = [_PLACE.fullmatch(name) for name in names]
        if axis in _ROLES and all(places):  # a pooled map names the first position of each cell
            return [{what: int(place[1])} for place in places if place]
        return [{what: index} for index in range(array.size(axis))]
    return [_unit(what, name) for name in names]


def _unit(what: str, name: str) -> dict[str, int]:
    """What the name of a layer, head, neuron or feature selects."""
    if name.isdecimal():
        return {what: int(name)}
    unit = _UNIT.fullmatch(name)
    return {"layer": int(unit[1]), what: int(unit[2])} if unit else {}
