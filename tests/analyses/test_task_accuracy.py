"""Task accuracy counts what a planted model can do by construction, and scores what transformers scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import digit_model, plain_greedy, plain_twin, small_model

from workbench.analyses.task_accuracy import task_accuracy
from workbench.analyses.task_accuracy.shares import permuted_shares
from workbench.model import Model, load
from workbench.prompts import Prompt, Prompts
from workbench.result import Result

TEXTS = ("w20 w31 w9 w55 w7", "w5 w6 w90", "w40 w41 w42 w43 w44", "w50 w51 w52")


@pytest.fixture(scope="module")
def induction() -> Model:
    return load("planted:induction")


def repeated(model: Model, count: int, known: bool) -> Prompts:
    """Texts whose next word follows from a repetition, or (`known` false) from nothing."""
    prompts = []
    for start in range(5, 5 + 8 * count, 8):
        words = model.tokenizer.convert_ids_to_tokens(range(start, start + 8))
        end = words[:3] if known else []
        kind = "repeats" if known else "new"
        prompts.append(Prompt(" ".join([*words[:6], *end]), f" {words[3]}", f" {words[7]}", {"kind": kind}))
    return Prompts(prompts)


def test_a_planted_model_says_what_repeats_and_nothing_else(induction: Model) -> None:
    prompts = Prompts([*repeated(induction, 6, known=True), *repeated(induction, 4, known=False)])
    found = task_accuracy(induction, prompts)
    assert [row["says"] for row in found.tables["prompts"]] == [True] * 6 + [False] * 4
    assert found.scalars["says"] == pytest.approx(0.6)
    assert found.arrays["lower"].values[0] < 0.6 < found.arrays["upper"].values[0]
    assert found.arrays["permuted"].values[0] < 0.2
    assert found.finding.startswith("The target is said in 6 of 10 (0.60")
    kinds = {row["kind"]: row["says"] for row in found.tables["groups"] if row["field"] == "kind"}
    assert kinds == {"new": 0.0, "repeats": 1.0}
    assert found.tables["problems"] == [] and all(row["aligned"] for row in found.tables["details"])
    assert found.passed


@torch.no_grad()
def slow_log_prob(name: str, ids: list[int], answer: list[int]) -> float:
    """The chain rule, each token from a whole pass of its own."""
    total = 0.0
    for place, token in enumerate(answer):
        logits = plain_twin(name)(torch.tensor([[*ids, *answer[:place]]]), use_cache=False).logits[0, -1]
        total += float(logits.double().log_softmax(-1)[token])
    return total


@pytest.mark.parametrize("name", ["GPT2", "Llama", "Gemma2", "MPT"])
def test_agrees_with_the_chain_rule_and_the_greedy_words_of_transformers(name: str) -> None:
    model = small_model(name)
    answers = ((" w8", " w9"), (" w7 w6", " w5"), (" w3", " w4 w4 w8"), (" w11", " w12"))
    prompts = Prompts(Prompt(text, *pair) for text, pair in zip(TEXTS, answers, strict=True))
    found = task_accuracy(model, prompts, new_tokens=3)
    for row, prompt in zip(found.tables["prompts"], prompts, strict=True):
        ids = model.tokens(prompt.text).ids[0].tolist()
        target, distractor = (model.tokenizer(text)["input_ids"] for text in (prompt.target, prompt.distractor))
        first, second = slow_log_prob(name, ids, target), slow_log_prob(name, ids, distractor)
        assert row["probability"] == pytest.approx(np.exp(first), rel=1e-4)
        assert row["difference"] == pytest.approx(first - second, abs=1e-4)
        assert row["prefers"] == (first > second)
        with torch.no_grad():
            logits = plain_twin(name)(torch.tensor([ids]), use_cache=False).logits[0, -1]
        assert row["rank"] == int((logits > logits[target[0]]).sum())
        assert row["said"] == model.tokenizer.decode(plain_greedy(plain_twin(name), ids, 3))
    assert found.passed


def test_a_target_of_several_tokens_is_said_only_whole(induction: Model) -> None:
    words = induction.tokenizer.convert_ids_to_tokens(range(5, 13))
    text = " ".join([*words, *words[:2]])
    whole, half = f" {words[2]} {words[3]}", f" {words[2]} {words[6]}"
    found = task_accuracy(induction, Prompts.of(Prompt(text, whole), Prompt(text, half)), new_tokens=1)
    assert [row["says"] for row in found.tables["prompts"]] == [True, False]
    assert [row["rank"] for row in found.tables["prompts"]] == [0, 0]
    assert "target is 2 tokens" in found.tables["problems"][0]["problem"]


def test_problems_are_told_row_by_row_and_nothing_is_refused() -> None:
    model = small_model("Llama")
    pair = {"corrupt": "w20 w31 w9 w55", "corruption": "shorter"}
    prompts = Prompts.of(
        Prompt("w20 w31 w9", " w8", " w9", pair),
        Prompt("w20 w31 w9", " w8 w7", " w8", {"corrupt": "w20 w32 w9"}),
        Prompt("w20 w31 w9", " nowhere", " w8"),
        Prompt("w20 w31 w9", "x", " w8"),
        Prompt("w20 w31 w9"),
    )
    found = task_accuracy(model, prompts)
    told = found.tables["problems"]
    problems = ["; ".join(line["problem"] for line in told if line["example"] == row) for row in range(len(prompts))]
    assert problems[0] == "clean has 4 tokens, corrupt 5"
    assert "target is 2 tokens: 'w8', 'w7'" in problems[1]
    assert "target and distractor begin with the same token 'w8'" in problems[1]
    assert "' nowhere' is unknown to the tokenizer" in problems[2]
    assert "read together, prompt and target are cut otherwise" in problems[3]
    assert problems[4] == "no target is named"
    assert found.tables["prompts"][4]["says"] is None
    assert found.scalars["with problems"] == 5
    assert found.scalars["pairs"] == 2 and found.scalars["pairs ready to patch"] == 0
    assert np.isnan(found.arrays["rank"].values[4]) and any("NaN" in note for note in found.notes)


def test_the_clean_side_of_a_set_of_pairs_is_asked_and_the_corrupt_side_compared(
    induction: Model, tmp_path: Path
) -> None:
    words = induction.tokenizer.convert_ids_to_tokens(range(5, 13))
    clean, corrupt = " ".join([*words[:5], words[0]]), " ".join([*words[:5], words[3]])
    row = {
        "clean": clean,
        "corrupt": corrupt,
        "target": f" {words[1]}",
        "distractor": f" {words[4]}",
        "corruption": "c",
    }
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row), encoding="utf-8")
    prompts = Prompts.read(tmp_path / "pairs.jsonl")
    assert (prompts[0].text, prompts[0].meta) == (clean, {"corrupt": corrupt, "corruption": "c"})
    found = task_accuracy(induction, prompts)
    line = found.tables["prompts"][0] | found.tables["details"][0]
    assert line["difference"] == pytest.approx(-line["corrupt difference"], abs=1e-3)
    assert line["difference"] > 5
    assert found.scalars["pairs ready to patch"] == 1


def digits(clean: str, corrupt: str, target: str, distractor: str) -> Prompt:
    return Prompt(clean, target, distractor, {"corrupt": corrupt})


def test_numbers_that_pairs_compare_at_one_digit_are_no_problem() -> None:
    model = digit_model()
    prompts = Prompts.of(
        digits("2 + 6 =", "1 + 6 =", " 8", " 7"),
        digits("9 + 9 =", "9 + 6 =", " 18", " 15"),
        digits("from 1147 to 11", "from 1101 to 11", "86", "33"),
        digits("9 + 9 =", "9 + 0 =", " 18", " 9"),
    )
    found = task_accuracy(model, prompts)
    assert {row["example"] for row in found.tables["problems"]} == {3}
    assert [row["aligned"] for row in found.tables["details"]] == [True, True, True, False]
    assert found.scalars["pairs ready to patch"] <= 3
    for prompt, row, detail in zip(prompts, found.tables["prompts"], found.tables["details"], strict=True):
        for text, told in ((prompt.text, row["difference"]), (prompt.meta["corrupt"], detail["corrupt difference"])):
            whole = [model.tokenizer(text + answer)["input_ids"] for answer in (prompt.target, prompt.distractor)]
            first, second = (chain(ids, len(model.tokenizer(text)["input_ids"])) for ids in whole)
            assert told == pytest.approx(first - second, abs=1e-4), "the answers are scored whole"


@torch.no_grad()
def chain(ids: list[int], start: int) -> float:
    """Log probability of the tokens from `start` on, each from a whole pass of its own, in the model of digits."""
    twin, bos = plain_twin("Llama"), digit_model().tokenizer.bos_token_id
    steps = [
        twin(torch.tensor([[bos, *ids[:place]]]), use_cache=False).logits[0, -1] for place in range(start, len(ids))
    ]
    return sum(float(step.double().log_softmax(-1)[ids[start + at]]) for at, step in enumerate(steps))


@pytest.mark.parametrize("name", ["capitals", "opposites", "plurals", "indirect_objects", "greater_than", "sums"])
def test_every_bundled_set_is_one_of_targets_and_distractors(name: str) -> None:
    for prompt in Prompts.read(name):
        assert prompt.target
        assert prompt.distractor and prompt.distractor != prompt.target


def test_permuting_answers_that_are_all_alike_changes_nothing_and_others_hit_by_chance() -> None:
    assert (permuted_shares(np.ones((4, 4), dtype=np.float32), seed=0) == 1).all()
    hits = permuted_shares(np.eye(10, dtype=np.float32), seed=0)
    assert hits.mean() == pytest.approx(0.1, abs=0.02), "a random permutation has one fixed point on average"


def test_answers_that_begin_alike_have_no_baseline_of_first_tokens() -> None:
    prompts = Prompts.of(*(Prompt(text, " w8 w7", " w8 w9") for text in TEXTS))
    found = task_accuracy(small_model("Llama"), prompts)
    assert np.isnan(found.arrays["permuted"].values[1])
    assert any("permuted is NaN" in note for note in found.notes)


def test_a_question_that_is_asked_twice_counts_once(induction: Model) -> None:
    prompts = [*repeated(induction, 2, known=True), *repeated(induction, 1, known=False)]
    found = task_accuracy(induction, Prompts([*prompts, prompts[0], prompts[0]]))
    assert found.scalars["says"] == pytest.approx(2 / 3)
    assert len(found.tables["prompts"]) == 5
    assert "5 rows ask 3 questions; the shares count each question once." in found.notes


def test_runs_repeat_and_survive_saving(induction: Model, tmp_path: Path) -> None:
    prompts = repeated(induction, 3, known=True)
    first, second = (task_accuracy(induction, prompts, seed=1) for _ in range(2))
    assert first.arrays == second.arrays and first.tables == second.tables
    assert Result.load(first.save(tmp_path / "run")) == first


@pytest.mark.parametrize(
    "options, message",
    [({}, "no prompt names a target"), ({"target": " w8", "new_tokens": 0}, "new_tokens must be 1 or more, found 0")],
)
def test_refuses_what_it_cannot_score(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task_accuracy(small_model("Llama"), Prompts.of("w5 w6"), **options)


@pytest.mark.real
def test_a_real_model_knows_most_opposites_and_its_digits_fit(real_model: Model) -> None:
    found = task_accuracy(real_model, Prompts(Prompts.read("opposites")[:20]), new_tokens=2)
    assert found.scalars["prefers"] > 0.6
    assert found.arrays["permuted"].values[0] < 0.2
    assert found.passed
    for name in ("sums", "greater_than"):
        numbers = task_accuracy(real_model, Prompts(Prompts.read(name)[:4]), new_tokens=2)
        assert numbers.tables["problems"] == []
        assert numbers.scalars["pairs"] == 4
