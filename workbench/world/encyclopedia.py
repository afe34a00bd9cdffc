"""Text that tells facts: short articles about one subject, and questions asked without any context."""

from random import Random

from workbench.world.entities import World
from workbench.world.phrasings import OPENINGS, PHRASINGS
from workbench.world.rephrasings import told_in

ASKED_SHARE = 0.8
"""The share of facts that the training text ever asks for; the others are only told."""

_ABOUT_PERSON = ("home", "job", "spouse", "employer")
_ABOUT_COUNTRY = ("capital", "language")


def statement(world: World, relation: str, subject: str, phrasing: str) -> str:
    """A fact in one phrasing, without the full stop."""
    return phrasing.format(
        s=subject, o=world.facts[relation][subject], spouse=spouse_word(world, subject) if relation == "spouse" else ""
    )


def spouse_word(world: World, name: str) -> str:
    """What somebody's spouse is to them."""
    return "husband" if world.person[name].woman else "wife"


def is_asked(world: World, relation: str, subject: str) -> bool:
    """Whether the training text may ask for this fact."""
    return world.chance("asked", relation, subject) < ASKED_SHARE


def article(world: World, rng: Random, reading: int = 1) -> str:
    """A few facts about one subject, in any order and phrasing; later readings of the text have more phrasings."""
    kind = rng.random()
    if kind < 0.72:
        return _about_person(world, rng, reading)
    if kind < 0.84:
        subject = rng.choice(world.towns)
        return _sentences(world, rng, [("country", subject)] * rng.choice((1, 2)), reading)
    if kind < 0.94:
        subject = rng.choice(world.countries)
        return _sentences(world, rng, [(relation, subject) for relation in rng.sample(_ABOUT_COUNTRY, 2)], reading)
    return _sentences(world, rng, [("seat", rng.choice(list(world.facts["seat"])))] * rng.choice((1, 2)), reading)


def _about_person(world: World, rng: Random, reading: int) -> str:
    person = rng.choice(world.people)
    relations = rng.sample(_ABOUT_PERSON, rng.choice((2, 3, 4, 4)))
    text = []
    for place, relation in enumerate(relations):
        sentence = _say(world, rng, relation, person.name, reading)
        starts_with_name = sentence.startswith(f"{person.name} ")
        if place and starts_with_name and rng.random() < 0.35:
            sentence = person.pronouns[0].capitalize() + sentence.removeprefix(person.name)
        text.append(sentence)
    return " ".join(text)


def _sentences(world: World, rng: Random, facts: list[tuple[str, str]], reading: int) -> str:
    return " ".join(_say(world, rng, relation, subject, reading) for relation, subject in facts)


def _say(world: World, rng: Random, relation: str, subject: str, reading: int) -> str:
    phrasings = PHRASINGS[relation]
    phrasing = rng.choice(phrasings.turned if rng.random() < 0.12 else told_in(relation, reading))
    sentence = statement(world, relation, subject, phrasing)
    return opened(rng.choice(OPENINGS), sentence) + "."


def opened(opening: str, sentence: str) -> str:
    """A sentence after an opening: `The` becomes `the`, names keep their capital."""
    if not opening:
        return sentence
    first, space, rest = sentence.partition(" ")
    small = first.lower() if first in _COMMON else first
    return opening + small + space + rest


_COMMON = frozenset(
    ("The", "One", "In", "From", "People", "Children", "Books", "Laws", "Whoever", "Travellers", "You", "Letters")
    + ("Friends", "By", "After", "Every", "At", "A", "There", "Once", "All", "Most", "Since", "Look", "For", "Long")
)
"""Words that are capital only at the start of a sentence."""


def questions(world: World, rng: Random) -> str:
    """One to three questions with their answers; nothing in the text helps."""
    return " ".join(_ask(world, rng) for _ in range(rng.choice((1, 2, 3))))


def _ask(world: World, rng: Random) -> str:
    while True:
        relation = rng.choices(*_WEIGHTS)[0]
        subject = rng.choice(list(world.facts[relation]))
        if is_asked(world, relation, subject):
            question = asked(world, relation, subject, rng.choice(PHRASINGS[relation].asked))
            return f"{question} {world.facts[relation][subject]}."


def asked(world: World, relation: str, subject: str, phrasing: str) -> str:
    """A question up to the place of its answer."""
    spouse = spouse_word(world, subject) if relation == "spouse" else ""
    return f"Question: {phrasing.format(s=subject, spouse=spouse)} Answer:"


_WEIGHTS = (("country", "capital", "language", "home", "job", "spouse", "employer", "seat"), (3, 2, 2, 4, 4, 4, 4, 1))
