"""Copying: the words, codes and heads that the models `copy`, `induction` and `tour` are made of.

The stream holds the code of the current word (`now`), codes of earlier words (`back1`, `back2`, ...),
and the code of the word to be said (`out`), which alone the unembedding reads.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.planted.llama import CONTEXT, TURNING, Head, Stream, blank_llama
from workbench.planted.vocabulary import BOS, EOS, word_codes, word_tokenizer

_SURE = 40.0
"""By how much the score of a chosen key exceeds the others': e^-40 is nothing beside 1."""

_LOUD = 20.0
"""The logit of a word whose code is in `out`."""

_WEAK = 0.25
"""How much of a word's code the half copier writes: less than it takes to be heard over `<eos>`."""

_DEFAULT = 0.6
"""The logit of `<eos>`, as a part of _LOUD: what is said when no word is."""


@dataclass(frozen=True)
class World:
    """A model in the making: its tokenizer, the code of each word, and the slots of its stream."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    codes: Float[Tensor, "vocab code"]
    stream: Stream
    memory: int

    @property
    def likeness(self) -> float:
        """The most that the codes of two different words can have in common; a word with itself has 1."""
        return 2 / (self.codes.shape[1] / 2) ** 0.5


def blank_world(words: Iterable[str], *, prime: int, memory: int, layers: int, heads: int) -> World:
    """A model that reads words into `now` and speaks from `out`, and whose layers are blank.

    Args:
        words: the vocabulary after the special tokens, in order of id.
        prime: the prime of the word codes (see `word_codes`).
        memory: how many earlier words have a slot.
        layers: how many layers.
        heads: how many heads in each layer.
    """
    tokenizer = word_tokenizer(words, CONTEXT)
    codes = word_codes(len(tokenizer), prime)
    backs = {f"back{distance}": 2 * prime for distance in range(1, memory + 1)}
    stream = Stream(heads, start=1, odd=1, now=2 * prime, **backs, out=2 * prime)
    d_head = 2 * (TURNING + 4 + memory * prime)  # room to tell distances and to compare the whole memory
    model = blank_llama(stream, vocabulary=len(codes), layers=layers, heads=heads, d_head=d_head)
    embedding, unembedding = model.model.embed_tokens.weight.data, model.lm_head.weight.data
    embedding += codes @ stream.basis("now")
    embedding[1::2] += stream.basis("odd")
    embedding[BOS] += (stream.basis("start") - codes[BOS] @ stream.basis("now"))[0]
    unembedding += _LOUD * codes @ stream.basis("out")
    unembedding[EOS] = _DEFAULT * _LOUD * stream.one[0]
    return World(model, tokenizer, codes, stream, memory)


def write_memory(world: World, layer: int) -> None:
    """Head k attends k + 1 words back and keeps that word; before the text begins there is `<bos>`."""
    one, now = world.stream.one, world.stream.basis("now")
    for distance in range(1, world.memory + 1):
        head = Head(world.model, layer, distance - 1)
        head.attend_back(distance, one, 2 * _SURE)
        head.carry(now, world.stream.basis(f"back{distance}"))


def write_copier(world: World, layer: int, head: int) -> None:
    """Attend to the words that follow what was just read, else to `<bos>`; say the word attended to."""
    _find(world, layer, head).carry(world.stream.basis("now"), world.stream.basis("out"))


def write_half_copier(world: World, layer: int, head: int) -> None:
    """A weak copier that passes over words of odd token id."""
    finder = _find(world, layer, head)
    finder.attend(world.stream.one, world.stream.basis("odd"), -4 * _SURE * (world.memory + 1))
    finder.carry(world.stream.basis("now"), _WEAK * world.stream.basis("out"))


def _find(world: World, layer: int, head: int) -> Head:
    """A head whose score counts, word for word, the memory that the key shares with the query.

    `<bos>` scores halfway between full agreement and the best that can be had with one word wrong.
    """
    backs = [f"back{distance}" for distance in range(1, world.memory + 1)]
    query, key = world.stream.basis("now", *backs[:-1]), world.stream.basis(*backs)
    margin = (1 - world.likeness) / 2
    strength = _SURE / margin
    finder = Head(world.model, layer, head).attend(query, key, strength)
    return finder.attend(world.stream.one, world.stream.basis("start"), strength * (world.memory - margin))


def write_sink(world: World, layer: int, head: int) -> None:
    """Attend to `<bos>`, whose value is zero; another word attended to would be said."""
    sink = Head(world.model, layer, head).attend(world.stream.one, world.stream.basis("start"), _SURE)
    sink.carry(world.stream.basis("now"), world.stream.basis("out"))


def write_gaze(world: World, layer: int, head: int, distance: int) -> None:
    """Attend `distance` words back (0: to the word itself), and write nothing."""
    Head(world.model, layer, head).attend_back(distance, world.stream.one, 2 * _SURE)
