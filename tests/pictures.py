"""Results that show every kind of view, and texts that try to break out of a page."""

import numpy as np

from workbench.result import Check, Named, Result
from workbench.views import Bars, Graph, Heatmap, Lines, Scatter, Table, Tokens

HOSTILE = (
    "<script>window.PWN=1</script>",
    "<img src=x onerror=window.PWN=1>",
    "<svg/onload=window.PWN=1>",
    "a&b &lt;i&gt;",
    "\"quoted\" 'twice' ` onmouseover=window.PWN=1",
    "</title></style></script><b>loose</b>",
    "]]> --> {{ 7*7 }} {% raw %} %{x}",
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd",
    "emoji \U0001f9e0\u200d\U0001f525",
    "javascript:window.PWN=1",
    "line\nbreak\ttab \x00\x1b",
    "half \ud83e of a pair",
)


def every_view(
    tokens: tuple[str, ...] = (" The", " cat", " cat", "\n", " sat", "."), title: str = "Retrieval heads"
) -> Result:
    """A result with one view of each kind, over layers, heads and the given tokens."""
    random = np.random.default_rng(0)
    shape, axes = (5, 3, len(tokens)), ("layer", "head", "pos")
    labels = {"pos": tokens}
    score = random.random(shape).astype(np.float32)
    effect = random.normal(size=shape).astype(np.float32)
    count = range(len(tokens))
    return Result(
        analysis="retrieval_heads",
        title=title,
        model={"name": "planted:copy", "fingerprint": "abc123", "dtype": "float32", "device": "cpu"},
        inputs={"prompts": {"type": "prompts", "prompts": [{"text": text} for text in tokens]}},
        params={"threshold": 0.1, "layers": (0, 1)},
        arrays={
            "score": Named(score, axes, "probability", labels),
            "low": Named(score - 0.1, axes, "probability", labels),
            "high": Named(score + 0.2, axes, "probability", labels),
            "effect": Named(effect, axes, "nats", labels),
        },
        tables={
            "nodes": [{"id": str(i), "x": i, "y": i % 3, "label": tokens[i], "value": i - 2.0} for i in count],
            "edges": [{"source": str(i), "target": str(i - 1), "weight": 1.0 - i} for i in count if i],
        },
        scalars={"best": 0.97},
        views=(
            Heatmap("score", x="head", y="layer", select={"pos": -1}, caption="Where it copies."),
            Heatmap("effect", x="pos", y="head", diverging=True),
            Lines("score", x="layer", series="head", lower="low", upper="high"),
            Bars(("score", "effect"), x="pos"),
            Scatter("score", "effect", colour="low"),
            Tokens("effect", diverging=True),
            Table("nodes", columns=("label", "value"), rows=3),
            Graph("nodes", "edges"),
        ),
        finding="Head 2 of layer 3 copies in 97 % of the cases.",
        notes=("Short prompts only.",),
        checks=(Check("components sum to the logit", 1e-7, 1e-5),),
        reference="arXiv:2404.15574",
        made={
            "created": "2026-11-21T08:00:00+00:00",
            "seconds": 1.5,
            "seed": 0,
            "versions": {"torch": "2.13"},
        },
    )
