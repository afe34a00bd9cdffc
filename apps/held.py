"""Widgets that show what can be chosen elsewhere too: no old message of the browser undoes a newer choice.

A browser that has not heard of a choice yet still tells of the one before, and Streamlit takes that for a press. Nor
may a redraw set a widget to a value while a press of it is on its way. So a widget is a new one for each new choice,
is given what it shows as its first value, and speaks for no choice but the one that it was drawn for.
"""

from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

import streamlit as st

T = TypeVar("T")


class Held(TypedDict):
    """What a widget is given beside its first value."""

    key: str
    on_change: Callable[..., None]
    args: tuple[Any, ...]


def held(name: str, chosen: T, now: Callable[[], T], change: Callable[[Any], None]) -> Held:
    """Tie a widget to a choice. While that is None the widget keeps what it says.

    Args:
        name: names the widget.
        chosen: what it shows.
        now: tells what is chosen when a message of the browser arrives.
        change: takes over what the widget says.

    Returns:
        The arguments of the widget.
    """
    version, shown = st.session_state.get(_state(name), (0, chosen))
    version += shown != chosen
    st.session_state[_state(name)] = (version, chosen)
    return {"key": f"{name} {version}", "on_change": _said, "args": (name, version, now, change)}


def _said(name: str, version: int, now: Callable[[], object], change: Callable[[Any], None]) -> None:
    """Take over what a widget says, if it is the newest one and shows what is chosen."""
    newest, shown = st.session_state[_state(name)]
    if version != newest or now() != shown:
        return
    if shown is not None:
        st.session_state[_state(name)] = (version + 1, shown)
    change(st.session_state[f"{name} {version}"])


def _state(name: str) -> str:
    return f"held {name}"
