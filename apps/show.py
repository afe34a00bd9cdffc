"""Show: a result on a page. Everything that is seen is in the result; nothing is computed here."""

import io
import tempfile
import zipfile
from collections.abc import Collection, Sequence
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from apps.basket import collect_button
from apps.pictures import pictures
from apps.sheets import sheet
from apps.wording import counted, duration, inert
from workbench.reproduce import command_line, notebook, python_lines
from workbench.result import Check, Result
from workbench.views.texts import cell_text, words_of


def show(result: Result, run: str) -> None:
    """Draw a result.

    Args:
        result: what to draw.
        run: its id in the store; makes the keys of the widgets.
    """
    heading(result, run)
    body(result, run)


def heading(result: Result, run: str, files: bool = True) -> None:
    """The outcome of a result, its checks, and what can be done with it; `files` may be withheld."""
    finding_line(result)
    with st.container(horizontal=True, vertical_alignment="center"):
        checks_badge(result.checks)
        if files:
            _downloads(result, run)
        _reproduction(result)
        collect_button(run)
        st.caption(f"{inert(str(result.model.get('name')))}, {_made(result)}, run {inert(run)}")


def finding_line(result: Result) -> None:
    """The outcome in one sentence, large."""
    st.html(f'<p style="font-size:1.2rem;font-weight:600;margin:0">{escape(result.finding)}</p>')


def body(result: Result, run: str, left_out: Collection[int] = ()) -> None:
    """Draw the scalars, notes, pictures and tables of a result.

    Args:
        result: what to draw.
        run: makes the keys of the widgets.
        left_out: the places of views that are drawn elsewhere.
    """
    places = [place for place in range(len(result.views)) if place not in left_out]
    _scalars(result)
    if result.notes:
        st.html("<small>Note: " + "<br>Note: ".join(map(escape, result.notes)) + "</small>")
    pictures(result, run, places)
    _tables(result, run, places)


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


def _tables(result: Result, run: str, places: Collection[int]) -> None:
    """The tables that none of the views at some places shows; each is drawn when it is opened."""
    shown = {name for place in places for name in result.views[place].read_columns}
    for name in [name for name in result.tables if name not in shown]:
        with st.expander(inert(words_of(name)), key=f"{run} {name} box", on_change="rerun") as box:
            if box.open:
                sheet(result.table(name), f"{run} {name}")


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
