"""The command line: the same analyses, models and saved runs as in Python and in the dashboard.

Only light modules are imported here, so that `workbench --help` answers at once; what a command needs
is imported when it runs. A user's mistake ends with one sentence on standard error and exit code 2.
"""

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.indexing import index_features
from workbench.keeping import (
    AsJson,
    StoreFolder,
    check_bundle,
    circuit_bundle,
    compare,
    delete,
    list_runs,
    report,
)
from workbench.mistakes import sentence
from workbench.over_steps import history
from workbench.terminal import print_error, print_line, print_table, progress_bars, waiting
from workbench.training.commands import evaluate_world, rehearse_world, train_world, world_text
from workbench.transcoding.commands import build_corpus, train_sae, train_transcoders

if TYPE_CHECKING:
    from workbench.model import Model

_STOPPED = 130
"""The exit code of a command that Ctrl-C ended."""

commands = typer.Typer(
    name="workbench",
    help="Look inside a language model: trace it, edit it, explain it. Without a command, open the dashboard.",
    epilog="--debug, or WORKBENCH_DEBUG=1, shows the traceback of an error.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ModelName = Annotated[str | None, typer.Option("--model", help="Hub id, folder, .gguf file or planted:<name>.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or float64.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0 or mps.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Compute even if the run is saved.")]


@commands.command("list")
def list_analyses(as_json: AsJson = False) -> None:
    """List the analyses."""
    from workbench.answers import entry_json, print_json
    from workbench.catalog import CATALOG

    if as_json:
        print_json([entry_json(entry) for entry in CATALOG.values()])
        return
    rows = [(one.name, one.family, one.summary) for one in CATALOG.values()]
    print_table(["analysis", "family", "what it does"], rows)
    print_line("workbench run NAME --help tells the knobs of one.")


@commands.command()
def info(
    model: Annotated[str, typer.Argument(help="Hub id, folder, .gguf file or planted:<name>.")],
    as_json: AsJson = False,
    dtype: Dtype = None,
    device: Device = "auto",
    revision: Revision = None,
) -> None:
    """Load a model and tell its shape, its self-checks, what it can serve, and its speed."""
    from workbench.answers import print_json, print_model

    subject = _load(model, dtype, device, revision)
    about = {
        **subject.identity(),
        "seconds_per_pass": subject.seconds_per_pass,
        "seconds_per_token": subject.seconds_per_token,
        "capabilities": subject.capabilities.describe(),
    }
    (print_json if as_json else print_model)(about)


@commands.command(context_settings={"ignore_unknown_options": True})
def run(
    name: Annotated[str, typer.Argument(help="An analysis, see workbench list.")],
    knobs: Annotated[list[str] | None, typer.Argument(help="--name value, see run NAME --help.")] = None,
    model: ModelName = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A text; repeat for several.")] = None,
    prompts: Annotated[str | None, typer.Option(help="File of prompts, or a bundled set.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write the result to.")] = None,
    store: StoreFolder = None,
    fresh: Fresh = False,
    as_json: AsJson = False,
    dtype: Dtype = None,
    device: Device = "auto",
    revision: Revision = None,
) -> None:
    """Run an analysis on a model; its knobs are options too: --name value."""
    from workbench.answers import print_json, print_result, result_json
    from workbench.catalog import CATALOG, run_key
    from workbench.catalog import run as run_analysis
    from workbench.options import read_inputs, read_knobs, split_sets
    from workbench.store import Store

    if name.startswith("-"):
        raise ValueError("name the analysis right after run: workbench run NAME --model MODEL")
    entry = CATALOG[name]
    sets, settings = split_sets(entry, read_knobs(entry, knobs or []))
    values = entry.parse_knobs(settings)
    inputs = read_inputs(entry, prompt or [], prompts, sets)
    if model is None:
        raise ValueError(f"{name} needs a model: --model gemma-3-270m, --model planted:tour or another")
    runs = Store(store)
    subject = _load(model, dtype, device, revision)
    with progress_bars():
        result = run_analysis(name, subject, *inputs, store=runs, fresh=fresh, **values)
    if out is not None:
        result.save(out)
    if as_json:
        print_json(result_json(result))
    else:
        print_result(result)
        print_line(f"saved as {runs.find(run_key(entry, subject, inputs, values))}")


@commands.command("app")
def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8501,
    browser: Annotated[bool, typer.Option(help="Open the dashboard in the browser.")] = True,
) -> None:
    """Serve the dashboard on this machine."""
    from workbench.serving import serve_dashboard

    serve_dashboard(port, browser)


@commands.command()
def tour(
    out: Annotated[Path, typer.Option(help="Folder to write tour.html to.")] = Path("out"),
    model: ModelName = None,
    store: StoreFolder = None,
    fresh: Fresh = False,
) -> None:
    """Run every headline analysis on a model that is already here, and write a report."""
    from workbench.store import Store
    from workbench.tour import REPORT_FILE, tour, tour_model

    runs = Store(store)
    subject = _load(model or tour_model())
    print_line(f"tour of {subject.name}")
    stops = tour(subject, out, runs, fresh)
    while True:
        with progress_bars():  # one set of bars a stop, so that they are gone when its line is printed
            stop = next(stops, None)
        if stop is None:
            break
        print_line(f"{stop.title}: {stop.finding} ({stop.seconds:.1f} s)")
    print_line(f"report: {out / REPORT_FILE}")


@commands.command()
def examples(
    out: Annotated[Path, typer.Option(help="Folder to write the examples to.")] = Path("data/examples"),
    model: ModelName = None,
) -> None:
    """Compute the finished examples of the dashboard's first page again, for who changes the workbench."""
    from workbench.examples import make_examples
    from workbench.tour import tour_model

    subject = _load(model or tour_model())
    print_line(f"examples on {subject.name}")
    for made in make_examples(subject, out):
        print_line(f"{made.title}: {made.finding} ({made.bytes:,} bytes)")


@commands.command()
def doctor(as_json: AsJson = False, store: StoreFolder = None) -> None:
    """Look at versions, conflicts, devices and folders; exit code 1 if something is broken."""
    from dataclasses import asdict

    from workbench.answers import print_json
    from workbench.doctor import examine

    with waiting("looking"):
        found = examine(store)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        print_table(["what", "state", "found"], [(one.name, one.state, one.text) for one in found])
    if any(one.state == "broken" for one in found):
        raise typer.Exit(1)


for name, keep in {"report": report, "compare": compare, "runs": list_runs, "delete": delete}.items():
    commands.command(name)(keep)
commands.command("circuit-bundle")(circuit_bundle)
commands.command("check-bundle")(check_bundle)
commands.command("history", context_settings={"ignore_unknown_options": True})(history)
commands.command("train-world")(train_world)
commands.command("rehearse-world")(rehearse_world)
commands.command("train-transcoders")(train_transcoders)
commands.command("train-sae")(train_sae)
commands.command("build-corpus")(build_corpus)
commands.command("index-features")(index_features)
commands.command("world-text")(world_text)
commands.command("evaluate-world")(evaluate_world)


def answer(words: list[str]) -> int:
    """Carry out one command line and return its exit code; no exception leaves this function."""
    debug = "--debug" in words or bool(os.environ.get("WORKBENCH_DEBUG"))
    try:
        asked = [word for word in words if word != "--debug"] or ["app"]
        code = commands(asked, prog_name="workbench", standalone_mode=False)
        if asked[0] in ("run", "history") and "--help" in asked[2:]:
            _print_knobs(asked[1])
    except (KeyboardInterrupt, typer.Abort):
        code = _STOPPED
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _explain(error)
    if code == _STOPPED:
        print_error("stopped: what was finished is saved, nothing is left half-written")
    return code if isinstance(code, int) else 0


def main() -> None:
    """The entry point of the command `workbench`."""
    sys.exit(answer(sys.argv[1:]))


def _print_knobs(name: str) -> None:
    """Print what the help of `run` cannot know: the knobs of the analysis."""
    from workbench.catalog import CATALOG
    from workbench.options import print_analysis_help

    print_analysis_help(CATALOG[name])


def _explain(error: Exception) -> int:
    """Say in one line on standard error what went wrong, and return the exit code."""
    usage = getattr(error, "format_message", None)  # how typer and click say that the words do not fit
    told = " ".join(str(usage()).split()) if callable(usage) else sentence(error)
    if told is None:
        print_error(f"internal error: {type(error).__name__}: {error} (--debug shows where)")
        return 1
    print_error(f"error: {told}")
    return 2


def _load(name: str, dtype: str | None = None, device: str = "auto", revision: str | None = None) -> "Model":
    """Load a model; on a terminal, say what is happening and what it will cost."""
    with waiting(f"loading {name}"):
        from workbench.model import load

        _quiet_others()
        return load(name, dtype=dtype, device=device, revision=revision)


def _quiet_others() -> None:
    """Let the workbench speak on a terminal, and keep the libraries below it from chattering."""
    if sys.stderr.isatty():
        logging.basicConfig(format="%(message)s")
        logging.getLogger("workbench").setLevel(logging.INFO)
    for library in ("huggingface_hub", "transformers", "transformer_lens"):
        logging.getLogger(library).setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
