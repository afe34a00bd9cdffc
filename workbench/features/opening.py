"""The coders and the index that an analysis is asked to use, by the texts of its knobs."""

from workbench.coders import Transcoders, fit, load_named_or_own
from workbench.features.index import FeatureIndex, build_index, open_index
from workbench.model import Model
from workbench.prompts import Prompts


def fitted_coders(model: Model, name: str) -> Transcoders:
    """The coders of a name, fitted to the model; a planted or bundled model may bring its own.

    Raises:
        ValueError: none are named, or they do not belong to the model.
    """
    return fit(load_named_or_own(name, model.name), model)


def refuse_other_feature(coders: Transcoders, layer: int, feature: int) -> None:
    """Raise ValueError unless the coders have the feature."""
    if layer not in coders:
        raise ValueError(f"layer {layer}: coders {coders.name} have the layers {', '.join(map(str, coders))}")
    if not 0 <= feature < coders[layer].width:
        raise ValueError(
            f"feature {feature}: layer {layer} has {coders[layer].width} features (0-{coders[layer].width - 1})"
        )


def index_for(model: Model, coders: Transcoders, prompts: Prompts, corpus: str, folder: str) -> FeatureIndex:
    """The index of a folder, or one that is made now and kept nowhere.

    Args:
        model: a loaded model.
        coders: fitted to it.
        prompts: what is read where neither an index nor a corpus is named.
        corpus: a text file or a bundled set to read.
        folder: where an index is kept.

    Raises:
        ValueError: both are named, or there is no index of this model and these coders in the folder.
    """
    if folder and corpus:
        raise ValueError("an index has its own corpus: name an index or a corpus, not both")
    return open_index(model, coders, folder) if folder else build_index(model, coders, corpus or prompts)
