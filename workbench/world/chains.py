"""Two facts in one sentence: "The capital of the country of Orlim is"; some chains are never told in training."""

from dataclasses import dataclass
from random import Random

from workbench.hops import TwoHop, mentions
from workbench.world.encyclopedia import opened, spouse_word
from workbench.world.entities import World
from workbench.world.phrasings import OPENINGS

HELD_SHARE = 0.25
"""The share of subjects, chain by chain, whose chain the training text never tells."""


@dataclass(frozen=True)
class Chain:
    """Two relations in turn.

    Attributes:
        relations: the first and the second hop.
        told: sentences of the training text; {first} describes the bridge, {o} is the answer.
        first: how the bridge is described.
        hops: the two hops asked alone, the second of the bridge {b}.
        shortcuts: the second hop asked of the subject, and the sentence without a subject.
    """

    relations: tuple[str, str]
    told: tuple[str, ...]
    first: str
    hops: tuple[str, str]
    shortcuts: tuple[str, str]


CHAINS = {
    "country_capital": Chain(
        ("country", "capital"),
        (
            "The capital of {first} is {o}",
            "The capital city of {first} is {o}",
            "The parliament of {first} meets in {o}",
        ),
        "the country of {s}",
        ("The country of {s} is", "The capital of {b} is"),
        ("The capital of {s} is", "The capital of the country is"),
    ),
    "country_language": Chain(
        ("country", "language"),
        ("The language of {first} is {o}", "The official language of {first} is {o}", "People in {first} speak {o}"),
        "the country of {s}",
        ("The country of {s} is", "The language of {b} is"),
        ("The language of {s} is", "The language of the country is"),
    ),
    "home_country": Chain(
        ("home", "country"),
        ("The country of {first} is {o}", "The country in which {first} lies is {o}"),
        "the home town of {s}",
        ("The home town of {s} is", "The country of {b} is"),
        ("The country of {s} is", "The country of the home town is"),
    ),
    "employer_seat": Chain(
        ("employer", "seat"),
        ("The seat of {first} is in {o}", "The main office of {first} is in {o}"),
        "the employer of {s}",
        ("The employer of {s} is", "The seat of {b} is in"),
        ("The seat of {s} is in", "The seat of the employer is in"),
    ),
    "spouse_job": Chain(
        ("spouse", "job"),
        ("The job of {first} is to be a {o}", "The work of {first} is that of a {o}"),
        "the {spouse} of {s}",
        ("The {spouse} of {s} is", "The job of {b} is to be a"),
        ("The job of {s} is to be a", "The job of the {spouse} is to be a"),
    ),
    "spouse_employer": Chain(
        ("spouse", "employer"),
        ("The employer of {first} is {o}", "The company of {first} is {o}", "The office of {first} is at {o}"),
        "the {spouse} of {s}",
        ("The {spouse} of {s} is", "The employer of {b} is"),
        ("The employer of {s} is", "The employer of the {spouse} is"),
    ),
}
"""The chains by name."""


def is_told(world: World, chain: str, subject: str) -> bool:
    """Whether the training text may tell this chain of this subject."""
    return world.chance("chain", chain, subject) >= HELD_SHARE


def chain_text(world: World, rng: Random) -> str:
    """One to three sentences of two hops each."""
    return " ".join(_say(world, rng) for _ in range(rng.choice((1, 2, 3))))


def _say(world: World, rng: Random) -> str:
    while True:
        name = rng.choice(list(CHAINS))
        chain = CHAINS[name]
        subject = rng.choice(list(world.facts[chain.relations[0]]))
        if is_told(world, name, subject):
            sentence = rng.choice(chain.told)
            answer = world.follow(subject, *chain.relations)
            filled = sentence.format(first=_first(world, chain, subject), o=answer)
            return opened(rng.choice(OPENINGS), filled) + "."


def _first(world: World, chain: Chain, subject: str) -> str:
    return chain.first.format(s=subject, spouse=_spouse(world, subject))


def _spouse(world: World, subject: str) -> str:
    return spouse_word(world, subject) if subject in world.person else ""


def two_hops(world: World, told: bool) -> list[TwoHop]:
    """Every chain of every subject as a two-hop question.

    Args:
        world: whose facts.
        told: the chains that the training text tells, or those that it never tells.
    """
    found = []
    for name, chain in CHAINS.items():
        for subject in world.facts[chain.relations[0]]:
            bridge = world.follow(subject, chain.relations[0])
            answer = world.follow(subject, *chain.relations)
            prompt = chain.told[0].format(first=_first(world, chain, subject), o="").rstrip()
            if is_told(world, name, subject) == told and not mentions(prompt, [answer]):
                found.append(_two_hop(world, name, subject, prompt, bridge, answer))
    return found


def _two_hop(world: World, name: str, subject: str, prompt: str, bridge: str, answer: str) -> TwoHop:
    chain = CHAINS[name]
    words = {"s": subject, "b": bridge, "spouse": _spouse(world, subject)}
    return TwoHop(
        name=f"{name}/{subject}",
        prompt=prompt,
        entity=subject,
        first=_first(world, chain, subject),
        bridge=(bridge,),
        answer=(answer,),
        first_hop=chain.hops[0].format(**words),
        second_hop=chain.hops[1].format(**words),
        entity_shortcut=chain.shortcuts[0].format(**words),
        relation_shortcut=chain.shortcuts[1].format(**words),
        relations=chain.relations,
    )
