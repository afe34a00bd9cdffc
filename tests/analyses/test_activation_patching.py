"""Activation patching finds planted heads and positions, equals patching by hand on plain models, and can refuse."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import SERVED
from planting import planted
from small_models import plain_twin, small_model
from torch import Tensor

from workbench.__main__ import answer
from workbench.analyses.activation_patching import activation_patching
from workbench.analyses.direct_logit_attribution import direct_logit_attribution
from workbench.catalog import CATALOG
from workbench.model import Model, load
from workbench.pairs import Pair, Pairs
from workbench.prompts import Prompt, Prompts
from workbench.result import Result

ROADS = ("GPT2", "Llama", "Gemma2", "Gemma3", "GPTNeoX parallel")
MEASURES = ("direct", "denoise", "noise", "zero", "mean", "resample")
ESTIMATES = ("gradient at corrupt", "gradient at clean", "integrated gradients")

SAID = Pairs.of(
    Pair("baba bebe bibi bobo baba", "baba dada bibi bobo baba", "bebe", "dada"),
    Pair("fafa fefe fifi fofo fafa", "fafa dada fifi fofo fafa", "fefe", "dada"),
)
"""What follows the repeated word differs."""

SEEN = Pairs.of(
    Pair("baba bebe bibi bobo baba", "dada bebe bibi bobo baba", "bebe", "bobo"),
    Pair("fafa fefe fifi fofo fafa", "dada fefe fifi fofo fafa", "fefe", "fofo"),
)
"""Whether the last word was seen before differs."""

HOMES = Pairs.of(
    Pair("the home of ann is", "the home of bob is", "norland", "sorvia"),
    Pair("the home of cleo is", "the home of dan is", "tamrek", "ulvania"),
)

WORDS = Pairs.of(
    Pair("w5 w6 w7 w8 w9", "w5 w16 w7 w18 w9", "w20", "w21"),
    Pair("w15 w26 w37 w48 w59", "w15 w36 w37 w38 w59", "w22", "w23"),
)
"""Two changed words each, for random models."""


@cache
def hooked(name: str) -> Model:
    torch.set_num_threads(1)  # the models are so small that more threads only wait for each other
    return load(f"planted:{name}")


@cache
def found(name: str, pairs: Pairs, **knobs: Any) -> Result:
    return activation_patching(hooked(name), pairs, **knobs)


def measured(result: Result, name: str, array: str = "head") -> np.ndarray:
    """[layer, place] of one measure."""
    named = result.named(array)
    return named.values[named.names("component").index(name)]


@pytest.mark.parametrize("measure", [*MEASURES[:3], *ESTIMATES])
def test_the_head_that_says_the_answer_dominates_patching_and_attribution(measure: str) -> None:
    (_, copier) = planted("induction").truth["pair"]
    shares = measured(found("induction", SAID), measure)
    assert np.argwhere(np.abs(shares) > 1e-3).tolist() == [copier]
    assert shares[tuple(copier)] == pytest.approx(0.5 if measure == "direct" else 1, abs=0.01)


def test_measures_disagree_where_a_head_helps_without_speaking() -> None:
    """Whether the word was seen before is told by the previous-token head, which writes no answer."""
    previous, copier = planted("induction").truth["pair"]
    result = found("induction", SEEN)
    for measure in ("denoise", "noise"):
        assert np.argwhere(np.abs(measured(result, measure)) > 1e-3).tolist() == [previous, copier]
        assert measured(result, measure)[[0, 1], [0, 1]] == pytest.approx([1, 1], abs=1e-3)
    assert np.argwhere(np.abs(measured(result, "direct")) > 1e-3).tolist() == [copier]
    widest = next(row for row in result.tables["agreement"] if (row["measure"], row["other"]) == ("direct", "denoise"))
    assert widest["widest apart at"] == "L{}.H{}".format(*previous)
    assert (widest["measure there"], widest["other there"]) == (0, pytest.approx(1, abs=1e-3))
    assert widest["spearman"] < 0.9


def test_a_gradient_at_one_end_misses_what_is_saturated_and_the_path_finds_it() -> None:
    """In the corrupt run no small step makes the copier attend: its softmax is flat there."""
    previous = tuple(planted("induction").truth["pair"][0])
    result = found("induction", SEEN, steps=200, where="heads", ablations=False)
    assert measured(result, "denoise")[previous] == pytest.approx(1, abs=1e-3)
    assert abs(measured(result, "gradient at corrupt")[previous]) < 0.01
    assert abs(measured(result, "gradient at clean")[previous]) < 0.01
    assert measured(result, "integrated gradients")[previous] > 0.3
    assert result.scalars["integrated_total"] == pytest.approx(1, abs=0.05)


def test_positions_show_where_the_home_is_known_and_when_it_is_moved() -> None:
    """An MLP finds the home at the person, the mover brings it to the end."""
    truth = planted("late_hop").truth
    result = found("late_hop", HOMES)
    assert result.named("resid_pre").names("pos") == ("4: first changed", "5: is")
    (mover,) = truth["mover"]
    for measure in ("denoise", "noise"):
        stream = measured(result, measure, "resid_pre")
        assert stream[:, 0] == pytest.approx([1] * (mover[0] + 1) + [0], abs=1e-3)
        assert stream[:, 1] == pytest.approx([0] * (mover[0] + 1) + [1], abs=1e-3)
        mlp = measured(result, measure, "mlp_out")
        assert np.argwhere(np.abs(mlp) > 1e-3).tolist() == [[truth["first_hop_layer"], 0]]
        attention = measured(result, measure, "attn_out")
        assert np.argwhere(np.abs(attention) > 1e-3).tolist() == [[mover[0], 1]]
        assert np.argwhere(np.abs(measured(result, measure)) > 1e-3).tolist() == [mover]
    assert result.scalars["arrived_at_layer"] == mover[0] + 1


def test_the_finding_tells_the_numbers() -> None:
    result = found("late_hop", HOMES)
    assert "Over 2 pairs the logit difference is" in result.finding
    assert "L4.H0 brings most back when put into the corrupt run (+1.00)" in result.finding
    assert "denoise and noise rank alike to 1.00 (Spearman)" in result.finding
    assert result.tables["heads"][0]["head"] == result.tables["ranks"][0]["head"] == "L4.H0"
    assert result.tables["ranks"][0]["noise"] == 1


class ByHand:
    """A plain Hugging Face model of the small architectures, patched by forward hooks of its own modules."""

    def __init__(self, name: str) -> None:
        self.twin = plain_twin(name)
        self.parts = next(one for one in SERVED if one.name == name).parts
        self.heads = self.twin.config.num_attention_heads

    def module(self, layer: int, path: str) -> torch.nn.Module:
        return self.twin.get_submodule(".".join(filter(None, [self.parts.blocks, str(layer), path])))

    @contextmanager
    def hooked(self, layer: int, kind: str, change: Any) -> Iterator[None]:
        """Hand an activation to a function and go on with what it returns."""
        module = self.module(layer, {"z": self.parts.z, "attn_out": self.parts.attn_out, "resid_pre": ""}[kind])

        def before(_module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            if args:
                return (change(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

        def after(_module: Any, _args: Any, out: Any) -> Any:
            return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)

        if kind == "attn_out":
            handle = module.register_forward_hook(after)
        else:
            handle = module.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    @torch.no_grad()
    def metric(self, ids: list[int], target: int, distractor: int) -> float:
        logits = self.twin(torch.tensor([ids]), use_cache=False).logits[0, -1]
        return float(logits[target] - logits[distractor])

    def kept(self, ids: list[int], layer: int, kind: str) -> Tensor:
        seen = []
        with self.hooked(layer, kind, lambda value: seen.append(value) or value):
            self.metric(ids, 0, 0)
        return seen[0]

    def patched(self, ids: list[int], layer: int, kind: str, put: Any, pair: tuple[int, int]) -> float:
        with self.hooked(layer, kind, put):
            return self.metric(ids, *pair)


def at_head(head: int, heads: int, new: Tensor | float, since: int = 0) -> Any:
    """Write what a head gives from one position on."""

    def put(value: Tensor) -> Tensor:
        width = value.shape[-1] // heads
        part, value = slice(head * width, (head + 1) * width), value.clone()
        value[:, since:, part] = new if isinstance(new, float) else new[:, since:, part]
        return value

    return put


def at_pos(pos: int, new: Tensor) -> Any:
    def put(value: Tensor) -> Tensor:
        value = value.clone()
        value[:, pos] = new[:, pos]
        return value

    return put


@cache
def of_random(name: str) -> Result:
    """Random models hardly tell two prompts apart, which here is no harm."""
    return activation_patching(small_model(name), WORDS, least_difference=0)


@pytest.mark.parametrize("name", ROADS)
def test_effects_are_those_of_plain_hooks_on_the_plain_model(name: str) -> None:
    model, hand, layer, result = small_model(name), ByHand(name), 1, of_random(name)
    for example, pair in enumerate(WORDS):
        clean, corrupt = (model.tokens(text).ids[0].tolist() for text in (pair.clean, pair.corrupt))
        tokens = model.token(pair.target), model.token(pair.distractor)
        ends = [hand.metric(ids, *tokens) for ids in (clean, corrupt)]
        z = {"clean": hand.kept(clean, layer, "z"), "corrupt": hand.kept(corrupt, layer, "z")}
        for head in range(hand.heads):
            put = {
                "denoise": (corrupt, at_head(head, hand.heads, z["clean"])),
                "noise": (clean, at_head(head, hand.heads, z["corrupt"])),
                "zero": (clean, at_head(head, hand.heads, 0.0, since=int(model.prepend_bos))),
            }
            for measure, (ids, change) in put.items():
                value = hand.patched(ids, layer, "z", change, tokens)
                expected = value - ends[1] if measure == "denoise" else ends[0] - value
                assert raw(result, measure)[example, layer, head] == pytest.approx(expected, abs=1e-5), (measure, head)
        for kind in ("attn_out", "resid_pre"):
            own = hand.kept(clean, layer, kind)
            grid = raw(result, "denoise", f"{kind}_raw")[example, layer]
            for column, pos in enumerate(range(2, 6)):
                value = hand.patched(corrupt, layer, kind, at_pos(pos, own), tokens)
                assert grid[column] == pytest.approx(value - ends[1], abs=1e-5), (kind, pos)


@pytest.mark.parametrize("name", ROADS)
def test_the_self_checks_pass_and_test_something(name: str) -> None:
    result = of_random(name)
    assert result.passed, result.checks
    assert [check.name for check in result.checks] == [
        "a run patched with itself keeps its logits",
        "the whole stream of the other run gives the other run",
        "6 sampled patches by the plain loop",
    ]
    assert result.checks[0].value == 0
    assert set(result.named("head").names("component")) == {*MEASURES, *ESTIMATES, "random pair"}


@pytest.mark.parametrize("name", ROADS)
def test_a_gradient_is_the_slope_of_a_small_part_of_the_patch(name: str) -> None:
    model, hand, layer, part = small_model(name), ByHand(name), 1, 0.02
    result = activation_patching(model, Pairs.of(WORDS[0]), least_difference=0, where="heads", steps=0)
    clean, corrupt = (model.tokens(text).ids[0].tolist() for text in (WORDS[0].clean, WORDS[0].corrupt))
    tokens = model.token(WORDS[0].target), model.token(WORDS[0].distractor)
    way = hand.kept(clean, layer, "z") - hand.kept(corrupt, layer, "z")
    for measure, ids in (("gradient at corrupt", corrupt), ("gradient at clean", clean)):
        start = hand.kept(ids, layer, "z")
        for head in range(hand.heads):
            after, before = (
                hand.patched(ids, layer, "z", at_head(head, hand.heads, start + step * way), tokens)
                for step in (part, -part)
            )
            slope = (after - before) / (2 * part)
            assert raw(result, measure)[0, layer, head] == pytest.approx(slope, abs=2e-5, rel=1e-2)


def raw(result: Result, name: str, array: str = "head_raw") -> np.ndarray:
    """[example, layer, place] of one measure, in units of the metric."""
    named = result.named(array)
    return named.values[:, named.names("component").index(name)]


@pytest.mark.parametrize("name", ["GPT2", "Gemma2"])
def test_integrated_gradients_add_up_to_the_difference_with_many_steps(name: str) -> None:
    result = activation_patching(small_model(name), WORDS, least_difference=0, where="positions", steps=100)
    total = raw(result, "integrated gradients", "resid_pre_raw")[:, 0].sum(-1)
    gaps = [row["difference"] for row in result.tables["pairs"]]
    assert total == pytest.approx(gaps, rel=1e-3)
    assert result.scalars["integrated_total"] == pytest.approx(1, abs=1e-3)


def test_the_direct_effect_is_that_of_direct_logit_attribution() -> None:
    model = small_model("Gemma3")
    result = activation_patching(model, WORDS, least_difference=0, where="heads", steps=0, ablations=False)
    prompts = Prompts.of(*(Prompt(pair.clean, pair.target, pair.distractor) for pair in WORDS))
    expected = direct_logit_attribution(model, prompts).named("head").values
    assert measured(result, "direct") * result.scalars["difference"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["q", "k", "v", "pattern"])
def test_other_parts_of_a_head_are_patched_too(kind: str) -> None:
    """In `late_hop` both runs look at the same place: only the value that is moved differs."""
    result = found("late_hop", HOMES, head_site=kind, where="heads")
    axis = "kv_head" if kind in ("k", "v") else "head"
    assert result.named("head").axes == ("component", "layer", axis)
    assert set(result.named("head").names("component")) == {"denoise", "noise", *ESTIMATES, "random pair"}
    assert result.passed
    expected = [[4, 0]] if kind == "v" else []
    for measure in ("denoise", "noise", "integrated gradients"):
        assert np.argwhere(np.abs(measured(result, measure)) > 1e-3).tolist() == expected


def test_a_head_is_patched_at_every_position_by_itself() -> None:
    result = found("late_hop", HOMES, where="heads at positions")
    assert result.named("head_at").axes == ("component", "layer", "head", "pos")
    for measure in ("denoise", "noise"):
        shares = measured(result, measure, "head_at")
        assert np.argwhere(np.abs(shares) > 1e-3).tolist() == [[4, 0, 1]]  # at the last token alone
        assert shares[4, 0, 1] == pytest.approx(measured(result, measure)[4, 0], abs=1e-3)
    best = result.tables["heads at positions"][0]
    assert (best["head"], best["position"]) == ("L4.H0", "5: is")
    for measure in ESTIMATES:
        assert measured(result, measure, "head_at").sum(-1) == pytest.approx(measured(result, measure), abs=1e-5)
    assert result.passed


def test_intervals_hold_their_mean_and_raw_effects_make_it() -> None:
    pairs = Pairs.of(*WORDS, Pair("w60 w61 w62 w63 w64", "w60 w65 w62 w66 w64", "w24", "w25"))
    result = activation_patching(small_model("Llama"), pairs, least_difference=0)
    gap = np.mean([row["difference"] for row in result.tables["pairs"]])
    mean = result.named("head").values
    assert result.named("head_raw").values.mean(0) / gap == pytest.approx(mean, abs=1e-5)
    low, high = (result.named(f"head_{end}").values for end in ("lower", "upper"))
    assert (low <= mean + 1e-6).all() and (mean <= high + 1e-6).all()
    assert (high - low).max() > 0.01


def test_pairs_of_other_shapes_are_put_together_by_role() -> None:
    longer = Pair("w60 w61 w62 w63 w64 w65", "w60 w67 w62 w63 w64 w65", "w24", "w25")
    result = activation_patching(small_model("Llama"), Pairs.of(*WORDS, longer), least_difference=0)
    stream = result.named("resid_pre")
    assert stream.names("pos") == ("first changed", "between", "last changed", "next", "further", "last")
    alone = activation_patching(small_model("Llama"), Pairs.of(longer), least_difference=0)
    by_role, by_pos = (raw(one, "denoise", "resid_pre_raw") for one in (result, alone))
    assert np.isnan(by_role[2, :, 1:3]).all() and np.isnan(by_role[:2, :, 3:5]).all()
    assert by_role[2][:, 0] == pytest.approx(by_pos[0][:, 0], abs=1e-6)
    assert by_role[2][:, 4] == pytest.approx(by_pos[0][:, 2:4].mean(1), abs=1e-6)
    gap = result.scalars["difference"]
    assert measured(result, "denoise", "resid_pre")[:, 1] == pytest.approx(by_role[:2, :, 1].mean(0) / gap, abs=1e-5)
    assert any("put together by role" in note for note in result.notes)
    assert any("1 of 3 pairs have no other pair of their length" in note for note in result.notes)


@pytest.mark.parametrize("metric", ["logit", "probability"])
def test_other_metrics_need_no_distractor(metric: str) -> None:
    pairs = Pairs.of(*(replace(pair, distractor="") for pair in HOMES))
    result = found("late_hop", pairs, metric=metric, where="heads")
    assert measured(result, "denoise")[4, 0] == pytest.approx(1, abs=1e-3)
    assert result.named("head_raw").unit == ("logits" if metric == "logit" else "probability")
    assert ("direct" in result.named("head").names("component")) == (metric == "logit")
    assert result.passed


def test_half_precision_finds_the_same_head_within_its_own_tolerance() -> None:
    result = activation_patching(load("planted:late_hop", dtype="bfloat16"), HOMES, where="heads")
    assert result.passed, result.checks
    assert result.scalars["top_denoise"] == result.scalars["top_noise"] == "L4.H0"
    assert measured(result, "integrated gradients")[4, 0] == pytest.approx(1, abs=0.1)


def test_a_single_pair_has_no_interval_and_says_so() -> None:
    result = found("late_hop", Pairs.of(HOMES[0]), where="heads", steps=0)
    assert "head_lower" not in result.arrays
    assert "resample" not in result.named("head").names("component")
    assert any("A single pair has no interval" in note for note in result.notes)


def test_pairs_are_chosen_by_corruption_and_misfits_may_be_skipped() -> None:
    misfit = Pair("the home of ann is", "the home is", "norland", "sorvia", "shorter")
    pairs = Pairs.of(*HOMES, misfit)
    small: dict[str, Any] = {"where": "heads", "ablations": False, "steps": 0}
    assert found("late_hop", pairs, **small).scalars["pairs"] == 2
    assert found("late_hop", pairs, pairs_used=1, **small).scalars["pairs"] == 1
    skipped = found("late_hop", pairs, corruption="all", unfit="skip", **small)
    assert skipped.scalars["pairs"] == 2
    assert any("1 pairs were skipped, the first because: pair 'the home of ann is'" in note for note in skipped.notes)
    with pytest.raises(ValueError, match="none of 1 pairs fits planted:late_hop, the first one because: pair"):
        found("late_hop", pairs, corruption="shorter", unfit="skip")
    with pytest.raises(ValueError, match="no pair has the corruption 'longer': there are '', 'shorter'"):
        found("late_hop", pairs, corruption="longer")


BAD: dict[str, tuple[Pair, dict[str, Any], str]] = {
    "lengths": (replace(HOMES[0], corrupt="home of bob is"), {}, "clean has 6 tokens .* and corrupt has 5, .*'home'"),
    "several tokens": (replace(HOMES[0], target="the home"), {}, r"'the home' is 2 tokens .*\['the', 'home'\]"),
    "no distractor": (replace(HOMES[0], distractor=""), {}, "no distractor to take a logit difference with"),
    "too close": (
        Pair("the home of ann is", "is home of ann is", "norland", "sorvia"),
        {},
        "too close to measure effects as shares of their difference: the difference is .* for clean and .* for corrupt",
    ),
    "steps": (HOMES[0], {"steps": -1}, "steps is 0 for no path, or how many points it has: found -1"),
    "count": (HOMES[0], {"pairs_used": -1}, "pairs_used is 0 for all, or how many: found -1"),
}


@pytest.mark.parametrize("pair, knobs, sentence", BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_sentence(pair: Pair, knobs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as told:
        activation_patching(hooked("late_hop"), Pairs.of(pair), **knobs)
    assert "\n" not in str(told.value)


def test_a_run_repeats_itself_draws_and_survives_the_disk(tmp_path: Path) -> None:
    first = found("late_hop", HOMES)
    again = activation_patching(hooked("late_hop"), HOMES)
    assert (first.arrays, first.tables) == (again.arrays, again.tables)
    loaded = Result.load(first.save(tmp_path / "run"))
    assert loaded == first
    for view in range(len(first.views)):
        assert loaded.figure(view).to_json() == first.figure(view).to_json()


def test_the_command_line_reads_pairs(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    file = tmp_path / "homes.jsonl"
    rows = [json.dumps(row) for row in HOMES.describe()["pairs"]]
    file.write_text("\n".join(rows))
    words = ["run", "activation_patching", "--model=planted:late_hop", f"--pairs={file}", "--where=heads"]
    assert answer(words) == 0
    assert "L4.H0 brings most back" in capsys.readouterr().out.replace("\n", " ")


def test_the_cost_grows_with_what_is_patched() -> None:
    costs = [
        CATALOG["activation_patching"].cost(hooked("late_hop"), HOMES, **knobs)
        for knobs in ({"where": "positions"}, {"where": "heads", "ablations": False}, {})
    ]
    assert 0 < costs[0].tokens < costs[2].tokens
    assert 0 < costs[1].tokens < costs[2].tokens


@pytest.mark.real
def test_estimates_follow_the_exact_effects_of_real_indirect_objects(real_model: Model) -> None:
    result = activation_patching(real_model, Pairs.bundled(), pairs_used=2, where="heads")
    assert result.passed, result.checks
    assert result.scalars["clean"] > 3 > -3 > result.scalars["corrupt"]
    assert result.scalars["top_denoise"] == result.scalars["top_noise"] == "L11.H3"
    rows = [row for row in result.tables["agreement"] if row["other"] in ESTIMATES]
    assert len(rows) == 4
    for row in rows:
        assert row["pearson"] > 0.9, row
        assert row["shared of the largest"] >= 0.7, row
