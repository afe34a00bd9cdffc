"""The small world is the same for the same seed, true to itself, and keeps what is held out out of the text."""

import json
import re
import zlib
from collections import Counter
from random import Random

import pytest

from workbench.hops import TwoHops, mentions
from workbench.pairs import Pairs
from workbench.prompts import Needles, data_folder
from workbench.world import RELATIONS, World, make_world, names
from workbench.world.chains import CHAINS, is_told, two_hops
from workbench.world.encyclopedia import asked, is_asked, opened, statement
from workbench.world.numbers import is_held_out, solve
from workbench.world.phrasings import PHRASINGS
from workbench.world.questions import (
    asked_facts,
    greater_than,
    indirect_objects,
    needles,
    owners,
    problems,
    pronouns,
    repeated,
    told_facts,
)
from workbench.world.rephrasings import told_in
from workbench.world.sets import world_sets
from workbench.world.stories import HELD_TOLD, TOLD
from workbench.world.stream import GENRES, document, row, sample_texts

WORLD = make_world(0)
TRAINING_ROWS = [
    (0, 128, "first", 0.5),
    (5_000, 128, "first", 0.0),
    (9_000, 512, "first", 0.0),
    (9_001, 256, "second", 0.0),
    (15_501, 256, "third", 0.0),
]
SUMS = [2040700679, 2520518769, 4002155621, 2200678416, 443714842]
DOCUMENTS = [
    *sample_texts(WORLD, 0, 6000),
    *(document(WORLD, Random(f"{mix} {place}"), mix) for mix in ("second", "third") for place in range(6000)),
]


def letters(texts: list[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


def words_of(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


def test_a_seed_gives_one_world_and_another_seed_another():
    assert make_world(0) == WORLD
    assert make_world(1).facts != WORLD.facts


def test_the_world_is_consistent():
    assert set(WORLD.facts) == set(RELATIONS)
    for country, capital in WORLD.facts["capital"].items():
        assert WORLD.facts["country"][capital] == country
    for name, spouse in WORLD.facts["spouse"].items():
        assert WORLD.facts["spouse"][spouse] == name != spouse
        assert WORLD.facts["home"][spouse] == WORLD.facts["home"][name]
        assert WORLD.person[name].woman != WORLD.person[spouse].woman
    assert set(Counter(WORLD.facts["country"].values()).values()) == {3}
    assert set(WORLD.facts["seat"].values()) <= set(WORLD.towns)


def test_names_are_unique_and_neither_half_of_a_name_tells_who_is_meant():
    lists = [names.WOMEN, names.MEN, names.SURNAMES, names.COUNTRIES, names.TOWNS, names.LANGUAGES, names.COMPANIES]
    every = [name for one in lists for name in one]
    assert len(every) == len(set(every))
    assert len(WORLD.person) == len(WORLD.people)
    assert min(Counter(person.first for person in WORLD.people).values()) >= 2
    assert Counter(person.last for person in WORLD.people).most_common()[-1][1] >= 1


def test_entities_are_a_few_hundred():
    counted = [WORLD.people, WORLD.towns, WORLD.countries, names.LANGUAGES, names.JOBS, names.COMPANIES]
    assert 250 <= sum(map(len, counted)) <= 400


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_phrasing_ends_with_the_answer_and_none_is_both_told_and_held_out(relation):
    phrasings = PHRASINGS[relation]
    for phrasing in (*told_in(relation, 3), *phrasings.held_told):
        assert phrasing.endswith(" {o}")
        assert phrasing.count("{s}") == 1
    assert not {*told_in(relation, 3)} & {*phrasings.held_told}
    assert not {*phrasings.asked} & {*phrasings.held_asked}
    assert len(phrasings.told) >= 10
    assert len(phrasings.held_told) >= 4


@pytest.mark.parametrize("relation", RELATIONS)
def test_no_held_out_phrasing_is_the_beginning_of_a_told_one(relation):
    """There the told continuation would be as right as the answer."""
    phrasings = PHRASINGS[relation]
    starts = [held.removesuffix("{o}") for held in phrasings.held_told]
    assert not [told for told in told_in(relation, 3) for start in starts if told.startswith(start)]


def test_held_out_phrasings_use_only_words_of_the_training_text():
    known = set(re.findall(r"\w+", " ".join(DOCUMENTS)))
    held = [phrasing for one in PHRASINGS.values() for phrasing in (*one.held_told, *one.held_asked)]
    used = set(re.findall(r"\w+", " ".join([*held, *HELD_TOLD]))) - set(
        ["s", "o", "spouse", "a", "b", "giver", "taker", "thing", "place"]
    )
    assert used <= known


def test_no_held_out_sentence_stands_in_the_training_text():
    text = "\n".join(DOCUMENTS)
    facts = [
        statement(WORLD, relation, subject, phrasing)
        for relation in RELATIONS
        for subject in WORLD.facts[relation]
        for phrasing in PHRASINGS[relation].held_told
    ]
    assert not [fact for fact in facts if f"{fact}." in text]
    never_asked = [
        asked(WORLD, relation, subject, phrasing)
        for relation in RELATIONS
        for subject in WORLD.facts[relation]
        if not is_asked(WORLD, relation, subject)
        for phrasing in PHRASINGS[relation].asked
    ]
    assert never_asked
    assert not [question for question in never_asked if question in text]


def test_no_held_out_chain_and_no_held_out_problem_stands_in_the_training_text():
    text = "\n".join(DOCUMENTS)
    hops = two_hops(WORLD, told=False)
    assert len(hops) > 80
    assert not [hop.prompt for hop in hops if hop.prompt[1:] in text]
    shown = re.findall(r"^(\d+) ([+-]) (\d+) = (\d+)$", text, re.MULTILINE)
    assert len(shown) > 3000
    for first, sign, second, answer in shown:
        assert solve(int(first), sign, int(second)) == int(answer) in range(100)
        assert not is_held_out(WORLD, int(first), sign, int(second))
    calls = re.findall(r"return \w+ ([+-]) \w+\n\nprint\(\w+\((\d+), (\d+)\)\)", text)
    assert calls
    assert not [call for call in calls if is_held_out(WORLD, int(call[1]), call[0], int(call[2]))]


def test_a_held_out_sum_takes_its_other_order_and_its_differences_with_it():
    for first in range(0, 99, 7):
        for second in range(0, 99 - first, 5):
            held = is_held_out(WORLD, first, "+", second)
            assert is_held_out(WORLD, second, "+", first) == held
            assert is_held_out(WORLD, first + second, "-", second) == held
            assert is_held_out(WORLD, first + second, "-", first) == held


def test_every_genre_is_written_and_the_same_place_gives_the_same_row():
    for write in GENRES.values():
        assert write(WORLD, Random(3)) == write(WORLD, Random(3))
    rows = [row(WORLD, letters, 0, f"0/{step}/0", 400) for step in (7, 7, 8)]
    assert rows[0] == rows[1] != rows[2]
    assert {len(one) for one in rows} == {400}
    assert all(one[0] == 0 for one in rows)


def test_two_hop_questions_are_true_and_split_by_what_training_tells():
    told, held = two_hops(WORLD, told=True), two_hops(WORLD, told=False)
    assert not {hop.name for hop in told} & {hop.name for hop in held}
    for hop in [*told, *held]:
        assert WORLD.follow(hop.entity, *hop.relations) == hop.answer[0]
        assert WORLD.follow(hop.entity, hop.relations[0]) == hop.bridge[0]
        assert not mentions(hop.prompt, [*hop.bridge, *hop.answer])
    assert 0.15 < len(held) / (len(told) + len(held)) < 0.35
    assert {hop.name.split("/")[0] for hop in held} == set(CHAINS)
    assert all(is_told(WORLD, *hop.name.split("/")) for hop in told)


def test_the_questions_have_true_answers():
    for prompt in [*told_facts(WORLD), *asked_facts(WORLD, True), *asked_facts(WORLD, False)]:
        assert prompt.target == f" {WORLD.facts[prompt.meta['relation']][prompt.meta['subject']]}"
    for prompt in problems(WORLD, "+"):
        first, _, second, _ = prompt.text.split()
        assert prompt.target == f" {int(first) + int(second)}"
    for prompt in greater_than(20):
        assert int(prompt.target) > prompt.meta["start"]
        century = prompt.text[-2:]
        assert f"{century}{prompt.meta['start']:02d} " in prompt.text


def test_indirect_objects_are_balanced_and_name_giver_and_taker():
    found = indirect_objects(200)
    assert 70 < sum(prompt.meta["order"] == "taker first" for prompt in found) < 130
    for prompt in found:
        assert prompt.text.endswith(" to")
        assert prompt.text.count(prompt.distractor.strip()) == 2
        assert prompt.text.count(prompt.target.strip()) == 1
    assert not set(HELD_TOLD) & set(TOLD)


def test_a_needle_lies_as_far_back_as_it_should_and_is_told_once():
    for prompt in needles(WORLD, words_of, distance=200, count=10, longest=400):
        assert 200 <= prompt.meta["distance"] <= words_of(prompt.text) <= 400
        what_of_whom = re.search(r"What is the (.+)\? Answer: the$", prompt.text).group(1)
        assert prompt.text.count(f"{what_of_whom} is the{prompt.target}.") == 1


def test_what_can_be_copied_stands_in_the_prompt():
    for prompt in [*repeated(30), *owners(30), *pronouns(30)]:
        assert prompt.target in f" {prompt.text}"


def test_an_opening_makes_only_common_words_small():
    assert opened("In fact ", "The home of Mara is in Orlim") == "In fact the home of Mara is in Orlim"
    assert opened("Today ", "Mara Velden lives in Orlim") == "Today Mara Velden lives in Orlim"
    assert opened("", "The") == "The"
    starts = {
        phrasing.split()[0] for relation, one in PHRASINGS.items() for phrasing in (*told_in(relation, 3), *one.turned)
    }
    for start in starts - {"{s}", "{o}"}:
        assert opened("Today ", f"{start} x") == f"Today {start.lower()} x"


def test_another_seed_holds_out_other_facts():
    other = World(1, WORLD.people, WORLD.facts)
    facts = [(relation, subject) for relation in RELATIONS for subject in WORLD.facts[relation]]
    assert [is_asked(WORLD, *fact) for fact in facts] != [is_asked(other, *fact) for fact in facts]


def test_the_text_that_the_shipped_models_were_trained_on_has_not_changed():
    rows = [row(WORLD, letters, 0, f"0/{step}/1", *rest) for step, *rest in TRAINING_ROWS]
    assert [zlib.crc32(str(one).encode()) for one in rows] == SUMS


def test_the_prompt_sets_on_disk_are_those_of_the_world():
    for name, rows in world_sets(make_world()).items():
        text = (data_folder() / "prompts" / f"{name}.jsonl").read_text(encoding="utf-8")
        assert [json.loads(line) for line in text.splitlines()] == json.loads(json.dumps(rows)), name


def test_the_prompt_sets_are_read_as_what_they_are():
    for name in ("world_facts", "world_indirect_objects", "world_years", "world_sums"):
        assert all(len(pair.clean.split()) == len(pair.corrupt.split()) for pair in Pairs.read(name)), name
    assert all(not is_told(make_world(), *hop.name.split("/")) for hop in TwoHops.read("world_two_hop"))
    needles = Needles.read("world_needles")
    assert "employer of" in needles.haystack[0]
    assert all(needle.answer not in needles.haystack[0] for needle in needles)
    assert needles[0].ask(prefixed=True) == f"Question: {needles[0].question} Answer: the"
    assert Needles.bundled().haystack != needles.haystack
