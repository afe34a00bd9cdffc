"""Sink: a head that works on one kind of text and sleeps on another.

Names are said in turns ("ann bob ann bob"), numbers are counted ("one two three"). After a number
the unembedding alone knows the next one. After a name the active-dormant head attends to the token
before it and has it said again; on numbers it attends to `<bos>`, whose value is exactly zero.
"""

import torch

from workbench.planted import Planted
from workbench.planted.llama import CONTEXT, Head, Stream, blank_llama
from workbench.planted.vocabulary import BOS, EOS, SPECIAL, split_words, word_tokenizer

_NAMES = split_words("ann bob cleo dan eve finn gwen hugo iris jack kate liam mona ned olga paul ruth sam")
_NUMBERS = split_words(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen"
)
_SURE = 40.0


def sink() -> Planted:
    """Build the sink model: 1 layer of 4 heads, 18 names and 18 numbers.

    Truth, as [layer, head]. `active_dormant`: [0, 0] attends to the previous token where the current one is
    a name, and to `<bos>` on numbers; zeroing it changes no logit on numbers, and on names it makes
    `<eos>` the next word. `always`: [0, 1] attends to `<bos>` on every text. `never`: [0, 2] always
    attends to the previous token, [0, 3] evenly to all. `sink` holds, by domain, the attention of each
    head to `<bos>`, averaged over the queries from position 2 on of the `domains`' texts (at position 1
    `<bos>` is itself the previous token). The value that `<bos>` writes is exactly zero in each head.
    """
    tokenizer = word_tokenizer([*_NAMES, *_NUMBERS], CONTEXT)
    kinds = len(_NAMES)
    stream = Stream(4, start=1, name=kinds, number=kinds, before=2 * kinds, unread=2 * kinds)
    model = blank_llama(stream, vocabulary=len(tokenizer), layers=1, heads=4, d_head=80)
    words = stream.basis("name", "number")
    embedding, unembedding = model.model.embed_tokens.weight.data, model.lm_head.weight.data
    embedding[BOS] += stream.basis("start")[0]
    embedding[len(SPECIAL) :] += words
    unembedding[len(SPECIAL) :] = 20 * stream.basis("before")
    unembedding[len(SPECIAL) + kinds :] += 20 * stream.basis("number").roll(1, dims=0)
    unembedding[EOS] = 10 * stream.one[0]

    any_name = stream.basis("name").sum(dim=0, keepdim=True)
    start = stream.basis("start")
    turning = Head(model, 0, 0).attend_back(1, any_name, 4 * _SURE)
    turning.attend(stream.one, start, 2 * _SURE).attend(any_name, start, -2 * _SURE)
    turning.carry(words, stream.basis("before"))
    Head(model, 0, 1).attend(stream.one, start, _SURE).carry(words, stream.basis("before"))
    Head(model, 0, 2).attend_back(1, stream.one, 2 * _SURE).carry(words, stream.basis("unread"))
    Head(model, 0, 3).carry(words, stream.basis("unread"))
    return Planted(model, tokenizer, _truth())


def _truth() -> dict[str, object]:
    length = 40
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randperm(len(_NAMES), generator=generator)[:2].tolist() for _ in range(4)]
    names = [" ".join(_NAMES[pair[place % 2]] for place in range(length)) for pair in pairs]
    count = 3 * _NUMBERS
    numbers = [" ".join(count[start : start + length]) for start in (0, 3, 8, 11)]
    even = sum(1 / (pos + 1) for pos in range(2, length + 1)) / (length - 1)
    return {
        "active_dormant": [[0, 0]],
        "always": [[0, 1]],
        "never": [[0, 2], [0, 3]],
        "domains": {"names": names, "numbers": numbers},
        "sink": {"names": [[0.0, 1.0, 0.0, even]], "numbers": [[1.0, 1.0, 0.0, even]]},
        "drain": [[0.0, 0.0, 0.0, 0.0]],
    }
