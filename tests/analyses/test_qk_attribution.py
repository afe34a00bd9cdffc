"""Why a head looked there: the planted reason is found, and all terms make the score."""

import pytest
import torch

from workbench import load, run
from workbench.circuits.scores import SUBLAYERS
from workbench.prompts import Prompts
from workbench.tracer import trace


@pytest.fixture(scope="module")
def model():
    return load("planted:induction")


@pytest.fixture(scope="module")
def prompt(model):
    words = [model.tokenizer.decode([token]) for token in (20, 31, 45, 52, 77)]
    return Prompts.of(" ".join([*words, words[1]]))


@pytest.fixture(scope="module")
def result(model, prompt):
    return run("qk_attribution", model, prompt, layer=1, head=1)


def test_the_induction_head_looks_where_the_previous_token_head_wrote_its_word(result):
    """It stands on the second word again, and looks behind its first occurrence: at the third."""
    assert (result.scalars["query"], result.scalars["key"]) == (6, 3)
    best = result.tables["pairs"][0]
    assert best["at_query"].startswith("token ")
    assert best["at_query"].endswith("@6")
    assert best["at_key"] == "L0.H0@3"
    assert result.tables["query_parts"][0]["part"] == best["at_query"]
    assert result.tables["query_parts"][0]["advantage"] > 20
    assert best["term"] > 0.9 * (result.scalars["score"] - result.scalars["score_elsewhere"])
    assert result.passed
    assert "the largest pair is token" in result.finding


def test_the_kinds_add_up_to_the_score_that_the_site_shows(model, prompt, result):
    shown = trace(model, prompt, ["L1.H1.scores"])["L1.H1.scores"][0, 6]
    assert result.named("score").values == pytest.approx(shown.numpy(), rel=1e-5)
    assert float(result.named("by_kind").values.sum()) == pytest.approx(float(shown[3]), rel=1e-5)
    assert result.named("by_kind").labels["source_component"] == SUBLAYERS
    parts = sum(row["total"] for row in result.tables["query_parts"])
    assert parts == pytest.approx(float(shown[3]), rel=1e-5)
    gained = sum(row["advantage"] for row in result.tables["query_parts"])
    others = torch.cat([shown[:3], shown[4:]])
    assert gained == pytest.approx(float(shown[3] - others.mean()), rel=1e-4)


def test_the_hardest_look_is_chosen_when_nothing_is_named(model, prompt):
    found = run("qk_attribution", model, prompt)
    pattern = trace(model, prompt, ["L0.pattern", "L1.pattern"])
    inner = [pattern[site][0, :, 6, 1:6] for site in ("L0.pattern", "L1.pattern")]
    assert found.scalars["attention"] == pytest.approx(float(torch.stack(inner).max()), abs=1e-3)


def test_with_transcoders_the_parts_are_features():
    model = load("planted:sparse_mlp")
    found = run("qk_attribution", model, Prompts.of("stone red cat"), coders="planted:sparse_mlp", layer=0)
    assert {row["kind"] for row in found.tables["query_parts"]} <= {"token", "position", "feature", "bias"}
    assert found.passed
    assert (found.scalars["query"], found.scalars["key"]) == (3, 2)
    assert found.tables["pairs"][0]["at_query"] == "position 3"  # it looks one back, whatever stands there


def test_mistakes_are_refused(model, prompt):
    with pytest.raises(ValueError, match="key 'last' is no position"):
        run("qk_attribution", model, prompt, key="last")
    with pytest.raises(ValueError, match="top must be 1 or more, found 0"):
        run("qk_attribution", model, prompt, top=0)
    with pytest.raises(ValueError, match="one prompt is split at a time, found 2"):
        run("qk_attribution", model, Prompts.of("a", "b"))
    with pytest.raises(ValueError, match=r"layer 7: the model has 2 layers \(0-1\)"):
        run("qk_attribution", model, prompt, layer=7)
    with pytest.raises(ValueError, match=r"head 4: layer 0 has 4 heads \(0-3\)"):
        run("qk_attribution", model, prompt, head=4)
    with pytest.raises(ValueError, match="the key is masked"):
        run("qk_attribution", model, prompt, layer=1, head=1, query=2, key="4")


@pytest.mark.real
def test_terms_make_the_scores_of_a_real_model(real_model):
    prompt = Prompts.of("When Mary and John went to the store, John gave a drink to")
    for layer, head in ((5, 1), (11, 2)):  # a local layer and a global one, with norms of queries and keys
        found = run("qk_attribution", real_model, prompt, layer=layer, head=head)
        assert found.passed, found.checks
        shown = trace(real_model, prompt, [f"L{layer}.H{head}.scores"])[f"L{layer}.H{head}.scores"][0, -1]
        assert found.scalars["score"] == pytest.approx(float(shown[found.scalars["key"]]), rel=1e-4)
