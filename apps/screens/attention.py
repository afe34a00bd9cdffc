"""The result of attention patterns: a wall of all heads in small, and beside it the one that is selected in full."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import streamlit as st

from apps.links import follow
from apps.pictures import pictures
from apps.selection import choose_on, index_on
from apps.show import body, heading, show
from workbench.named import Named
from workbench.result import Result
from workbench.views import Heatmap
from workbench.views.wall import fits, wall

_ALL = "all layers"
_OWN = ("wall", "pattern", "weighted_pattern")
"""Arrays whose pictures the wall takes the place of."""


def attention_result(pages: Mapping[str, st.Page], result: Result, run: str) -> None:
    """Draw a result of `attention_patterns`.

    Args:
        pages: the pages by name.
        result: what to draw.
        run: its id in the store.
    """
    if not {"thumbnail", "pattern"} <= set(result.arrays):  # of an older workbench
        show(result, run)
        return
    heading(result, run)
    place = _selected(result)
    with st.container(border=True):
        left, right = st.columns([2, 3], gap="medium")
        with left:
            _wall(result, run, place)
        with right:
            _head(pages, result, run, place)
    body(replace(result, views=tuple(view for view in result.views if not set(view.read_arrays) & set(_OWN))), run)


def _selected(result: Result) -> tuple[int, int]:
    """The indices of the selected layer and head; without a selection those of the head that the run shows."""
    maps = result.named("thumbnail")
    shown = re.fullmatch(r"L(\d+)\.H(\d+)", str(result.scalars.get("shown")))
    layer, head = (str(number) for number in shown.groups()) if shown else ("", "")
    first = maps.names("layer").index(layer) if layer in maps.names("layer") else 0
    chosen = index_on(maps, "layer"), index_on(maps, "head")
    return first if chosen[0] is None else chosen[0], int(head or 0) if chosen[1] is None else chosen[1]


def _wall(result: Result, run: str, place: tuple[int, int]) -> None:
    maps = result.named("thumbnail")
    names = maps.names("layer")
    options = [*([_ALL] if fits(maps) else []), *(f"layer {name}" for name in names)]
    key = f"{run} wall of"
    if key not in st.session_state:
        st.session_state[key] = options[0] if fits(maps) else f"layer {names[place[0]]}"
    picked = st.selectbox("Every head in small: click one", options, key=key, width=220)
    layer = None if picked == _ALL else names.index(picked.removeprefix("layer "))
    dark = st.context.theme.type == "dark"
    st.plotly_chart(
        wall(maps, layer, dark, place),
        theme=None,
        key=f"{run} wall",
        alt=f"Small attention maps of {picked}. {result.finding}",
        config={"displaylogo": False, "displayModeBar": False},
        on_select=partial(_clicked, maps, f"{run} wall"),
        selection_mode="points",
    )
    st.caption("Queries run down and keys to the right; each cell stands for a block of the prompt.")


def _clicked(maps: Named, key: str) -> None:
    """Select the head whose map was clicked."""
    if points := st.session_state[key].selection.points:
        layer, head = points[0]["customdata"]
        choose_on(maps, {"layer": layer, "head": head})


def _head(pages: Mapping[str, st.Page], result: Result, run: str, place: tuple[int, int]) -> None:
    """The chosen head: its map, as fine as the result has it, and where to go with it."""
    maps = result.named("thumbnail")
    layer, head = maps.names("layer")[place[0]], place[1]
    name = f"L{layer}.H{head}"
    own = result.scalars.get("shown") == name
    pictures(_of_head(result, place, own), f"{run} {name}")
    if not own and maps.size("key") < result.named("pattern").size("key"):
        st.caption("Cells are blocks of the prompt: the full map is computed for one head at a time.")
        knobs = {"layer": int(layer), "head": head}
        st.button(f"Compute the full map of {name}", icon=":material/grid_on:", on_click=_want, args=(knobs,))
    with st.container(horizontal=True):
        at = f"head{head}.layer{layer}"
        follow(pages, "head", f"All that is known of {name}", at=at)
        follow(pages, "edited_generation", "Ablate it", at=at, **{"edited_generation.edits": f"zero {name}"})


def _of_head(result: Result, place: tuple[int, int], own: bool) -> Result:
    """The maps of one head as a result: those in full where the run shows this head, else the small one."""
    layer, head = place
    maps = result.named("thumbnail")
    name = f"L{maps.names('layer')[layer]}.H{head}"
    if own:
        views = [view for view in result.views if set(view.read_arrays) & set(_OWN[1:])]
        return replace(result, views=tuple(views), notes=())
    tokens = result.named("pattern").labels
    whole = maps.size("key") == result.named("pattern").size("key")
    small = Named(maps.values[layer, head], ("query", "key"), maps.unit, tokens if whole else {})
    view = Heatmap("pattern", x="key", y="query", title=f"Attention of {name}")
    return replace(result, arrays={"pattern": small}, tables={}, views=(view,), notes=())


def _want(knobs: Mapping[str, int]) -> None:
    """Set the knobs of the page and press its Run button."""
    for knob, value in knobs.items():
        st.session_state[f"attention_patterns.{knob}"] = value
    st.session_state["attention_patterns wanted"] = True
