"""The coders of planted models: an MLP with ReLU is a transcoder, and the planted one has a name for each feature."""

from typing import Any

from workbench.coders.coder import Transcoder, Transcoders
from workbench.planted import plant

PREFIX = "planted:"


def planted_coders(name: str) -> Transcoders:
    """The transcoders that a planted model's MLPs are; the card names the features of each layer.

    Raises:
        ValueError: there is no planted model of this name, or its MLPs are no transcoders.
    """
    planted = plant(name.removeprefix(PREFIX))
    config = planted.model.config
    if config.model_type != "gpt2" or config.activation_function != "relu":
        raise ValueError(f"the MLPs of {name} are no transcoders: those of planted:sparse_mlp are")
    blocks: Any = planted.model.get_submodule("transformer.h")
    layers = {layer: _coder(layer, block.mlp) for layer, block in enumerate(blocks)}
    features: Any = planted.truth["features"]
    names = [[feature["name"] for feature in one] for one in features]
    return Transcoders(name, layers, {"layout": "planted", "model": name, "features": names})


def _coder(layer: int, mlp: Any) -> Transcoder:
    """One MLP of a GPT-2, whose weights are [in, out]."""
    return Transcoder(
        layer=layer,
        w_enc=mlp.c_fc.weight.detach().T.contiguous(),
        b_enc=mlp.c_fc.bias.detach(),
        w_dec=mlp.c_proj.weight.detach(),
        b_dec=mlp.c_proj.bias.detach(),
    )
