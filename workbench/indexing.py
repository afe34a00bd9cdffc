"""The command `index-features`; what it needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.terminal import print_line, progress_bars, waiting


def index_features(
    model: Annotated[str, typer.Argument(help="Hub id, folder, .gguf file, bundled name or planted:<name>.")],
    text: Annotated[str, typer.Option(help="Text to read (an empty line ends a document), or a bundled set.")],
    out: Annotated[Path, typer.Option(help="Folder of the index; a stopped indexing in it goes on.")],
    coders: Annotated[str, typer.Option(help="Folder of coders, or saelens:<release>/<id>.")] = "",
    context: Annotated[int, typer.Option(min=2, help="Tokens in a passage.")] = 128,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16, of the model.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0 or mps.")] = "auto",
) -> None:
    """Index where the features of coders are active in a text: for feature cards and searches."""
    from workbench.features import Recipe, build_index, fitted_coders
    from workbench.model import load

    with waiting(f"loading {model}"):
        subject = load(model, dtype=dtype, device=device)
        fitted = fitted_coders(subject, coders)
    with progress_bars():
        index = build_index(subject, fitted, text, folder=out, recipe=Recipe(length=context))
    dead = sum(int(index.dead(layer).sum()) for layer in fitted)
    total = sum(one.width for one in fitted.values())
    print_line(f"index: {out}, {index.tokens:,} tokens, {total:,} features, {dead:,} of them dead")
