"""Redundant: a deep random model some of whose parts write nothing, almost nothing, or the same."""

from transformers import LlamaConfig, LlamaForCausalLM

from workbench.planted import Planted
from workbench.planted.llama import seeded_model, weight
from workbench.planted.vocabulary import BOS, EOS, PAD, nonsense_words, word_tokenizer


def redundant() -> Planted:
    """Build the redundant model: 8 layers of 4 heads with seeded Gaussian weights, 60 words.

    Truth. Attention adds exactly nothing in the layers `zero_attention`, the MLP in `zero_mlp`, so the
    layers in `droppable` can be skipped and no logit changes. The layers in `faint` write a thousandth
    of what the others do, and the layers in `matter` cannot be skipped. Each pair in `same` has identical
    weights, so swapping the two changes nothing. Each pair in `same_pattern` attends alike on every
    text. The heads in `dead` ([layer, head]) write nothing.
    """
    tokenizer = word_tokenizer(nonsense_words(60), context=512)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=8,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.2,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    model = seeded_model(LlamaForCausalLM, config)
    for layer in (2, 6):
        weight(model, layer, "self_attn.o_proj").zero_()
    for layer in (5, 6):
        weight(model, layer, "mlp.down_proj").zero_()
    for part in ("self_attn.o_proj", "mlp.down_proj"):
        weight(model, 3, part).mul_(1e-3)
    layers = model.model.layers
    layers[4].load_state_dict(layers[1].state_dict())
    for part in ("self_attn.q_proj", "self_attn.k_proj"):
        weight(model, 7, part).copy_(weight(model, 6, part))
    weight(model, 7, "self_attn.o_proj")[:, 2 * 16 : 3 * 16] = 0
    truth: dict[str, object] = {
        "zero_attention": [2, 6],
        "zero_mlp": [5, 6],
        "droppable": [6],
        "faint": [3],
        "matter": [0, 1, 2, 4, 5, 7],
        "same": [[1, 4]],
        "same_pattern": [[6, 7]],
        "dead": [[7, 2]],
    }
    return Planted(model, tokenizer, truth)
