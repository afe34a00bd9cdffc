"""Circuit files: graphs in the JSON that circuit-tracer and Neuronpedia read and write.

Ids are theirs but for errors, which are `layer_-1_pos` here: circuit-tracer's `0_layer_pos` is also the id of
feature `layer` of layer 0. Positions, biases and outputs at the first position have no kind of node there, so
the accounting goes into `generation_settings`, where own keys are allowed.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from workbench.circuits.graph import AttributionGraph
from workbench.circuits.pruning import Pruned
from workbench.result import Result

FEATURE, ERROR, TOKEN, LOGIT = "cross layer transcoder", "mlp reconstruction error", "embedding", "logit"
"""The kinds of node in such a file; transcoders of one layer have the first name too."""

_SLUG = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
_NEEDED = ("node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp")


@dataclass(frozen=True)
class Node:
    """A node as the file names it; `feature` pairs layer and number in one, as Cantor does."""

    node_id: str
    feature: int | None
    layer: str
    ctx_idx: int
    feature_type: str
    jsNodeId: str
    clerp: str
    influence: float | None = None
    activation: float | None = None
    token_prob: float = 0.0
    is_target_logit: bool = False
    run_idx: int = 0
    reverse_ctx_idx: int = 0


@dataclass(frozen=True)
class Link:
    """A signed edge from node to node."""

    source: str
    target: str
    weight: float


@dataclass(frozen=True)
class Circuit:
    """What stands in a circuit file."""

    metadata: Mapping[str, Any]
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    q_params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counted = Counter(node.node_id for node in self.nodes)
        if twice := [name for name, count in counted.items() if count > 1]:
            raise ValueError(
                f"node id {twice[0]!r} stands for {counted[twice[0]]} nodes (an error of circuit-tracer's files), "
                "so its links cannot be told apart"
            )
        if lost := [link for link in self.links if link.source not in counted or link.target not in counted]:
            raise ValueError(f"the link from {lost[0].source!r} to {lost[0].target!r} leads to no node of the file")

    def to_json(self) -> dict[str, Any]:
        """The file as plain JSON values."""
        return {
            "metadata": dict(self.metadata),
            "qParams": dict(self.q_params),
            "nodes": [asdict(node) for node in self.nodes],
            "links": [asdict(link) for link in self.links],
        }


def circuit_of(
    graph: AttributionGraph,
    pruned: Pruned,
    *,
    slug: str,
    scan: str,
    vocabulary: int,
    settings: Mapping[str, Any] | None = None,
) -> Circuit:
    """A pruned graph as a circuit file.

    Args:
        graph: the graph.
        pruned: which of its nodes and edges to write.
        slug: a name for the file, of letters, digits, `-` and `_`.
        scan: the name under which a viewer knows the model and its coders.
        vocabulary: how many tokens there are; targets that are no token get numbers from there on.
        settings: further pruning settings, such as the thresholds.

    Raises:
        ValueError: the slug has other characters.
    """
    made = _nodes(graph, pruned, vocabulary)
    edges = graph.square()
    links = [
        Link(made[source].node_id, made[target].node_id, float(edges[target, source]))
        for target, source in pruned.edges.nonzero().tolist()
    ]
    metadata = _metadata(slug, scan, list(graph.text), graph.account(), settings or {})
    return Circuit(metadata, tuple(made.values()), tuple(links), _Q_PARAMS)


def circuit_of_result(result: Result, slug: str) -> Circuit:
    """The circuit file of a result of `transcoder_circuit`, a reloaded one too.

    Raises:
        ValueError: the slug has other characters than letters, digits, `-` and `_`.
        KeyError: the result is of another analysis.
    """
    if not {"nodes", "edges", "accounting"} <= set(result.tables):
        raise KeyError(f"a circuit file is made of a result of transcoder_circuit, found {result.analysis!r}")
    kept = {one.name for one in fields(Node)}
    rows = [{"node_id": row["id"], **{key: row[key] for key in kept & set(row)}} for row in result.tables["nodes"]]
    settings = {name: result.params[name] for name in ("node_threshold", "edge_threshold")}
    tokens = list(result.named("error_share").names("pos"))
    metadata = _metadata(slug, str(result.scalars["coders"]), tokens, result.tables["accounting"], settings)
    links = tuple(Link(row["source"], row["target"], row["weight"]) for row in result.tables["edges"])
    return Circuit(metadata, tuple(Node(**row) for row in rows), links, _Q_PARAMS)


def _metadata(
    slug: str, scan: str, tokens: list[str], accounting: list[dict[str, Any]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What stands above the nodes of a file."""
    if not _SLUG.match(slug):
        raise ValueError(f"the name {slug!r} of a circuit may hold letters, digits, - and _ only")
    threshold = {"node_threshold": settings["node_threshold"]} if "node_threshold" in settings else {}
    return {
        "slug": slug,
        "scan": scan,
        "prompt_tokens": tokens,
        "prompt": "".join(tokens),
        "transcoder_list": [],
        **threshold,
        "schema_version": 1,
        "info": {"generator": {"name": "mechinterp-workbench"}},
        "generation_settings": {"max_n_logits": len(accounting), "accounting": accounting},
        "pruning_settings": dict(settings),
    }


_Q_PARAMS = {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""}


def save_circuit(circuit: Circuit, path: str | Path) -> Path:
    """Write a circuit file."""
    place = Path(path)
    place.write_text(json.dumps(circuit.to_json(), allow_nan=False, indent=1) + "\n", encoding="utf-8")
    return place


def read_circuit(path: str | Path) -> Circuit:
    """Read a circuit file of ours, of circuit-tracer or of Neuronpedia; unknown keys of nodes and links are dropped.

    Raises:
        ValueError: it is no such file, a needed key is missing, or two nodes have one id.
    """
    place = Path(path)
    try:
        held = json.loads(place.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{place} is no circuit file: {error}") from error
    absent = [key for key in ("metadata", "nodes", "links") if not isinstance(held, dict) or key not in held]
    if absent:
        raise ValueError(f"{place} is no circuit file: it has no {', '.join(absent)}")
    nodes = [_picked(Node, _NEEDED, one, place) for one in held["nodes"]]
    links = [_picked(Link, ("source", "target", "weight"), one, place) for one in held["links"]]
    return Circuit(held["metadata"], tuple(nodes), tuple(links), held.get("qParams", {}))


def _picked(kind: type[Node] | type[Link], needed: tuple[str, ...], row: dict[str, Any], place: Path) -> Any:
    """A node or a link from its JSON object."""
    if missing := [key for key in needed if key not in row]:
        raise ValueError(f"{place}: a {kind.__name__.lower()} has no {', '.join(missing)}: {row}")
    known = {one.name for one in fields(kind)}
    values = {key: value for key, value in row.items() if key in known}
    if "layer" in values:
        values["layer"] = str(values["layer"])
    return kind(**values)


def _nodes(graph: AttributionGraph, pruned: Pruned, vocabulary: int) -> dict[int, Node]:
    """The kept nodes by their place in the square matrix."""
    slices, depth = graph.columns.slices, graph.columns.n_layers
    made = {}
    for node in pruned.nodes.nonzero()[:, 0].tolist():
        influence = float(pruned.cumulative[node])
        if node < len(graph.features):
            made[node] = _feature(graph, node, influence)
        elif node < slices["error"].stop:
            _, layer, pos = graph.columns.label(node)
            made[node] = Node(
                f"{layer}_-1_{pos}",
                -1,
                str(layer),
                pos or 0,
                ERROR,
                f"{layer}_-1-{pos}",
                f"error of layer {layer}",
                influence,
            )
        elif node < slices["token"].stop:
            pos = node - slices["token"].start
            token = graph.ids[pos]
            made[node] = Node(
                f"E_{token}_{pos}", pos, "E", pos, TOKEN, f"E_{token}-{pos}", f'Token "{graph.text[pos]}"', influence
            )
        else:
            made[node] = _target(graph, node - slices["token"].stop, depth, vocabulary)
    return made


def _feature(graph: AttributionGraph, node: int, influence: float) -> Node:
    layer, pos, number = graph.features[node].tolist()
    paired = (layer + number) * (layer + number + 1) // 2 + number
    value = float(graph.activations[node])
    return Node(
        f"{layer}_{number}_{pos}", paired, str(layer), pos, FEATURE, f"{layer}_{number}-0", "", influence, value
    )


def _target(graph: AttributionGraph, place: int, depth: int, vocabulary: int) -> Node:
    target = graph.targets[place]
    number = vocabulary + place if target.token is None else target.token
    text = target.name if target.token is None else f'Output "{target.name[1:-1]}"'
    return Node(
        node_id=f"{depth + 1}_{number}_{target.pos}",
        feature=number,
        layer=str(depth + 1),
        ctx_idx=target.pos,
        feature_type=LOGIT,
        jsNodeId=f"L_{number}-0",
        clerp=f"{text} (p={target.weight:.3f})",
        token_prob=target.weight,
        is_target_logit=place == 0,
    )
