"""What is kept for evaluation: prompts that the training text never holds, each with its answer."""

from collections.abc import Callable
from random import Random

from workbench.prompts import Prompt, Prompts
from workbench.world import names
from workbench.world.encyclopedia import asked, is_asked, spouse_word
from workbench.world.entities import RELATIONS, World
from workbench.world.needles import draw_hidden, haystack
from workbench.world.numbers import HELD_YEARS, is_held_out, solve
from workbench.world.numbers import span as draw_span
from workbench.world.phrasings import PHRASINGS
from workbench.world.recall import owners_text, random_words
from workbench.world.stories import HELD_TOLD, gift

Length = Callable[[str], int]
"""How many tokens a text has."""


def told_facts(world: World) -> Prompts:
    """Every fact in every phrasing that is kept for evaluation."""
    return Prompts.of(
        *(
            _fact(world, relation, subject, phrasing.removesuffix(" {o}"))
            for relation in RELATIONS
            for subject in world.facts[relation]
            for phrasing in PHRASINGS[relation].held_told
        )
    )


def _fact(world: World, relation: str, subject: str, start: str) -> Prompt:
    text = start.format(s=subject, spouse=spouse_word(world, subject) if relation == "spouse" else "")
    answer = world.facts[relation][subject]
    return Prompt(text, f" {answer}", meta={"relation": relation, "subject": subject})


def asked_facts(world: World, in_training: bool) -> Prompts:
    """Questions about facts.

    Args:
        world: whose facts.
        in_training: facts that the training text asks for, in words that it does not use; or facts that it only
            tells and never asks for, in words that it uses.
    """
    found = []
    for relation in RELATIONS:
        phrasings = PHRASINGS[relation].held_asked if in_training else PHRASINGS[relation].asked[:2]
        for subject in world.facts[relation]:
            if is_asked(world, relation, subject) == in_training:
                answer = world.facts[relation][subject]
                meta = {"relation": relation, "subject": subject}
                texts = (asked(world, relation, subject, phrasing) for phrasing in phrasings)
                found += [Prompt(text, f" {answer}", meta=meta) for text in texts]
    return Prompts.of(*found)


def indirect_objects(count: int = 400) -> Prompts:
    """Gifts in held-out phrasings: who gets it? The distractor is the giver."""
    rng = Random("indirect objects")
    return Prompts.of(*(_gift(rng) for _ in range(count)))


def _gift(rng: Random) -> Prompt:
    text, words = gift(rng, HELD_TOLD)
    end = text.removesuffix(f" {words['taker']}.")
    return Prompt(end, f" {words['taker']}", f" {words['giver']}", {"order": _order(words)})


def _order(words: dict[str, str]) -> str:
    return "taker first" if words["taker"] == words["a"] else "giver first"


def greater_than(count: int = 300) -> Prompts:
    """Spans of years in held-out phrasings, up to the century of the end; `start` is the year in it."""
    rng = Random("greater than")
    found = []
    for number in range(count):
        text, start, end = draw_span(rng, HELD_YEARS[number % len(HELD_YEARS)])
        found.append(Prompt(text.removesuffix(f"{end:02d}."), f"{end:02d}", meta={"start": start}))
    return Prompts.of(*found)


def problems(world: World, sign: str) -> Prompts:
    """Every sum ("+") or difference ("-") that the training text never shows, in no context."""
    found = []
    for first in range(100):
        for second in range(100 - first) if sign == "+" else range(first + 1):
            if is_held_out(world, first, sign, second):
                found.append(Prompt(f"{first} {sign} {second} =", f" {solve(first, sign, second)}"))
    return Prompts.of(*found)


def needles(world: World, length: Length, distance: int = 400, count: int = 100, longest: int = 500) -> Prompts:
    """Something told once, another needle, and a question.

    Args:
        world: what the text around the needles tells of.
        length: how many tokens a text has.
        distance: tokens from the needle to the end of the question, at least.
        count: how many.
        longest: tokens of a prompt, at most.
    """
    rng = Random(f"needles {distance}")
    found: list[Prompt] = []
    while len(found) < count:
        text, answer, start = _needle(world, rng, length, distance)
        if length(text) <= longest:
            found.append(Prompt(text, f" {answer}", meta={"distance": length(text[start:])}))
    return Prompts.of(*found)


def _needle(world: World, rng: Random, length: Length, distance: int) -> tuple[str, str, int]:
    one, other = draw_hidden(rng, 2)
    question = one.asked().removesuffix(f" {one.value}")
    before = "".join(f"{part} " for part in haystack(world, rng, rng.choice((0, 1))))
    parts: list[str] = []
    while length(" ".join([*parts, other.told(), question])) < distance:
        parts += haystack(world, rng, 1)
    parts.insert(rng.randrange(len(parts) + 1), other.told())
    return f"{before}{one.told()} {' '.join(parts)} {question}", one.value, len(before)


def repeated(count: int = 200) -> Prompts:
    """Random words, others, and the beginning of the first ones again."""
    rng = Random("repeated")
    found = []
    for _ in range(count):
        words = random_words(rng, rng.randint(8, 20))
        between = random_words(rng, rng.randint(0, 20))
        known = rng.randint(3, len(words) - 1)
        found.append(Prompt(" " + " ".join([*words, *between, *words[:known]]), f" {words[known]}"))
    return Prompts.of(*found)


def owners(count: int = 200) -> Prompts:
    """Who has what: the owner of a thing."""
    rng = Random("owners")
    found = []
    for _ in range(count):
        text, answer = owners_text(rng)
        found.append(Prompt(text.removesuffix(f" {answer}."), f" {answer}"))
    return Prompts.of(*found)


def pronouns(count: int = 200) -> Prompts:
    """A woman and a man who buy something: who is meant by the pronoun?"""
    rng = Random("pronouns")
    found = []
    for _ in range(count):
        woman, man = rng.choice(names.WOMEN), rng.choice(names.MEN)
        one, two = rng.sample(names.THINGS, 2)
        first, second = (woman, man) if rng.random() < 0.5 else (man, woman)
        text = f"{first} and {second} met at the {rng.choice(names.PLACES)}. She had a {one} and he had a {two}. So"
        named, thing = (woman, one) if rng.random() < 0.5 else (man, two)
        found.append(Prompt(f"{text} {named} had the", f" {thing}"))
    return Prompts.of(*found)
