"""Back-patching finds exactly the planted pairs, by the sweep as by plain PyTorch hooks, and can refuse."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planting import changed, ids_of, outputs_of, planted, run
from two_hops import late_hop, planted_hops

from workbench.analyses.back_patching import back_patching
from workbench.analyses.back_patching.patching import looped_ids
from workbench.analyses.back_patching.scoring import hold_out
from workbench.catalog import CATALOG
from workbench.edit import patch
from workbench.hops import TwoHop, TwoHops, mentions
from workbench.model import Model
from workbench.questions import build_cases, other_names
from workbench.reproduce import command_line, python_lines
from workbench.result import Result
from workbench.tracer import trace
from workbench.words import Site

TRUTH = planted("late_hop").truth
IMAGINE = TwoHop(
    name="imagine",
    prompt="The mother of the singer of the song Imagine is",
    entity="Imagine",
    first="the singer of the song Imagine",
    bridge=("John Lennon",),
    answer=("Julia Lennon",),
    first_hop="The singer of the song Imagine is",
    second_hop="The mother of John Lennon is",
)


@cache
def found(**knobs: Any) -> Result:
    return back_patching(late_hop(), planted_hops(), **knobs)


@pytest.mark.parametrize("pairs", ["later", "all"])
def test_exactly_the_planted_pairs_succeed_at_the_entity_and_none_at_the_end(pairs: str) -> None:
    result = found() if pairs == "later" else found(pairs="all", hops_used=1, control_draws=0)
    success = result.named("success").values
    assert len(success) == (len(TRUTH["questions"]) if pairs == "later" else 1)
    for example in success:
        assert np.argwhere(example[0] == 1).tolist() == TRUTH["success"]
        assert not np.any(example[1] == 1)
    sources, targets = np.indices(success.shape[2:])
    tried = sources > targets if pairs == "later" else sources != targets
    assert np.array_equal(np.isfinite(success), np.broadcast_to(tried, success.shape))
    share = result.named("share").values
    assert np.array_equal(share, success.mean(0), equal_nan=True)


def test_the_controls_are_what_the_plan_of_the_model_makes_them() -> None:
    rates = {(row["position"], row["rate of"]): row["rate"] for row in found().tables["controls"]}
    assert rates["entity", "back-patch"] == 1
    assert rates["entity", "held-out pair"] == 1
    assert found().tables["controls"][4]["pairs"] == "L3 to L0, L3 to L0"
    for position in ("entity", "last"):
        assert rates[position, "other answers"] == 0, "the model never says the capital of another home"
        assert rates[position, "other prompt"] == 0, "another person's stream gives another person's capital"
    assert rates["last", "back-patch"] == rates["last", "held-out pair"] == 0
    assert found().scalars["entity_back_patch"] == 1
    assert "6 of 6 questions name the answer (other answers 0%" in found().finding


def test_the_self_checks_pass_and_count_something() -> None:
    assert found().passed
    assert [check.name.split()[1] for check in found().checks] == ["72", "4"]


@pytest.mark.parametrize(
    "position, source, target", [("entity", 3, 0), ("entity", 5, 0), ("entity", 4, 2), ("last", 4, 1)]
)
def test_plain_hooks_on_the_plain_model_say_the_same(position: str, source: int, target: int) -> None:
    """The slow definition: no cache, no sweep, no workbench; only at the prompt's position is the stream changed."""
    built, hop = planted("late_hop"), planted_hops()[1]
    ids = ids_of(built, hop.prompt)
    place = {"entity": ids[0].tolist().index(built.tokenizer.convert_tokens_to_ids(hop.entity)), "last": -1}[position]
    place %= ids.shape[1]
    layers = built.model.model.layers
    (stream,) = outputs_of(built, ids, [layers[source]])

    def put(out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[:, place] = stream[place]
        return out

    made: list[int] = []
    with changed(layers[target], put):
        while len(made) < 10 and built.tokenizer.eos_token_id not in made:
            made.append(
                int(run(built, torch.cat([ids, torch.tensor([made], dtype=torch.long)], 1)).logits[-1].argmax())
            )
    said = found().named("said_ids").values[1, ["entity", "last"].index(position), source, target]
    assert [index for index in said.tolist() if index >= 0] == made


def test_a_layer_patched_with_itself_says_what_the_plain_prompt_says() -> None:
    said = found().named("said_ids").values
    for example, row in enumerate(found().tables["questions"]):
        plain = late_hop().tokenizer(row["prompt said"], add_special_tokens=False)["input_ids"]
        for place, layer in np.ndindex(2, late_hop().shape.n_layers):
            assert said[example, place, layer, layer, : len(plain)].tolist() == plain


def test_the_tables_tell_what_was_said() -> None:
    first = found().tables["examples"][0]
    assert (first["name"], first["position"], first["plain"]) == ("ann", "entity", "norland")
    assert (first["first pair"], first["patched"], first["successes"], first["pairs"]) == ("L3 to L0", "ardun", 3, 15)
    spoken = [row for row in found().tables["generations"] if row["name"] == "ann" and row["position"] == "entity"]
    assert [row["names the answer"] for row in spoken] == [True] * 3 + [False] * 4
    assert all(("ardun" in row["said"]) == row["names the answer"] for row in spoken)
    question = found().tables["questions"][0]
    assert question["known"] and question["first_hop right"] and not question["entity_shortcut right"]


def test_no_prompt_that_passes_is_a_result_with_its_reason() -> None:
    nothing = found(tested="correct")
    assert nothing.scalars == {"questions": 6, "patched": 0}
    assert "None of 6 questions passes the filters" in nothing.finding
    assert (
        "of 6 both hops are known, of 6 also without a shortcut, and 0 of these are answered right" in nothing.finding
    )
    assert len(nothing.tables["questions"]) == 6


def test_shortcuts_and_unknown_hops_are_left_out_unless_all_are_tested() -> None:
    ann, bob, cleo = planted_hops()[:3]
    hops = TwoHops.of(
        replace(ann, entity_shortcut="the capital of norland is"),
        replace(bob, first_hop="the capital of sorvia is"),
        cleo,
    )
    small: dict[str, Any] = {"positions": "entity", "control_draws": 0, "new_tokens": 2}
    chosen = back_patching(late_hop(), hops, **small)
    assert [row["name"] for row in chosen.tables["examples"]] == ["cleo"]
    assert chosen.named("success").values.shape[:2] == (1, 1)
    without = [row["rate of"] for row in chosen.tables["controls"] if row["rate"] is None]
    assert without == ["random vector", "other prompt", "held-out pair"]
    assert any("No rate of held-out pair, other prompt, random vector" in note for note in chosen.notes)
    everyone = back_patching(late_hop(), hops, tested="all", **small)
    assert [row["name"] for row in everyone.tables["examples"]] == ["ann", "bob", "cleo"]


def test_the_same_seed_gives_the_same_controls_and_the_disk_keeps_them(tmp_path: Path) -> None:
    first, again = (back_patching(late_hop(), planted_hops(), hops_used=2, new_tokens=2) for _ in range(2))
    assert again.arrays == first.arrays
    assert again.tables == first.tables
    assert Result.load(again.save(tmp_path / "run")) == again
    for view in range(len(again.views)):
        assert again.figure(view).to_json() == first.figure(view).to_json()


def test_held_out_pairs_are_chosen_without_the_prompts_they_are_tried_on() -> None:
    """Every prompt succeeds at a pair of its own: chosen elsewhere, no pair is of use."""
    success = np.full((6, 4, 4), np.nan)
    pairs = [(source, target) for source in range(4) for target in range(source)]
    for example, own in enumerate(pairs):
        for pair in pairs:
            success[(example, *pair)] = pair == own
    hits, chosen = hold_out(success, np.random.default_rng(0))
    assert hits.tolist() == [0] * 6
    assert len(chosen) == 2 and set(chosen) <= set(pairs)
    assert hold_out(success[:1], np.random.default_rng(0))[1] == []


def test_wrong_answers_are_neither_the_answer_nor_the_bridge() -> None:
    ann, bob, *_ = planted_hops()
    same = replace(bob, name="same", answer=("ARDUN", "the city"))
    bridge = replace(bob, name="bridge", answer=("Norland",))
    assert other_names(ann, [ann, bob, bob, same, bridge], "answer") == [bob.answer]


@pytest.mark.parametrize(
    ("text", "words", "paper"),
    [("He is in Rome.", True, True), ("an aroma", False, True), ("ROME-born", True, True), ("", False, False)],
)
def test_names_match_as_words_or_as_in_the_paper_anywhere(text: str, words: bool, paper: bool) -> None:
    assert mentions(text, ["Rome", "roma"]) == words
    assert mentions(text, ["Rome", "roma"], whole_words=False) == paper


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "first is not there": (
        {"first": "the band of Imagine"},
        "'the band of Imagine' must stand exactly once in .* found 0",
    ),
    "first is there again": ({"first": "the"}, "must stand exactly once in .* found 3"),
    "answer in the prompt": ({"answer": ("Yoko", "imagine")}, "the answer 'Yoko / imagine' stands in the prompt"),
    "entity elsewhere": ({"entity": "mother"}, "the entity 'mother' must stand in the part that describes the bridge"),
    "answer of no length": ({"answer": ("",)}, "every alias of the answer has two characters or more, found ''"),
    "empty alias": ({"answer": ("Julia", " ")}, "every alias of the answer has two characters or more, found ' '"),
    "alias of one character": ({"bridge": ("J",)}, "every alias of the bridge has two characters or more, found 'J'"),
    "no alias": ({"bridge": ()}, "every alias of the bridge has two characters or more, found none"),
    "no first hop": ({"first_hop": " "}, "first_hop is empty"),
}


@pytest.mark.parametrize("change, message", BAD.values(), ids=BAD)
def test_a_bad_question_is_refused_in_one_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as told:
        replace(IMAGINE, **change)
    assert "two-hop prompt 'imagine'" in str(told.value) and "\n" not in str(told.value)


def test_a_part_that_ends_inside_a_token_is_refused() -> None:
    inside = replace(planted_hops()[0], entity="an", first="the home of an")
    with pytest.raises(ValueError, match=r"two-hop prompt 'ann', 'the home of an': .* do not end where tokens end"):
        back_patching(late_hop(), TwoHops.of(inside))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"new_tokens": 0}, "1 token or more, 0 were asked for"),
        ({"hops_used": -1}, "hops_used is 0 for all"),
        ({"control_draws": -1}, "control_draws is 0 for no such controls"),
    ],
)
def test_bad_numbers_are_refused(knobs: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        back_patching(late_hop(), planted_hops(), **knobs)


def test_questions_are_read_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "hops.jsonl"
    rows = planted_hops().describe()["two_hops"]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert TwoHops.read(file) == planted_hops()
    file.write_text(json.dumps({**rows[0], "bridge": 3}))
    with pytest.raises(ValueError, match="bridge is a list of texts, found 3"):
        TwoHops.read(file)
    with pytest.raises(ValueError, match="no two-hop prompt was given"):
        TwoHops.of()


def test_the_result_says_how_to_make_it_again() -> None:
    result = replace(found(), inputs={"hops": TwoHops.of(IMAGINE).describe()})
    header, code = python_lines(result).split("\n\n", 1)
    assert "TwoHop" in header and "TwoHops" in header
    names: dict[str, Any] = {
        "TwoHop": TwoHop,
        "TwoHops": TwoHops,
        "load": lambda *given, **options: given,
        "run": lambda *given, **knobs: given,
    }
    exec(code, names)
    assert names["hops"] == TwoHops.of(IMAGINE)
    command = command_line(result)
    assert command is not None and "--hops=hops.jsonl" in command and "cat > hops.jsonl" in command


def test_the_cost_grows_with_pairs_and_controls() -> None:
    costs = [
        CATALOG["back_patching"].cost(late_hop(), planted_hops(), **knobs)
        for knobs in ({"control_draws": 0}, {}, {"pairs": "all"})
    ]
    assert all(cost is not None for cost in costs)
    assert costs[0].tokens < costs[1].tokens < costs[2].tokens


@pytest.mark.real
def test_the_real_model_says_what_the_plain_loop_says(real_model: Model) -> None:
    result = back_patching(
        real_model, TwoHops.of(IMAGINE), tested="all", positions="last", control_draws=0, new_tokens=5
    )
    assert result.passed, result.checks
    said = result.named("said_ids").values[0, 0]
    tokens = real_model.tokens(IMAGINE.prompt)
    (case,) = build_cases(real_model, TwoHops.of(IMAGINE), ("last",))
    traced = trace(real_model, tokens, "resid_post")
    for source, target in ((17, 0), (9, 4), (12, 11)):
        row = [(Site("resid_post", target, pos=-1), patch(traced[Site("resid_post", source, pos=-1)][0]))]
        assert said[source, target][said[source, target] >= 0].tolist() == list(looped_ids(real_model, case, row, 5))
    assert result.named("share").values.shape == (1, 18, 18)
