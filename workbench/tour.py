"""The tour: every headline analysis on a model that is already here, one line of finding each, one report."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.catalog import CATALOG, Entry, Subject, run
from workbench.pairs import Pair, Pairs
from workbench.prompts import Needles, Prompts, data_folder
from workbench.reports import report
from workbench.result import Result
from workbench.store import Store

BUNDLED_MODEL = "world"
PLANTED_MODEL = "planted:tour"
REPORT_FILE = "tour.html"


@dataclass(frozen=True)
class Stop:
    """One stop of the tour: what ran, what it found, and how many seconds it took."""

    title: str
    finding: str
    seconds: float
    result: Result


def tour_model() -> str:
    """The model that the tour looks at: the bundled trained one if it is there, else a planted one."""
    bundled = data_folder() / "models" / BUNDLED_MODEL / "config.json"
    return BUNDLED_MODEL if bundled.is_file() else PLANTED_MODEL


def tour(model: Subject, folder: Path, store: Store, fresh: bool = False) -> Iterator[Stop]:
    """Run every analysis that has tour knobs, save the runs, and write the report at the end.

    Args:
        model: what `load` returned, for instance of `tour_model()`.
        folder: where `tour.html` is written.
        store: where the runs are saved.
        fresh: compute again even when the store holds the same runs.

    Yields:
        A stop after each analysis, so that whoever shows the tour can speak at once.
    """
    results = []
    for entry in CATALOG.values():
        if entry.tour is None:
            continue
        begun = time.perf_counter()
        result = run(entry.name, model, *tour_inputs(entry), store=store, fresh=fresh, **entry.tour)
        results.append(result)
        yield Stop(result.title, result.finding, time.perf_counter() - begun, result)
    report(results, folder / REPORT_FILE)


def tour_inputs(entry: Entry) -> list[Any]:
    """The bundled inputs of the types that an analysis takes.

    Raises:
        ValueError: no bundled input has one of the types.
    """
    bundled = {"Prompts": tour_prompts, "Pairs": tour_pairs, "Needles": Needles.bundled}
    missing = [one.type for one in entry.inputs if one.type not in bundled]
    if missing:
        raise ValueError(f"the tour has no {', '.join(missing)} for {entry.name}: remove its TOUR")
    return [bundled[one.type]() for one in entry.inputs]


def tour_prompts() -> Prompts:
    """A prompt that any model with a copying head can go on with: a needle, then its first half again."""
    needle = Needles.bundled()[0]
    return Prompts.of(f"{needle.needle} {needle.answer_prefix}")


def tour_pairs() -> Pairs:
    """The prompt of the tour, and the same with another word in the place of what is to be copied."""
    text = tour_prompts()[0].text
    return Pairs.of(Pair(text, text.replace("smoked", "green"), " smoked", " green", "the secret"))
