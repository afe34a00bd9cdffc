"""The side bar of every page: the model with its proof, the prompts as the model sees them, the queue."""

from functools import cache, partial
from html import escape
from typing import TYPE_CHECKING

import streamlit as st

from apps.controls import TARGET
from apps.held import held
from apps.models import DTYPES, offline_names
from apps.selection import SHARED, choose, forget, selection
from apps.service import service
from apps.session import chosen
from apps.show import checks_badge
from apps.strips import strip
from apps.trouble import tell_failure, tell_mistake
from apps.watch import find_job, queue, unfinished_jobs
from apps.wording import counted, size
from workbench.mistakes import MISTAKES
from workbench.prompts import Prompts
from workbench.result import Check
from workbench.tour import first_prompts
from workbench.views.texts import visible

if TYPE_CHECKING:
    from workbench.model import Model

_STRIP_TOKENS = 200
"""Tokens shown of one prompt."""
_STRIP_PROMPTS = 4
_FIELDS = ("layer", "head", "pos", "source", "neuron", "feature")
_TOKEN_LOOK = "padding:0 3px;border-radius:3px;border:1px solid color-mix(in srgb, currentColor 25%, transparent)"


def side_bar() -> None:
    """Draw the side bar."""
    waiting = unfinished_jobs()  # before all else: what finishes while this is drawn draws it again
    with st.sidebar:
        _model_field()
        room = st.container()
        st.text_area(
            "Prompts, one a line",
            value=_example(),
            key="prompts",
            height=140,
            bind="query-params",
            help="Every page that takes prompts reads them here. Spaces at the ends of a line count.",
        )
        st.text_input(
            "Target token",
            key=TARGET,
            placeholder="the prompt's own, or the likeliest",
            bind="query-params",
            help="Every page that follows, splits or explains a token reads it here: exactly one token, such as "
            "` Paris` with its space. Empty for the target that a prompt of a set brings, or else the likeliest token.",
        )
        model = service().models.find(chosen().model, chosen().dtype)
        if model is not None:
            with room:
                _chip(model)
            _strips(model)
        _selection_fields()
        queue(waiting)


def _model_field() -> None:
    """Which model, and the button that loads it."""
    st.selectbox(
        "Model",
        offline_names(),
        key="model",
        accept_new_options=True,
        bind="query-params",
        help="One of the list, or write a hub id, a folder, a .gguf file or planted:<name>.",
    )
    left, right = st.columns(2, vertical_alignment="bottom")
    left.selectbox("Number type", DTYPES, key="dtype", bind="query-params")
    if right.button("Load", key="load", width="stretch", help="The cost is told before the weights are read."):
        job = service().load(st.session_state["model"] or "", st.session_state["dtype"])
        st.session_state["load job"] = job.id
        st.rerun()
    _load_outcome()


def _load_outcome() -> None:
    """Say why the last loading failed, if it did."""
    if (job := find_job(st.session_state.get("load job"))) is not None and job.state == "failed":
        tell_failure(job)


def _chip(model: "Model") -> None:
    """What was loaded, and the proof that its numbers are right."""
    about = model.identity()
    with st.container(horizontal=True, gap="xxsmall"):
        st.badge(f"{about['parameters'] / 1e6:,.1f} M parameters", color="gray")
        st.badge(about["dtype"], color="gray")
        st.badge(about["device"], color="gray")
        st.badge(size(model.parameters * model.dtype.itemsize), color="gray")
    checks_badge([Check(one["name"], one["value"], one["tolerance"]) for one in about["checks"]])


def _selection_fields() -> None:
    """What is selected, as fields: whatever a click can select can be written here."""
    chosen_now = selection()
    told = ", ".join(f"{axis} {chosen_now[axis]}" for axis in SHARED if axis in chosen_now)
    with st.expander(f"Selected: {told}" if told else "Nothing is selected", icon=":material/point_scan:"):
        st.caption("Click a cell, a token's row or a node, or write numbers here; all views and pages follow.")
        left, right = st.columns(2)
        for place, axis in enumerate(_FIELDS):
            now, change = partial(_selected, axis), partial(_select, axis)
            (right if place % 2 else left).number_input(
                axis,
                min_value=0,
                step=1,
                value=now(),
                placeholder="any",
                **held(f"selected {axis}", now(), now, change),
            )


def _selected(axis: str) -> int | None:
    return selection().get(axis)


def _select(axis: str, index: int | None) -> None:
    forget(axis) if index is None else choose(**{axis: int(index)})


def _strips(model: "Model") -> None:
    """The prompts as tokens, with visible spaces and the position on hover; a click selects it."""
    try:
        tokens = model.tokens(Prompts.of(*chosen().prompts))
    except MISTAKES as error:
        tell_mistake(error)
        return
    several = len(tokens.text) > 1
    for prompt, texts in enumerate(tokens.text[:_STRIP_PROMPTS]):
        st.caption(counted(len(texts), "token"))
        chosen_here = selection().get("batch", prompt) == prompt
        at = selection().get("pos") if chosen_here else None
        strip(_strip(texts), f"prompt {prompt}", at, partial(_select_token, prompt if several else None))


def _select_token(prompt: int | None, place: int) -> None:
    choose(pos=place, **({} if prompt is None else {"batch": prompt}))


def _strip(texts: tuple[str, ...]) -> str:
    cells = "".join(
        f'<bdi style="{_TOKEN_LOOK}" title="position {place}">{escape(visible(text))}</bdi>'
        for place, text in enumerate(texts[:_STRIP_TOKENS])
    )
    more = f"<small>and {len(texts) - _STRIP_TOKENS:,} more</small>" if len(texts) > _STRIP_TOKENS else ""
    look = "display:flex;flex-wrap:wrap;gap:2px;font-size:.8rem;max-height:9rem;overflow-y:auto"
    return f'<div style="{look}">{cells}{more}</div>'


@cache
def _example() -> str:
    """The prompt to begin with."""
    return "\n".join(prompt.text for prompt in first_prompts())
