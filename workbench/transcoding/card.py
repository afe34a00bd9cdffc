"""The card of trained coders: what was trained, on what, and how well it does on text that it never saw."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.catalog import run
from workbench.coders import Transcoders
from workbench.folders import replace_file
from workbench.model import Model
from workbench.prompts import Prompts

CARD, PAGE = "card.json", "README.md"

_COLUMNS = {
    "layer": "{}",
    "l0": "{:.1f}",
    "explained_variance": "{:.3f}",
    "fvu": "{:.3f}",
    "dead": "{:.3f}",
    "cross_entropy": "{:.3f}",
    "zero_ablation": "{:.3f}",
    "mean_ablation": "{:.3f}",
    "loss_recovered": "{:.3f}",
    "kl": "{:.3f}",
}
"""The numbers of a layer, and how they are written."""


def write_card(model: Model, coders: Transcoders, folder: Path, held_out: Prompts) -> Path:
    """Measure the coders in a folder, and write `card.json` and `README.md` beside them.

    Args:
        model: the model that they are for.
        coders: what was written to the folder; their card says how they were trained.
        folder: where they lie.
        held_out: texts that they were not trained on.

    Returns:
        The page.
    """
    measured = run("transcoder_quality", model, held_out, coders=str(folder), layers=tuple(coders))
    rows = [{**row, "fvu": _rest(row["explained_variance"])} for row in measured.tables["quality"]]
    quality = [{name: row[name] for name in ("layer", *list(_COLUMNS)[1:], "original")} for row in rows]
    known = {**coders.card, "fingerprint": coders.fingerprint, "weights": model.fingerprint}
    card = {**known, "measured_on": {"tokens": measured.scalars["tokens"], "texts": len(held_out)}, "quality": quality}
    replace_file(folder / CARD, (json.dumps(card, indent=1) + "\n").encode())
    replace_file(folder / PAGE, _page(card).encode())
    return folder / PAGE


def _rest(share: float | None) -> float | None:
    """The share of variance that is left unexplained."""
    return None if share is None else 1 - share


def _page(card: Mapping[str, Any]) -> str:
    """The card as a page."""
    recipe, tokens, quality = card["recipe"], card["tokens"], card["quality"]
    title, what, command = _autoencoders(recipe) if "site" in recipe else _transcoders(recipe)
    lines = [
        f"# {title} of {card['model']}",
        "",
        f"{what}. Trained for {recipe['steps']:,} steps of {recipe['batch']:,} tokens out of a text of "
        f"{tokens['corpus']:,} tokens; measured on {card['measured_on']['tokens']:,} tokens of text that was held out.",
        "",
        f"Cross-entropy of the model itself: {quality[-1]['original']:.3f} nats. Where `all` stands, all these layers "
        "were replaced at once. FVU is the share of variance that is missed; loss recovered is 1 where nothing is "
        "lost, and 0 where the coder is no better than zeros in the place of what it predicts.",
        "",
        "| " + " | ".join(name.replace("_", " ") for name in _COLUMNS) + " |",
        "|" + "---|" * len(_COLUMNS),
    ]
    for row in quality:
        cells = ("-" if row[name] is None else form.format(row[name]) for name, form in _COLUMNS.items())
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"Written by `workbench {command}`; every number was measured.", ""])


def _transcoders(recipe: Mapping[str, Any]) -> tuple[str, str, str]:
    """What transcoders are called, what they are, and which command trained them."""
    kind = f"top-{recipe['k']}" if recipe["activation"] == "topk" else recipe["activation"]
    skip = " with a skip" if recipe["skip"] else ""
    size = f"{recipe['width']:,} features"
    what = f"{kind} transcoders{skip} of {size}, from what each MLP reads to what it adds to the stream"
    return "Transcoders", what, "train-transcoders"


def _autoencoders(recipe: Mapping[str, Any]) -> tuple[str, str, str]:
    """The same of autoencoders."""
    architecture, k = recipe["architecture"], recipe["k"]
    kinds = {"topk": f"top-{k}", "batchtopk": f"batch-top-{k} (saved as jumprelu)", "standard": "ReLU"}
    kind = kinds.get(architecture, architecture)
    what = f"{kind} autoencoders of {recipe['width']:,} features at {recipe['site']}, trained by SAELens"
    return "Sparse autoencoders", what, "train-sae"
