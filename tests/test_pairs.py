"""Pairs are read whole and chosen by their corruption, and a model sees them token for token or says why not."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from small_models import digit_model

from workbench.alignment import ROLES, align
from workbench.model import Model
from workbench.pairs import Pair, Pairs

PAIR = Pair("w5 w6 w7 w8", "w5 w9 w7 w8", "w20", "w21", "second word")


@pytest.mark.parametrize(
    ("name", "count", "corruptions"),
    [
        ("indirect_objects", 180, ("swap", "new names", "random")),
        ("greater_than", 100, ("year 01",)),
        ("sums", 60, ("first number", "second number")),
    ],
)
def test_the_bundled_sets_are_pairs(name: str, count: int, corruptions: tuple[str, ...]) -> None:
    pairs = Pairs.read(name)
    assert (len(pairs), pairs.corruptions) == (count, corruptions)
    assert sum(len(pairs.of_corruption(kind)) for kind in corruptions) == count
    assert all(pair.distractor and pair.meta for pair in pairs)


def test_the_set_without_a_name_is_that_of_the_indirect_objects() -> None:
    assert Pairs.bundled() == Pairs.read("indirect_objects")


def test_pairs_are_described_as_they_are_written(tmp_path: Path) -> None:
    row = {"clean": "a b", "corrupt": "a c", "target": " d", "corruption": "b", "meta": {"n": 1}}
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({**row, "of another kind": 3}))
    assert Pairs.read(file).describe() == {"type": "pairs", "pairs": [row]}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "same texts": ({"corrupt": PAIR.clean}, "clean and corrupt are the same text"),
    "no target": ({"target": ""}, "no target was given: name the token"),
    "two targets": ({"distractor": "w20"}, "target and distractor are both 'w20'"),
    "a number": ({"distractor": 3}, "distractor is a text, found 3"),
    "empty": ({"clean": " "}, "the prompt is empty"),
}


@pytest.mark.parametrize("change, sentence", BAD.values(), ids=BAD)
def test_what_is_no_pair_is_refused_in_one_sentence(change: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as told:
        Pair.from_row({**asdict(PAIR), **change})
    assert "\n" not in str(told.value)


def test_a_file_without_targets_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"clean": "a", "corrupt": "b"}))
    with pytest.raises(ValueError, match="line 1: the text field 'target' is missing"):
        Pairs.read(file)


def test_no_pair_and_no_pair_of_a_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="no pair was given"):
        Pairs.of()
    with pytest.raises(ValueError, match="no pair has the corruption 'swap': there are 'second word'"):
        Pairs.of(PAIR).of_corruption("swap")


def test_a_pair_is_two_rows_of_tokens_and_where_they_differ(tiny_model: Model) -> None:
    aligned = align(tiny_model, PAIR)
    assert aligned.tokens.ids.tolist() == [[1, 5, 6, 7, 8], [1, 5, 9, 7, 8]]
    assert (aligned.target, aligned.distractor) == (20, 21)
    assert (aligned.changed, aligned.first, aligned.length) == ((2,), 2, 5)
    assert aligned.clean.ids.tolist() == [[1, 5, 6, 7, 8]]
    assert aligned.corrupt.text == (("<bos>", "w5", "w9", "w7", "w8"),)
    assert align(tiny_model, replace(PAIR, distractor="")).distractor is None


def test_what_both_answers_begin_with_is_put_behind_the_prompts(tiny_model: Model) -> None:
    found = align(tiny_model, replace(PAIR, target=" w20 w21", distractor=" w20 w22"))
    assert (found.pair.clean, found.pair.corrupt) == (f"{PAIR.clean} w20", f"{PAIR.corrupt} w20")
    assert (found.target, found.distractor) == (tiny_model.token("w21"), tiny_model.token("w22"))
    assert found.length == align(tiny_model, PAIR).length + 1
    assert found.led
    assert not align(tiny_model, PAIR).led


def shown(target: str, distractor: str) -> tuple[str, str, str, bool]:
    """What is put behind the prompts, what is compared where every digit is a token, and whether that was cut."""
    pair = Pair("the war from 1 7 to", "the war from 2 7 to", target, distractor)
    found = align(digit_model(), pair)
    assert digit_model().token(found.pair.target) == found.target
    return found.pair.clean.removeprefix(pair.clean), found.pair.target, found.pair.distractor, found.shortened


def test_numbers_are_compared_at_the_first_digit_that_differs() -> None:
    assert shown("86", "33") == ("", "8", "3", True)
    assert shown(" 86", " 33") == (" ", "8", "3", True)
    assert shown("86", "81") == ("8", "6", "1", False)
    assert shown(" 186", " 133") == (" 1", "8", "3", True)


def test_numbers_of_unequal_length_and_words_are_not_cut_to_their_beginnings() -> None:
    for target, distractor in (("12", "9"), ("86", "war"), ("to war", "from war")):
        with pytest.raises(ValueError, match="is 2 tokens|is 3 tokens"):
            shown(target, distractor)


def test_the_first_digit_of_a_year_decides_in_every_bundled_pair() -> None:
    for pair in Pairs.read("greater_than"):
        year = f"{pair.meta['year']:02d}"
        tens = [pair.target[0], year[0], pair.distractor[0]]
        assert tens == sorted(set(tens), reverse=True), "a later decade, that of the year, an earlier one"


@pytest.mark.real
def test_sums_and_years_fit_a_tokenizer_that_takes_digits_by_themselves(real_model: Model) -> None:
    sums = [align(real_model, pair) for pair in Pairs.read("sums")]
    assert all(one.led and one.pair.target.isdigit() and len(one.pair.target) == 1 for one in sums)
    years = [align(real_model, pair) for pair in Pairs.read("greater_than")]
    assert all(one.shortened and not one.led for one in years)


@pytest.mark.parametrize(
    ("corrupt", "roles"),
    [
        ("w5 w9 w7 w8 w10", ["first changed", "next", "further", "last"]),
        ("w9 w6 w9 w8 w10", ["first changed", "between", "last changed", "next", "last"]),
        ("w5 w6 w7 w9 w11", ["first changed", "last"]),
        ("w5 w6 w7 w8 w11", ["last"]),
    ],
)
def test_every_position_has_a_role_from_the_first_change_on(tiny_model: Model, corrupt: str, roles: list[str]) -> None:
    aligned = align(tiny_model, replace(PAIR, clean="w5 w6 w7 w8 w10", corrupt=corrupt))
    assert [aligned.role(pos) for pos in range(aligned.first, aligned.length)] == roles
    assert set(roles) <= set(ROLES)


MISFITS = {
    "lengths": (
        {"corrupt": "w5 w9 w8"},
        r"clean has 5 tokens for .* and corrupt has 4, .*\['<bos>', 'w5', 'w6', 'w7', 'w8'\] and \['<bos>', 'w5'",
    ),
    "target": ({"target": "w20 w22"}, r"'w20 w22' is 2 tokens for .*, not one: \['w20', 'w22'\]"),
    "distractor": ({"distractor": "w20 w22"}, "'w20 w22' is 2 tokens"),
    "unknown words": ({"clean": "w5 and", "corrupt": "w5 or"}, "both prompts are the same tokens"),
    "unknown targets": ({"target": "yes", "distractor": "no"}, "target 'yes' and distractor 'no' are the same token"),
}


@pytest.mark.parametrize("change, sentence", MISFITS.values(), ids=MISFITS)
def test_a_pair_that_does_not_fit_the_tokens_is_refused(tiny_model: Model, change: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as told:
        align(tiny_model, replace(PAIR, **change))
    assert str(told.value).startswith("pair 'w5") and "\n" not in str(told.value)
