"""Masking: which heads are masked, what their loss costs, and how it is told."""

import pytest
from copying import copier, planted_cases, truth

from workbench.analyses.retrieval_heads import masking
from workbench.analyses.retrieval_heads.scoring import read_cases


@pytest.mark.parametrize("mode", ["zero", "mean", "uniform"])
@pytest.mark.parametrize("scope", ["decode", "all"])
def test_only_the_heads_of_the_mechanism_matter_to_recall(mode: str, scope: str) -> None:
    """The copy head, and the memory heads that it compares by."""
    cases, hay = planted_cases(lengths=(150,), depths=(100,), needles_used=1)
    (reading,) = read_cases(copier(), cases, hay, 20, 0.5)
    heads = [(layer, head) for layer in range(2) for head in range(5)]
    recalls = masking.masked_recall(copier(), reading, [(head,) for head in heads], mode, scope)
    found = dict(zip(heads, recalls, strict=True))
    needed = {tuple(head) for head in truth()["copy"]}
    remembering = {tuple(head) for head in truth()["back"]}
    assert all(found[head] == 0.0 for head in needed)
    assert all(found[head] == 1.0 for head in heads if head not in needed | remembering)
    if scope == "all":
        assert all(found[head] < 0.5 for head in remembering)


def test_random_masks_leave_out_the_best_heads_and_follow_the_seed() -> None:
    ranked = [(layer, head) for layer in (1, 0, 2) for head in range(4)]
    masks = masking.choose_masks(ranked, (1, 3), draws=20, seed=5)
    assert masks == masking.choose_masks(ranked, (1, 3), draws=20, seed=5)
    assert masks != masking.choose_masks(ranked, (1, 3), draws=20, seed=6)
    for kind, size, heads in masks:
        assert len(set(heads)) == len(heads) == size
        assert (set(heads) <= set(ranked[:size])) == (kind == "top")
        assert kind == "top" or not set(heads) & set(ranked[:size])
        if kind == "same layers":
            assert sorted(layer for layer, _ in heads) == sorted(layer for layer, _ in ranked[:size])
    assert {kind for kind, size, _ in masks if size == 3} == {"top", "random"}, "3 of 4 heads of layer 1 are best"


def test_the_table_of_masks_shows_mean_and_spread_over_draws() -> None:
    masks = [("top", 1, ((1, 1),)), ("random", 1, ((0, 0),)), ("random", 1, ((0, 1),))]
    none, top, random = masking.recall_table(masks, [[0.0, 1.0, 0.5], [0.2, 1.0, 0.0]], plain=0.9)
    assert (none["masked"], none["recall"]) == ("none", 0.9)
    assert (top["which"], top["recall"], top["draws"]) == ("L1.H1", pytest.approx(0.1), 1)
    assert (random["recall"], random["lowest"], random["highest"], random["draws"]) == (0.625, 0.25, 1.0, 2)


def test_a_masked_answer_ends_where_a_plain_one_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a masked model goes on to say behind its full stop is no part of the answer."""
    cases, hay = planted_cases(lengths=(150,), depths=(100,), needles_used=1)
    (reading,) = read_cases(copier(), cases, hay, 20, 0.5)
    spoken, stop = reading.decoded.ids, reading.decoded.ids[-1]
    dotted = (stop, *spoken[:-1])

    class Outcome:
        row, ids = 0, dotted

    monkeypatch.setattr(masking, "sweep", lambda *args, **options: iter([Outcome]))
    assert masking.masked_recall(copier(), reading, [((1, 1),)], "zero", "decode") == [0.0]
