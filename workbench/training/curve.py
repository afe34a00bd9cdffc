"""The loss of a training as a picture."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench.folders import replace_file
from workbench.named import Named
from workbench.views import Lines, markup


@dataclass(frozen=True)
class _Losses:
    arrays: dict[str, Named]
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def draw_losses(losses: Path, plot: Path, points: int = 300) -> None:
    """Draw the losses as an HTML file that needs no network.

    Args:
        losses: a JSON line for each step.
        plot: the file to write.
        points: how many means the curve is made of.
    """
    rows = [json.loads(line) for line in losses.read_text(encoding="utf-8").splitlines()]
    parts = np.array_split(np.array([row["loss"] for row in rows]), min(points, len(rows)))
    steps = [str(part[-1]) for part in np.array_split(np.array([row["step"] for row in rows]), len(parts))]
    loss = Named(np.array([part.mean() for part in parts]), ("step",), "nats", {"step": tuple(steps)})
    view = Lines("loss", "step", title="Training loss", log=True)
    page = f"<!doctype html><meta charset='utf-8'><title>Training loss</title>{markup(view, _Losses({'loss': loss}))}"
    replace_file(plot, page.encode())
