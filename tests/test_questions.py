"""Two-hop questions are found in their tokens, asked in order, and told apart from each other."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from two_hops import planted_hops

from workbench.hops import TwoHops
from workbench.model import Model, load
from workbench.questions import ask_all, build_cases, first_tokens, other_names, random_like, read_streams
from workbench.tracer import trace


@cache
def model() -> Model:
    torch.set_num_threads(1)
    return load("planted:late_hop")


def test_places_are_the_ends_of_the_description_and_of_the_prompt() -> None:
    both, last = (build_cases(model(), planted_hops(), places)[0] for places in (("entity", "last"), ("last",)))
    text = both.tokens.text[0]
    assert text[both.places["entity"]] == "ann" and both.places["last"] == len(text) - 1
    assert last.places == {"last": both.places["last"]}
    assert [text[place] for place in both.name_span] == ["ann"]


def test_a_name_that_ends_inside_a_token_is_refused() -> None:
    (case,) = build_cases(model(), TwoHops.of(replace(planted_hops()[0], entity="an")), ("last",))
    with pytest.raises(ValueError, match="two-hop prompt 'ann', 'an': .* do not end where tokens end"):
        _ = case.name_span


def test_shortcuts_are_asked_only_where_both_hops_are_known() -> None:
    ann, bob = planted_hops()[:2]
    known, unknown = ask_all(
        model(), build_cases(model(), TwoHops.of(ann, replace(bob, first_hop=bob.second_hop)), ("last",)), 2, "words"
    )
    assert known.known and not unknown.known
    assert {"entity_shortcut", "relation_shortcut"} <= set(known.said)
    assert "entity_shortcut" not in unknown.said
    assert known.is_tested("incorrect") and not known.is_tested("correct") and known.is_tested("all")


def test_first_tokens_are_those_of_every_spelling_and_none_is_unknown() -> None:
    assert first_tokens(model(), ["Norland", "sorvia bob"]) == (model().token("norland"), model().token("sorvia"))
    assert first_tokens(model(), ["Nowhere"]) == ()


def test_names_of_others_share_nothing_with_the_question() -> None:
    ann, bob, cleo = planted_hops()[:3]
    assert other_names(ann, [ann, bob, bob, cleo], "bridge") == [bob.bridge, cleo.bridge]
    assert other_names(ann, [replace(bob, bridge=("ANN", "x y"))], "bridge") == []


def test_streams_are_those_of_the_trace_and_random_ones_as_long() -> None:
    (case,) = build_cases(model(), TwoHops.of(planted_hops()[0]), ("entity", "last"))
    streams = read_streams(model(), case)
    traced = trace(model(), case.tokens, "resid_post")
    for position, place in case.places.items():
        for layer in range(model().shape.n_layers):
            assert torch.equal(streams[position][layer], traced[f"L{layer}.resid_post"][0, place])
    drawn = random_like(streams, np.random.default_rng(0))
    for position, stream in streams.items():
        torch.testing.assert_close(drawn[position].norm(dim=-1), stream.norm(dim=-1))
        cosine = torch.cosine_similarity(drawn[position], stream, dim=-1)
        assert cosine.abs().max() < 0.9
