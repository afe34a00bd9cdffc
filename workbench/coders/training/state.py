"""The state of a training on disk: all that the next step depends on, written whole or not at all."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from workbench.coders.files import tensor_bytes
from workbench.coders.training.buffer import Pairs
from workbench.coders.training.learning import Learning
from workbench.coders.training.watching import Curve
from workbench.folders import replace_file

Begin = Callable[[int, Pairs], Learning]
"""A learner before its first step, from its layer and some pairs, which say how wide it is and how they are scaled."""

Found = tuple[dict[int, Learning], Curve]


@dataclass
class State:
    """Where a training is kept.

    Attributes:
        file: the file; None where nothing is to be kept.
        made_of: what tells this training from every other.
        save_every: seconds between two writings.
    """

    file: Path | None
    made_of: str
    save_every: float
    _saved: float = field(default_factory=time.monotonic)

    def save_when_due(self, learners: Mapping[int, Learning], curve: Curve) -> None:
        """Write the state if the last writing is long enough ago."""
        if time.monotonic() - self._saved > self.save_every:
            self.save(learners, curve)

    def save(self, learners: Mapping[int, Learning], curve: Curve) -> None:
        """Write the state."""
        if self.file is None:
            return
        tensors = {f"L{layer}/{name}": value for layer, one in learners.items() for name, value in one.dump().items()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.file, tensor_bytes(tensors, {"made_of": self.made_of, "curve": json.dumps(curve.rows)}))
        self._saved = time.monotonic()

    def restore(self, begin: Begin, blank: Mapping[int, Pairs], steps: int) -> Found | None:
        """The learners and the curve of the state on disk; None where there is none yet.

        Raises:
            ValueError: the state is of another model, other texts, other layers or another recipe.
        """
        if self.file is None or not self.file.is_file():
            return None
        with safe_open(self.file, framework="pt") as opened:
            notes = opened.metadata() or {}
            if notes.get("made_of") != self.made_of:
                raise ValueError(
                    f"{self.file} is the state of another training (model, texts, layers or recipe): name another file"
                )
            tensors: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        learners = {layer: begin(layer, pairs) for layer, pairs in blank.items()}
        for layer, learner in learners.items():
            start = f"L{layer}/"
            learner.restore(
                {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
            )
        return learners, Curve(steps, json.loads(notes["curve"]))
