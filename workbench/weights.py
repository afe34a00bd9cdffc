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


def head_values(model: Model, layer: int) -> Float[Tensor, "kv_head d_model d_head"]:
    """What the normed stream is multiplied by to give each key-value head's v, but for `value_bias`."""
    model.check_site(Site("v", layer))
    shape = model.shape
    return model.bridge.blocks[layer].attn.W_V.reshape(shape.n_kv_heads, shape.d_model, shape.d_head)


def value_bias(model: Model, layer: int) -> Float[Tensor, "kv_head d_head"]:
    """What v holds besides; zero in a model without such a bias."""
    model.check_site(Site("v", layer))
    return _head_bias(model, model.bridge.blocks[layer].attn.b_V, model.shape.n_kv_heads)


def head_queries(model: Model, layer: int) -> Float[Tensor, "head d_model d_head"]:
    """What the normed stream is multiplied by to give each head's q, but for `query_bias`."""
    model.check_site(Site("q", layer))
    shape = model.shape
    return model.bridge.blocks[layer].attn.W_Q.reshape(shape.n_heads, shape.d_model, shape.d_head)


def query_bias(model: Model, layer: int) -> Float[Tensor, "head d_head"]:
    """What q holds besides; zero in a model without such a bias."""
    model.check_site(Site("q", layer))
    return _head_bias(model, model.bridge.blocks[layer].attn.b_Q, model.shape.n_heads)


def head_keys(model: Model, layer: int) -> Float[Tensor, "kv_head d_model d_head"]:
    """What the normed stream is multiplied by to give each key-value head's k, but for `key_bias`."""
    model.check_site(Site("k", layer))
    shape = model.shape
    return model.bridge.blocks[layer].attn.W_K.reshape(shape.n_kv_heads, shape.d_model, shape.d_head)


def key_bias(model: Model, layer: int) -> Float[Tensor, "kv_head d_head"]:
    """What k holds besides; zero in a model without such a bias."""
    model.check_site(Site("k", layer))
    return _head_bias(model, model.bridge.blocks[layer].attn.b_K, model.shape.n_kv_heads)


def neuron_outputs(model: Model, layer: int) -> Float[Tensor, "d_mlp d_model"]:
    """What each neuron writes per unit of its activation (mlp_post), but for the bias."""
    model.check_site(Site("mlp_post", layer))
    weight = model.bridge.blocks[layer].mlp.W_out
    return weight if weight.shape[0] == model.shape.d_mlp else weight.T


def neuron_inputs(model: Model, layer: int) -> Float[Tensor, "d_mlp d_model"]:
    """What each neuron reads linearly of the normed stream: the up rows of a gated MLP, else its only rows."""
    model.check_site(Site("mlp_post", layer))
    return _by_neuron(model, model.bridge.blocks[layer].mlp.W_in)


def neuron_gates(model: Model, layer: int) -> Float[Tensor, "d_mlp d_model"]:
    """What opens each neuron of a gated MLP: the rows in front of the activation function.

    Raises:
        ValueError: the MLP has no gate.
    """
    model.check_site(Site("mlp_post", layer))
    weight = model.bridge.blocks[layer].mlp.W_gate
    if weight is None:
        raise ValueError(f"{model.name} has no gates: each of its neurons has one row that it reads with")
    return _by_neuron(model, weight)


def has_gates(model: Model) -> bool:
    """Whether neurons are a product of a gate and a linear reading."""
    layers = model.capabilities.served.get("mlp_post", ())
    return bool(layers) and getattr(model.bridge.blocks[layers[0]].mlp, "W_gate", None) is not None


def attention_bias(model: Model, layer: int) -> Float[Tensor, " d_model"]:
    """What attention gives besides its heads; zero in a model without such a bias."""
    return _bias(model, model.bridge.blocks[layer].attn.b_O)


def mlp_bias(model: Model, layer: int) -> Float[Tensor, " d_model"]:
    """What the MLP gives besides its neurons; zero in a model without such a bias."""
    return _bias(model, model.bridge.blocks[layer].mlp.b_out)


def _by_neuron(model: Model, weight: Tensor) -> Float[Tensor, "d_mlp d_model"]:
    """The lens keeps these weights as [d_model, d_mlp]."""
    return weight.T if weight.shape[1] == model.shape.d_mlp else weight


def _head_bias(model: Model, held: Tensor | None, heads: int) -> Float[Tensor, "head d_head"]:
    if held is None:
        return torch.zeros(heads, model.shape.d_head, dtype=model.dtype, device=model.device)
    return held.reshape(heads, model.shape.d_head)


def _bias(model: Model, held: Tensor | None) -> Float[Tensor, " d_model"]:
    return held if held is not None else torch.zeros(model.shape.d_model, dtype=model.dtype, device=model.device)
