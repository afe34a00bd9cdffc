"""The command `history`: one analysis on every checkpoint of a model."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.keeping import AsJson, StoreFolder
from workbench.terminal import print_line, progress_bars, waiting

if TYPE_CHECKING:
    from workbench.result import Result


def history(
    name: Annotated[str, typer.Argument(help="An analysis, see workbench list.")],
    knobs: Annotated[list[str] | None, typer.Argument(help="--name value, see run NAME --help.")] = None,
    model: Annotated[str, typer.Option(help="A model with checkpoints.")] = "world-history",
    revision: Annotated[list[str] | None, typer.Option(help="A checkpoint; repeat; else all that ship.")] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A text; repeat for several.")] = None,
    prompts: Annotated[str | None, typer.Option(help="File of prompts, or a bundled set.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write the result to.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or float64.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0 or mps.")] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute even if a run is saved.")] = False,
    as_json: AsJson = False,
    store: StoreFolder = None,
) -> None:
    """Run an analysis on every checkpoint of a model: what is born when."""
    from workbench.answers import print_json, print_result, result_json
    from workbench.catalog import CATALOG
    from workbench.catalog import run as run_analysis
    from workbench.model import load
    from workbench.options import read_inputs, read_knobs, split_sets
    from workbench.series import series, series_key
    from workbench.store import Store

    entry = CATALOG[name]
    sets, settings = split_sets(entry, read_knobs(entry, knobs or []))
    values = entry.parse_knobs(settings)
    inputs = read_inputs(entry, prompt or [], prompts, sets)
    runs, results = Store(store), dict[int, "Result"]()
    for place, one in enumerate(revision or _checkpoints(model)):
        with waiting(f"loading {model}, {one}"):
            subject = load(model, dtype=dtype, device=device, revision=one)
        with progress_bars():
            results[step_of(one, place)] = run_analysis(name, subject, *inputs, store=runs, fresh=fresh, **values)
    found = series(results)
    kept = runs.put(found, series_key(results))
    if out is not None:
        found.save(out)
    if as_json:
        print_json(result_json(found))
    else:
        print_result(found)
        print_line(f"saved as {kept}")


def step_of(revision: str, place: int) -> int:
    """The training step that the name of a checkpoint ends with, else its place in the row.

    Example:
        >>> step_of("step-00025", 3), step_of("main", 3)
        (25, 3)
    """
    number = re.search(r"\d+$", revision)
    return int(number[0]) if number else place


def _checkpoints(model: str) -> list[str]:
    """The revisions of a model whose training was kept. Raises ValueError when there are none."""
    from workbench.sources import checkpoint_name, checkpoints

    found = [checkpoint_name(step) for step in checkpoints(model)]
    if not found:
        raise ValueError(f"model {model} has no checkpoints on this machine: name them with --revision, one by one")
    return found
