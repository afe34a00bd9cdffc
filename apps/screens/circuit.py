"""The result of a transcoder circuit: its drawing, the card of the node that is looked at, and what to do with it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import streamlit as st

from apps.circuit_choice import EDGES, CircuitChoice, change_circuit, circuit_choice, show_circuit_choice
from apps.held import held
from apps.links import follow
from apps.networks import heard_network
from apps.screens.circuit_blind import blind_card
from apps.screens.circuit_groups import pinned_part
from apps.selection import select, show_selection
from apps.show import body, heading, show
from apps.wording import inert
from workbench.circuit_card import Edge, NodeCard, blinded, is_circuit, node_card, node_labels, relabelled
from workbench.result import Result
from workbench.strict_json import dumps
from workbench.views import Graph
from workbench.views.texts import cell_text, visible

_SHOWN = 10
"""Inputs and outputs on a card."""


def circuit_result(pages: Mapping[str, st.Page], result: Result, run: str) -> None:
    """Draw a result of `transcoder_circuit`.

    Args:
        pages: the page of each analysis.
        result: what to draw.
        run: its id in the store.
    """
    drawings = [view for view in result.views if isinstance(view, Graph)]
    if not is_circuit(result) or not drawings:  # of an older workbench
        show(result, run)
        return
    heading(result, run, files=not circuit_choice().blind)
    _explorer(pages, result, drawings[0], run)
    if circuit_choice().blind:
        st.info("Blind mode: the rest of the result and its files, which name features, come back when it is off.")
    else:
        body(result, run, [result.views.index(drawings[0])])


@st.fragment
def _explorer(pages: Mapping[str, st.Page], result: Result, drawing: Graph, run: str) -> None:
    """The drawing, the card of the focused node, and what is pinned: a click in here draws this part again."""
    choice = circuit_choice().within(node_labels(result))
    shown = _named(result, choice)
    if choice.blind:  # what is known of a node on hover tells where it fires
        drawing = replace(drawing, details=())
    with st.container(border=True):
        _controls(shown, choice, run)
        left, right = st.columns([3, 2], gap="large")
        with left:
            heard_network(shown, drawing, f"circuit {run} drawing", _shown(choice, shown), partial(_look_at, shown))
        with right:
            _card(pages, result, shown, choice, run)
        if not choice.blind:  # groups may be named after what they are
            pinned_part(pages, result, shown, choice, run)
    show_circuit_choice()
    show_selection()


def _named(result: Result, choice: CircuitChoice) -> Result:
    """The circuit with the names that may be seen."""
    if choice.blind:
        return blinded(result)
    return relabelled(result, choice.names) if choice.names else result


def _shown(choice: CircuitChoice, result: Result) -> dict[str, object]:
    """What the drawing shows."""
    every = len(result.tables["nodes"])
    return {
        "focused": choice.node,
        "pinned": [*choice.pinned, *(one for members in choice.groups.values() for one in members)],
        "nodes": choice.nodes or every,
        "edges": choice.edges,
    }


def _look_at(result: Result, node: str | None) -> None:
    """Focus a node, and select its place for all views, or let it go. Only its part of the page is drawn at once."""
    row = next((row for row in result.tables["nodes"] if row["id"] == node), None)
    if row is not None or not node:
        change_circuit(node=node or "")
    if row is None:
        return
    layer = {"layer": int(row["row"])} if row["kind"] in ("feature", "error") else {}
    number = {"feature": int(row["id"].split("_")[1])} if row["kind"] == "feature" else {}
    select(pos=int(row["ctx_idx"]), **layer, **number)


def _focused(known: Collection[str]) -> str | None:
    return circuit_choice().within(known).node or None


def _controls(result: Result, choice: CircuitChoice, run: str) -> None:
    """Thresholds, blind mode, export."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        for name, every in (("nodes", len(result.tables["nodes"])), ("edges", len(result.tables["edges"]))):
            _threshold(name, every, getattr(choice, name), f"circuit {run} {name}")
        key = f"circuit {run} blind"
        st.toggle(
            "Blind",
            value=choice.blind,
            key=key,
            on_change=lambda: _blind(st.session_state[key]),
            help="Hide what features are called and where they fire, and say what one is from its circuit alone. "
            "Your own labels are hidden too, and left out of the link.",
        )
        if choice.blind:
            return
        with st.popover("Circuit file", icon=":material/download:", help="For circuit-tracer and Neuronpedia"):
            name = st.text_input("Name", value="circuit", key=f"circuit {run} slug", help="Letters, digits, - and _")
            st.download_button(
                "JSON",
                lambda: _circuit_file(result, choice, name),
                "circuit.json",
                mime="application/json",
                icon=":material/download:",
                on_click="ignore",
            )


def _blind(hidden: bool) -> None:
    """Hide names on the whole page, or show them again. A callback calls this last."""
    change_circuit(blind=hidden)
    st.rerun()


def _threshold(name: str, every: int, chosen: int, key: str) -> None:
    """A slider for how many of the most influential ones are drawn."""
    if every < 2:
        return

    def change() -> None:
        value = st.session_state[key]
        usual = {"nodes": 0, "edges": EDGES}[name]
        change_circuit(**{name: usual if value == every else value})

    told = "Those that carry the most influence; nothing is computed again."
    now = min(chosen or every, every)
    st.slider(f"{name.capitalize()} of {every}", 1, every, now, key=key, on_change=change, help=told, width=220)


def _card(pages: Mapping[str, st.Page], result: Result, shown: Result, choice: CircuitChoice, run: str) -> None:
    """The node that is looked at."""
    labels = node_labels(shown)
    st.selectbox(
        "Node",
        list(labels),
        index=list(labels).index(choice.node) if choice.node else None,
        format_func=lambda node: visible(labels.get(node, node), limit=80),
        placeholder="click one, or choose it here",
        **held(f"node {run} {choice.naming}", choice.node or None, partial(_focused, labels), partial(_look_at, shown)),
    )
    if not choice.node:
        st.caption("Click a node to see what makes it and what it makes. A click on it again lets it go.")
        return
    card = node_card(shown, choice.node, _SHOWN)
    hidden = ("activation",) if choice.blind else ()
    facts = {name: value for name, value in card.facts.items() if name not in hidden}
    st.caption(inert(", ".join(f"{name} {cell_text(value)}" for name, value in facts.items())))
    if choice.blind:
        blind_card(result, choice.node, run)
    else:
        _actions(pages, result, card, choice, run)
    left, right = st.columns(2)
    with left:
        _neighbours("Strongest inputs", card.inputs, shown, f"circuit {run} in")
    with right:
        _neighbours("Strongest outputs", card.outputs, shown, f"circuit {run} out")


def _actions(pages: Mapping[str, st.Page], result: Result, card: NodeCard, choice: CircuitChoice, run: str) -> None:
    """Pin, label, and the way to the page of a feature."""
    key = f"circuit {run} label {card.node}"
    st.text_input(
        "Your label",
        choice.names.get(card.node, ""),
        key=key,
        placeholder=visible(card.label, limit=80),
        on_change=lambda: _name(card.node, key),
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        if card.node in choice.pinned:
            kept = tuple(one for one in choice.pinned if one != card.node)
            st.button("Unpin", icon=":material/keep_off:", key=f"circuit {run} pin", on_click=_pin, args=(kept,))
        else:
            more = (*choice.pinned, card.node)
            st.button("Pin", icon=":material/keep:", key=f"circuit {run} pin", on_click=_pin, args=(more,))
        if card.facts["kind"] == "feature":
            layer, number, _ = card.node.split("_")
            asked = {"layer": layer, "feature": number, "coders": str(result.params.get("coders") or "")}
            for page, label in (("feature_card", "Where it fires"), ("feature_steering", "Steer it")):
                follow(pages, page, label, **{f"{page}.{name}": value for name, value in asked.items() if value})


def _pin(pinned: tuple[str, ...]) -> None:
    change_circuit(pinned=pinned)


def _name(node: str, key: str) -> None:
    """Take a label over, or away when it is empty."""
    names = {one: name for one, name in circuit_choice().names.items() if one != node}
    if text := st.session_state[key].strip():
        names[node] = text
    change_circuit(names=names)


def _neighbours(title: str, edges: Sequence[Edge], result: Result, key: str) -> None:
    """The other ends of the strongest edges, each a way to the next node."""
    told = "Signed shares, and behind a dot the head that carries most of one; without a dot it comes directly."
    st.markdown(f"**{title}**" if edges else f"**{title}**: none", help=told if edges else None)
    with st.container(gap="xxsmall"):
        for edge in edges:
            colour = "blue" if edge.weight > 0 else "red"
            way = f" · {inert(edge.carrier)}" if edge.carrier not in ("", "direct") else ""
            label = f":{colour}[{edge.weight:+.4g}] {inert(visible(edge.label, limit=60))}{way}"
            st.button(label, key=f"{key} {edge.node}", type="tertiary", on_click=_look_at, args=(result, edge.node))


def _circuit_file(result: Result, choice: CircuitChoice, name: str) -> str:
    """The circuit as circuit-tracer and Neuronpedia read it, with what was pinned, grouped and labelled."""
    from workbench.circuits.exchange import circuit_of_result  # needs torch

    circuit = circuit_of_result(result, name)
    chosen = {**circuit.q_params, **choice.q_params()}
    nodes = tuple(replace(node, clerp=choice.names.get(node.node_id, node.clerp)) for node in circuit.nodes)
    return dumps(replace(circuit, nodes=nodes, q_params=chosen).to_json(), indent=1)
