"""The weights that analyses multiply by, one layout for every architecture.

TransformerLens knows where each architecture keeps them; here they get axes with words. They are the raw
weights: no norm is folded in, and where a norm follows a branch (Gemma 2 and 3) it acts after them.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.model import Model
from workbench.words import Site


def head_outputs(model: Model, layer: int) -> Float[Tensor, "head d_head d_model"]:
    """What each head's z is multiplied by: z summed over heads gives the attention output but for its bias."""
    model.check_site(Site("z", layer))
    shape = model.shape
    return model.bridge.blocks[layer].attn.W_O.reshape(shape.n_heads, shape.d_head, shape.d_model)


def neuron_outputs(model: Model, layer: int) -> Float[Tensor, "d_mlp d_model"]:
    """What each neuron writes per unit of its activation (mlp_post), but for the bias."""
    model.check_site(Site("mlp_post", layer))
    weight = model.bridge.blocks[layer].mlp.W_out
    return weight if weight.shape[0] == model.shape.d_mlp else weight.T


def attention_bias(model: Model, layer: int) -> Float[Tensor, " d_model"]:
    """What attention gives besides its heads; zero in a model without such a bias."""
    return _bias(model, model.bridge.blocks[layer].attn.b_O)


def mlp_bias(model: Model, layer: int) -> Float[Tensor, " d_model"]:
    """What the MLP gives besides its neurons; zero in a model without such a bias."""
    return _bias(model, model.bridge.blocks[layer].mlp.b_out)


def _bias(model: Model, held: Tensor | None) -> Float[Tensor, " d_model"]:
    return held if held is not None else torch.zeros(model.shape.d_model, dtype=model.dtype, device=model.device)
