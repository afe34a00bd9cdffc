"""Sublayer projections see the bridge exactly where it is written in words, as a plain reading by hand does."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planting import ids_of, outputs_of, planted
from two_hops import late_hop, planted_hops

from workbench.analyses import sublayer_projections
from workbench.analyses.sublayer_projections.reading import look_for
from workbench.catalog import CATALOG
from workbench.hops import TwoHops
from workbench.model import Model
from workbench.questions import first_tokens
from workbench.result import Result

TRUTH = planted("late_hop").truth


@cache
def found(**knobs: Any) -> Result:
    return sublayer_projections(late_hop(), planted_hops(), **knobs)


def test_only_the_planted_mover_names_the_bridge_and_nothing_names_the_answer() -> None:
    """The MLP that finds the home writes it where only the mover of layer 4 can read it."""
    share = found().named("share").values
    ((layer, _head),) = TRUTH["mover"]
    bridge = np.zeros_like(share[0])
    bridge[1, 0, layer] = 1
    assert np.array_equal(share[0], bridge)
    assert not share[1].any()
    assert not found().named("null").values.any(), "nobody's home is another person's"
    assert found().named("rank").values[:, 0, 1, 0, layer].tolist() == [0] * len(TRUTH["questions"])
    assert "the attention of layer 4 names the bridge in 100%" in found().finding
    first = found().tables["sightings"][0]
    assert (first["name of the"], first["sublayer"], first["layer"], first["null"]) == ("bridge", "attention", 4, 0)


def test_a_plain_reading_by_hand_gives_the_same_ranks() -> None:
    built, hop = planted("late_hop"), planted_hops()[2]
    ids = ids_of(built, hop.prompt)
    layers = built.model.model.layers
    home = built.tokenizer.convert_tokens_to_ids(hop.bridge[0])
    for sublayer, part in enumerate(("self_attn", "mlp")):
        written = outputs_of(built, ids, [getattr(layer, part) for layer in layers])
        for place, pos in enumerate((-2, -1)):  # "... of cleo is"
            for layer, out in enumerate(written):
                row = out.reshape(ids.shape[1], -1)[pos]
                logits = built.model.lm_head(built.model.model.norm(row))
                rank = int((logits >= logits[home]).sum()) - 1
                assert found().named("rank").values[2, 0, place, sublayer, layer] == rank


def test_the_self_checks_pass() -> None:
    assert found().passed
    assert len(found().checks) == 2


def test_ranks_and_shares_of_a_hand_made_table() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 5.0, 5.0, 1.0]])
    wanted, others = {"bridge": (0, 3), "answer": (1,)}, {"bridge": [(1,), (2,)], "answer": [(0,), (0, 1)]}
    rank, hit, null, best = look_for(logits, wanted, others, top=1)
    assert rank.tolist() == [[0, 3, 2], [1, 3, 1]]
    assert hit.tolist() == [[True, False, False], [False, False, False]]
    assert null.tolist() == [[0, 0, 0], [1, 0, 0]]
    assert best[0] == 0
    assert look_for(logits, wanted, others, top=2)[1].tolist() == [[True, False, False], [True, False, True]]


def test_a_name_begins_with_the_same_word_with_or_without_a_space() -> None:
    norland = late_hop().token("norland")
    assert first_tokens(late_hop(), ["norland", "Norland", "norland sorvia"]) == (norland,)
    assert first_tokens(late_hop(), ["nowhere"]) == ()


def test_a_name_that_is_no_word_of_the_vocabulary_is_never_seen() -> None:
    strange = TwoHops.of(replace(planted_hops()[0], answer=("Nowhere",)), *planted_hops()[1:2])
    result = sublayer_projections(late_hop(), strange)
    assert (result.named("rank").values[0, 1] == late_hop().shape.d_vocab - 1).all()
    assert "names rank the same everywhere" in result.notes[-1]


def test_the_same_run_gives_the_same_result_and_the_disk_keeps_it(tmp_path: Path) -> None:
    first, again = (sublayer_projections(late_hop(), planted_hops(), hops_used=2, positions="last") for _ in range(2))
    assert again.arrays == first.arrays and again.tables == first.tables
    assert first.named("share").values.shape == (2, 1, 2, 6)
    assert Result.load(again.save(tmp_path / "run")) == again
    for view in range(len(again.views)):
        assert again.figure(view).to_json() == first.figure(view).to_json()


@pytest.mark.parametrize(
    ("knobs", "message"),
    [({"top": 0}, "a number of tokens from 1 to"), ({"hops_used": -1}, "hops_used is 0 for all")],
)
def test_bad_numbers_are_refused(knobs: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sublayer_projections(late_hop(), planted_hops(), **knobs)


def test_the_cost_grows_with_questions_and_positions() -> None:
    costs = [
        CATALOG["sublayer_projections"].cost(late_hop(), planted_hops(), **knobs)
        for knobs in ({"hops_used": 1}, {"positions": "last"}, {})
    ]
    assert costs[0].tokens < costs[1].tokens < costs[2].tokens


@pytest.mark.real
def test_on_a_real_model_what_is_written_adds_up_and_names_more_than_by_chance(real_model: Model) -> None:
    result = sublayer_projections(real_model, TwoHops.bundled(), hops_used=3, top=10)
    assert result.passed, result.checks
    assert result.named("share").values.shape == (2, 2, 2, 18)
    assert result.named("share").values.mean() > result.named("null").values.mean()
