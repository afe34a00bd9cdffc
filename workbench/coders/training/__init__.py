"""Train coders, all layers in one pass over the texts; stopped, a training goes on where it was.

Transcoders of MLPs learn by an algorithm of our own, sparse autoencoders of any site by that of SAELens.
"""

from functools import partial
from pathlib import Path

from workbench.coders.coder import Transcoders
from workbench.coders.training.autoencoder import AutoencoderLearner
from workbench.coders.training.learner import Learner
from workbench.coders.training.recipe import Recipe as Recipe
from workbench.coders.training.recipe import SAERecipe as SAERecipe
from workbench.coders.training.teaching import teach
from workbench.coders.training.texts import Texts
from workbench.coders.training.texts import read_documents as read_documents
from workbench.model import Model


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
    kept = {"layers": layers, "state": state, "save_every": save_every}
    begin = partial(Learner, recipe)
    return teach(model, texts, recipe, begin, read="mlp_in", write="mlp_out", label="training transcoders", **kept)


def train_sae(
    model: Model,
    texts: Texts,
    recipe: SAERecipe,
    *,
    layers: tuple[int, ...] = (),
    state: str | Path | None = None,
    save_every: float = 120.0,
) -> Transcoders:
    """Train a sparse autoencoder at a site of each layer, by the trainer of SAELens.

    The activations are captured here, each layer's once in a pass that ends with the last one needed; SAELens'
    `SAETrainer` takes every step: its loss, its optimiser and schedules, its way with dead features.

    Args:
        model: a loaded model.
        texts: as for `train_transcoders`.
        recipe: what to train, and at which site.
        layers: for which layers; all by default.
        state: as for `train_transcoders`; it holds what SAELens' own checkpoint does, but no pickle.
        save_every: seconds between two writings of that file.

    Returns:
        The coders, which read what they predict; "batchtopk" has become "jumprelu", as SAELens saves it. Their card
        is that of `train_transcoders`, and its curve has the loss as well.

    Raises:
        ValueError: the model has no such site somewhere, SAELens has no name for it, or the state is of another
            training.
        Cancelled: whoever listens to the progress stopped it; the state is written first.
    """
    kept = {"layers": layers, "state": state, "save_every": save_every}
    begin = partial(AutoencoderLearner, recipe, model.name)
    return teach(
        model, texts, recipe, begin, read=recipe.site, write=recipe.site, label="training autoencoders", **kept
    )
