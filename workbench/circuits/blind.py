"""Blind mode: say what a feature is from its circuit alone, then look, and keep the verdict with the run.

A person who sees the texts on which a feature fires finds a story for nearly any of them. Here only what enters
the feature and what it enters is shown, without the names of features; the hypothesis comes first, the examples
after it. Reference: Dunefsky et al. 2024, arXiv 2406.11944, section 5 (blind case studies).
"""

from dataclasses import dataclass, replace
from typing import Any

from workbench.circuits.exchange import FEATURE, LOGIT, TOKEN
from workbench.result import Result

VERDICTS = ("right", "partly right", "wrong")


@dataclass(frozen=True)
class Neighbour:
    """A node at the other end of an edge; of a feature only its place is told.

    Attributes:
        node: its id.
        label: a token or a target with its text, a feature by layer, number and position.
        weight: the edge, in the unit of its target.
    """

    node: str
    label: str
    weight: float


@dataclass(frozen=True)
class BlindCase:
    """A feature as its circuit shows it, and what is supposed of it.

    Attributes:
        node: its id.
        label: layer, number and position.
        inputs: what enters it, strongest first.
        outputs: what it enters, strongest first.
        hypothesis: what a person took it for before looking; empty until `suppose`.
    """

    node: str
    label: str
    inputs: tuple[Neighbour, ...]
    outputs: tuple[Neighbour, ...]
    hypothesis: str = ""


def blind_nodes(result: Result) -> list[str]:
    """The ids of the features of a circuit that have no verdict yet, most influential first.

    Raises:
        KeyError: the result is of another analysis than `transcoder_circuit`.
    """
    judged = {row["node"] for row in result.tables.get("verdicts", [])}
    features = [row for row in _nodes(result).values() if row["feature_type"] == FEATURE and row["id"] not in judged]
    return [row["id"] for row in sorted(features, key=lambda row: -row["value"])]


def blind_case(result: Result, node: str, count: int = 8) -> BlindCase:
    """A feature through its strongest edges, without its name, its examples or the text at its position.

    Args:
        result: of `transcoder_circuit`, a reloaded one too.
        node: the id of a feature.
        count: how many edges to show on each side.

    Raises:
        KeyError: the result is of another analysis, or its circuit has no such feature.
    """
    nodes = _nodes(result)
    if node not in nodes or nodes[node]["feature_type"] != FEATURE:
        known = ", ".join(blind_nodes(result)[:8])
        raise KeyError(f"the circuit has no feature {node!r}: its most influential ones are {known}")
    edges = sorted(result.tables["edges"], key=lambda edge: -abs(edge["weight"]))
    entering = [edge for edge in edges if edge["target"] == node][:count]
    leaving = [edge for edge in edges if edge["source"] == node][:count]
    return BlindCase(
        node,
        _blind_label(nodes[node]),
        tuple(Neighbour(edge["source"], _blind_label(nodes[edge["source"]]), edge["weight"]) for edge in entering),
        tuple(Neighbour(edge["target"], _blind_label(nodes[edge["target"]]), edge["weight"]) for edge in leaving),
    )


def suppose(case: BlindCase, hypothesis: str) -> BlindCase:
    """The case with what a person takes the feature for.

    Raises:
        ValueError: nothing is supposed.
    """
    if not hypothesis.strip():
        raise ValueError(f"nothing is supposed of {case.label}: write in a few words on what it fires")
    return replace(case, hypothesis=hypothesis.strip())


def reveal(result: Result, case: BlindCase) -> dict[str, Any]:
    """What the run knows of the feature: its name, the token at its position, its activation and influence.

    Raises:
        ValueError: no hypothesis was written first.
        KeyError: the result is of another analysis, or its circuit has no such feature.
    """
    if not case.hypothesis:
        raise ValueError(f"{case.label} is revealed only after a hypothesis: suppose something first")
    row = _nodes(result)[case.node]
    tokens = result.named("error_share").labels["pos"]
    return {
        "node": case.node,
        "name": row["label"].removeprefix(case.label).strip(),
        "token": tokens[row["ctx_idx"]],
        "activation": row["activation"],
        "influence": row["value"],
    }


def with_verdict(result: Result, case: BlindCase, verdict: str, remark: str = "") -> Result:
    """The result with one verdict more: a row of its table `verdicts`; a second one of a feature replaces the first.

    Keep it with `Store.amend(run, result)`.

    Args:
        result: of `transcoder_circuit`.
        case: a case with its hypothesis.
        verdict: how the hypothesis stands after looking.
        remark: what was learned, in words.

    Raises:
        ValueError: no hypothesis was written, or the verdict is none of `VERDICTS`.
    """
    if not case.hypothesis:
        raise ValueError(f"{case.label} has no hypothesis that could be judged: suppose something first")
    if verdict not in VERDICTS:
        raise ValueError(f"verdict {verdict!r} is unknown: allowed are {', '.join(VERDICTS)}")
    row = {
        "node": case.node,
        "feature": case.label,
        "hypothesis": case.hypothesis,
        "verdict": verdict,
        "remark": remark.strip(),
    }
    others = [old for old in result.tables.get("verdicts", []) if old["node"] != case.node]
    return replace(result, tables={**result.tables, "verdicts": [*others, row]})


def _nodes(result: Result) -> dict[str, dict[str, Any]]:
    """The nodes of a circuit by their ids."""
    if not {"nodes", "edges"} <= set(result.tables) or "error_share" not in result.arrays:
        raise KeyError(f"blind mode looks at a result of transcoder_circuit, found {result.analysis!r}")
    return {row["id"]: row for row in result.tables["nodes"]}


def _blind_label(row: dict[str, Any]) -> str:
    """A node without the name that a coder has for it."""
    if row["feature_type"] in (TOKEN, LOGIT):
        return row["label"]
    return row["label"].split(" ", 1)[0]
