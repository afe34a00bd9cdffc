"""The model card: a page that is written from measured numbers only."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.folders import replace_file
from workbench.sources import BUNDLED
from workbench.training.evaluation import COLUMNS, Score, score_row
from workbench.training.history import Moment

EVALUATION, HISTORY, TRAINING, CARD = "evaluation.json", "history.json", "training.json", "README.md"
_WEAK = 0.6
"""A task with a lower score is named among the limits."""
_MOMENTS = ["step", "copied", "induction", "previous", "sink"]

_ABOUT = """# Models

Small models that ship with the workbench, so that the first plot needs no network. They were trained on the text of
`workbench.world` and on nothing else: invented people, towns and countries, stories, questions, numbers and short
programs, all drawn from a seed. No fact in them is about the real world, no third-party text or weight is used, and
they share the licence of the project. They are Llama-type decoders (RMSNorm, rotary positions, grouped-query attention,
gated MLP, tied embedding) with a byte-level BPE tokenizer in which every name of the world and every number up to 99
is one token; a year is two tokens, its century and the year in it. Every text begins with `<s>`.

This page is written by `workbench evaluate-world --save`; every number in it was measured.
"""


def save_evaluation(folder: Path, scores: Sequence[Score], moments: Sequence[Moment]) -> Path:
    """Write what was measured beside the weights, and the card of all models beside the folder.

    Args:
        folder: of the model.
        scores: its evaluation.
        moments: its checkpoints; none where there are none.

    Returns:
        The card.
    """
    replace_file(folder / EVALUATION, _json([asdict(score) for score in scores]))
    if moments:
        replace_file(folder / HISTORY, _json([asdict(moment) for moment in moments]))
    card = folder.parent / CARD
    replace_file(card, write_card(folder.parent).encode())
    return card


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def write_card(models: Path) -> str:
    """The card of the models in a folder, from the files beside their weights."""
    parts = [_ABOUT]
    for name in BUNDLED:
        if (models / name / EVALUATION).is_file():
            parts.append(_section(models / name))
    return "\n".join(parts)


def _section(folder: Path) -> str:
    training, scores = _read(folder / TRAINING), [Score(**row) for row in _read(folder / EVALUATION)]
    parts = [f"## {folder.name}\n", _told(training, folder.name), f"{_size(folder)}\n"]
    missed = [score.task for score in scores if score.reached is False]
    parts.append(f"Goals that are missed: {', '.join(missed)}.\n" if missed else "Every goal is reached.\n")
    parts.append(_limits(training, scores))
    parts += [*_losses(training), _table(COLUMNS, map(score_row, scores))]
    if (folder / HISTORY).is_file():
        losses = training.get("losses", {})
        rows = [
            [*(_number(row[name]) for name in _MOMENTS), _number(losses.get(str(row["step"]), ""))]
            for row in _read(folder / HISTORY)
        ]
        parts += [_HISTORY, _table([*_MOMENTS, "loss"], rows)]
    return "\n".join(parts)


_HISTORY = """
Its checkpoints, loaded by `load(name, checkpoint=step)`: the share of repeated random words that is continued right,
and the attention of the best head, over the second copy of a random span, to one place (of eight) behind the earlier
copy (induction) and to one place before (previous); and to the first token in random words that hold nothing to copy
(sink; attention that is spread evenly would give 0.04). Beside them the mean loss of the 50 steps before, in nats per
token.
"""


def _limits(training: dict[str, Any], scores: Sequence[Score]) -> str:
    """What the model is not made for, and the tasks that it mostly fails."""
    whole = (score for score in scores if score.examples and ":" not in score.task)
    weak = ", ".join(f"{score.task} ({score.score:.2f})" for score in whole if score.score < _WEAK)
    longest = max(length for length, _ in training["recipe"]["stages"])
    failed = f"; it fails most or many of: {weak}" if weak else ""
    return f"Known limits: it knows nothing but its world, and reads at most {longest} tokens{failed}.\n"


def training_table(folder: Path) -> list[tuple[str, str]]:
    """How a model was trained: what, and the value; empty where nothing tells it."""
    if not (folder / TRAINING).is_file():
        return []
    training = _read(folder / TRAINING)
    told = [("training", _told(training, folder.name).strip()), ("size", _size(folder))]
    return told + [(f"loss at step {step:,}", f"{loss:.3f} nats per token") for step, loss in _shown(training)]


def _size(folder: Path) -> str:
    return f"The folder holds {sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6:.1f} MB."


def _told(training: dict[str, Any], name: str) -> str:
    recipe = training["recipe"]
    done, steps = training["steps_done"], recipe["steps"] + sum(reading["steps"] for reading in recipe.get("later", ()))
    unfinished = "" if done == steps else f" of {steps:,} planned: the training was not finished"
    return (
        f"{recipe['layers']} layers, d_model {recipe['width']}, {recipe['heads']} query and {recipe['kv_heads']} "
        f"key-value heads, {recipe['mlp']} neurons a layer. Trained by `workbench train-world {name}` for "
        f"{done:,} steps of {recipe['step_tokens']:,} tokens{unfinished}, seed {recipe['seed']}{_time(training)}; last "
        f"training loss {training['loss']} nats.\n"
    )


def _time(training: dict[str, Any]) -> str:
    """How long it took and on what, as far as it is known."""
    told = [f"{training['seconds']:,.0f} seconds"] if training.get("seconds") else []
    return "".join(f", {part}" for part in [*told, *([training["hardware"]] if training.get("hardware") else [])])


def _losses(training: dict[str, Any]) -> list[str]:
    shown = _shown(training)
    lines = [["step", *(f"{step:,}" for step, _ in shown)], ["---"] * (len(shown) + 1)]
    lines.append(["loss (nats per token)", *(f"{loss:.3f}" for _, loss in shown)])
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"] if shown else []


def _shown(training: dict[str, Any]) -> list[tuple[int, float]]:
    """The loss at ten steps on the way."""
    held = [(int(step), loss) for step, loss in training.get("losses", {}).items()]
    return held[len(held) // 10 - 1 :: max(1, len(held) // 10)] if len(held) >= 10 else held


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _number(value: int | float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
