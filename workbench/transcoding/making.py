"""Train coders, write them as SAELens reads them, and measure them on text that they never saw."""

from collections.abc import Callable, Sequence
from pathlib import Path

from workbench.coders import Transcoders, save_saelens
from workbench.coders.training import Recipe, SAERecipe, train_sae, train_transcoders
from workbench.coders.training.texts import token_rows
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.transcoding.card import write_card

STATE = Path("progress", "state.safetensors")
"""Where in the folder a training is kept, so that it can go on."""

_HELD_OUT_EVERY = 50


def split_documents(documents: Sequence[str]) -> tuple[list[str], list[str]]:
    """Documents to learn from, and every fiftieth one held out.

    Raises:
        ValueError: there are too few to hold one out.
    """
    if len(documents) < 2:
        raise ValueError("a text of one document leaves none to hold out: name a file of text that is held out")
    held_out = documents[::_HELD_OUT_EVERY]
    return [document for place, document in enumerate(documents) if place % _HELD_OUT_EVERY], list(held_out)


def make_transcoders(
    model: Model,
    documents: Sequence[str],
    held_out: Sequence[str],
    recipe: Recipe,
    folder: Path,
    *,
    layers: tuple[int, ...] = (),
    measured: int = 10_000,
) -> Path:
    """Train, save and measure; a training that was stopped in this folder goes on.

    Args:
        model: a loaded model.
        documents: what to learn from.
        held_out: other documents, to measure on.
        recipe: what to train.
        folder: where the layers, `card.json` and `README.md` are written; `load_coders` reads it.
        layers: for which layers; all by default.
        measured: about how many held-out tokens to measure on.

    Returns:
        The card, as a page.

    Raises:
        ValueError: SAELens has no class for such coders, or the folder holds another training.
        Cancelled: whoever listens to the progress stopped it; it can go on.
    """
    if recipe.activation == "topk" and recipe.skip:
        raise ValueError("SAELens has no top-k transcoders with a skip: take relu or jumprelu, or leave the skip out")

    def train() -> Transcoders:
        return train_transcoders(model, documents, recipe, layers=layers, state=folder / STATE)

    return _make(train, model, excerpts(model, held_out, recipe.context, measured), folder)


def make_sae(
    model: Model,
    documents: Sequence[str],
    held_out: Sequence[str],
    recipe: SAERecipe,
    folder: Path,
    *,
    layers: tuple[int, ...] = (),
    measured: int = 10_000,
) -> Path:
    """Train sparse autoencoders by SAELens, save and measure them; all else is as in `make_transcoders`."""

    def train() -> Transcoders:
        return train_sae(model, documents, recipe, layers=layers, state=folder / STATE)

    return _make(train, model, excerpts(model, held_out, recipe.context, measured), folder)


def _make(train: Callable[[], Transcoders], model: Model, held_out: Prompts, folder: Path) -> Path:
    """Train, save and measure; the text that is measured on is there before, so that it is refused in time."""
    coders = train()
    save_saelens(coders, folder)
    return write_card(model, coders, folder, held_out)


def excerpts(model: Model, documents: Sequence[str], context: int, tokens: int) -> Prompts:
    """About so many tokens of some documents, in pieces that lie evenly over all of them.

    Raises:
        ValueError: there is no text.
    """
    rows = token_rows(model, documents, context)
    start = int(model.prepend_bos)
    count = max(1, round(tokens / (sum(map(len, rows)) / len(rows))))
    step = max(1, len(rows) // count)
    return Prompts.of(*(model.tokenizer.decode(row[start:].tolist()) for row in rows[::step][:count]))
