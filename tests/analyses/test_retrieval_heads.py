"""Retrieval heads are found where they were planted; what cannot be asked is refused in one sentence."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from copying import GRID, copier, planted_cases, truth
from small_models import forgetful_model

from workbench import attention
from workbench.analyses.retrieval_heads import retrieval_heads, scoring
from workbench.analyses.retrieval_heads.cases import Case
from workbench.analyses.retrieval_heads.scoring import read_cases, score_all, score_heads
from workbench.model import Model, load
from workbench.planted import plant
from workbench.prompts import Needle, Needles
from workbench.result import Result


@functools.cache
def planted_result() -> Result:
    return retrieval_heads(copier(), Needles.bundled(), **GRID, mask_sizes=(1, 2), mask_cases=2, mask_draws=6)


def test_finds_the_planted_heads_and_no_other() -> None:
    scores = planted_result().arrays["case_score"].values
    names = [row["needle"] for row in planted_result().tables["cases"]]
    (copy,), (half,) = truth()["copy"], truth()["half_copy"]
    for score, name in zip(scores, names, strict=True):
        expected = np.zeros((2, 5))
        expected[tuple(copy)] = 1.0
        expected[tuple(half)] = truth()["half_score"][name]
        np.testing.assert_allclose(score, expected, atol=1e-6)


def test_says_so_in_words_and_numbers() -> None:
    result = planted_result()
    assert result.scalars["cases"] == result.scalars["answered"] == 18
    assert result.scalars["retrieval_heads"] == 2
    assert result.scalars["best_score"] == 1.0
    assert [row["head"] for row in result.tables["heads"]][:2] == ["L1.H1", "L1.H3"]
    assert [row["heads"] for row in result.tables["bins"]] == [8, 0, 0, 2]
    assert "2 of 10 heads retrieve" in result.finding
    assert result.arrays["recall"].values.min() == 1.0
    assert all(check.passed for check in result.checks)
    stands = [(row["needle"], row["length"], row["span"]) for row in result.tables["cases"]]
    again = len(stands) - len(set(stands))
    assert again == 3, "no sentence ends before the middle of the short prompts"
    assert any("3 cases repeat the prompt of another" in note for note in result.notes)


def test_the_interval_holds_the_mean_and_a_sure_head_has_none() -> None:
    arrays = planted_result().arrays
    low, mean, high = (arrays[name].values for name in ("lower", "score", "upper"))
    assert (low <= mean + 1e-6).all() and (mean <= high + 1e-6).all()
    assert low[1, 1] == high[1, 1] == 1.0
    assert 0 < high[1, 3] - low[1, 3] < 0.1
    assert arrays["frequency"].values[1, 3] == 1.0


def test_masking_the_copy_head_destroys_recall_and_its_neighbours_do_not() -> None:
    recall = {(row["masked"], row["heads"]): row["recall"] for row in planted_result().tables["masking"]}
    assert recall["none", 0] == 1.0
    assert recall["top", 1] == recall["top", 2] == 0.0
    assert recall["same layers", 1] == recall["same layers", 2] == 1.0
    assert recall["random", 1] >= 0.5


@pytest.mark.parametrize("depth", [0, 10, 50, 90, 100])
def test_a_needle_stands_behind_the_last_sentence_before_its_depth(depth: int) -> None:
    cases, hay = planted_cases(lengths=(700,), depths=(depth,))
    model = copier()
    for case in cases:
        lead = case.needle.needle.index(case.needle.answer)
        words = len(model.tokenizer(case.needle.needle[:lead], add_special_tokens=False)["input_ids"])
        start = case.span.start - words
        assert case.ids[:start] == hay[:start], "what stands before the needle is the haystack from its start"
        assert depth == 0 or model.tokenizer.decode(case.ids[start - 1]) == "."
        assert model.tokenizer.decode(case.answer_ids) == case.needle.answer
        behind = case.tokens.text[0].index("Based") - case.span.stop - 1
        share = 100 * (start - 1) / (start - 1 + behind)
        assert depth - 6 <= share <= depth + 2
        assert 660 <= len(case.ids) <= 700


def test_a_copy_outside_of_the_needle_does_not_count() -> None:
    """The needle stands twice; what is copied from one place is not copied from the other."""
    needle, model = Needles.bundled()[0], copier()
    hay = "".join(planted_haystack(4))
    text = f"{needle.needle} {hay}{needle.needle} \nQuestion: {needle.question}\nAnswer: {needle.answer_prefix}"
    tokens = model.tokens(text)
    places = text.index(needle.answer), text.rindex(needle.answer)
    spans = [tokens.between(0, start, start + len(needle.answer)) for start in places]
    cases = [Case(needle, 0, 0, tokens, span) for span in spans]
    first, second = (score_heads(reading, "positions") for reading in read_cases(model, cases, cases[0].ids, 20, 0.5))
    assert first[1, 1] + second[1, 1] == 1.0
    assert torch.equal(first[0], second[0])


def planted_haystack(sentences: int) -> list[str]:
    return [f"{sentence}. " for sentence in Needles.bundled().haystack[0].split(". ")[:sentences]]


def test_scores_move_with_the_heads() -> None:
    order = [4, 2, 0, 3, 1]
    planted = plant("copy")
    attention_of = planted.model.model.layers[1].self_attn
    size = planted.model.config.head_dim
    moved = torch.cat([torch.arange(head * size, (head + 1) * size) for head in order])
    for name in ("q_proj", "k_proj", "v_proj"):
        projection = getattr(attention_of, name)
        projection.weight.data = projection.weight.data[moved]
    attention_of.o_proj.weight.data = attention_of.o_proj.weight.data[:, moved]
    model = load(planted.model, tokenizer=planted.tokenizer)
    cases, hay = planted_cases(lengths=(150,), depths=(0, 100))
    found = score_all(read_cases(model, cases, hay, 20, 0.5), "positions", seed=0).mean
    before = score_all(read_cases(copier(), cases, hay, 20, 0.5), "positions", seed=0).mean
    torch.testing.assert_close(found[1], before[1][order])
    torch.testing.assert_close(found[0], before[0])


def test_the_order_of_cases_and_the_pieces_of_a_prefill_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases, hay = planted_cases(needles_used=2, depths=(0, 100))
    expected = {id(reading.case): reading for reading in read_cases(copier(), cases, hay, 20, 0.5)}
    for chunk, order in ((2048, slice(None, None, -1)), (37, slice(None)), (5, slice(1, None, 2))):
        pieces = functools.partial(attention.prefill, chunk=chunk)
        with monkeypatch.context() as patched:
            patched.setattr(scoring, "prefill", pieces)
            patched.setattr(attention, "prefill", pieces)
            for reading in read_cases(copier(), cases[order], hay, 20, 0.5):
                other = expected[id(reading.case)]
                assert reading.said == other.said
                torch.testing.assert_close(score_heads(reading, "positions"), score_heads(other, "positions"))


def test_the_mean_leaves_out_what_was_not_answered_and_the_result_shows_nan() -> None:
    """A needle that the model cannot answer, beside one that it can."""
    needles = Needles.bundled()
    lost = replace(needles[1], name="lost", answer_prefix="Nobody ever said that")
    mixed = Needles.of([needles[0], lost], needles.haystack)
    result = retrieval_heads(copier(), mixed, lengths=(150,), depths=(0, 100), mask_sizes=())
    assert [row["answered"] for row in result.tables["cases"]] == [True, False, True, False]
    failed = np.isnan(result.arrays["case_score"].values).all(axis=(1, 2))
    assert failed.tolist() == [False, True, False, True]
    assert result.arrays["score"].values[1, 1] == 1.0
    assert "masking" not in result.tables


def test_nothing_answered_gives_a_reason_and_no_score() -> None:
    result = retrieval_heads(copier(), Needles.bundled(), lengths=(150,), depths=(0,), prefixed=False)
    assert "answered none of 3 cases" in result.finding
    assert result.scalars["answered"] == 0
    assert set(result.arrays) == {"recall"}


NEEDLE = Needle("soup", "The secret of the soup is a ladle of mustard.", "What is the secret?", "a ladle of mustard")
WORDS = "the man went to the sea and the sea was calm"
PROSE = (f"{WORDS}. " * 60,)


def asked(needle: Needle = NEEDLE, haystack: tuple[str, ...] = PROSE, **options: object) -> Result:
    grid = {"lengths": (150,), "depths": (0, 50), "mask_sizes": ()}
    return retrieval_heads(copier(), Needles.of([needle], haystack), **{**grid, **options})


def test_refuses_an_answer_that_is_not_in_its_needle() -> None:
    with pytest.raises(ValueError, match="needle 'soup': the answer 'a spoon' must occur exactly once"):
        replace(NEEDLE, answer="a spoon")


def test_refuses_an_answer_that_ends_within_a_token() -> None:
    with pytest.raises(ValueError, match="do not end where tokens end"):
        asked(replace(NEEDLE, answer="a ladle of must"))


BAD: dict[str, tuple[dict, str]] = {
    "longer than the context": ({"lengths": (5000,)}, "length 5000 and an answer of 30 .* reads 4096 tokens"),
    "no room for the answer": ({"lengths": (4080,)}, "length 4080 and an answer of 30 tokens do not fit"),
    "too short": ({"lengths": (20,)}, r"length 20 is too short for needle 'soup' and its question \(\d+ tokens\)"),
    "short haystack": ({"lengths": (1500,)}, r"the haystack has \d+ tokens, length 1500 needs \d+"),
    "no sentence": ({"haystack": (WORDS * 60,)}, "no sentence end in the \\d+ tokens that length 150 leaves it"),
    "answer elsewhere": ({"haystack": (f"So a ladle of mustard it was. {PROSE[0]}",)}, "'soup' stands in the hay"),
    "answer in the question": (
        {"needle": replace(NEEDLE, question="Is it a ladle of mustard?")},
        "or the question as well: 'a ladle of mustard'",
    ),
    "depth above": ({"depths": (0, 101)}, r"percentages of the context \(0-100\), found \(0, 101\)"),
    "depth below": ({"depths": (-1,)}, r"percentages of the context \(0-100\)"),
    "empty grid": ({"lengths": ()}, "the grid is empty"),
    "no new token": ({"new_tokens": 0}, "an answer has 1 token or more, 0 were asked for"),
    "too many masks": ({"mask_sizes": (6,)}, "6 heads cannot be masked .* there are 10"),
    "no draws": ({"mask_sizes": (1,), "mask_draws": 0}, "mask_draws must be 1 or more, found 0"),
    "negative needles": ({"needles_used": -1}, "needles_used is 0 for all, or how many: found -1"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_refuses_bad_input_in_one_sentence(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        asked(**options)


def test_refuses_a_tokenizer_that_cannot_place_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(copier().tokenizer), "is_fast", False)
    with pytest.raises(ValueError, match="does not tell which characters a token stands for"):
        asked()


def test_refuses_a_haystack_or_needles_of_nothing() -> None:
    for needles, haystack in (([NEEDLE], ["  "]), ([], PROSE)):
        with pytest.raises(ValueError, match="needles need a haystack"):
            Needles.of(needles, haystack)


def test_refuses_a_model_whose_hooked_attention_keeps_no_keys() -> None:
    with pytest.raises(ValueError, match="its hooked attention keeps no keys"):
        read_cases(forgetful_model(), [], [5, 6], 3, 0.5)


@pytest.mark.real
def test_masking_the_best_three_heads_of_a_real_model_takes_its_recall(real_model: Model) -> None:
    result = retrieval_heads(
        real_model,
        Needles.bundled(),
        lengths=(250, 500),
        depths=(0, 50, 100),
        mask_sizes=(3,),
        mask_cases=3,
        mask_draws=5,
    )
    recall = {row["masked"]: row["recall"] for row in result.tables["masking"]}
    assert recall["none"] >= 0.8
    assert recall["top"] <= 0.3
    assert recall["random"] >= 0.5
    assert result.scalars["answered"] >= 15
    assert result.arrays["score"].values.max() > 0.5
    assert all(check.passed for check in result.checks)
