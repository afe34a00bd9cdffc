"""Supernodes: features of a circuit that are taken as one, by hand or because they are alike.

What one supernode adds to another is the sum of the signed edges between their members, so grouping loses nothing
but the edges inside a group, which are given too.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.exchange import FEATURE, Circuit, Link, Node
from workbench.coders.coder import Transcoder

_FEATURE = re.compile(r"(\d+)_(\d+)_(\d+)|L(\d+)\.F(\d+)@(\d+)")


@dataclass(frozen=True)
class Supernode:
    """Some nodes under one name.

    Attributes:
        label: the name.
        nodes: the ids of its members.
    """

    label: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Grouped:
    """The edges of a circuit between supernodes, and nodes that are in none.

    Attributes:
        links: signed sums; ends are labels of supernodes, or ids of nodes in none.
        inside: for each supernode the sum of the edges among its members.
    """

    links: tuple[Link, ...]
    inside: Mapping[str, float]


def group(circuit: Circuit, supernodes: Sequence[Supernode]) -> Grouped:
    """Sum the edges of a circuit over supernodes.

    Edges into different members are in the units of those members, and are added as they are.

    Raises:
        ValueError: a supernode is empty, names an unknown node or has the name of another, or a node is in two.
    """
    _check(circuit, supernodes)
    place = {node: one.label for one in supernodes for node in one.nodes}
    sums: dict[tuple[str, str], float] = defaultdict(float)
    inside = dict.fromkeys((one.label for one in supernodes), 0.0)
    for link in circuit.links:
        source, target = place.get(link.source, link.source), place.get(link.target, link.target)
        if source == target:
            inside[source] += link.weight
        else:
            sums[source, target] += link.weight
    return Grouped(tuple(Link(*ends, weight) for ends, weight in sums.items()), inside)


def with_supernodes(circuit: Circuit, supernodes: Sequence[Supernode]) -> Circuit:
    """The circuit with supernodes, as its file keeps them.

    Raises:
        ValueError: as `group`.
    """
    _check(circuit, supernodes)
    rows = [[one.label, *one.nodes] for one in supernodes]
    return replace(circuit, q_params={**circuit.q_params, "supernodes": rows})


def supernodes_of(circuit: Circuit) -> tuple[Supernode, ...]:
    """The supernodes that a circuit file holds."""
    return tuple(Supernode(str(row[0]), tuple(row[1:])) for row in circuit.q_params.get("supernodes", []))


def read_supernodes(text: str) -> tuple[Supernode, ...]:
    """Supernodes in words: ids with blanks or commas between, groups with `;` between, each with `label:` in front.

    Raises:
        ValueError: a group has no member.

    Example:
        >>> [one.label for one in read_supernodes("colours: 0_0_3, 0_4_3; 1_0_3")]
        ['colours', '1_0_3']
    """
    found = []
    for part in filter(None, map(str.strip, text.split(";"))):
        label, _, members = part.rpartition(":")
        nodes = tuple(member for member in re.split(r"[,\s]+", members) if member)
        if not nodes:
            raise ValueError(f"the supernode {part!r} has no member: write ids such as 0_3_1 behind its label")
        found.append(Supernode(label.strip() or " ".join(nodes), nodes))
    return tuple(found)


def feature_place(node: str) -> tuple[int, int, int]:
    """Layer, number and position of a feature, from its id or from its name.

    Raises:
        ValueError: it is neither.

    Example:
        >>> feature_place("0_3_1") == feature_place("L0.F3@1")
        True
    """
    match = _FEATURE.fullmatch(node)
    if match is None:
        raise ValueError(f"{node!r} is no feature of a circuit: write its id, such as 0_3_1, or L0.F3@1")
    layer, number, pos = (int(part) for part in match.groups() if part is not None)
    return layer, number, pos


def alike(
    circuit: Circuit, coders: Mapping[int, Transcoder] | None = None, *, similarity: float = 0.6
) -> tuple[Supernode, ...]:
    """Group features at one position that read, are read and write alike.

    Two features are as alike as the mean of the cosines of their incoming edges, of their outgoing edges and, with
    coders, of their decoders. The two groups that are most alike on average are joined as long as they are at least
    `similarity` alike; the outcome does not depend on the order of the nodes.

    Args:
        circuit: a circuit.
        coders: the transcoders of its features.
        similarity: how alike groups must be to be joined, -1 to 1.

    Returns:
        Groups of two features or more, by position and layer.
    """
    features = sorted((feature_place(node.node_id), node) for node in circuit.nodes if node.feature_type == FEATURE)
    by_position: dict[int, list[tuple[tuple[int, int, int], Node]]] = defaultdict(list)
    for place, node in features:
        by_position[place[2]].append((place, node))
    found = []
    for pos in sorted(by_position):
        places, nodes = zip(*by_position[pos], strict=True)
        likeness = _likeness(circuit, [node.node_id for node in nodes], places, coders)
        for members in _joined(likeness, similarity):
            if len(members) > 1:
                found.append((pos, [places[member] for member in members]))
    return tuple(
        Supernode(_label(members, pos), tuple(f"{layer}_{number}_{at}" for layer, number, at in members))
        for pos, members in found
    )


def _check(circuit: Circuit, supernodes: Sequence[Supernode]) -> None:
    known, seen = {node.node_id for node in circuit.nodes}, set()
    labels = [one.label for one in supernodes]
    for one in supernodes:
        if not one.nodes:
            raise ValueError(f"the supernode {one.label!r} has no member")
        if labels.count(one.label) > 1 or (one.label in known and one.nodes != (one.label,)):
            raise ValueError(f"the name {one.label!r} stands for two things: choose another for the supernode")
        for node in one.nodes:
            if node not in known:
                raise ValueError(f"supernode {one.label!r}: the circuit has no node {node!r}")
            if node in seen:
                raise ValueError(f"node {node!r} is in two supernodes, the second being {one.label!r}")
            seen.add(node)


def _likeness(
    circuit: Circuit,
    names: list[str],
    places: Sequence[tuple[int, int, int]],
    coders: Mapping[int, Transcoder] | None,
) -> Float[Tensor, "feature feature"]:
    """How alike each two features are."""
    others = {node: place for place, node in enumerate(sorted(node.node_id for node in circuit.nodes))}
    rows = {name: place for place, name in enumerate(names)}
    entering, leaving = (torch.zeros(len(names), len(others), dtype=torch.float64) for _ in range(2))
    for link in circuit.links:
        if link.target in rows:
            entering[rows[link.target], others[link.source]] += link.weight
        if link.source in rows:
            leaving[rows[link.source], others[link.target]] += link.weight
    parts = [entering, leaving]
    if coders is not None:
        parts.append(torch.stack([coders[layer].w_dec[number].detach().double().cpu() for layer, number, _ in places]))
    units = [torch.nn.functional.normalize(part, dim=1) for part in parts]
    return torch.stack([unit @ unit.T for unit in units]).mean(0)


def _joined(likeness: Float[Tensor, "feature feature"], least: float) -> list[list[int]]:
    """Groups by average likeness, the most alike first; ties go to the earlier ones."""
    groups = [[place] for place in range(len(likeness))]
    sums, sizes = likeness.clone(), torch.ones(len(likeness), dtype=likeness.dtype)
    while len(groups) > 1:
        means = (sums / (sizes[:, None] * sizes)).fill_diagonal_(-2.0)
        first, second = sorted(divmod(int(means.argmax()), len(groups)))
        if means[first, second] < least:
            break
        sums[first] += sums[second]
        sums[:, first] += sums[:, second]
        sizes[first] += sizes[second]
        rest = torch.arange(len(groups)) != second
        sums, sizes = sums[rest][:, rest], sizes[rest]
        groups[first] = sorted(groups[first] + groups.pop(second))
    return groups


def _label(members: list[tuple[int, int, int]], pos: int) -> str:
    layers = sorted({layer for layer, _, _ in members})
    span = f"L{layers[0]}" if len(layers) == 1 else f"L{layers[0]}-{layers[-1]}"
    first = members[0][1]
    return f"{span}@{pos}: {len(members)} features with F{first}"
