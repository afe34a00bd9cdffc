"""Training: rows of the small world in, a Hugging Face folder out; stopped at any time, it goes on where it was."""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from workbench.folders import replace_file
from workbench.progress import track
from workbench.training.curve import draw_losses
from workbench.training.export import export
from workbench.training.learner import Learner
from workbench.training.recipe import Recipe
from workbench.training.vocabulary import save_tokenizer, train_tokenizer
from workbench.world import World, make_world
from workbench.world.stream import Encode, row, sample_texts

STATE, LOSSES, PLOT = "state.safetensors", "losses.jsonl", "loss.html"
"""The files in the folder `progress`: all that is needed to go on, the losses, and their plot."""

_SAMPLE, _LARGEST_VOCABULARY = 20_000, 3_072


def train(
    recipe: Recipe,
    out: Path,
    *,
    device: torch.device,
    compiled: bool = False,
    workers: int = 0,
    save_every: float = 120.0,
    until: int | None = None,
) -> Path:
    """Train a model, or go on with the training in this folder.

    On one machine the weights do not depend on how often training was stopped: a row depends only on its place,
    and the state holds the weights and both moments.

    Args:
        recipe: what to train.
        out: folder of the model; `progress` in it holds the state, the losses and their plot.
        device: where to compute.
        compiled: compile the model first (needs a C++ compiler; faster after half a minute).
        workers: processes that write the text ahead; 0 writes it between the steps. A GPU needs some.
        save_every: seconds between two states on disk.
        until: the step to stop at; else the last of the recipe.

    Returns:
        The folder, which `load` reads.

    Raises:
        ValueError: the folder holds the training of a model of another size.
        Cancelled: whoever listens to the progress stopped it; the last state on disk is kept.
    """
    progress = out / "progress"
    progress.mkdir(parents=True, exist_ok=True)
    world = make_world(recipe.world)
    encode, vocabulary, start = _tokenizer(world, recipe, out)
    learner = Learner(recipe, vocabulary, device, compiled)
    if (progress / STATE).is_file():
        learner.restore(str(progress / STATE))
    log = _Log(progress / LOSSES, learner.step)
    saved = time.monotonic()
    steps = range(learner.step, recipe.total if until is None else until)
    stream = DataLoader(
        _Steps(lambda step: rows_at(world, encode, start, recipe, step)),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    for _, rows in zip(track(steps, f"training {recipe.name}"), stream, strict=True):
        if learner.step in recipe.history:
            export(learner, out, step=learner.step)
        log.add(learner.step, learner.learn(rows))
        if time.monotonic() - saved > save_every:
            _save(learner, log, out)
            saved = time.monotonic()
    if learner.step in recipe.history:
        export(learner, out, step=learner.step)
    _save(learner, log, out)
    draw_losses(progress / LOSSES, progress / PLOT)
    return out


class _Steps(Dataset[Tensor]):
    """The rows of every step, by its number (`index`)."""

    def __init__(self, rows: Callable[[int], Tensor]):
        self._rows = rows

    def __getitem__(self, index: int) -> Tensor:
        return self._rows(index)


def rows_at(world: World, encode: Encode, start: int, recipe: Recipe, step: int) -> Int[Tensor, "row pos"]:
    """The rows of one step, each a token longer than what the model reads."""
    length = recipe.row_length(step)
    count = max(1, recipe.step_tokens // length)
    places = (f"{recipe.seed}/{step}/{number}" for number in range(count))
    mix, spans = recipe.mix_at(step), recipe.spans_at(step)
    return torch.tensor([row(world, encode, start, place, length + 1, mix, spans) for place in places])


def _tokenizer(world: World, recipe: Recipe, out: Path) -> tuple[Encode, int, int]:
    if not (out / "tokenizer.json").is_file():
        texts = sample_texts(world, recipe.seed, _SAMPLE)
        save_tokenizer(train_tokenizer(texts, _LARGEST_VOCABULARY), out, recipe.context)
    tokenizer: Any = Tokenizer.from_file(str(out / "tokenizer.json"))

    def encode(texts: list[str]) -> list[list[int]]:
        return [found.ids for found in tokenizer.encode_batch(texts, add_special_tokens=False)]

    return encode, tokenizer.get_vocab_size(), tokenizer.token_to_id("<s>")


def _save(learner: Learner, log: "_Log", out: Path) -> None:
    log.write()
    replace_file(out / "progress" / STATE, learner.dump())
    export(learner, out)
    story = {
        "recipe": asdict(learner.recipe),
        "steps_done": learner.step,
        "loss": log.recent(),
        "losses": log.by_steps(),
        "seconds": round(log.seconds(), 1),
        "hardware": _hardware(learner),
    }
    replace_file(out / "training.json", (json.dumps(story, indent=2) + "\n").encode())


def _hardware(learner: Learner) -> str:
    """What the last part of a training ran on."""
    place = next(learner.model.parameters()).device
    device = torch.cuda.get_device_name(place) if place.type == "cuda" else f"{platform.machine()} {place.type}"
    threads = f", {torch.get_num_threads()} thread(s)" if place.type == "cpu" else ""
    return f"{device}{threads}, torch {torch.__version__}{', compiled' if learner.compiled else ''}"


class _Log:
    """The losses, a line for each step, without those that a stopped run had after its last state."""

    def __init__(self, file: Path, step: int):
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        self._file = file
        self._before, self._begun = _seconds_of(file.parent.parent / "training.json"), time.monotonic()
        self._rows: list[dict[str, float]] = [row for row in map(json.loads, lines) if row["step"] < step]

    def add(self, step: int, loss: float) -> None:
        self._rows.append({"step": step, "loss": round(loss, 5)})

    def recent(self, steps: int = 100) -> float:
        """The mean of the last losses."""
        last = [row["loss"] for row in self._rows[-steps:]]
        return round(sum(last) / max(1, len(last)), 4)

    def seconds(self) -> float:
        """What the training took until now, with that of the runs before this one that were saved."""
        return self._before + time.monotonic() - self._begun

    def by_steps(self, steps: int = 50) -> dict[int, float]:
        """The mean loss before each fiftieth step."""
        losses = [row["loss"] for row in self._rows]
        return {end: round(sum(losses[end - steps : end]) / steps, 4) for end in range(steps, len(losses) + 1, steps)}

    def write(self) -> None:
        replace_file(self._file, "".join(f"{json.dumps(row)}\n" for row in self._rows).encode())


def _seconds_of(story: Path) -> float:
    """How long a training had taken when it was last saved."""
    return json.loads(story.read_text(encoding="utf-8")).get("seconds", 0.0) if story.is_file() else 0.0
