"""Train transcoders of a model's MLPs, all layers in one pass over the texts; stopped, it goes on where it was."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from workbench.coders.coder import Transcoders
from workbench.coders.training.buffer import Buffer
from workbench.coders.training.learner import Learner
from workbench.coders.training.recipe import Recipe as Recipe
from workbench.coders.training.state import State
from workbench.coders.training.texts import Texts, digest, token_rows
from workbench.coders.training.texts import read_documents as read_documents
from workbench.coders.training.watching import Curve
from workbench.model import Model
from workbench.progress import Cancelled, track
from workbench.strict_json import canonical
from workbench.words import Site


def train_transcoders(
    model: Model,
    texts: Texts,
    recipe: Recipe,
    *,
    layers: tuple[int, ...] = (),
    state: str | Path | None = None,
    save_every: float = 120.0,
) -> Transcoders:
    """Train a transcoder for each layer's MLP.

    Args:
        model: a loaded model.
        texts: what the model reads, in the recipe's order: prompts as they are; documents, or rows of a data set
            with a `text`, cut into rows of the recipe's context; or token ids, as rows or one long row.
        recipe: what to train.
        layers: for which layers; all by default.
        state: a file that holds all that is needed to go on. If it is there, training goes on from it, and the
            coders are those of a training that was never stopped.
        save_every: seconds between two writings of that file.

    Returns:
        The coders; their card holds the recipe, how many tokens there were, the share of variance that was missed
        at the end, and the curve of the training.

    Raises:
        ValueError: the model has no MLP input or output somewhere, or the state is of another training.
        Cancelled: whoever listens to the progress stopped it; the state is written first.
    """
    chosen = layers or tuple(range(model.shape.n_layers))
    for site in (Site(kind, layer) for kind in ("mlp_in", "mlp_out") for layer in chosen):
        model.check_site(site)
    rows = token_rows(model, texts, recipe.context)
    buffer = Buffer(model, rows, chosen, recipe)
    about = {"recipe": asdict(recipe), "layers": list(chosen), "model": model.fingerprint, "texts": digest(rows)}
    state_file = State(None if state is None else Path(state), canonical(about), save_every)
    restored = state_file.restore(model, recipe, chosen)
    learners, curve = restored or (_beginners(recipe, buffer), Curve(recipe.steps))
    _learn(learners, buffer, curve, state_file)
    card = {
        "layout": "trained",
        "model": model.name,
        "recipe": asdict(recipe),
        "tokens": {"corpus": sum(map(len, rows)), "learnt_from": recipe.steps * recipe.batch},
        "missed": curve.last,
        "curve": curve.rows,
    }
    return Transcoders(f"trained on {model.name}", {layer: one.finished() for layer, one in learners.items()}, card)


def _beginners(recipe: Recipe, buffer: Buffer) -> dict[int, Learner]:
    """A learner for each layer, before its first step."""
    return {layer: Learner(recipe, layer, pairs) for layer, pairs in buffer.at(0).items()}


def _learn(learners: Mapping[int, Learner], buffer: Buffer, curve: Curve, state: State) -> None:
    """Take the steps that are left."""
    try:
        for step in track(range(next(iter(learners.values())).step, curve.steps), "training transcoders"):
            batch = buffer.at(step)
            for layer, learner in learners.items():
                learner.learn(batch[layer])
            curve.note(learners)
            state.save_when_due(learners, curve)
    except Cancelled:
        state.save(learners, curve)
        raise
    state.save(learners, curve)
