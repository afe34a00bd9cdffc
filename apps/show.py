"""Show: a result on a page. Everything that is seen is in the result; nothing is computed here."""

import io
import tempfile
import zipfile
from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import pandas
import streamlit as st
from pandas.api.types import is_integer_dtype

from apps.basket import collect_button
from apps.selection import SHARED, choose, choose_on, index_on, selection
from apps.wording import counted, duration, inert
from workbench.named import Named
from workbench.reproduce import command_line, notebook, python_lines
from workbench.result import Check, Result
from workbench.strict_json import dumps
from workbench.views import Heatmap, Scatter, Table, Tokens, View, clickable, markup
from workbench.views.texts import cell_text, visible, words_of


def show(result: Result, run: str) -> None:
    """Draw a result.

    Args:
        result: what to draw.
        run: its id in the store; makes the keys of the widgets.
    """
    st.html(f'<p style="font-size:1.2rem;font-weight:600;margin:0">{escape(result.finding)}</p>')
    with st.container(horizontal=True, vertical_alignment="center"):
        checks_badge(result.checks)
        _downloads(result, run)
        _reproduction(result)
        collect_button(run)
        st.caption(f"{inert(str(result.model.get('name')))}, {_made(result)}, run {inert(run)}")
    body(result, run)


def body(result: Result, run: str) -> None:
    """Draw the scalars, notes, pictures and tables of a result; `run` makes the keys of the widgets."""
    _scalars(result)
    if result.notes:
        st.html("<small>Note: " + "<br>Note: ".join(map(escape, result.notes)) + "</small>")
    for place in range(len(result.views)):
        _picture(result, run, place)
    _tables(result, run)


def checks_badge(checks: Sequence[Check]) -> None:
    """How many self-checks passed; a click tells each value and what was allowed."""
    failed = [check for check in checks if not check.passed]
    if not checks:
        return
    label = f"{counted(len(checks), 'check')} passed"
    if failed:
        label = f"{len(failed)} of {counted(len(checks), 'check')} FAILED"
    with st.popover(label, icon=":material/error:" if failed else ":material/verified:"):
        st.caption("A check passes when its value is at most the tolerance.")
        rows = [{"check": c.name, "value": c.value, "tolerance": c.tolerance, "passed": c.passed} for c in checks]
        digits = st.column_config.NumberColumn(format="%.3g")
        st.dataframe(rows, width=560, hide_index=True, column_config={"value": digits, "tolerance": digits})


def _made(result: Result) -> str:
    seconds = result.made.get("seconds")
    return str(result.made.get("date", "")) if seconds is None else f"computed in {duration(seconds)}"


def _scalars(result: Result) -> None:
    cells = "".join(
        f'<div style="padding-right:2rem"><small>{escape(words_of(name))}</small><br>'
        f"<b><bdi>{escape(cell_text(value) or 'none')}</bdi></b></div>"
        for name, value in result.scalars.items()
    )
    if cells:
        st.html(f'<div style="display:flex;flex-wrap:wrap;row-gap:.5rem">{cells}</div>')


def _picture(result: Result, run: str, place: int) -> None:
    """One view with its select boxes."""
    view = result.views[place]
    key = f"{run} {place}"
    with st.container(border=True):
        select = _axis_boxes(result, view, key)
        if isinstance(view, Tokens):
            st.html(markup(view, result, select))
        elif isinstance(view, Table):
            st.html(f"<b>{escape(view.title or words_of(view.table))}</b>")
            frame = result.table(view.table)
            _sheet(frame[list(view.columns)] if view.columns else frame, key)
        else:
            _chart(result, view, place, select, key)
        if view.caption and not isinstance(view, Tokens):  # whose markup has it
            st.html(f"<p>{escape(view.caption)}</p>")
        _numbers(result, view, key)


def _chart(result: Result, view: View, place: int, select: dict[str, int], key: str) -> None:
    """A chart; a click on a cell of a heatmap selects it for all views."""
    dark = st.context.theme.type == "dark"
    listen: dict[str, Any] = {}
    if isinstance(view, Heatmap):
        array = result.named(view.array)
        marked = index_on(array, view.x), index_on(array, view.y)
        drawn = clickable(view, result, select, dark, marked)
        listen = {"on_select": partial(_clicked, result, view, key), "selection_mode": "points"}
    else:
        drawn = result.figure(place, select, dark)
    title = str(drawn.layout.title.text)
    alt, config = f"{title}. {result.finding}", {"displaylogo": False}
    st.plotly_chart(drawn, theme=None, key=key, alt=alt, config=config, **listen)


def _clicked(result: Result, view: Heatmap, key: str) -> None:
    """Select the cell that was clicked."""
    if points := st.session_state[key].selection.points:
        indices = {view.x: round(points[0]["x"]), view.y: round(points[0]["y"])}
        choose_on(result.named(view.array), indices)


def _axis_boxes(result: Result, view: View, key: str) -> dict[str, int]:
    """A select box for each axis of the view's arrays that the picture does not show.

    A box on a shared axis shows what is selected, and selects for all views.
    """
    if isinstance(view, Scatter) or not view.read_arrays:
        return {}
    array = result.named(view.read_arrays[0])
    hidden = [axis for axis in array.axes if axis not in view.read_axes and array.size(axis) > 1]
    with st.container(horizontal=True):
        return {axis: _axis_box(array, axis, (view.select or {}).get(axis, 0), f"{key} {axis}") for axis in hidden}


def _axis_box(array: Named, axis: str, first: int, key: str) -> int:
    if (chosen := index_on(array, axis)) is not None:
        st.session_state[key] = chosen
    elif key not in st.session_state:
        st.session_state[key] = first % array.size(axis)
    return st.selectbox(
        words_of(axis),
        range(array.size(axis)),
        format_func=lambda index: _entry_name(array.labels.get(axis), index),
        key=key,
        on_change=lambda: choose_on(array, {axis: st.session_state[key]}),
        width=220,
    )


def _entry_name(labels: tuple[str, ...] | None, index: int) -> str:
    return str(index) if labels is None else f"{index} {visible(labels[index])}"


def _numbers(result: Result, view: View, key: str) -> None:
    """Downloads of the numbers behind a picture."""
    with st.container(horizontal=True):
        for name in dict.fromkeys((*view.read_arrays, *view.read_columns)):
            for kind, write in {"csv": _csv, "json": _json}.items():
                st.download_button(
                    f"{inert(words_of(name))}\\.{kind}",
                    lambda name=name, write=write: write(result, name),
                    file_name=f"{name}.{kind}",
                    key=f"{key} {name} {kind}",
                    icon=":material/download:",
                    type="tertiary",
                    on_click="ignore",
                )


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


def _tables(result: Result, run: str) -> None:
    """The tables that no view shows."""
    shown = {name for view in result.views for name in view.read_columns}
    for name in [name for name in result.tables if name not in shown]:
        with st.expander(inert(words_of(name))):
            _sheet(result.table(name), f"{run} {name}")


def _sheet(frame: pandas.DataFrame, key: str) -> None:
    """A table: first the rows of what is selected, then all; a click on a row selects what it is about."""
    places = _places(frame)
    wanted = {axis: selection()[axis] for axis in places if axis in selection()}
    if wanted:
        rows = frame[(places[list(wanted)] == pandas.Series(wanted)).all(axis=1)]
        told = ", ".join(f"{words_of(axis)} {index}" for axis, index in wanted.items())
        st.caption(f"At {told}: {counted(len(rows), 'row')} of {len(frame):,}")
        if len(rows):
            st.dataframe(_readable(rows), hide_index=True, key=f"{key} selected")
    listen: dict[str, Any] = {}
    if len(places.columns):
        listen = {"on_select": partial(_row_clicked, places, key), "selection_mode": "single-row"}
    st.dataframe(_readable(frame), hide_index=True, key=key, **listen)


def _places(frame: pandas.DataFrame) -> pandas.DataFrame:
    """What each row is about: a column for each shared axis, from numbers or from names such as L3.H2."""
    found = {axis: frame[axis] for axis in SHARED if axis in frame and is_integer_dtype(frame[axis])}
    for axis in ("head", "neuron", "feature"):
        if axis in frame and axis not in found:
            parts = frame[axis].astype(str).str.extract(r"^L(\d+)\.[HNF](\d+)$")
            if len(parts) and parts.notna().all(axis=None):
                found |= {"layer": parts[0].astype(int), axis: parts[1].astype(int)}
    return pandas.DataFrame({axis: found[axis] for axis in SHARED if axis in found}, index=frame.index)


def _row_clicked(places: pandas.DataFrame, key: str) -> None:
    """Select what the clicked row is about."""
    if rows := st.session_state[key].selection.rows:
        choose(**{str(axis): int(index) for axis, index in places.iloc[rows[0]].items()})


def _readable(frame: pandas.DataFrame) -> pandas.DataFrame:
    """The table with the hidden characters of its texts shown."""
    return frame.map(lambda cell: visible(cell, limit=200) if isinstance(cell, str) else cell)


def _downloads(result: Result, run: str) -> None:
    with st.popover("Download", icon=":material/download:"):
        look: dict[str, Any] = {"on_click": "ignore", "width": "stretch"}
        st.download_button("Report (HTML)", lambda: _report(result), f"{result.analysis}-{run}.html", **look)
        st.download_button(
            "Result (JSON and safetensors)", lambda: _archive(result), f"{result.analysis}-{run}.zip", **look
        )


def _reproduction(result: Result) -> None:
    """The lines of Python and of the shell that make the result again."""
    with st.popover("Reproduce", icon=":material/code:", width="content"):
        st.caption("Python")
        st.code(python_lines(result), language="python")
        if (command := command_line(result)) is not None:
            st.caption("Shell")
            st.code(command, language="bash")
        name = f"{result.analysis}.ipynb"
        st.download_button("Notebook", lambda: notebook(result), name, icon=":material/download:", on_click="ignore")


def _report(result: Result) -> bytes:
    from workbench.reports import report

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        report([result], file)
        return file.read_bytes()


def _archive(result: Result) -> bytes:
    """The folder of a saved result as a zip file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in result.files().items():
            archive.writestr(name, content)
    return packed.getvalue()
