"""Examples: finished runs that ship with the workbench, so that there is something to look at before a model is loaded.

They lie in `data/examples/<name>/`, saved as any result, with a list of them in `index.json`; `workbench examples`
makes them again. An example is named `example-<name>` where the id of a run is asked for.
"""

import functools
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.catalog import Subject, run
from workbench.folders import replace_file
from workbench.prompts import data_folder
from workbench.result import Result
from workbench.store import Run
from workbench.strict_json import dumps
from workbench.tour import itinerary

FIRST = ("logit_lens", "attention_patterns", "direct_logit_attribution", "retrieval_heads")
"""The examples to look at first, in this order."""
LARGEST = 3_000_000
"""Bytes that all examples may take together."""
INDEX_FILE = "index.json"
_PREFIX = "example-"


def example_runs() -> list[Run]:
    """The examples as lines of a list of runs, those to look at first in front."""
    return list(_runs(data_folder() / "examples"))


def is_example(name: str) -> bool:
    """Whether this names an example rather than a run of the store."""
    return name.startswith(_PREFIX)


def example(name: str) -> Result:
    """The result of an example.

    Raises:
        KeyError: there is no example of this name.
        ValueError: its folder is damaged.
    """
    known = [run.id for run in example_runs()]
    if name not in known:
        raise KeyError(f"there is no example {name!r}: the examples are {', '.join(known) or 'none'}")
    return Result.load(data_folder() / "examples" / name.removeprefix(_PREFIX))


def make_examples(model: Subject, folder: Path) -> Iterator[Run]:
    """Run the analyses of the tour and save the results as examples.

    Args:
        model: what `load` returned, for instance of `tour_model()`.
        folder: where the examples are written, one folder each.

    Yields:
        A line for each example, once it is written.

    Raises:
        ValueError: a self-check of an example failed, or all together are too large.
    """
    runs: list[Run] = []
    found: dict[str, Result] = {}
    for visit in itinerary(model):
        result = run(visit.analysis, model, *visit.inputs, **visit.knobs_after(found))
        if not result.passed:
            failed = [check.name for check in result.checks if not check.passed]
            raise ValueError(f"the example of {visit.analysis} failed its check: {', '.join(failed)}")
        result.save(folder / visit.analysis)
        found[visit.analysis] = result
        runs.append(_line(visit.analysis, result))
        yield runs[-1]
    total = sum(one.bytes for one in runs)
    if total > LARGEST:
        raise ValueError(f"the examples take {total:,} bytes, and {LARGEST:,} are allowed: choose smaller knobs")
    replace_file(folder / INDEX_FILE, dumps([asdict(one) for one in sorted(runs, key=_order)], indent=1).encode())


@functools.cache
def _runs(folder: Path) -> tuple[Run, ...]:
    index = folder / INDEX_FILE
    if not index.is_file():
        return ()
    rows: list[dict[str, Any]] = json.loads(index.read_text(encoding="utf-8"))
    return tuple(Run(**row) for row in rows)


def _order(run: Run) -> tuple[int, str]:
    return (FIRST.index(run.analysis) if run.analysis in FIRST else len(FIRST), run.id)


def _line(name: str, result: Result) -> Run:
    """What a list says of an example."""
    return Run(
        id=f"{_PREFIX}{name}",
        analysis=result.analysis,
        title=result.title,
        model_name=str(result.model["name"]),
        created=str(result.made["date"]),
        finding=result.finding,
        passed=result.passed,
        seconds=float(result.made["seconds"]),
        bytes=sum(map(len, result.files().values())),
    )
