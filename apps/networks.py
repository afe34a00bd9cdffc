"""Networks on a page: the drawing of the reports, and a page that may hear which node is chosen in it."""

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from workbench.result import Result
from workbench.views import Graph, markup
from workbench.views.network import SCRIPT

_MOUNT = """
export default function ({ parentElement, data, setTriggerValue }) {
  let room = parentElement.querySelector("[data-room]");
  if (!room) {
    room = document.createElement("div");
    room.dataset.room = "";
    parentElement.append(room);
  }
  room.tell = (id) => setTriggerValue("clicked", { node: id });
  if (room.drawn !== data.markup) {
    room.drawn = data.markup; // every text in it was escaped by Python
    room.innerHTML = data.markup;
    room.drawing = explore(room.querySelector(".network"), data.heard ? { focused: (id) => room.tell(id) } : {});
  }
  if (!data.heard) return;
  room.drawing.show(data.shown);
  room.rest = () => setTriggerValue("rested", {}); // then the whole page is drawn
  if (room.focused !== undefined && room.focused !== data.shown.focused) {
    clearTimeout(room.waiting);
    room.waiting = setTimeout(() => room.rest(), 600); // milliseconds after the last of several clicks
  }
  room.focused = data.shown.focused;
}
"""
_LOOK = """
figure { margin: 0; } figcaption { font-weight: 600; margin-bottom: .5rem; } p { margin: .4rem 0; font-size: .9rem; }
summary { cursor: pointer; } .sheet { max-height: 24rem; overflow: auto; }
table { border-collapse: collapse; font-size: .85rem; } th, td { text-align: left; padding: .25rem 1rem .25rem 0; }
"""
_DRAW = st.components.v2.component("workbench.network", css=_LOOK, js=SCRIPT + _MOUNT)


def network(result: Result, view: Graph, key: str) -> None:
    """Draw a network that shows the card of a node which is clicked, all in the browser."""
    _DRAW(key=key, data={"markup": markup(view, result), "heard": False})


def heard_network(
    result: Result,
    view: Graph,
    key: str,
    shown: Mapping[str, Any],
    hear: Callable[[str], None],
) -> None:
    """Draw a network that tells the page which node is clicked.

    A click draws no more than the fragment that holds the network. A moment after the last of several clicks the
    whole page is drawn: all of it, since Streamlit may lose another press of that moment when a callback names parts.

    Args:
        result: where its tables are.
        view: what to draw.
        key: names the widget.
        shown: what to draw of it: `focused` (an id), `pinned` (ids), `nodes` and `edges` (how many of the strongest).
        hear: called with the id of a node, or with nothing when the focus is taken away.
    """

    def clicked() -> None:
        hear(st.session_state[key]["clicked"]["node"])

    data = {"markup": markup(view, result), "heard": True, "shown": dict(shown)}
    _DRAW(key=key, data=data, on_clicked_change=clicked, on_rested_change=st.rerun)
