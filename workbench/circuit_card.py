"""Circuit card: what a saved circuit says of one of its nodes, and of nodes that a person has put together.

All of it is read from a result of `transcoder_circuit`; nothing is run, and no torch is needed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.result import Result

_FACTS = ("kind", "row", "column", "activation", "token_prob", "value")


@dataclass(frozen=True)
class Edge:
    """An edge at a node, and the node at its other end.

    Attributes:
        node: the other node's id.
        label: its label.
        weight: what the source adds to the target, in the unit of the target.
        carrier: what brings most of it there, such as a head; empty where the result does not tell.
    """

    node: str
    label: str
    weight: float
    carrier: str = ""


@dataclass(frozen=True)
class NodeCard:
    """One node of a circuit.

    Attributes:
        node: its id.
        label: what it is called.
        facts: kind, layer, position, activation, probability and influence, as far as it has them.
        inputs: what enters it, strongest first.
        outputs: what it enters, strongest first.
    """

    node: str
    label: str
    facts: Mapping[str, Any]
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]


def is_circuit(result: Result) -> bool:
    """Whether a result holds a circuit whose nodes have a kind and a place."""
    nodes = result.tables.get("nodes", [])
    return bool(nodes) and "edges" in result.tables and set(_FACTS) <= set(nodes[0])


def node_labels(result: Result) -> dict[str, str]:
    """The labels of the nodes by their ids, targets first, then the others by influence.

    Raises:
        KeyError: the result is no circuit.
    """
    if not is_circuit(result):
        raise KeyError(f"a node is one of a result of transcoder_circuit, found {result.analysis!r}")
    rows = sorted(result.tables["nodes"], key=lambda row: (row["kind"] != "target", -row["value"]))
    return {row["id"]: row["label"] for row in rows}


def node_card(result: Result, node: str, count: int = 10) -> NodeCard:
    """What the circuit says of one node.

    Args:
        result: of `transcoder_circuit`.
        node: the id of a node.
        count: how many edges to give on each side.

    Raises:
        KeyError: the result is no circuit, or has no such node.
    """
    labels = node_labels(result)
    if node not in labels:
        raise KeyError(f"the circuit has no node {node!r}: it has {', '.join(list(labels)[:8])} ...")
    row = next(row for row in result.tables["nodes"] if row["id"] == node)
    names = {"row": "layer", "column": "position", "token_prob": "weight", "value": "influence"}
    facts = {names.get(name, name): row[name] for name in _FACTS if row[name] not in (None, "")}
    facts.pop("weight" if row["kind"] != "target" else "influence")
    edges = sorted(result.tables["edges"], key=lambda edge: -abs(edge["weight"]))
    ends = {end: [edge for edge in edges if edge[end] == node][:count] for end in ("target", "source")}
    return NodeCard(
        node,
        labels[node],
        facts,
        tuple(_edge(result, labels, edge, "source") for edge in ends["target"]),
        tuple(_edge(result, labels, edge, "target") for edge in ends["source"]),
    )


def _edge(result: Result, labels: Mapping[str, str], edge: Mapping[str, Any], end: str) -> Edge:
    """One edge, with the other node's label and what carries it."""
    plain = {row["id"]: _plain_name(row) for row in result.tables["nodes"]}
    ends = plain[edge["source"]], plain[edge["target"]]
    parts = [row for row in result.tables.get("carriers", []) if (row["source"], row["target"]) == ends]
    carrier = max(parts, key=lambda row: abs(row["part"]))["carrier"] if parts else ""
    return Edge(edge[end], labels[edge[end]], edge["weight"], carrier)


def _plain_name(row: Mapping[str, Any]) -> str:
    """A node without what anybody calls it, as the accounting and the carriers of a circuit name it."""
    if row["kind"] not in ("feature", "error"):
        return row["label"]
    layer, number, pos = row["id"].split("_")
    return f"L{layer}.F{number}@{pos}" if row["kind"] == "feature" else f"L{layer}.error@{pos}"


def sums_between(result: Result, groups: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """The signed sums of all edges from one group of nodes to another, the largest first.

    Args:
        result: of `transcoder_circuit`.
        groups: the ids of the nodes of each group, by its name; no node may be in two.

    Returns:
        Rows with source, target, weight (in the unit of the target's nodes) and edges (how many).

    Raises:
        KeyError: the result is no circuit, or has no such node.
        ValueError: a node is in two groups.
    """
    labels, home = node_labels(result), {}
    for name, members in groups.items():
        for node in members:
            if node not in labels:
                raise KeyError(f"the circuit has no node {node!r}: it has {', '.join(list(labels)[:8])} ...")
            if home.setdefault(node, name) != name:
                raise ValueError(f"{labels[node]} is in {home[node]!r} and in {name!r}: a node belongs to one group")
    found: dict[tuple[str, str], list[float]] = {}
    for edge in result.tables["edges"]:
        ends = home.get(edge["source"]), home.get(edge["target"])
        if ends[0] is not None and ends[1] is not None and ends[0] != ends[1]:
            found.setdefault((ends[0], ends[1]), []).append(edge["weight"])
    rows = [
        {"source": source, "target": target, "weight": sum(weights), "edges": len(weights)}
        for (source, target), weights in found.items()
    ]
    return sorted(rows, key=lambda row: -abs(row["weight"]))


def relabelled(result: Result, names: Mapping[str, str]) -> Result:
    """The circuit with other labels for some nodes, by their ids."""
    rows = [{**row, "label": names.get(row["id"], row["label"])} for row in result.tables["nodes"]]
    return replace(result, tables={**result.tables, "nodes": rows})


def blinded(result: Result) -> Result:
    """The circuit without what its coder calls the features, and without the texts at the positions."""
    rows = [{**row, "label": _plain_name(row), "column": str(row["ctx_idx"])} for row in result.tables["nodes"]]
    return replace(result, tables={**result.tables, "nodes": rows})


def clamp_words(result: Result, nodes: Iterable[str]) -> str:
    """The features among some nodes as `circuit_ablation` takes them, such as "L0.F0@3,L1.F1@3"."""
    known = {row["id"]: _plain_name(row) for row in result.tables["nodes"] if row["kind"] == "feature"}
    return ",".join(known[node] for node in nodes if node in known)
