"""Controls: widgets for the inputs and knobs of an analysis, made from its entry."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import streamlit as st

import workbench
from apps.uploads import upload_button, uploaded
from apps.wording import inert
from workbench import catalog, prompts
from workbench.entry import Entry, Input
from workbench.knobs import Knob, show
from workbench.result import Result

TYPED = "typed at the left"
"""The choice of the prompts in the side bar."""
TARGET = "target"
"""The knob that the side bar holds for all pages, and its name in the address: the token that is followed."""
_WIDTH = 176


def knob_controls(entry: Entry) -> dict[str, Any]:
    """Draw a widget for each knob and return what they say; the target is that of the side bar."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        said = {
            knob.name: st.session_state[TARGET] if knob.name == TARGET else _knob(entry.name, knob)
            for knob in entry.knobs
        }
    for knob in entry.knobs:
        if knob.name == TARGET:
            st.caption(f"The target at the left: {inert(knob.doc)}")
    return said


def input_controls(entry: Entry) -> list[str]:
    """Draw a widget for each input that the side bar does not settle, and return where to read each from."""
    with st.container(horizontal=True):
        return [_input(entry.name, one) for one in entry.inputs]


def read_inputs(entry: Entry, sources: Sequence[str], texts: Sequence[str]) -> tuple[Any, ...]:
    """The inputs of an analysis.

    Args:
        entry: the analysis.
        sources: for each input a bundled set, a file, or `TYPED`.
        texts: the prompts of the side bar.

    Raises:
        ValueError: a prompt is empty, a file is damaged, or the dashboard cannot give this input.
        FileNotFoundError: there is no such set or file.
    """
    return tuple(
        prompts.Prompts.of(*texts) if source == TYPED else _reader(one.type)(source)
        for one, source in zip(entry.inputs, sources, strict=True)
    )


def adopt(result: Result) -> None:
    """Set the widgets as they were for a result. What the analysis no longer takes is left out.

    Raises:
        KeyError: the analysis is not in the catalogue.
    """
    entry = catalog.CATALOG[result.analysis]
    st.session_state["model"] = result.model["name"]
    st.session_state["dtype"] = result.model["dtype"]
    for one in entry.inputs:
        given = result.inputs.get(one.name, {})
        if (known := _bundled_as(one.type, given)) is not None:
            st.session_state[_key(entry.name, one.name)] = known
        elif given.get("type") == "prompts":
            st.session_state["prompts"] = "\n".join(prompt["text"] for prompt in given["prompts"])
            st.session_state[_key(entry.name, one.name)] = TYPED
    for knob in entry.knobs:
        with suppress(KeyError, ValueError):
            value = knob.parse(result.params[knob.name])
            as_text = isinstance(value, tuple | list)
            st.session_state[_key(entry.name, knob.name)] = show(value) if as_text else value


def beyond_text(result: Result) -> list[str]:
    """What the prompts of a result have beside their texts, such as a target: it cannot be typed at the left."""
    prompts_of = [given["prompts"] for given in result.inputs.values() if given.get("type") == "prompts"]
    return sorted({name for given in prompts_of for prompt in given for name in prompt} - {"text"})


def _key(analysis: str, name: str) -> str:
    """The key of a widget, and its name in the address."""
    return TARGET if name == TARGET else f"{analysis}.{name}"


def _knob(analysis: str, knob: Knob) -> Any:
    label = knob.name.replace("_", " ")
    default: Any = knob.default
    look: dict[str, Any] = {
        "key": _key(analysis, knob.name),
        "help": knob.doc or None,
        "bind": "query-params",
    }
    match knob.type:
        case "int":
            return st.number_input(label, value=default, step=1, width=_WIDTH, **look)
        case "float":
            return st.number_input(label, value=default, step=None, format="%g", width=_WIDTH, **look)
        case "bool":
            return st.toggle(label, value=default, **look)
        case "Literal":
            index = knob.choices.index(default)
            return st.selectbox(label, knob.choices, index=index, width=_WIDTH, **look)
        case _:
            return st.text_input(label, value=show(default), placeholder=knob.allowed, width=_WIDTH, **look)


def _input(analysis: str, one: Input) -> str:
    key = _key(analysis, one.name)
    typed = [TYPED] if one.type == "Prompts" else []
    with st.container(horizontal=True, vertical_alignment="bottom", width="content"):
        choice = st.selectbox(
            one.name.replace("_", " "),
            [*typed, *_bundled(one.type), *uploaded()],
            key=key,
            help=f"{one.doc} Choose a set that ships with the workbench, or write the path of a JSONL or CSV file.",
            accept_new_options=True,
            bind="query-params",
            width=440,
        )
        upload_button(key)
    return choice


@cache
def _bundled(kind: str) -> list[str]:
    """The bundled sets that can be read as inputs of this type."""
    names = sorted(file.stem for file in (prompts.data_folder() / "prompts").glob("*.jsonl"))
    return [name for name in names if _can_read(kind, name)]


def _bundled_as(kind: str, given: Mapping[str, Any]) -> str | None:
    """The bundled set that a result describes as its input, if it is one."""
    return next((name for name in _bundled(kind) if _reader(kind)(name).describe() == given), None)


def _can_read(kind: str, name: str) -> bool:
    try:
        _reader(kind)(name)
    except ValueError:  # the set has other fields
        return False
    return True


def _reader(kind: str) -> Callable[[str], Any]:
    """What reads inputs of this type from a file or a bundled set."""
    found = getattr(workbench, kind, None)
    if not hasattr(found, "read"):
        raise ValueError(f"the dashboard cannot give a {kind} yet: run this analysis in Python")
    return found.read
