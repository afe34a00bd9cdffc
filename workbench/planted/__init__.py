"""Planted models: small real transformers built by hand, whose mechanism is known exactly.

Every model is a `transformers` model with hand-set weights and a word tokenizer, so every tool that
takes a Hugging Face decoder works on it. `truth` says as plain JSON what an analysis must find there.
Building is deterministic and leaves the global random state as it was. The names can be listed
without torch; a model is built when it is asked for.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import transformers

_NAMES = ("copy", "induction", "sink", "late_hop", "concepts", "redundant", "sparse_mlp", "tour")


@dataclass(frozen=True)
class Planted:
    """A model built by hand, its tokenizer, and the truth about it as plain JSON."""

    model: "transformers.PreTrainedModel"
    tokenizer: "transformers.PreTrainedTokenizerFast"
    truth: dict[str, object]


def _build(name: str) -> Planted:
    return getattr(import_module(f"workbench.planted.{name}"), name)()


PLANTED: dict[str, Callable[[], Planted]] = {name: partial(_build, name) for name in _NAMES}
"""Every planted model by name, as a function that builds it; `workbench.planted.<name>` describes it."""


def plant(name: str) -> Planted:
    """Build a planted model.

    Raises:
        ValueError: there is no planted model of this name.

    Example:
        >>> plant("late_hop").truth["success"]
        [[3, 0], [4, 0], [5, 0]]
    """
    if name not in PLANTED:
        raise ValueError(f"planted model {name!r} is unknown: allowed are {', '.join(PLANTED)}")
    return PLANTED[name]()


def save_planted(name: str, folder: str | Path) -> Path:
    """Write a planted model as a Hugging Face folder, with its truth beside it in `truth.json`.

    Returns:
        The folder, which `AutoModelForCausalLM` and `AutoTokenizer` read.

    Raises:
        ValueError: there is no planted model of this name.
    """
    planted = plant(name)
    planted.model.save_pretrained(folder)
    planted.tokenizer.save_pretrained(folder)
    truth = json.dumps(planted.truth, indent=2, ensure_ascii=False)
    (Path(folder) / "truth.json").write_text(truth + "\n", encoding="utf-8")
    return Path(folder)
