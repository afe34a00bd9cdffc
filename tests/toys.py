"""Toys for the tests of catalogue and command line: a small analysis, a stand-in for a model."""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench import catalog
from workbench.catalog import Catalog

HEADER = '''\
"""Word count: how long the prompts are.

Idea. Count words.
"""

from typing import Literal

from workbench.catalog import Cost, analysis
from workbench.prompts import Prompts
from workbench.result import Named, Result
from workbench.words import Site
'''

WORD_COUNT = (
    HEADER
    + '''
import numpy as np

UNIT = Literal["words", "letters"]
NEEDS = ("pattern",)
TOUR = {"unit": "letters"}
RAN = []


def cost(model, prompts, **knobs):
    return Cost(passes=len(prompts), tokens=10 * knobs["repeat"])


@analysis(title="Word count", family="lens", reference="folklore")
def word_count(
    model,
    prompts: Prompts,
    *,
    unit: UNIT = "words",
    repeat: int = 1,
    layers: tuple[int, ...] = (0, 2),
    at: list[Site] = [Site("z", 3, head=2)],
    seed: int = 7,
) -> Result:
    """Count the words of each prompt.

    Longer prompts have more of them.

    Args:
        prompts: any texts, which may be
            long.
        unit: what to count.
        repeat: how often, 1 to 5.
        layers: not looked at.
        at: not looked at.
        seed: not looked at.

    Returns:
        Result with `length` (example).
    """
    RAN.append(unit)
    counts = [len(p.text.split() if unit == "words" else p.text) * repeat for p in prompts]
    return Result(arrays={"length": Named(np.array(counts), ("example",))}, finding=f"{sum(counts)} {unit}")
'''
)


@dataclasses.dataclass
class Toy:
    """A stand-in for a loaded model."""

    name: str = "toy"
    missing: str = ""
    seconds_per_pass: float = 4.0
    seconds_per_token: float = 0.5
    other: dict = dataclasses.field(default_factory=dict)

    def identity(self) -> dict:
        known = {"name": self.name, "fingerprint": "f00d", "dtype": "float32", "device": "cpu"}
        return {**known, "prepend_bos": True, "checks": [], **self.other}

    @property
    def capabilities(self):
        return self

    def reason(self, kind: str) -> str | None:
        return "it has no attention" if kind == self.missing else None


@contextmanager
def toy_package(folder: Path, monkeypatch) -> Iterator[Catalog]:
    """A fresh package of analyses, whose catalogue is *the* catalogue inside the block."""
    home = f"toys_{abs(hash(str(folder)))}"
    (folder / home).mkdir()
    (folder / home / "__init__.py").write_text("")
    made = Catalog(folder / home, home)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(catalog, "CATALOG", made)
    try:
        yield made
    finally:
        for name in [name for name in sys.modules if name.startswith(home)]:
            del sys.modules[name]
