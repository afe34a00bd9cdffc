"""Short stories: two people, a place and a thing that one gives to the other; pronouns say who is meant."""

from random import Random

from workbench.world import names
from workbench.world.entities import World

TOLD = (
    "When {a} and {b} went to the {place}, {giver} gave a {thing} to {taker}.",
    "When {a} and {b} were at the {place}, {giver} handed a {thing} to {taker}.",
    "After {a} and {b} came to the {place}, {giver} gave the {thing} to {taker}.",
    "While {a} and {b} waited at the {place}, {giver} passed a {thing} to {taker}.",
    "Then {a} and {b} walked to the {place}. {giver} sold a {thing} to {taker}.",
    "Yesterday {a} and {b} met at the {place}, and {giver} lent a {thing} to {taker}.",
    "{a} and {b} had a long day at the {place}. In the end {giver} gave a {thing} to {taker}.",
    "At the {place}, {a} and {b} found a {thing}, and {giver} gave it to {taker}.",
    "Friends {a} and {b} sat in the {place}, where {giver} showed a {thing} to {taker}.",
    "When {a} and {b} left the {place}, {giver} threw the {thing} to {taker}.",
    "{a} and {b} bought a {thing} at the {place}. Later {giver} brought it to {taker}.",
    "One day {a} and {b} played in the {place}, and {giver} offered a {thing} to {taker}.",
)
"""How a gift is told in training."""

HELD_TOLD = (
    "After {a} and {b} went to the {place}, {giver} handed a {thing} to {taker}.",
    "While {a} and {b} were at the {place}, {giver} gave the {thing} to {taker}.",
    "Yesterday {a} and {b} came to the {place}, and {giver} sold a {thing} to {taker}.",
    "When {a} and {b} had a long day at the {place}, {giver} lent a {thing} to {taker}.",
)
"""How a gift is told in the evaluation only."""

_ENDINGS = (
    "{taker} thanked {giver}.",
    "{taker} was glad, and {giver} went home.",
    "{taker} put the {thing} on the table.",
    "Now {taker} has the {thing}.",
    "{giver} smiled at {taker}.",
)
_PRONOUNS = (
    "{a} and {b} met at the {place}. She had a {one} and he had a {two}. So {woman} had the {one}, and {man} had "
    "the {two}.",
    "{a} and {b} went to the {place}. He bought a {two}, but she bought a {one}. At home {woman} showed the {one}, "
    "and {man} showed the {two}.",
    "{woman} saw {man} at the {place}. She gave him a {one}, and he gave her a {two}. Now {man} has the {one}, and "
    "{woman} has the {two}.",
    "{man} wrote to {woman}. He asked her for a {one}, and she asked him for a {two}. So {woman} sent the {one}, and "
    "{man} sent the {two}.",
)


def two_names(rng: Random) -> tuple[str, str]:
    """Two different first names, of women or men."""
    first, second = rng.sample(names.WOMEN + names.MEN, 2)
    return first, second


def gift(rng: Random, phrasings: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """One sentence in which somebody gets something, and the words in it."""
    a, b = two_names(rng)
    giver, taker = (a, b) if rng.random() < 0.5 else (b, a)
    words = {"a": a, "b": b, "giver": giver, "taker": taker}
    words |= {"place": rng.choice(names.PLACES), "thing": rng.choice(names.THINGS)}
    return rng.choice(phrasings).format(**words), words


def story(_world: World, rng: Random) -> str:
    """A gift and what came of it, or two people and their pronouns."""
    if rng.random() < 0.75:
        text, words = gift(rng, TOLD)
        if rng.random() < 0.5:
            text += " " + rng.choice(_ENDINGS).format(**words)
        return text
    return pronouns(rng)


def pronouns(rng: Random) -> str:
    """A woman and a man, told apart by their pronouns only."""
    woman, man = rng.choice(names.WOMEN), rng.choice(names.MEN)
    a, b = (woman, man) if rng.random() < 0.5 else (man, woman)
    one, two = rng.sample(names.THINGS, 2)
    words = {"a": a, "b": b, "woman": woman, "man": man, "one": one, "two": two, "place": rng.choice(names.PLACES)}
    return rng.choice(_PRONOUNS).format(**words)
