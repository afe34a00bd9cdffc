"""Induction: a previous-token head and an induction head, which continue a repeated sequence.

Head [0, 0] writes the previous word into a slot of its own; head [1, 1] attends from a word to the
place after its earlier occurrence, and says the word there. There are 600 words without meaning.
"""

from workbench.planted import Planted
from workbench.planted.copying import blank_world, write_copier, write_gaze, write_memory, write_sink
from workbench.planted.vocabulary import nonsense_words


def induction() -> Planted:
    """Build the induction model: 2 layers of 4 heads, 600 words, 4,096 tokens of context.

    Truth, as [layer, head]. `pair` is the circuit: [0, 0] attends to the previous token, [1, 1] from a
    word to the places after its earlier occurrences, evenly, and to `<bos>` if there are none. So the
    second half of a sequence without repeated words, said twice, is continued rightly from its first
    word on; zeroing either head of the pair breaks this, and zeroing any other changes no logit.
    Decoys: [0, 1] and [1, 0] always attend to `<bos>`, [1, 2] to the word two back, [1, 3] to its own
    position, [0, 2] and [0, 3] evenly to all.
    """
    world = blank_world(nonsense_words(600), prime=13, memory=1, layers=2, heads=4)
    write_memory(world, layer=0)
    write_sink(world, layer=0, head=1)
    write_sink(world, layer=1, head=0)
    write_copier(world, layer=1, head=1)
    write_gaze(world, layer=1, head=2, distance=2)
    write_gaze(world, layer=1, head=3, distance=0)
    truth: dict[str, object] = {
        "pair": [[0, 0], [1, 1]],
        "previous": [[0, 0]],
        "induction": [[1, 1]],
        "sink": [[0, 1], [1, 0]],
        "two_back": [[1, 2]],
        "self": [[1, 3]],
        "uniform": [[0, 2], [0, 3]],
    }
    return Planted(world.model, world.tokenizer, truth)
