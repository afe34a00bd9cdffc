"""The training text: rows of tokens, each a mix of genres, and each a function of its place alone.

Because a row depends on nothing but the seed, the step and its number, training can stop and go on anywhere.
"""

from collections.abc import Callable
from random import Random

from workbench.world.chains import chain_text
from workbench.world.code import code_text
from workbench.world.encyclopedia import article, questions
from workbench.world.entities import World
from workbench.world.needles import needle_text
from workbench.world.numbers import counting_text, sums_text, years_text
from workbench.world.recall import list_text, repeated_text
from workbench.world.stories import story

Encode = Callable[[list[str]], list[list[int]]]
"""Texts to token ids, without special tokens."""


def short_needles(world: World, rng: Random) -> str:
    """Needles in a text of at most two paragraphs."""
    return needle_text(world, rng, fillers=rng.randint(0, 2))


GENRES: dict[str, tuple[Callable[[World, Random], str], int]] = {
    "encyclopedia": (article, 24),
    "questions": (questions, 12),
    "two hops": (chain_text, 14),
    "stories": (story, 16),
    "needles": (short_needles, 5),
    "years": (years_text, 5),
    "sums": (sums_text, 14),
    "counting": (counting_text, 3),
    "repeated spans": (repeated_text, 8),
    "lists": (list_text, 6),
    "code": (code_text, 4),
}
"""What writes a document of each genre, and how often it is asked to."""

_LONG_ROW = 192
_TOKENS_PER_FILLER = 36


def document(world: World, rng: Random, spans: float = 0.0) -> str:
    """One short document of any genre; a repeated span with the probability `spans`, before the genre is drawn."""
    if rng.random() < spans:
        return repeated_text(world, rng)
    writers, weights = zip(*GENRES.values(), strict=True)
    return rng.choices(writers, weights)[0](world, rng)


def sample_texts(world: World, seed: int, count: int) -> list[str]:
    """Documents of all genres, as a tokenizer is trained on."""
    rng = Random(f"sample {seed}")
    return [document(world, rng) for _ in range(count)]


def row(world: World, encode: Encode, start: int, place: str, length: int, spans: float = 0.0) -> list[int]:
    """One training row: documents one after another, each behind a start token; the last one is cut.

    Half of the long rows begin with a text whose needles may lie anywhere in it.

    Args:
        world: whose text.
        encode: the tokenizer.
        start: id of the token that begins every document.
        place: seed, step and number of the row: the same place gives the same row.
        length: tokens in the row.
        spans: share of short documents that are repeated spans, besides those of the mix.
    """
    rng = Random(place)
    ids: list[int] = []
    if length >= _LONG_ROW and rng.random() < 0.5:
        ids += _long_document(world, encode, start, rng, length)
    while len(ids) < length:
        for found in encode([document(world, rng, spans) for _ in range(1 + (length - len(ids)) // 40)]):
            ids += [start, *found]
    return ids[:length]


def _long_document(world: World, encode: Encode, start: int, rng: Random, length: int) -> list[int]:
    fillers = rng.randint(length // 2, length - 100) // _TOKENS_PER_FILLER
    while True:
        ids = [start, *encode([needle_text(world, rng, fillers)])[0]]
        if len(ids) <= length:
            return ids
        fillers -= 1
