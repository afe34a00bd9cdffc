"""Pictures on a page: the views of a result with their select boxes, explanation and downloads."""

from collections.abc import Collection, Mapping
from functools import partial
from html import escape
from typing import Any

import streamlit as st

from apps.explain import explain_figure
from apps.held import held
from apps.networks import network
from apps.printing import as_png, chromium_program
from apps.selection import choose_on, index_on
from apps.sheets import sheet
from apps.strips import strip
from apps.wording import inert
from workbench.named import Named
from workbench.result import Result
from workbench.strict_json import dumps
from workbench.views import (
    Graph,
    Heatmap,
    Scatter,
    Table,
    Tokens,
    View,
    canvas,
    clickable,
    clicked_cell,
    drawing_file,
    figure,
    has_many_cells,
    markup,
    numbered_cell,
    title_of,
)
from workbench.views.texts import cell_text, visible, words_of

_WIDTH = 220


def pictures(result: Result, run: str, places: Collection[int] | None = None) -> None:
    """Draw the views of a result, or those at some places; `run` makes the keys of the widgets."""
    for place, view in enumerate(result.views):
        if places is None or place in places:
            with st.container(border=True):
                _picture(result, view, f"{run} {place}")


def _picture(result: Result, view: View, key: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", wrap=False):
        heading = st.empty()
        with st.container(horizontal=True, width="content", gap="xxsmall"):
            explain_figure(result, view, f"{key} explanation")
            files = st.popover("", icon=":material/download:", help="Download this", type="tertiary", key=f"{key} file")
    select = _axis_boxes(result, view, key)
    with files:
        _downloads(result, view, select, key)
    title = title_of(view, result, select)
    heading.html(f"<b>{escape(title)}</b>")
    if isinstance(view, Tokens):
        array = result.named(view.array)
        drawn = markup(view, result, select, heading=False, dark=_is_dark())
        strip(drawn, key, index_on(array, view.axis), lambda place: choose_on(array, {view.axis: place}))
    elif isinstance(view, Table):
        frame = result.table(view.table)
        sheet(frame[list(view.columns)] if view.columns else frame, key)
    elif isinstance(view, Graph):
        network(result, view, key)
    else:
        _chart(result, view, title, select, key)
    if view.caption and not isinstance(view, Tokens | Graph):  # whose markup has it
        st.html(f"<p>{escape(view.caption)}</p>")


def _chart(result: Result, view: View, title: str, select: dict[str, int], key: str) -> None:
    """A chart; a click on a cell of a heatmap selects it for all views."""
    dark = _is_dark()
    listen: dict[str, Any] = {}
    alt = f"{title}. {result.finding}"
    if isinstance(view, Heatmap):
        array = result.named(view.array)
        marked = index_on(array, view.x), index_on(array, view.y)
        if has_many_cells(view, result):
            options, height = canvas(view, result, select, dark)
            clicked = partial(_canvas_clicked, result, view, key)
            st.echarts_chart(options, theme=None, key=key, alt=alt, height=height, on_select=clicked)
            _selected_value(array, {**select, view.x: marked[0], view.y: marked[1]})
            return
        drawn = clickable(view, result, select, dark, marked)
        listen = {"on_select": partial(_clicked, result, view, key), "selection_mode": "points"}
    else:
        drawn = figure(view, result, select, dark)
    drawn.update_layout(title=None, margin={"t": 28})  # it stands above, where it can take two lines
    image = {"format": "png", "scale": 2, "filename": _file_name(result, view)}
    config = {"displaylogo": False, "toImageButtonOptions": image}
    st.plotly_chart(drawn, theme=None, key=key, alt=alt, config=config, **listen)


def _is_dark() -> bool:
    return st.context.theme.type == "dark"


def _selected_value(array: Named, place: Mapping[str, int | None]) -> None:
    """The number of the selected cell, in words."""
    found = {axis: index for axis in array.axes if (index := place.get(axis)) is not None}
    if len(found) < len(array.axes):
        st.caption("Click a cell to select it.")
        return
    where = ", ".join(f"{words_of(axis)} {_entry_name(array.labels.get(axis), index)}" for axis, index in found.items())
    value = array.values[tuple(found[axis] for axis in array.axes)]
    st.caption(inert(f"At {where}: {cell_text(value.item())} {array.unit}"))


def _clicked(result: Result, view: Heatmap, key: str) -> None:
    """Select the cell that was clicked."""
    if points := st.session_state[key].selection.points:
        cell = clicked_cell(view, result, round(points[0]["x"]), round(points[0]["y"]))
        choose_on(result.named(view.array), cell)


def _canvas_clicked(result: Result, view: Heatmap, key: str) -> None:
    """The same for a heatmap on a canvas, which tells the number of the cell."""
    for series in st.session_state[key].selection.selected:
        for number in series["data_indices"][:1]:
            choose_on(result.named(view.array), numbered_cell(view, result, number))


def _axis_boxes(result: Result, view: View, key: str) -> dict[str, int]:
    """A select box for each axis of the view's arrays that the picture does not show.

    A box on a shared axis shows what is selected, and selects for all views.
    """
    if isinstance(view, Scatter) or not view.read_arrays:
        return {}
    array = result.named(view.read_arrays[0])
    hidden = [axis for axis in array.axes if axis not in view.read_axes and array.size(axis) > 1]
    return {axis: _axis_box(array, axis, (view.select or {}).get(axis, 0), f"{key} {axis}") for axis in hidden}


def _axis_box(array: Named, axis: str, first: int, key: str) -> int:
    now, change = partial(index_on, array, axis), lambda index: choose_on(array, {axis: index})
    chosen = now()
    return st.selectbox(
        words_of(axis),
        range(array.size(axis)),
        index=first % array.size(axis) if chosen is None else chosen,
        format_func=lambda index: _entry_name(array.labels.get(axis), index),
        width=_WIDTH,
        **held(key, chosen, now, change),
    )


def _entry_name(labels: tuple[str, ...] | None, index: int) -> str:
    return str(index) if labels is None else f"{index} {visible(labels[index])}"


def _downloads(result: Result, view: View, select: dict[str, int], key: str) -> None:
    """The picture as a file, and the numbers behind it."""
    look: dict[str, Any] = {"on_click": "ignore", "width": "stretch", "icon": ":material/download:"}
    name = _file_name(result, view)
    if not isinstance(view, Table):
        draw = partial(drawing_file, view, result, select)
        if chromium_program() is not None:
            st.download_button("PNG", lambda: as_png(draw()), f"{name}.png", key=f"{key} png", **look)
        else:
            st.caption("PNG: the camera above the picture.")
        st.download_button("SVG", draw, f"{name}.svg", key=f"{key} svg", mime="image/svg+xml", **look)
    for one in dict.fromkeys((*view.read_arrays, *view.read_columns)):
        for kind, write in {"csv": _csv, "json": _json}.items():
            label = f"{kind.upper()} of {inert(words_of(one))}"
            data = partial(write, result, one)
            st.download_button(label, data, f"{one}.{kind}", key=f"{key} {one} {kind}", **look)


def _file_name(result: Result, view: View) -> str:
    """What a downloaded picture is called: the analysis and the first thing that it shows."""
    return "-".join([result.analysis, *[*view.read_arrays, *view.read_columns][:1]])


def _csv(result: Result, name: str) -> str:
    return result.table(name).to_csv(index=False)


def _json(result: Result, name: str) -> str:
    """A table as its rows, or an array with its axes."""
    if name in result.tables:
        return dumps(result.tables[name], indent=1)
    array = result.named(name)
    labels = {axis: list(texts) for axis, texts in array.labels.items()}
    about = {"name": name, "axes": list(array.axes), "unit": array.unit, "labels": labels}
    return dumps({**about, "values": array.values.tolist()})
