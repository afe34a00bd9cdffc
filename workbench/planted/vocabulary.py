"""Words for planted models: a whole-word tokenizer, and short codes that tell many words apart."""

import re
from collections.abc import Iterable
from itertools import islice, product

import torch
from jaxtyping import Float
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<bos>", "<eos>", "<pad>", "<unk>")
BOS, EOS, PAD, UNKNOWN = range(len(SPECIAL))


def split_words(text: str) -> list[str]:
    """The words and the runs of punctuation of a text, as the tokenizer splits it.

    Example:
        >>> split_words("A cat's tail.")
        ['A', 'cat', "'", 's', 'tail', '.']
    """
    return re.findall(r"\w+|[^\w\s]+", text)


def nonsense_words(count: int) -> list[str]:
    """Words without meaning, at most 2,500, always the same.

    Example:
        >>> nonsense_words(3)
        ['baba', 'babe', 'babi']
    """
    syllables = [consonant + vowel for consonant in "bdfklmnrst" for vowel in "aeiou"]
    return ["".join(pair) for pair in islice(product(syllables, repeat=2), count)]


def word_tokenizer(words: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    """A fast tokenizer with one token per word, which puts `<bos>` in front of every text.

    Args:
        words: the vocabulary in order of id, after the special tokens; a repeated word counts once.
        context: the longest input of the model, in tokens.
    """
    order = list(dict.fromkeys([*SPECIAL, *words]))
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(order)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="right",
        model_max_length=context,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def word_codes(count: int, prime: int) -> Float[Tensor, "vocab code"]:
    """Unit vectors, one per word, of which any two are far from parallel.

    Word number a + b p + c p^2 is coded by the wave exp(2 pi i (a t + b t^2 + c t^3) / p) at
    t = 0 .. p - 1, written as its p cosines and p sines. By Weil's bound on exponential sums the inner
    product of two different codes is at most 2 / sqrt(p) in size.

    Args:
        count: how many words; at most prime ** 3.
        prime: p, a prime greater than 3. The codes have 2 p dimensions.
    """
    if count > prime**3:
        raise ValueError(f"{count} words were asked for, but codes of prime {prime} tell {prime**3} apart")
    word, time = torch.arange(count)[:, None], torch.arange(prime)
    phase = word * time + word // prime * time**2 + word // prime**2 * time**3
    angle = 2 * torch.pi * (phase % prime).double() / prime
    return (torch.cat([angle.cos(), angle.sin()], dim=1) / prime**0.5).float()
