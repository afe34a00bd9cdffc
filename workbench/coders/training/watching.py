"""What is seen of a training: a row of numbers for each layer now and then, told to the log and kept for the card."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.coders.training.learning import Learning

_LOG = logging.getLogger("workbench")
_ROWS = 50
"""How many rows a training has for each layer."""


@dataclass
class Curve:
    """The numbers of a training as they change.

    Attributes:
        rows: step, layer, share of the output's variance that was missed, features active on a token (L0), and
            share of dead features, and the loss where a learner tells it; means since the row before, but for the
            dead features.
    """

    steps: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def note(self, learners: Mapping[int, Learning]) -> None:
        """Take a row for each layer, where one is due."""
        done = next(iter(learners.values())).step
        if done % max(1, self.steps // _ROWS) and done != self.steps:
            return
        here = [{"step": done, "layer": layer} | learner.seen() for layer, learner in learners.items()]
        self.rows += here
        means = {name: sum(row[name] for row in here) / len(here) for name in here[0]}
        _LOG.info(
            "step %d of %d: %s%.1f %% of the variance missed, %.1f features a token, %.1f %% dead",
            *(done, self.steps, f"loss {means['loss']:.4g}, " if "loss" in means else ""),
            *(100 * means["missed"], means["l0"], 100 * means["dead"]),
        )

    @property
    def last(self) -> dict[str, float]:
        """The share of variance that each layer missed in the last row."""
        last = self.rows[-1]["step"] if self.rows else 0
        return {str(row["layer"]): row["missed"] for row in self.rows if row["step"] == last}
