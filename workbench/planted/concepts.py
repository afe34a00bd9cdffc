"""Concepts: neurons that read or write the direction of one word, among thousands that are noise."""

from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from workbench.planted import Planted
from workbench.planted.llama import seeded_model, weight
from workbench.planted.vocabulary import BOS, EOS, PAD, SPECIAL, nonsense_words, word_tokenizer

_WORDS = 500
_PER_LAYER = 4
_NOISE = 0.25
_GAIN = 4.0


def concepts() -> Planted:
    """Build the concept model: 4 layers of 400 neurons, 500 words, every other weight Gaussian.

    Truth. In each layer 4 neurons (1 %) have an up row along the unembedding of one word (`reads`), 4 others
    a down column along one (`writes`), with a quarter of their length in noise and the length of the
    other neurons; each is a list of {layer, neuron, token}, and no word is used twice. The gain of the
    final norm is 4 on even dimensions and 1/4 on odd ones. One more neuron a layer (`two_faced`) has an
    up row along one word on the odd dimensions and, a quarter as long, along another on the even ones:
    it decodes to `raw` as it stands and to `folded` once the gain of the final norm is applied.
    """
    tokenizer = word_tokenizer(nonsense_words(_WORDS), context=512)
    model = _gaussian_llama(len(tokenizer))
    unembedding = model.lm_head.weight.data
    generator = torch.Generator().manual_seed(1)
    tokens = iter((torch.randperm(_WORDS, generator=generator) + len(SPECIAL)).tolist())
    reads: list[dict[str, object]] = []
    writes: list[dict[str, object]] = []
    two_faced: list[dict[str, object]] = []
    for layer in range(model.config.num_hidden_layers):
        up, down = weight(model, layer, "mlp.up_proj"), weight(model, layer, "mlp.down_proj").T
        neurons = iter(torch.randperm(len(up), generator=generator).tolist())
        for rows, found in ((up, reads), (down, writes)):
            for neuron, token in islice(zip(neurons, tokens, strict=False), _PER_LAYER):
                noise = torch.randn(unembedding.shape[1], generator=generator)
                rows[neuron] = _as_long_as(rows, _unit(unembedding[token]) + _NOISE * _unit(noise))
                word = tokenizer.convert_ids_to_tokens(token)
                found.append({"layer": layer, "neuron": neuron, "token": word})
        neuron, raw, folded = next(neurons), next(tokens), next(tokens)
        face = unembedding[raw].clone()
        face[::2] = unembedding[folded][::2] / _GAIN
        up[neuron] = _as_long_as(up, face)
        names = dict(zip(("raw", "folded"), tokenizer.convert_ids_to_tokens([raw, folded]), strict=True))
        two_faced.append({"layer": layer, "neuron": neuron, **names})
    return Planted(model, tokenizer, {"reads": reads, "writes": writes, "two_faced": two_faced})


def _gaussian_llama(vocabulary: int) -> LlamaForCausalLM:
    """A random Llama whose final norm has a gain far from one."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=400,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.06,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    model = seeded_model(LlamaForCausalLM, config)
    gain = model.model.norm.weight.data
    gain[::2], gain[1::2] = _GAIN, 1 / _GAIN
    return model


def _unit(vector: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    return vector / vector.norm()


def _as_long_as(rows: Float[Tensor, "neuron d_model"], vector: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    """The vector brought to the typical length of the rows."""
    return rows.norm(dim=1).median() * _unit(vector)
