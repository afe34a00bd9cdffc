"""The page of an analysis, made from its entry: heading, controls, run button, result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from apps.controls import adopt, beyond_text, input_controls, knob_controls, read_inputs
from apps.explain import explain_analysis, source_link
from apps.service import Order, saved_result, service
from apps.session import RUN, chosen, show_run, shown_run
from apps.show import show
from apps.trouble import tell_failure, tell_mistake
from apps.watch import find_job, watch
from apps.wording import counted, duration, inert, size
from workbench.entry import Entry
from workbench.knobs import plain
from workbench.mistakes import MISTAKES, sentence
from workbench.result import Result


@dataclass(frozen=True)
class Asked:
    """A job that a page has asked for.

    A redraw that was under way when the job ended carries the address as it was, or stops before the new one is
    sent. So the result is put on show at every redraw until the browser sends its address back.
    """

    job: str
    shown: bool = False
    """Whether its result has been put on show."""


def leave_other_pages(current: str) -> None:
    """Forget the jobs whose results were shown on pages other than the current one."""
    for key, value in list(st.session_state.items()):
        if isinstance(value, Asked) and value.shown and key != f"{current} job":
            del st.session_state[key]


def analysis_page(entry: Entry, draw: Callable[[Result, str], None] = show) -> None:
    """Draw the page of an analysis.

    Args:
        entry: the analysis.
        draw: what draws its result, given with its run.
    """
    _heading(entry)
    with st.container(border=True):
        order = _order(entry, input_controls(entry), knob_controls(entry))
        _run_button(entry, order)
        wanted = st.session_state.pop(f"{entry.name} wanted", False)
        if wanted and order is not None:
            st.session_state[f"{entry.name} job"] = Asked(service().submit(order).id)
            st.rerun()
    _job(entry)
    if (run := shown_run(entry.name)) is not None:
        _result(entry, run, order, draw)


def _heading(entry: Entry) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(entry.title, anchor=False, width="content")
        explain_analysis(entry)
    st.markdown(f"{entry.summary} Source: {source_link(entry.reference)}.")


def _order(entry: Entry, sources: Sequence[str], knobs: Mapping[str, Any]) -> Order | None:
    """What the widgets ask for; None, with the reason on the page, when it cannot be done."""
    choice = chosen()
    try:
        values = entry.parse_knobs(knobs)
        return Order(entry, choice.model, choice.dtype, read_inputs(entry, sources, choice.prompts), values)
    except MISTAKES as error:
        tell_mistake(error)
        return None


def _run_button(entry: Entry, order: Order | None) -> None:
    """Draw the button, which tells the cost."""
    label, refusal = "Run", None
    if order is not None:
        label, refusal = _plan(order)
    disabled = order is None or refusal is not None
    st.button(label, type="primary", key="run", disabled=disabled, on_click=_want, args=(entry.name,))
    if refusal:
        st.error(inert(refusal))


def _want(analysis: str) -> None:
    """Note that Run was pressed: a note outlives a redraw that is cut short by the next click, a press does not."""
    st.session_state[f"{analysis} wanted"] = True


def _plan(order: Order) -> tuple[str, str | None]:
    """What the button says, and why it cannot be pressed."""
    model = service().models.find(order.model, order.dtype)
    if model is None:
        return f"Load {inert(order.model)} and run", None
    if (refusal := order.entry.refusal(model)) is not None:
        return "Run", refusal
    try:
        cost = order.entry.cost(model, *order.inputs, **order.knobs)
    except MISTAKES as error:
        return "Run", sentence(error)
    if cost is None:
        return "Run", None
    return (
        f"Run: {counted(cost.passes, 'pass')}, {duration(cost.seconds(model))}, {size(cost.bytes)}",
        None,
    )


def _job(entry: Entry) -> None:
    """How the last run asked for on this page is doing."""
    asked: Asked | None = st.session_state.get(f"{entry.name} job")
    job = None if asked is None else find_job(asked.job)
    if asked is None or job is None:
        return
    if not job.finished:
        watch([job.id], "page")
    elif job.state == "failed":
        tell_failure(job)
    elif job.state == "cancelled":
        st.info("Stopped. Nothing of it was kept.")
    else:
        run = service().run_of(job.id)
        if asked.shown and st.query_params.get(RUN) == run:
            del st.session_state[f"{entry.name} job"]
        else:
            st.session_state[f"{entry.name} job"] = Asked(job.id, shown=True)
            show_run(entry.name, run)


def _result(entry: Entry, run: str, order: Order | None, draw: Callable[[Result, str], None]) -> None:
    """The run that the address names."""
    try:
        result = saved_result(run)
    except MISTAKES as error:
        st.warning(inert(f"{sentence(error)}. Press Run to compute it here."))
        return
    if result.analysis != entry.name:
        st.warning(inert(f"run {run} is of {result.title}, not of {entry.title}"))
        return
    if order is None or not _answers(result, order):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("The settings above are not those of the result below.", width="content")
            st.button("Set them back", on_click=adopt, args=(result,), type="tertiary")
    elif list(result.inputs.values()) != [given.describe() for given in order.inputs]:
        more = ", ".join(map(inert, beyond_text(result)))
        st.caption(
            f"The prompts of the result below have more than a text ({more}), which cannot be typed at the left."
        )
    draw(result, run)


def _answers(result: Result, order: Order) -> bool:
    """Whether a result is what the order asks for, as far as that can be typed: of prompts the texts."""
    return (
        result.model["name"] == order.model
        and order.dtype in ("auto", result.model["dtype"])
        and result.params == {name: plain(value) for name, value in order.knobs.items()}
        and list(map(_typed, result.inputs.values())) == [_typed(given.describe()) for given in order.inputs]
    )


def _typed(described: Mapping[str, Any]) -> Any:
    """What can be typed of an input: the texts of prompts, all of anything else."""
    if described.get("type") != "prompts":
        return described
    return [prompt["text"] for prompt in described["prompts"]]
