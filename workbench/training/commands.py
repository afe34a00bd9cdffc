"""The commands that train, rehearse, write and evaluate the small world; what they need is imported when they run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.terminal import print_line, print_table, progress_bars, waiting

if TYPE_CHECKING:
    from workbench.training.evaluation import Score


def train_world(
    name: Annotated[str, typer.Argument(help="world, or world-history.")] = "world",
    out: Annotated[Path, typer.Option(help="Folder for the models; a stopped training in it goes on.")] = Path("out"),
    steps: Annotated[int | None, typer.Option(min=1, help="Steps in all; else what the recipe says.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0 or mps.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile first: faster, needs a C++ compiler.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that write text ahead; a GPU needs some.")] = 0,
) -> None:
    """Train a small model on the small world; a training that was stopped goes on."""
    from workbench.model import choose_device
    from workbench.training.recipe import recipe_of
    from workbench.training.trainer import train

    recipe = recipe_of(name, steps)
    with progress_bars():
        folder = train(recipe, out / name, device=choose_device(device), compiled=compiled, workers=workers)
    print_line(f"model: {folder}")


def rehearse_world(
    name: Annotated[str, typer.Argument(help="world, or world-history.")] = "world-history",
    steps: Annotated[int, typer.Option(min=50, help="Steps to take; a multiple of 50.")] = 50,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0 or mps.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile first, if the training did.")] = False,
) -> None:
    """Train a bundled model anew for its first steps, and compare the losses with those that it had."""
    from workbench.model import choose_device
    from workbench.training.rehearsal import TOLERANCE, rehearse

    with progress_bars():
        found = rehearse(name, steps, choose_device(device), compiled)
    print_table(
        ["steps", "loss as shipped", "loss now"],
        [[f"to {step:,}", f"{told:.4f}", f"{now:.4f}"] for step, (told, now) in found.losses.items()],
    )
    print_line(f"tokenizer: {'the same' if found.same_words else 'another'}")
    print_line(f"largest difference: {found.largest_gap:.4f} nats per token (tolerance {TOLERANCE})")
    if not found.reproduced:
        raise typer.Exit(1)


def world_text(
    file: Annotated[Path, typer.Argument(help="The text file to write, such as world.txt.")],
    documents: Annotated[int, typer.Option(min=1, help="How many documents.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of the documents; the world stays the same.")] = 1,
) -> None:
    """Write text about the small world, a document of any genre after another, with an empty line between."""
    from workbench.folders import replace_file
    from workbench.world import make_world
    from workbench.world.stream import sample_texts

    replace_file(file, ("\n\n".join(sample_texts(make_world(), seed, documents)) + "\n").encode())
    print_line(f"text: {file}, {documents:,} documents")


def evaluate_world(
    model: Annotated[str, typer.Option("--model", help="A model of the small world, or its folder.")] = "world",
    task: Annotated[list[str] | None, typer.Option(help="Only this task; repeat for several.")] = None,
    save: Annotated[bool, typer.Option("--save", help="Write the numbers beside the weights, and the card.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0 or mps.")] = "auto",
) -> None:
    """Measure what a model of the small world knows, on what its training text never held."""
    from dataclasses import asdict

    from workbench.answers import print_json
    from workbench.model import load
    from workbench.sources import find_source
    from workbench.training.card import training_table
    from workbench.training.evaluation import COLUMNS, evaluate, score_row

    if save and task:
        raise ValueError("--save writes a whole evaluation: leave out --task")
    with waiting(f"loading {model}"):
        subject = load(model, device=device)
    with progress_bars():
        scores = evaluate(subject, task)
    if as_json:
        print_json([asdict(score) for score in scores])
    else:
        print_table(["", ""], training_table(Path(find_source(model).place)))
        print_table(COLUMNS, map(score_row, scores))
    if save:
        _save(model, scores)


def _save(name: str, scores: "list[Score]") -> None:
    """Write an evaluation beside the weights it is of; of all checkpoints, where there are some."""
    from workbench.sources import checkpoints, find_source
    from workbench.training.card import save_evaluation
    from workbench.training.history import watch

    with progress_bars():
        moments = watch(name) if checkpoints(name) else []
    save_evaluation(Path(find_source(name).place), scores, moments)
