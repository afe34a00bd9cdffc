"""Two results laid side by side: the change is the second minus the first, and what cannot be compared is said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.comparison import compare, comparison_key
from workbench.head_card import head_card, neuron_card
from workbench.result import Named, Result
from workbench.store import Store
from workbench.views import Heatmap, Lines


def made(values: np.ndarray, model: str = "a", analysis: str = "toy", **more: object) -> Result:
    return Result(
        analysis=analysis,
        title="Toy",
        model={"name": model},
        arrays={"score": Named(values, ("layer", "head"), "nats"), **more.get("arrays", {})},
        scalars={"top": float(values.max()), "word": model},
        views=(Heatmap("score", "head", "layer", title="Score"),),
        finding=f"found by {model}.",
    )


GRID = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_the_change_is_the_second_minus_the_first_and_the_largest_is_named() -> None:
    other = GRID.copy()
    other[1, 2] -= 4
    found = compare(made(GRID, "a"), made(other, "b"))
    np.testing.assert_array_equal(found.arrays["score_change"].values, other.astype(float) - GRID)
    np.testing.assert_array_equal(found.arrays["score"].values, np.stack([GRID, other]))
    (row,) = found.tables["changes"]
    assert (row["largest_change"], row["where"]) == (-4.0, "layer 1, head 2")
    assert row["mean_absolute_change"] == pytest.approx(4 / 6)
    assert row["correlation"] == pytest.approx(np.corrcoef(GRID.ravel(), other.ravel())[0, 1])
    assert "-4 in score at layer 1, head 2" in found.finding
    assert [view.select for view in found.views[:2]] == [{"run": 0}, {"run": 1}]
    assert found.tables["scalars_compared"][0] == {"scalar": "top", "first": 5.0, "second": 4.0, "change": -1.0}


def test_a_result_compared_with_itself_has_no_change() -> None:
    found = compare(made(GRID), made(GRID))
    assert not found.arrays["score_change"].values.any()
    assert found.tables["changes"][0]["correlation"] == pytest.approx(1.0)
    assert sum("are the same" in note for note in found.notes) == 3


def test_other_sizes_are_named_and_left_out() -> None:
    curve = {"curve": Named(np.ones(3), ("step",))}
    longer = {"curve": Named(np.ones(4), ("step",))}
    found = compare(made(GRID, arrays=curve), made(GRID, arrays=longer))
    assert "curve" not in found.arrays
    assert any("Not compared" in note and "curve" in note for note in found.notes)


def test_curves_of_both_share_one_chart() -> None:
    one, other = (
        Result(analysis="toy", arrays={"loss": Named(values, ("step",))}, views=(Lines("loss", "step"),))
        for values in (np.zeros(3), np.ones(3))
    )
    assert compare(one, other).views[0].series == "run"


def test_tokens_that_differ_are_both_shown() -> None:
    one, other = (
        Result(analysis="toy", arrays={"x": Named(np.zeros(2), ("pos",), labels={"pos": names})})
        for names in (("a", "b"), ("a", "c"))
    )
    assert compare(one, other).arrays["x_change"].labels["pos"] == ("a", "b | c")


def test_missing_numbers_do_not_hide_the_others() -> None:
    holed = GRID.copy()
    holed[0, 0] = np.nan
    (row,) = compare(made(GRID), made(holed)).tables["changes"]
    assert row["largest_change"] == 0.0


def test_refuses_results_that_have_nothing_in_common() -> None:
    with pytest.raises(ValueError, match="found toy and other"):
        compare(made(GRID), made(GRID, analysis="other"))
    with pytest.raises(ValueError, match="share no array of one shape and no scalar"):
        compare(Result(analysis="toy"), made(GRID))


def test_a_head_card_tells_value_and_place_among_all_heads() -> None:
    effects = Named(np.array([[0.5, -3.0, np.nan], [2.0, 1.0, 0.0]]), ("layer", "head"), "logits")
    turned = Named(GRID.T, ("head", "layer"))
    result = Result(analysis="toy", arrays={"effect": effects, "turned": turned, "other": Named(np.ones(2), ("head",))})
    rows = head_card([result], 0, 1)
    assert [row["measure"] for row in rows] == ["effect", "turned"]
    assert rows[0] == {
        "analysis": "toy",
        "measure": "effect",
        "value": -3.0,
        "unit": "logits",
        "rank": 5,
        "rank_of_size": 1,
        "heads": 5,
    }
    assert (rows[1]["value"], rows[1]["rank"], rows[1]["rank_of_size"]) == (1.0, 5, None)
    assert [row["measure"] for row in head_card([result], 0, 2)] == ["turned"]
    assert head_card([result], 7, 0) == []
    with pytest.raises(ValueError, match="count from 0"):
        head_card([result], -1, 0)


def test_a_head_card_takes_every_component_and_no_limits() -> None:
    roles = Named(
        np.stack([GRID, -GRID]), ("component", "layer", "head"), labels={"component": ("previous token", "self")}
    )
    result = Result(analysis="toy", arrays={"role": roles, "score_lower": Named(GRID, ("layer", "head"))})
    rows = head_card([result], 1, 2)
    assert [(row["measure"], row["value"], row["rank"]) for row in rows] == [
        ("role: previous token", 5.0, 1),
        ("role: self", -5.0, 6),
    ]


def test_a_comparison_tells_of_both_sides_all_that_makes_them_again() -> None:
    one, other = (replace(made(GRID, name), inputs={"x": {"type": name}}, params={"top": 3}) for name in "ab")
    found = compare(one, other)
    assert found.analysis == "comparison"
    assert found.inputs["second"] == {
        "type": "run",
        "analysis": "toy",
        "model": {"name": "b"},
        "inputs": {"x": {"type": "b"}},
        "params": {"top": 3},
    }


def test_a_comparison_is_kept_and_found_by_its_sides(tmp_path: Path) -> None:
    one, other = made(GRID), made(GRID + 1)
    key = comparison_key(one, other)
    store = Store(tmp_path)
    kept = store.put(compare(one, other), key)
    assert store.find(comparison_key(made(GRID), made(GRID + 1))) == kept
    assert store.get(kept) == compare(one, other)
    assert len({key, comparison_key(other, one), comparison_key(one, one)}) == 3


def test_a_neuron_card_tells_value_and_place_among_all_neurons() -> None:
    values = np.array([[0.5, -3.0], [2.0, 1.0]])
    result = Result(
        analysis="neuron_vocabulary",
        arrays={
            "peak": Named(values, ("layer", "neuron"), "z", {"layer": ("4", "8"), "neuron": ("10", "20")}),
            "score": Named(np.zeros((2, 2)), ("layer", "head")),
        },
    )
    assert neuron_card([result], 4, 20) == [
        {
            "analysis": "neuron_vocabulary",
            "measure": "peak",
            "value": -3.0,
            "unit": "z",
            "rank": 4,
            "rank_of_size": 1,
            "neurons": 4,
        }
    ]
    assert neuron_card([result], 4, 11) == []
    with pytest.raises(ValueError, match="layer and neuron count from 0"):
        neuron_card([result], 0, -1)
