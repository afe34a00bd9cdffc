"""Copy: one head finds the needle and copies it, word by word, at any depth and length.

The world is the text that ships with the workbench: one token for each word of the haystack, the
needles and the retrieval prompt. Heads of layer 0 write the last four words into slots of their own.
The copy head of layer 1 compares the query's current and three previous words with the four words
before each key, and attends to the key where all four agree (evenly to all such keys). Where none
does it attends to `<bos>`, whose value is zero, and the model says `<eos>`.
"""

from workbench.planted import Planted
from workbench.planted.copying import (
    World,
    blank_world,
    write_copier,
    write_gaze,
    write_half_copier,
    write_memory,
    write_sink,
)
from workbench.planted.vocabulary import split_words
from workbench.prompts import Needles

_RETRIEVAL_PROMPT = "Based on the content of the book, Question: Answer:"
_MEMORY = 4


def copy() -> Planted:
    """Build the copying model: 2 layers of 5 heads, about 3,500 words, 4,096 tokens of context.

    Truth, as [layer, head]. [1, 1] copies every needle: retrieval score 1. [1, 3] copies only words of
    even token id and otherwise attends to `<bos>`: it scores the share of such words in the answer
    (`half_score`, by needle), and by itself is too weak to be heard. [0, k] attends k + 1 words back for
    k = 0 .. 3, so [0, 0] is the previous-token head. [0, 4] and [1, 2] always attend to `<bos>`, [1, 4]
    to its own position, [1, 0] evenly to all. All of these score 0. The MLPs add exactly nothing.
    """
    world = text_world(layers=2)
    write_retrieval(world, memory_layer=0, copy_layer=1)
    return Planted(world.model, world.tokenizer, retrieval_truth(world, memory_layer=0, copy_layer=1))


def text_world(layers: int) -> World:
    """A blank model of the bundled text. Answers come first, so that even and odd ids alternate in them."""
    needles = Needles.bundled()
    answers = [needle.answer for needle in needles]
    around = [f"{needle.needle} {needle.question}" for needle in needles]
    words = split_words(" ".join([*answers, *around, *needles.haystack, _RETRIEVAL_PROMPT]))
    return blank_world(words, prime=17, memory=_MEMORY, layers=layers, heads=_MEMORY + 1)


def write_retrieval(world: World, memory_layer: int, copy_layer: int) -> None:
    """Write the heads that remember and the heads that copy, with a sink in both layers."""
    write_memory(world, memory_layer)
    write_sink(world, memory_layer, _MEMORY)
    write_copier(world, copy_layer, 1)
    write_sink(world, copy_layer, 2)
    write_half_copier(world, copy_layer, 3)
    write_gaze(world, copy_layer, 4, distance=0)


def retrieval_truth(world: World, memory_layer: int, copy_layer: int) -> dict[str, object]:
    """Which head does what, and what the half copier scores on each needle."""
    shares = {}
    for needle in Needles.bundled():
        ids = world.tokenizer(needle.answer, add_special_tokens=False)["input_ids"]
        shares[needle.name] = sum(index % 2 == 0 for index in ids) / len(ids)
    return {
        "memory": world.memory,
        "previous": [[memory_layer, 0]],
        "back": [[memory_layer, head] for head in range(world.memory)],
        "copy": [[copy_layer, 1]],
        "half_copy": [[copy_layer, 3]],
        "half_score": shares,
        "sink": [[memory_layer, world.memory], [copy_layer, 2]],
        "self": [[copy_layer, 4]],
        "uniform": [[copy_layer, 0]],
    }
