"""The commands that keep: saved runs are listed, reported, compared and deleted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.terminal import print_line, print_table

if TYPE_CHECKING:
    from workbench.result import Result

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
StoreFolder = Annotated[
    Path | None, typer.Option("--store", help="Folder of saved runs; else WORKBENCH_HOME, else your own.")
]


def report(
    runs: Annotated[list[str], typer.Argument(help="Run ids (or how they begin), or result folders.")],
    out: Annotated[Path, typer.Option(help="HTML file; the JSON is written beside it.")] = Path("report.html"),
    store: StoreFolder = None,
) -> None:
    """Write saved runs as one HTML file that opens with no network."""
    from workbench.reports import report as write_report

    write_report(_saved(runs, store), out)
    print_line(f"report: {out}")


def compare(
    first: Annotated[str, typer.Argument(help="Run id (or how it begins), or result folder.")],
    second: Annotated[str, typer.Argument(help="Another one of the same analysis.")],
    out: Annotated[Path | None, typer.Option(help="Folder to save the comparison to, as a result.")] = None,
    as_json: AsJson = False,
    store: StoreFolder = None,
) -> None:
    """Lay two saved runs of one analysis side by side: what changed, and where most."""
    from workbench.answers import print_json
    from workbench.comparison import compare as lay_side_by_side
    from workbench.views.texts import cell_text

    found = lay_side_by_side(*_saved([first, second], store))
    if out is not None:
        found.save(out)
    if as_json:
        print_json(found.to_json())
        return
    print_line(found.finding)
    columns = ["array", "largest_change", "where", "mean_absolute_change", "correlation"]
    print_table(columns, [[cell_text(row[column]) for column in columns] for row in found.tables["changes"]])


def list_runs(as_json: AsJson = False, store: StoreFolder = None) -> None:
    """List the saved runs, newest first."""
    from dataclasses import asdict

    from workbench.answers import print_json
    from workbench.store import Store

    found = Store(store).runs()
    if as_json:
        print_json([asdict(run) for run in found])
    elif found:
        rows = [(run.id, run.analysis, run.model_name, run.created, run.finding) for run in found]
        print_table(["run", "analysis", "model", "saved", "finding"], rows)
    else:
        print_line("no run is saved yet: workbench run NAME --model MODEL saves one")


def delete(run: Annotated[str, typer.Argument(help="Run id, or how it begins.")], store: StoreFolder = None) -> None:
    """Delete a saved run."""
    from workbench.store import Store

    Store(store).delete(run)
    print_line(f"deleted: {run}")


def _saved(runs: list[str], store: Path | None) -> "list[Result]":
    """Results by the ids of their runs or by their folders."""
    from workbench.result import Result
    from workbench.store import Store

    saved = Store(store)
    return [Result.load(run) if Path(run).is_dir() else saved.get(run) for run in runs]
