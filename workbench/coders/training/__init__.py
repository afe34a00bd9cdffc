"""Train transcoders of a model's MLPs, all layers in one pass over the texts; stopped, it goes on where it was."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from workbench.coders.coder import Transcoders
from workbench.coders.files import tensor_bytes
from workbench.coders.training.buffer import Buffer, Pairs
from workbench.coders.training.learner import Learner
from workbench.coders.training.recipe import Recipe as Recipe
from workbench.folders import replace_file
from workbench.model import Model
from workbench.progress import Cancelled, track
from workbench.prompts import Prompts
from workbench.strict_json import canonical
from workbench.words import Site


def train_transcoders(
    model: Model,
    texts: Prompts,
    recipe: Recipe,
    *,
    layers: tuple[int, ...] = (),
    state: str | Path | None = None,
    save_every: float = 120.0,
) -> Transcoders:
    """Train a transcoder for each layer's MLP.

    Args:
        model: a loaded model.
        texts: what the model reads; the order is the recipe's.
        recipe: what to train.
        layers: for which layers; all by default.
        state: a file that holds all that is needed to go on. If it is there, training goes on from it, and the
            coders are those of a training that was never stopped.
        save_every: seconds between two writings of that file.

    Returns:
        The coders; their card holds the recipe and the share of variance that was missed at the end.

    Raises:
        ValueError: the model has no MLP input or output somewhere, or the state is of another training.
        Cancelled: whoever listens to the progress stopped it; the state is written first.
    """
    chosen = layers or tuple(range(model.shape.n_layers))
    for site in (Site(kind, layer) for kind in ("mlp_in", "mlp_out") for layer in chosen):
        model.check_site(site)
    buffer = Buffer(model, texts, chosen, recipe)
    made_of = canonical({"recipe": asdict(recipe), "layers": list(chosen), "model": model.fingerprint})
    file = None if state is None else Path(state)
    learners = _restored(file, made_of, model, recipe, chosen)
    if learners is None:
        learners = {layer: Learner(recipe, layer, pairs) for layer, pairs in buffer.at(0).items()}
    missed = _learn(learners, buffer, recipe.steps, lambda: _save(file, made_of, learners), save_every)
    card = {"layout": "trained", "model": model.name, "recipe": asdict(recipe), "missed": missed}
    return Transcoders(f"trained on {model.name}", {layer: one.finished() for layer, one in learners.items()}, card)


def _learn(
    learners: Mapping[int, Learner], buffer: Buffer, steps: int, save: Callable[[], None], save_every: float
) -> dict[str, float]:
    """Take the steps that are left; returns the share of variance that each layer missed in the last tenth of them."""
    saved = time.monotonic()
    missed: dict[int, list[float]] = {layer: [] for layer in learners}
    try:
        for step in track(range(next(iter(learners.values())).step, steps), "training transcoders"):
            batch = buffer.at(step)
            for layer, learner in learners.items():
                missed[layer].append(learner.learn(batch[layer]))
            if time.monotonic() - saved > save_every:
                save()
                saved = time.monotonic()
    except Cancelled:
        save()
        raise
    save()
    last = max(1, steps // 10)
    return {str(layer): sum(values[-last:]) / len(values[-last:]) for layer, values in missed.items() if values}


def _save(file: Path | None, made_of: str, learners: Mapping[int, Learner]) -> None:
    """Write the state, whole or not at all."""
    if file is None:
        return
    tensors = {f"L{layer}/{name}": value for layer, one in learners.items() for name, value in one.dump().items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, tensor_bytes(tensors, {"made_of": made_of}))


def _restored(
    file: Path | None, made_of: str, model: Model, recipe: Recipe, layers: tuple[int, ...]
) -> dict[int, Learner] | None:
    """The learners of a state on disk; None where there is none yet.

    Raises:
        ValueError: the state is of another model, other layers or another recipe.
    """
    if file is None or not file.is_file():
        return None
    with safe_open(file, framework="pt") as opened:
        if (opened.metadata() or {}).get("made_of") != made_of:
            raise ValueError(f"{file} is the state of another training (model, layers or recipe): name another file")
        tensors: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    learners = {}
    blank = torch.zeros(1, model.shape.d_model, device=model.device)
    for layer in layers:
        learners[layer] = Learner(recipe, layer, Pairs(blank, blank))
        start = f"L{layer}/"
        learners[layer].restore(
            {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
        )
    return learners
