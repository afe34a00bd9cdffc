"""Small random models by the name of their architecture, loaded once, and plain twins of them."""

from functools import cache
from typing import Any

import torch
from architectures import SERVED, random_model, tiny_tokenizer
from torch import Tensor
from transformer_lens.model_bridge.generalized_components.mpt_alibi_attention import MPTALiBiAttentionBridge

from workbench.bridge import MPTKeepsKeys
from workbench.model import Model, load

WORDS = 9
"""Tokens in the prompt of `ids_of`: more than the sliding windows of the small models hold."""


@cache
def small_model(name: str) -> Model:
    """The random model of an architecture, loaded into the workbench."""
    torch.set_num_threads(1)  # the models are so small that more threads only wait for each other
    return load(plain_twin(name), tokenizer=tiny_tokenizer())


@cache
def digit_model() -> Model:
    """A random Llama whose tokenizer takes every space and every digit for itself, as Gemma's does."""
    return load(plain_twin("Llama"), tokenizer=_digit_tokenizer())


def _digit_tokenizer() -> Any:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<bos>", "<eos>", "<unk>", " ", *"0123456789", "+", "=", "the", "war", "from", "to", "year"]
    built = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    apart = [pre_tokenizers.Split(" ", "isolated"), pre_tokenizers.Digits(individual_digits=True)]
    built.pre_tokenizer = pre_tokenizers.Sequence(apart)
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos", "unk")}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=built, **special)


def forgetful_model() -> Model:
    """A model whose hooked attention keeps no keys, as TransformerLens has it without the mend of the bridge."""
    model = load(plain_twin("MPT"), tokenizer=tiny_tokenizer())
    for module in model.bridge.modules():
        if type(module) is MPTKeepsKeys:
            module.__class__ = MPTALiBiAttentionBridge
    return model


def plain_twin(name: str) -> Any:
    """The same weights in a fresh model of transformers that the workbench has never touched."""
    config = next(one for one in SERVED if one.name == name).make_config()
    config._attn_implementation = "eager"
    model = random_model(config)
    model.config.architectures = [type(model).__name__]
    return model.requires_grad_(requires_grad=False)


def prompt_ids(seed: int = 0, length: int = WORDS) -> list[int]:
    """Token ids without a special token, different within a prompt."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randperm(120, generator=generator)[:length] + 4).tolist()


@torch.no_grad()
def plain_logits(twin: Any, ids: list[int]) -> Tensor:
    """[pos, vocab], from one whole pass without a cache."""
    return twin(torch.tensor([ids]), use_cache=False).logits[0]


def plain_greedy(twin: Any, ids: list[int], new_tokens: int) -> list[int]:
    """The greedy continuation, each token from a whole pass of its own."""
    made: list[int] = []
    for _ in range(new_tokens):
        made.append(int(plain_logits(twin, [*ids, *made])[-1].argmax()))
    return made
