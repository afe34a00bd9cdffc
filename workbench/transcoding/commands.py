"""The commands `build-corpus`, `train-transcoders` and `train-sae`; what they need is imported when they run."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from workbench.terminal import print_error, print_line, progress_bars, waiting


def build_corpus(
    file: Annotated[Path, typer.Argument(help="The text file to write, such as corpus.txt.")],
    package: Annotated[list[str] | None, typer.Option(help="Only this package; repeat for several.")] = None,
    most: Annotated[int, typer.Option(min=1, help="The most characters of one package.")] = 2_500_000,
    held_out: Annotated[float, typer.Option(help="Share of the documents that is held out.")] = 0.02,
    keep: Annotated[Path | None, typer.Option(help="Folder to unpack into and keep.")] = None,
) -> None:
    """Build a text of English prose from Debian's documentation packages; needs apt-get and the network."""
    from workbench.corpus import build, chosen

    with progress_bars():
        corpus = build(file, packages=chosen(package or []), most=most, share_held_out=held_out, unpacked=keep)
    print_line(f"text: {corpus.text}, held out: {corpus.held_out}, {corpus.characters:,} characters in all")
    print_line(f"packages and their licences: {corpus.record}")


Subject = Annotated[str, typer.Argument(help="Hub id, folder, .gguf file, bundled name or planted:<name>.")]
Text = Annotated[Path, typer.Option(help="Text to learn from; an empty line ends a document.")]
Folder = Annotated[Path, typer.Option(help="Folder of the coders; a stopped training in it goes on.")]
HeldOut = Annotated[Path | None, typer.Option(help="Text to measure on; else every 50th document.")]
Features = Annotated[int, typer.Option(min=1, help="Features of each layer.")]
Steps = Annotated[int, typer.Option(min=1, help="Batches to learn from.")]
Batch = Annotated[int, typer.Option(min=1, help="Tokens in a batch.")]
Buffer = Annotated[int, typer.Option(min=1, help="Tokens that are shuffled together.")]
Context = Annotated[int, typer.Option(min=2, help="Tokens in a row of text.")]
Rate = Annotated[float, typer.Option(help="Largest learning rate.")]
Seed = Annotated[int, typer.Option(help="Of the first weights and the order of the text.")]
Measured = Annotated[int, typer.Option(min=1, help="Held-out tokens to measure on.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16, of the model.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0 or mps.")]
"""What both trainings are told in the same words."""


def train_transcoders(
    model: Subject,
    text: Text,
    out: Folder,
    held_out: HeldOut = None,
    layers: Annotated[str, typer.Option(help="all, or layers such as 9 or 0-5,8.")] = "all",
    architecture: Annotated[Literal["topk", "relu", "jumprelu"], typer.Option(help="Kind of coder.")] = "topk",
    features: Features = 4096,
    k: Annotated[int, typer.Option(min=1, help="Active features of topk.")] = 32,
    skip: Annotated[bool, typer.Option("--skip", help="Learn a linear path too.")] = False,
    sparsity: Annotated[float, typer.Option(help="Cost of sparsity for relu and jumprelu.")] = 1e-3,
    steps: Steps = 2000,
    batch: Batch = 1024,
    buffer: Buffer = 65_536,
    context: Context = 128,
    rate: Rate = 1e-3,
    seed: Seed = 0,
    measured: Measured = 10_000,
    dtype: Dtype = None,
    device: Device = "auto",
) -> None:
    """Train transcoders of a model's MLPs, all layers in one pass over the text, and measure them."""
    from workbench.coders.training import Recipe
    from workbench.transcoding.making import make_transcoders

    recipe = Recipe(
        **{"width": features, "activation": architecture, "k": k, "skip": skip, "sparsity": sparsity},
        **{"steps": steps, "batch": batch, "buffer": buffer, "context": context, "rate": rate, "seed": seed},
    )
    source = {"model": model, "dtype": dtype, "device": device, "text": text, "held_out": held_out}
    _make(make_transcoders, recipe, out, layers, measured, **source)


def train_sae(
    model: Subject,
    text: Text,
    out: Folder,
    held_out: HeldOut = None,
    layers: Annotated[str, typer.Option("--layers", "--layer", help="all, or layers such as 9 or 0-5,8.")] = "all",
    site: Annotated[str, typer.Option(help="resid_post, resid_pre, resid_mid, mlp_out, attn_out, ...")] = "resid_post",
    architecture: Annotated[
        Literal["topk", "batchtopk", "jumprelu", "standard"], typer.Option(help="As SAELens names them.")
    ] = "topk",
    features: Features = 4096,
    k: Annotated[int, typer.Option(min=1, help="Active features of topk and batchtopk.")] = 32,
    sparsity: Annotated[float, typer.Option(help="SAELens' l1 (standard) or l0 (jumprelu) coefficient.")] = 1.0,
    steps: Steps = 2000,
    batch: Batch = 1024,
    buffer: Buffer = 65_536,
    context: Context = 128,
    rate: Rate = 1e-3,
    seed: Seed = 0,
    measured: Measured = 10_000,
    dtype: Dtype = None,
    device: Device = "auto",
) -> None:
    """Train sparse autoencoders at a site of a model by SAELens' own trainer, and measure them."""
    from workbench.coders.training import SAERecipe
    from workbench.transcoding.making import make_sae

    recipe = SAERecipe(
        **{"site": site, "architecture": architecture, "width": features, "k": k, "sparsity": sparsity},
        **{"steps": steps, "batch": batch, "buffer": buffer, "context": context, "rate": rate, "seed": seed},
    )
    source = {"model": model, "dtype": dtype, "device": device, "text": text, "held_out": held_out}
    _make(make_sae, recipe, out, layers, measured, **source)


def _make(
    make: Callable[..., Path],
    recipe: Any,
    out: Path,
    layers: str,
    measured: int,
    *,
    model: str,
    dtype: str | None,
    device: str,
    text: Path,
    held_out: Path | None,
) -> None:
    """Load the model and the text, train and measure with bars, and print the card."""
    from workbench.coders.training import read_documents
    from workbench.knobs import Knob
    from workbench.model import load
    from workbench.transcoding.making import split_documents

    chosen: Any = () if layers == "all" else Knob("layers", "tuple[int, ...]", ()).parse(layers)
    documents = read_documents(text)
    apart = split_documents(documents) if held_out is None else (documents, read_documents(held_out))
    with waiting(f"loading {model}"):
        subject = load(model, dtype=dtype, device=device)
    with progress_bars(), _told_numbers():
        page = make(subject, *apart, recipe, out, layers=chosen, measured=measured)
    for line in page.read_text(encoding="utf-8").splitlines():
        print_line(line)
    print_line(f"coders: {out}")


class _Lines(logging.Handler):
    """Writes what the library logs between the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        print_error(record.getMessage())


@contextmanager
def _told_numbers() -> Generator[None]:
    """Show the numbers of a training as it goes."""
    log, lines = logging.getLogger("workbench"), _Lines()
    before = log.level
    log.addHandler(lines)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(lines)
        log.setLevel(before)
