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
    """Lay two saved runs of one analysis side by side: what changed, and where most. A report can hold it too."""
    from workbench.answers import print_json
    from workbench.comparison import compare as lay_side_by_side
    from workbench.comparison import comparison_key
    from workbench.store import Store
    from workbench.views.texts import cell_text

    sides = _saved([first, second], store)
    found = lay_side_by_side(*sides)
    if out is not None:
        found.save(out)
    kept = Store(store).put(found, comparison_key(*sides))
    if as_json:
        print_json(found.to_json())
        return
    print_line(found.finding)
    columns = ["array", "largest_change", "where", "mean_absolute_change", "correlation"]
    print_table(columns, [[cell_text(row[column]) for column in columns] for row in found.tables["changes"]])
    print_line(f"saved as {kept}")


def circuit_bundle(
    run: Annotated[str, typer.Argument(help="A run of transcoder_circuit: its id (or how it begins), or its folder.")],
    further: Annotated[list[str] | None, typer.Argument(help="Further runs for its report.")] = None,
    out: Annotated[Path, typer.Option(help="Folder, or a file that ends in .zip.")] = Path("circuit.zip"),
    slug: Annotated[str, typer.Option(help="Name of the circuit in its file.")] = "circuit",
    store: StoreFolder = None,
) -> None:
    """Write a circuit with its report, graph and manifest as one folder or zip, and check it."""
    from workbench.bundles import bundle

    first, *others = _saved([run, *(further or [])], store)
    check_bundle(bundle(first, out, others, slug=slug))
    print_line(f"bundle: {out}")


def check_bundle(place: Annotated[Path, typer.Argument(help="A bundle: a folder or a zip.")]) -> None:
    """Check a circuit bundle: its hashes, and its accounting from the stored graph; exit code 1 if it fails."""
    from workbench.bundles import check_bundle as check

    checks = check(place)
    rows = [(one.name, f"{one.value:.1e}", f"{one.tolerance:.0e}", "yes" if one.passed else "NO") for one in checks]
    print_table(["check", "found", "allowed", "passed"], rows)
    if not all(one.passed for one in checks):
        raise typer.Exit(1)


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
