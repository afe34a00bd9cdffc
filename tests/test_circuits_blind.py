"""Blind mode: the circuit alone is shown, the hypothesis comes before the answer, and the verdict is kept."""

import json
from dataclasses import asdict

import pytest

from workbench import Prompts, Store, load, run
from workbench.circuits.blind import blind_case, blind_nodes, reveal, suppose, with_verdict
from workbench.result import Result

COLOURED = "1_0_3"


@pytest.fixture(scope="module")
def result():
    model = load("planted:sparse_mlp")
    return run("transcoder_circuit", model, Prompts.of("stone red cat"), node_threshold=1.0, edge_threshold=1.0)


def test_a_feature_is_shown_by_its_planted_edges_and_no_name_is_told(result):
    case = blind_case(result, COLOURED)
    assert {one.label: round(one.weight, 2) for one in case.inputs[:2]} == {"L0.F0@3": 2.25, "L0.F1@3": 1.5}
    assert [one.label for one in case.outputs] == ["'runs'"]
    told = json.dumps(asdict(case))
    assert not any(name in told for name in ("colour", "animal", "cat"))


def test_the_answer_comes_after_the_hypothesis_only(result):
    case = blind_case(result, COLOURED)
    with pytest.raises(ValueError, match=r"L1.F0@3 is revealed only after a hypothesis"):
        reveal(result, case)
    with pytest.raises(ValueError, match="nothing is supposed"):
        suppose(case, "  ")
    shown = reveal(result, suppose(case, "a coloured animal"))
    assert (shown["name"], shown["token"]) == ("a coloured animal", "cat")
    assert shown["activation"] == pytest.approx(1.25, abs=2e-3)


def test_a_verdict_is_kept_in_the_stored_run_and_found_by_the_same_key(result, tmp_path):
    store = Store(tmp_path)
    first = store.put(result, "key")
    case = suppose(blind_case(result, COLOURED), "a coloured animal")
    judged = store.amend(first, with_verdict(result, case, "right", "both inputs are needed"))
    assert [one.id for one in store.runs()] == [judged]
    assert store.find("key") == judged
    kept = store.get(judged)
    assert kept.tables["verdicts"] == [
        {
            "node": COLOURED,
            "feature": "L1.F0@3",
            "hypothesis": "a coloured animal",
            "verdict": "right",
            "remark": "both inputs are needed",
        }
    ]
    assert COLOURED in blind_nodes(result)
    assert COLOURED not in blind_nodes(kept)
    again = with_verdict(kept, case, "wrong")
    assert [row["verdict"] for row in again.tables["verdicts"]] == ["wrong"]


def test_mistakes_are_refused(result):
    with pytest.raises(KeyError, match="has no feature '9_9_9': its most influential ones are"):
        blind_case(result, "9_9_9")
    with pytest.raises(KeyError, match="looks at a result of transcoder_circuit"):
        blind_nodes(Result())
    case = blind_case(result, COLOURED)
    with pytest.raises(ValueError, match="has no hypothesis that could be judged"):
        with_verdict(result, case, "right")
    with pytest.raises(ValueError, match="verdict 'maybe' is unknown: allowed are right, partly right, wrong"):
        with_verdict(result, suppose(case, "x"), "maybe")
