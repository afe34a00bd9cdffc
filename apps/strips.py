"""Strips of tokens on a page: a click on a token, or Enter on it, tells its place; the arrow keys go along."""

from collections.abc import Callable

import streamlit as st

_MOUNT = """
export default function ({ parentElement, data, setTriggerValue }) {
  let room = parentElement.querySelector("[data-tokens]");
  if (!room) {
    room = document.createElement("div");
    room.dataset.tokens = "";
    parentElement.append(room);
  }
  room.tell = (place) => setTriggerValue("clicked", { place });
  if (room.drawn !== data.markup) {
    room.drawn = data.markup; // every text in it was escaped by Python
    room.innerHTML = data.markup;
    room.tokens = [...room.querySelectorAll("bdi")];
    room.tokens.forEach((token, place) => {
      token.setAttribute("role", "button");
      token.onclick = () => room.tell(place);
      token.onkeydown = (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (step) room.tokens[place + step]?.focus();
        else if (event.key === "Enter" || event.key === " ") room.tell(place);
        else return;
        event.preventDefault();
      };
    });
  }
  room.tokens.forEach((token, place) => {
    token.tabIndex = place === (data.chosen ?? 0) ? 0 : -1;
    token.setAttribute("aria-pressed", place === data.chosen);
  });
}
"""
_LOOK = """
bdi { cursor: pointer; } bdi[aria-pressed=true] { outline: 2px solid var(--st-primary-color); outline-offset: -1px; }
figure { margin: 0; } p { margin: .4rem 0; font-size: .9rem; }
"""
_DRAW = st.components.v2.component("workbench.tokens", css=_LOOK, js=_MOUNT)


def strip(markup: str, key: str, chosen: int | None, hear: Callable[[int], None]) -> None:
    """Draw a strip.

    Args:
        markup: HTML in which each token is a `bdi`, in order, and every text is escaped.
        key: names the widget.
        chosen: the place of the token that is selected.
        hear: called with the place of the token that is clicked.
    """

    def clicked() -> None:
        hear(int(st.session_state[key]["clicked"]["place"]))

    _DRAW(key=key, data={"markup": markup, "chosen": chosen}, on_clicked_change=clicked)
