"""A small circuit made by hand, as `transcoder_circuit` tells it; the words of its features may be hostile."""

import numpy as np

from workbench.result import Named, Result
from workbench.views import Graph, Table

TOKENS = ("<bos>", "red", "cat")
_FILE = {"feature": "cross layer transcoder", "error": "mlp reconstruction error", "token": "embedding"}


def _node(name: str, kind: str, pos: int, row: str, label: str, value: float, activation: float | None) -> dict:
    heights = {"tokens": -1.0, "output": 2.0}
    return {
        "id": name,
        "x": float(pos),
        "y": heights[row] if row in heights else float(row),
        "label": label,
        "value": value,
        "kind": kind,
        "column": f"{pos} {TOKENS[pos]}",
        "row": row,
        "feature": 7,
        "layer": {"tokens": "E", "output": "3"}.get(row, row),
        "ctx_idx": pos,
        "feature_type": _FILE.get(kind, "logit"),
        "jsNodeId": f"{name}-0",
        "clerp": "",
        "influence": None if kind == "target" else 0.5,
        "activation": activation,
        "token_prob": 1.0 if kind == "target" else 0.0,
        "is_target_logit": kind == "target",
        "run_idx": 0,
        "reverse_ctx_idx": 0,
    }


def circuit(*names: str) -> Result:
    """Three features, an error, two tokens and a target; the one edge that hinders leads to L1.F0.

    Args:
        names: what the coder calls the features L0.F4, L0.F5 and L1.F0, all at position 2.
    """
    called = (*names, "", "", "")[:3]
    nodes = [
        _node("0_4_2", "feature", 2, "0", f"L0.F4@2 {called[0]}".strip(), 0.6, 0.75),
        _node("0_5_2", "feature", 2, "0", f"L0.F5@2 {called[1]}".strip(), 0.2, 0.5),
        _node("1_0_2", "feature", 2, "1", f"L1.F0@2 {called[2]}".strip(), 0.9, 1.25),
        _node("0_-1_2", "error", 2, "0", "L0.error@2", 0.05, None),
        _node("E_3_1", "token", 1, "tokens", "token 'red'@1", 0.4, None),
        _node("E_4_2", "token", 2, "tokens", "token 'cat'@2", 0.3, None),
        _node("3_9_2", "target", 2, "output", "'runs'", 1.0, None),
    ]
    edges = [
        ("1_0_2", "3_9_2", 20.0, 0.9),
        ("0_4_2", "1_0_2", 2.25, 0.5),
        ("0_5_2", "1_0_2", -1.5, 0.2),
        ("E_3_1", "0_4_2", 1.0, 0.4),
        ("E_4_2", "0_5_2", 0.5, 0.1),
        ("0_-1_2", "1_0_2", 0.01, 0.01),
    ]
    pos = {"pos": TOKENS}
    return Result(
        analysis="transcoder_circuit",
        title="Transcoder circuit",
        model={"name": "planted:sparse_mlp", "dtype": "float32", "fingerprint": "abc"},
        inputs={"prompts": {"type": "prompts", "prompts": [{"text": "red cat"}]}},
        params={"coders": "", "node_threshold": 0.8, "edge_threshold": 0.98, "keep_first": True, "seed": 0},
        arrays={"error_share": Named(np.zeros((2, 3), dtype=np.float32), ("layer", "pos"), "share", pos)},
        tables={
            "nodes": nodes,
            "edges": [dict(zip(("source", "target", "weight", "share"), edge, strict=True)) for edge in edges],
            "accounting": [{"target": "'runs'", "feature": 20.0, "value": 20.0}],
        },
        scalars={"coders": "planted:sparse_mlp"},
        views=(
            Graph(
                "nodes",
                "edges",
                diverging=False,
                x_title="position",
                y_title="layer",
                value_title="influence",
                details=("activation",),
                title="The circuit",
            ),
            Table("accounting"),
        ),
        finding="The logit of 'runs' is 20.",
    )
