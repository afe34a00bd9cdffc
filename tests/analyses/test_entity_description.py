"""Entity description decodes the planted home exactly where the weights put it, and random vectors as nothing."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planting import changed, ids_of, outputs_of, planted, run
from two_hops import late_hop, planted_hops

from workbench.analyses import entity_description
from workbench.analyses.entity_description.scoring import described_as
from workbench.catalog import CATALOG
from workbench.hops import TwoHops
from workbench.model import Model
from workbench.result import Result

LAYERS = range(6)
HOME, CAPITAL, MOVER = (planted("late_hop").truth[name] for name in ("first_hop_layer", "second_hop_layer", "mover"))
ASKING: dict[str, Any] = {"description": "the of is", "placeholder": "of", "new_tokens": 1}


@cache
def found(**knobs: Any) -> Result:
    return entity_description(late_hop(), planted_hops(), hops_used=2, **{**ASKING, **knobs})


def planted_map(name: str) -> np.ndarray:
    """What the plan of the model says: a person's stream put where "is" can read it.

    The home is in the stream behind layer 3, or is looked up when the person enters layer 3; behind layer 0 a
    home that is there already becomes its capital in layer 1; the mover of layer 4 reads what is there by then.
    """
    ((mover, _head),) = MOVER
    read = np.array([[target < mover for target in LAYERS] for _ in LAYERS])
    home = np.array([[source >= HOME or target < HOME for target in LAYERS] for source in LAYERS])
    capital = np.array([[source >= HOME and target < CAPITAL for target in LAYERS] for source in LAYERS])
    return {"entity": read & False, "bridge": read & home & ~capital, "answer": read & capital}[name].astype(float)


@pytest.mark.parametrize("component, name", list(enumerate(("entity", "bridge", "answer"))))
def test_exactly_the_planted_pairs_describe_each_entity(component: int, name: str) -> None:
    assert np.array_equal(found().named("share").values[component, 0], planted_map(name))
    decoded = planted_map(name).max(1)
    assert np.array_equal(found().named("decoded").values[component, 0], decoded)


def test_the_controls_name_next_to_nothing() -> None:
    assert not found().named("other_names").values[1:, 0].any()
    assert found().named("random_vector").values[1:].mean() < 0.1, "one of six homes may come up by chance"
    assert not found().named("other_prompt").values[:, 0].any(), "another person's home is another home"


def test_at_the_last_token_only_what_the_mover_has_brought_is_described() -> None:
    """The placeholder is last: the stream of "is" behind layer 4 says the home by itself."""
    result = found(description="the of", placeholder="of", positions="last")
    expected = np.array([[source >= MOVER[0][0] for _ in LAYERS] for source in LAYERS], dtype=float)
    assert np.array_equal(result.named("share").values[1, 0], expected)
    assert not result.named("share").values[2].any()


def test_plain_hooks_on_the_plain_model_say_the_same() -> None:
    built, hop = planted("late_hop"), planted_hops()[1]
    layers = built.model.model.layers
    ids, target_ids = ids_of(built, hop.prompt), ids_of(built, ASKING["description"])
    streams = outputs_of(built, ids, list(layers))
    home = built.tokenizer.convert_tokens_to_ids(hop.bridge[0])
    single = entity_description(late_hop(), TwoHops.of(hop), positions="entity", **ASKING).named("share").values[1, 0]
    for source, target in ((3, 0), (2, 2), (2, 3), (5, 3), (3, 4)):

        def put(out: torch.Tensor, source: int = source) -> torch.Tensor:
            out = out.clone()
            out[:, 2] = streams[source].reshape(ids.shape[1], -1)[-2]
            return out

        with changed(layers[target], put):
            said = int(run(built, target_ids).logits[-1].argmax())
        assert (said == home) == bool(single[source, target])


def test_the_self_checks_pass_and_the_tables_tell_what_was_said() -> None:
    assert found().passed
    assert "the bridge in 100% (from the entity position, layer 0; random vectors 0%)" in found().finding
    first = found().tables["descriptions"][1]
    assert (first["described as the"], first["source"], first["target"], first["said"]) == ("bridge", 0, 0, "norland")
    assert found().tables["layers"][0]["from any layer"] == 0


def test_only_the_same_layers_can_be_asked_for() -> None:
    share = found(pairs="same").named("share").values
    assert np.array_equal(np.isfinite(share[0, 0]), np.eye(6, dtype=bool))
    assert np.array_equal(np.diag(share[1, 0]), np.diag(planted_map("bridge")))


NAMES: dict[Any, tuple[str, ...]] = {"entity": ("Imagine",), "bridge": ("John Lennon", "Lennon"), "answer": ("Julia",)}


@pytest.mark.parametrize(
    ("said", "words", "paper"),
    [
        (": Lennon is a singer", [False, True, False], [False, True, False]),
        ("Julia is Lennon's mother", [False, True, True], [False, False, False]),
        ("Imagine: a song, Lennon: he", [True, True, False], [True, False, False]),
        (": lennonesque", [False, False, False], [False, False, False]),
        (": Julia, who", [False, False, True], [False, False, True]),
    ],
)
def test_names_match_as_words_or_framed_as_in_the_paper(said: str, words: list[bool], paper: list[bool]) -> None:
    assert described_as(said, NAMES, "words") == words
    assert described_as(said, NAMES, "paper") == paper


def test_names_that_the_description_says_anyway_are_told() -> None:
    result = found(description="norland of is")
    assert any("without any patch" in note and "norland" in note for note in result.notes)


def test_the_same_run_gives_the_same_result_and_the_disk_keeps_it(tmp_path: Path) -> None:
    first, again = (
        entity_description(late_hop(), planted_hops(), hops_used=2, pairs="same", **ASKING) for _ in range(2)
    )
    assert again.arrays == first.arrays and again.tables == first.tables
    assert Result.load(again.save(tmp_path / "run")) == again
    for view in range(len(again.views)):
        assert again.figure(view).to_json() == first.figure(view).to_json()


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"placeholder": "cat"}, "the placeholder 'cat' must stand in the description"),
        ({"placeholder": " "}, "the placeholder ' ' must stand in the description"),
        ({"placeholder": "o"}, "placeholder 'o': .* do not end where tokens end"),
        ({"new_tokens": 0}, "1 token or more, 0 were asked for"),
        ({"hops_used": -1}, "hops_used is 0 for all"),
    ],
)
def test_bad_input_is_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        entity_description(late_hop(), planted_hops(), **{**ASKING, **knobs})


def test_the_cost_grows_with_pairs_and_positions() -> None:
    costs = [
        CATALOG["entity_description"].cost(late_hop(), planted_hops(), **knobs)
        for knobs in ({"pairs": "same"}, {"positions": "last"}, {})
    ]
    assert costs[0].tokens < costs[1].tokens < costs[2].tokens


@pytest.mark.real
def test_on_a_real_model_the_entity_is_described_more_often_than_by_random_vectors(real_model: Model) -> None:
    result = entity_description(
        real_model, TwoHops.bundled(), hops_used=2, positions="entity", pairs="same", new_tokens=8
    )
    assert result.passed, result.checks
    assert result.named("decoded").values[0].sum() >= result.named("random_vector").values[0].sum()
