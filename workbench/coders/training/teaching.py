"""The training of coders of several layers in one pass over the texts; stopped, it goes on where it was."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from workbench.coders.coder import Transcoders
from workbench.coders.training.buffer import Buffer
from workbench.coders.training.learning import Learning
from workbench.coders.training.recipe import Course
from workbench.coders.training.state import Begin, State
from workbench.coders.training.texts import Texts, digest, token_rows
from workbench.coders.training.watching import Curve
from workbench.model import Model
from workbench.progress import Cancelled, track
from workbench.strict_json import canonical
from workbench.words import Site


def teach(
    model: Model,
    texts: Texts,
    recipe: Course,
    begin: Begin,
    *,
    read: str,
    write: str,
    layers: tuple[int, ...],
    state: str | Path | None,
    save_every: float,
    label: str,
) -> Transcoders:
    """Train a coder for each layer.

    Args:
        model: a loaded model.
        texts: what the model reads.
        recipe: what to train.
        begin: makes a learner before its first step.
        read: the kind of site that coders read.
        write: the kind of site that they predict.
        layers: for which layers; all when empty.
        state: the file of all that is needed to go on; None where nothing is to be kept.
        save_every: seconds between two writings of that file.
        label: what the progress is called.

    Raises:
        ValueError: the model has no such site somewhere, or the state is of another training.
        Cancelled: whoever listens to the progress stopped it; the state is written first.
    """
    chosen = layers or tuple(range(model.shape.n_layers))
    for site in (Site(kind, layer) for kind in dict.fromkeys((read, write)) for layer in chosen):
        model.check_site(site)
    rows = token_rows(model, texts, recipe.context)
    buffer = Buffer(model, rows, chosen, recipe, read, write)
    about = {"recipe": asdict(recipe), "layers": list(chosen), "model": model.fingerprint, "texts": digest(rows)}
    state_file = State(None if state is None else Path(state), canonical(about), save_every)
    restored = state_file.restore(begin, buffer.blank(), recipe.steps)
    learners, curve = restored or (_beginners(begin, buffer), Curve(recipe.steps))
    _learn(learners, buffer, curve, state_file, label)
    card = {
        "layout": "trained",
        "model": model.name,
        "recipe": asdict(recipe),
        "tokens": {"corpus": sum(map(len, rows)), "learnt_from": recipe.steps * recipe.batch},
        "missed": curve.last,
        "curve": curve.rows,
    }
    return Transcoders(f"trained on {model.name}", {layer: one.finished() for layer, one in learners.items()}, card)


def _beginners(begin: Begin, buffer: Buffer) -> dict[int, Learning]:
    """A learner for each layer, before its first step."""
    return {layer: begin(layer, pairs) for layer, pairs in buffer.at(0).items()}


def _learn(learners: Mapping[int, Learning], buffer: Buffer, curve: Curve, state: State, label: str) -> None:
    """Take the steps that are left."""
    try:
        for step in track(range(next(iter(learners.values())).step, curve.steps), label):
            batch = buffer.at(step)
            for layer, learner in learners.items():
                learner.learn(batch[layer])
            curve.note(learners)
            state.save_when_due(learners, curve)
    except Cancelled:
        state.save(learners, curve)
        raise
    state.save(learners, curve)
