"""What a tab has chosen of a circuit: a node, pins, groups, labels, thresholds; the address of its page holds it.

The names in the address are those of circuit files, so that a file can take them over.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import streamlit as st

CIRCUIT = "circuit"
"""The parameter of the address."""
EDGES = 300
"""Edges that are drawn at first."""


@dataclass(frozen=True)
class CircuitChoice:
    """What is chosen.

    Attributes:
        node: the id of the focused node, empty for none.
        pinned: ids of pinned nodes.
        groups: ids of grouped nodes, by the name of the group.
        names: labels that a person has given, by id.
        nodes: how many of the most influential nodes are drawn, 0 for all.
        edges: how many of the most influential edges are drawn.
        blind: whether names and texts are hidden.
    """

    node: str = ""
    pinned: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    nodes: int = 0
    edges: int = EDGES
    blind: bool = False

    def within(self, known: Collection[str]) -> "CircuitChoice":
        """What of it is about the nodes of a circuit; the rest was chosen on another one."""
        groups = {name: tuple(one for one in members if one in known) for name, members in self.groups.items()}
        return replace(
            self,
            node=self.node if self.node in known else "",
            pinned=tuple(one for one in self.pinned if one in known),
            groups={name: members for name, members in groups.items() if members},
            names={one: name for one, name in self.names.items() if one in known},
        )

    @property
    def naming(self) -> str:
        """What decides how nodes are called: a box whose options are nodes belongs to it, as browsers send names."""
        return "blind" if self.blind else str(sorted(self.names.items()))

    def q_params(self) -> dict[str, Any]:
        """What a circuit file says of it."""
        return {
            "clickedId": self.node,
            "pinnedIds": list(self.pinned),
            "supernodes": [[name, *members] for name, members in self.groups.items()],
            "clerps": [[one, name] for one, name in self.names.items()],
        }

    def written(self) -> str:
        """The choice as the address holds it; empty when nothing is chosen. A blind one tells no labels."""
        numbered = {f"group {place}": members for place, members in enumerate(self.groups.values(), 1)}
        named = replace(self, names={}, groups=numbered) if self.blind else self
        told = {**named.q_params(), "nodes": self.nodes, "edges": self.edges, "blind": self.blind}
        usual = {"edges": EDGES}
        said = {name: value for name, value in told.items() if value != usual.get(name, type(value)())}
        return json.dumps(said, separators=(",", ":"), ensure_ascii=False) if said else ""

    @classmethod
    def read(cls, text: str) -> "CircuitChoice":
        """What `written` wrote; parts of an address that are none are left out."""
        try:
            told = json.loads(text or "{}")
        except ValueError:
            return cls()
        told = told if isinstance(told, dict) else {}
        groups, names = _lists(told.get("supernodes")), _lists(told.get("clerps"))
        counts = {
            name: told[name] for name in ("nodes", "edges") if type(told.get(name)) is int and 0 <= told[name] < 1e6
        }
        return cls(
            node=told["clickedId"] if isinstance(told.get("clickedId"), str) else "",
            pinned=next(iter(_lists([told.get("pinnedIds")])), ()),
            groups={one[0]: one[1:] for one in groups if one[1:]},
            names={one[0]: one[1] for one in names if len(one) == 2},
            blind=told.get("blind") is True,
            **counts,
        )


def circuit_choice() -> CircuitChoice:
    """What is chosen. The address counts when a tab opens; afterwards it follows."""
    if CIRCUIT not in st.session_state:
        st.session_state[CIRCUIT] = CircuitChoice.read(st.query_params.get(CIRCUIT, ""))
    return st.session_state[CIRCUIT]


def change_circuit(**changes: Any) -> None:
    """Change parts of what is chosen."""
    st.session_state[CIRCUIT] = replace(circuit_choice(), **changes)


def show_circuit_choice() -> None:
    """Write what is chosen into the address, where it is not yet."""
    text = circuit_choice().written()
    if text and st.query_params.get(CIRCUIT) != text:
        st.query_params[CIRCUIT] = text
    elif not text and CIRCUIT in st.query_params:
        del st.query_params[CIRCUIT]


def _lists(value: object) -> list[tuple[str, ...]]:
    """The lists of texts in a list, whatever else there is."""
    rows = value if isinstance(value, list) else []
    return [tuple(row) for row in rows if isinstance(row, list) and row and all(isinstance(one, str) for one in row)]
