"""Pinned nodes on the page of a circuit: grouped, their signed sums, and what ablating them does."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import streamlit as st

from apps.circuit_choice import CircuitChoice, change_circuit, circuit_choice
from apps.held import held
from apps.service import Order, saved_result, service
from apps.session import RUN, chosen
from apps.show import finding_line
from apps.trouble import tell_failure, tell_mistake
from apps.watch import find_job, watch
from apps.wording import inert
from workbench.catalog import CATALOG
from workbench.circuit_card import clamp_words, node_labels, sums_between
from workbench.mistakes import MISTAKES
from workbench.prompts import Prompt, Prompts
from workbench.result import Result
from workbench.views.texts import visible


class _Intervention(NamedTuple):
    """An analysis that takes the pinned features: its knob for them, and the words of its button and its link."""

    analysis: str
    knob: str
    label: str
    icon: str
    link: str


_INTERVENTIONS = (
    _Intervention(
        "circuit_ablation",
        "features",
        "Ablate the pinned features",
        ":material/content_cut:",
        "Open the ablation",
    ),
    _Intervention(
        "circuit_check",
        "nodes",
        "Are they necessary, are they enough?",
        ":material/rule:",
        "Open the check",
    ),
)


def pinned_part(pages: Mapping[str, st.Page], result: Result, shown: Result, choice: CircuitChoice, run: str) -> None:
    """Draw what is pinned.

    Args:
        pages: the page of each analysis.
        result: the circuit.
        shown: the circuit with the labels that are shown.
        choice: what is chosen of it.
        run: the run of the circuit.
    """
    labels = node_labels(shown)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.multiselect(
            "Pinned nodes",
            list(labels),
            default=choice.pinned,
            format_func=lambda node: visible(labels.get(node, node), limit=60),
            placeholder="none: pin nodes to group and ablate them",
            **held(f"pins {run} {choice.naming}", list(choice.pinned), partial(_pinned, labels), _pin_only),
        )
        if choice.pinned:
            _group_form(choice, run)
        if found := _alike(result, choice):
            told = "Features at one position that read and write alike, by the knob similarity"
            key = f"circuit {run} alike"
            st.button("Group what is alike", key=key, help=told, on_click=_take_groups, args=(choice, found))
    for name, members in choice.groups.items():
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{inert(name)}**: {inert(', '.join(labels[one] for one in members))}", width="content")
            st.button(
                "Ungroup", key=f"circuit {run} ungroup {name}", type="tertiary", on_click=_ungroup, args=(choice, name)
            )
    _sums(shown, choice, labels)
    _interventions(pages, result, choice, run)


def _pinned(known: Collection[str]) -> list[str]:
    return list(circuit_choice().within(known).pinned)


def _pin_only(nodes: list[str]) -> None:
    change_circuit(pinned=tuple(nodes))


def _alike(result: Result, choice: CircuitChoice) -> dict[str, tuple[str, ...]]:
    """The supernodes that the result itself proposes, without nodes that are grouped already."""
    grouped = {node for members in choice.groups.values() for node in members}
    proposed = {row["label"]: tuple(row["nodes"].split()) for row in result.tables.get("supernodes", [])}
    return {label: nodes for label, nodes in proposed.items() if not grouped & set(nodes)}


def _take_groups(choice: CircuitChoice, found: Mapping[str, tuple[str, ...]]) -> None:
    change_circuit(groups={**choice.groups, **found})


def _group_form(choice: CircuitChoice, run: str) -> None:
    """A name for the pinned nodes, which then stand for one."""
    key = f"circuit {run} group"
    st.text_input("Group them as", key=key, placeholder="a name", width=200)
    st.button("Group", icon=":material/workspaces:", key=f"{key} button", on_click=_group, args=(choice, key))


def _group(choice: CircuitChoice, key: str) -> None:
    name = st.session_state[key].strip()
    if not name:
        return
    others = {
        other: tuple(one for one in members if one not in choice.pinned)
        for other, members in choice.groups.items()
        if other != name
    }
    members = (*choice.groups.get(name, ()), *choice.pinned)
    groups = {other: kept for other, kept in others.items() if kept} | {name: tuple(dict.fromkeys(members))}
    change_circuit(groups=groups, pinned=())
    st.session_state[key] = ""


def _ungroup(choice: CircuitChoice, name: str) -> None:
    """Let the nodes of a group be single pinned nodes again."""
    kept = {other: members for other, members in choice.groups.items() if other != name}
    change_circuit(groups=kept, pinned=tuple(dict.fromkeys((*choice.pinned, *choice.groups[name]))))


def _sums(shown: Result, choice: CircuitChoice, labels: Mapping[str, str]) -> None:
    """What the pinned nodes and groups add to each other."""
    single = {labels[node]: (node,) for node in choice.pinned if not any(node in one for one in choice.groups.values())}
    rows = sums_between(shown, {**single, **choice.groups})
    if rows:
        told = [{**row, **{end: visible(row[end], limit=80) for end in ("source", "target")}} for row in rows]
        st.dataframe(told, hide_index=True, column_config={"weight": st.column_config.NumberColumn(format="%+.4g")})
        st.caption("Signed sums of the edges from one to the other, in the unit of what they lead to.")


def _interventions(pages: Mapping[str, st.Page], result: Result, choice: CircuitChoice, run: str) -> None:
    """Run the model without the pinned and grouped features, as jobs, and tell what it did."""
    nodes = list(dict.fromkeys((*choice.pinned, *(one for members in choice.groups.values() for one in members))))
    words = clamp_words(result, nodes)
    offered = [one for one in _INTERVENTIONS if one.analysis in pages]
    if not words or not offered:
        return
    with st.container(horizontal=True):
        for one in offered:
            key = f"circuit {run} {one.analysis}"
            st.button(one.label, icon=one.icon, key=f"{key} button", help=inert(words), on_click=_want, args=(key,))
            if st.session_state.pop(f"{key} wanted", False):
                try:
                    st.session_state[key] = service().submit(_order(one, result, words)).id
                except MISTAKES as error:
                    tell_mistake(error)
                else:
                    st.rerun()  # the side bar tells of the job
    for one in offered:
        _outcome(pages[one.analysis], st.session_state.get(f"circuit {run} {one.analysis}"), one)


def _want(key: str) -> None:
    """Note that an intervention was asked for: a press is kept though the next click cuts the drawing short."""
    st.session_state[f"{key} wanted"] = True


def _outcome(page: st.Page, identifier: str | None, intervention: _Intervention) -> None:
    """How a job that was asked for here is doing, and what it found."""
    if (job := find_job(identifier)) is None:
        return
    if not job.finished:
        watch([job.id], "circuit")
    elif job.state == "failed":
        tell_failure(job)
    elif job.state == "done":
        made = service().run_of(job.id)
        finding_line(saved_result(made))
        st.page_link(page, label=intervention.link, icon=":material/arrow_forward:", query_params={RUN: made})


def _order(intervention: _Intervention, result: Result, words: str) -> Order:
    """An intervention on the prompt and with the settings of the circuit."""
    entry = CATALOG[intervention.analysis]
    given: dict[str, Any] = {knob.name: result.params[knob.name] for knob in entry.knobs if knob.name in result.params}
    (prompt,) = next(iter(result.inputs.values()))["prompts"]
    fields = {name: prompt[name] for name in ("text", "target", "distractor") if prompt.get(name) is not None}
    values = entry.parse_knobs({**given, intervention.knob: words})
    return Order(entry, result.model["name"], chosen().dtype, (Prompts.of(Prompt(**fields)),), values)
