"""The world itself: who lives where, works as what and is married to whom; drawn once from a seed."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from random import Random

from workbench.world import names

RELATIONS = ("country", "capital", "language", "home", "job", "spouse", "employer", "seat")
"""What is known: a town's country, a country's capital and language, a person's home town, job, spouse and
employer, and the town where a company has its seat."""


@dataclass(frozen=True)
class Person:
    """Somebody. Others may share the first name or the surname, nobody shares both."""

    first: str
    last: str
    woman: bool

    @property
    def name(self) -> str:
        """First name and surname."""
        return f"{self.first} {self.last}"

    @property
    def pronouns(self) -> tuple[str, str, str]:
        """Subject, object and possessive: she, her, her."""
        return ("she", "her", "her") if self.woman else ("he", "him", "his")


@dataclass(frozen=True)
class World:
    """All that is true.

    Attributes:
        seed: what the world was drawn from.
        people: everybody.
        facts: answer by relation and subject, all by name.
    """

    seed: int
    people: tuple[Person, ...]
    facts: Mapping[str, Mapping[str, str]]

    @property
    def towns(self) -> tuple[str, ...]:
        """Names of the towns."""
        return tuple(self.facts["country"])

    @property
    def countries(self) -> tuple[str, ...]:
        """Names of the countries."""
        return tuple(self.facts["capital"])

    @cached_property
    def person(self) -> Mapping[str, Person]:
        """Everybody by full name."""
        return {person.name: person for person in self.people}

    def follow(self, subject: str, *relations: str) -> str:
        """The answer after one relation or several in turn.

        Example:
            >>> world = make_world()
            >>> world.follow("Orlim", "country", "capital") == world.facts["capital"][world.facts["country"]["Orlim"]]
            True
        """
        for relation in relations:
            subject = self.facts[relation][subject]
        return subject

    def chance(self, *words: object) -> float:
        """A number in [0, 1) that belongs to some words for ever: what decides which facts are held out."""
        text = "/".join(str(word) for word in (self.seed, *words))
        return zlib.crc32(text.encode()) / 2**32


def make_world(seed: int = 0) -> World:
    """Draw a world.

    Args:
        seed: the same seed gives the same world on every machine.
    """
    rng = Random(f"world {seed}")
    countries = list(names.COUNTRIES)
    towns = rng.sample(names.TOWNS, len(names.TOWNS))
    country = {town: countries[place % len(countries)] for place, town in enumerate(towns)}
    capital = {name: towns[place] for place, name in enumerate(countries)}
    tongues = rng.sample(names.LANGUAGES, len(names.LANGUAGES))
    language = {name: tongues[place % len(tongues)] for place, name in enumerate(rng.sample(countries, len(countries)))}
    seats = rng.sample(towns, len(names.COMPANIES))
    people, spouse = _couples(rng)
    named = [person.name for person in people]
    home: dict[str, str] = {}
    for name in named:
        home[name] = home.get(spouse[name]) or rng.choice(towns)
    facts: dict[str, dict[str, str]] = {
        "country": {town: country[town] for town in names.TOWNS},
        "capital": capital,
        "language": {name: language[name] for name in countries},
        "home": home,
        "job": {name: rng.choice(names.JOBS) for name in named},
        "spouse": spouse,
        "employer": {name: rng.choice(names.COMPANIES) for name in named},
        "seat": dict(zip(names.COMPANIES, seats, strict=True)),
    }
    return World(seed, people, facts)


def _couples(rng: Random, couples: int = 64) -> tuple[tuple[Person, ...], dict[str, str]]:
    """Women and men, each couple married; every first name occurs twice, every surname a few times."""
    women, men = _persons(rng, names.WOMEN, couples, woman=True), _persons(rng, names.MEN, couples, woman=False)
    spouse = {}
    for wife, husband in zip(women, men, strict=True):
        spouse |= {wife.name: husband.name, husband.name: wife.name}
    return tuple(person for couple in zip(women, men, strict=True) for person in couple), spouse


def _persons(rng: Random, firsts: list[str], count: int, woman: bool) -> list[Person]:
    found: dict[tuple[str, str], Person] = {}
    pool = [firsts[place % len(firsts)] for place in range(count)]
    for first in rng.sample(pool, count):
        last = rng.choice([name for name in names.SURNAMES if (first, name) not in found])
        found[first, last] = Person(first, last, woman)
    return list(found.values())
