"""Attention knockout finds exactly the windows that hold the planted mover, and nothing for other tokens."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planting import ids_of, planted, run, without_head
from two_hops import late_hop, planted_hops

from workbench.analyses import attention_knockout
from workbench.analyses.attention_knockout.cutting import window
from workbench.catalog import CATALOG
from workbench.edit import edited
from workbench.hops import TwoHops
from workbench.model import Model
from workbench.result import Result
from workbench.rewiring import cut
from workbench.tracer import trace

TRUTH = planted("late_hop").truth
((MOVER, HEAD),) = TRUTH["mover"]


@cache
def found(**knobs: Any) -> Result:
    return attention_knockout(late_hop(), planted_hops(), **knobs)


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_exactly_the_windows_with_the_mover_matter(reach: int) -> None:
    result = found(reach=reach)
    hit = [abs(layer - MOVER) <= reach for layer in range(late_hop().shape.n_layers)]
    plain = result.named("plain").values[:, 0]
    for key in (0, 1):  # the entity has one token: its last is all of it
        change = result.named("probability").values[:, 0, key] - plain[:, None]
        assert (change[:, hit] < -0.5).all()
        assert abs(change[:, np.logical_not(hit)]).max() < 1e-6
        assert result.named("turned").values[key].tolist() == hit
    assert abs(result.named("change").values[0, 2]).max() < 1e-6, "nothing is read at other tokens"
    assert not result.named("turned").values[2].any()
    assert result.scalars["change_of_others_there"] == pytest.approx(0, abs=1e-6)


def test_a_cut_mover_is_as_good_as_none() -> None:
    """The other road: plain PyTorch with the head's output taken away."""
    built = planted("late_hop")
    for example, hop in enumerate(planted_hops()):
        ids = ids_of(built, hop.prompt)
        said = int(run(built, ids).logits[-1].argmax())
        with without_head(built, MOVER, HEAD):
            silent = float(run(built, ids).logits[-1].softmax(-1)[said])
        assert found().named("probability").values[example, 0, 0, MOVER] == pytest.approx(silent, abs=1e-4)


def test_the_numbers_are_those_of_one_cut_and_one_pass() -> None:
    hop = planted_hops()[3]
    tokens = late_hop().tokens(hop.prompt)
    last, entity = tokens.lengths[0] - 1, tokens.text[0].index(hop.entity)
    for middle in range(6):
        with edited(
            late_hop(), [cut(layer, query=last, key=entity) for layer in window(6, middle, 1) if layer == MOVER]
        ):
            probability = trace(late_hop(), tokens, "logits@-1")["logits@-1"][0].softmax(-1)
        bridge = float(probability[late_hop().token(hop.bridge[0])])
        assert found(reach=1).named("probability").values[3, 1, 0, middle] == pytest.approx(bridge, abs=1e-6)


def test_windows_end_with_the_model() -> None:
    assert [list(window(6, middle, 1)) for middle in (0, 3, 5)] == [[0, 1], [2, 3, 4], [4, 5]]
    assert list(window(6, 2, 9)) == list(range(6))


def test_the_self_checks_pass_and_the_finding_names_the_window() -> None:
    assert found(reach=0).passed
    assert found(reach=0).scalars["strongest_window"] == MOVER
    assert "in layer 4, the probability" in found(reach=0).finding
    assert "another token comes first in 100%" in found(reach=0).finding
    assert "4 sampled cuts" in found().checks[1].name
    assert "layers 0, 1, 2, 3, 5 has no effect" in found().notes[1]


def test_questions_are_chosen_by_what_is_known() -> None:
    assert found(tested="incorrect", hops_used=2).scalars["questions"] == 2
    nothing = found(tested="correct", hops_used=2)
    assert "None of 2 questions is known and answered right" in nothing.finding
    assert nothing.scalars == {"questions": 0}


def test_a_name_that_is_no_word_and_too_few_other_tokens_are_told() -> None:
    ann = planted_hops()[0]
    short = replace(ann, prompt="home ann is", first="home ann", entity="home ann", answer=("Nowhere",))
    result = attention_knockout(late_hop(), TwoHops.of(short), reach=0)
    assert np.isnan(result.named("probability").values[0, 2]).all()
    assert np.isnan(result.named("probability").values[0, 0, 2]).all()
    assert np.isfinite(result.named("probability").values[0, 0, :2]).all()
    assert any("NaN" in note for note in result.notes)


def test_the_same_run_gives_the_same_result_and_the_disk_keeps_it(tmp_path: Path) -> None:
    first, again = (attention_knockout(late_hop(), planted_hops(), hops_used=2) for _ in range(2))
    assert again.arrays == first.arrays and again.tables == first.tables
    assert Result.load(again.save(tmp_path / "run")) == again
    for view in range(len(again.views)):
        assert again.figure(view).to_json() == first.figure(view).to_json()


@pytest.mark.parametrize("knobs", [{"reach": -1}, {"draws": 0}, {"hops_used": -1}])
def test_bad_numbers_are_refused(knobs: dict[str, int]) -> None:
    ((name, value),) = knobs.items()
    with pytest.raises(ValueError, match=f"{name} is . or more, found {value}"):
        attention_knockout(late_hop(), planted_hops(), **knobs)


def test_the_cost_grows_with_questions_draws_and_filters() -> None:
    costs = [
        CATALOG["attention_knockout"].cost(late_hop(), planted_hops(), **knobs)
        for knobs in ({"hops_used": 1}, {}, {"draws": 9}, {"draws": 9, "tested": "correct"})
    ]
    assert costs[0].tokens < costs[1].tokens < costs[2].tokens < costs[3].tokens


@pytest.mark.real
def test_on_a_real_model_the_entity_matters_more_than_other_tokens(real_model: Model) -> None:
    result = attention_knockout(real_model, TwoHops.bundled(), hops_used=3, draws=2)
    assert result.passed, result.checks
    change = np.abs(result.named("change").values[0])
    assert change[1].max() > change[2].max()
