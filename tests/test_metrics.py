"""Metrics against scipy, torch.distributions and numbers checkable by eye."""

import math

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical
from torch.distributions.kl import kl_divergence as torch_kl

from workbench.metrics import entropy, kl_divergence, logit_difference, rank, top_two_margin, word_recall


def random_log_probs(seed: int) -> torch.Tensor:
    return (4 * torch.randn(3, 5, 50, generator=torch.Generator().manual_seed(seed))).log_softmax(-1)


def test_entropy_is_that_of_scipy() -> None:
    log_probs = random_log_probs(0)
    expected = torch.tensor(scipy.stats.entropy(log_probs.exp().double().numpy(), axis=-1))
    torch.testing.assert_close(entropy(log_probs).double(), expected, atol=1e-6, rtol=1e-6)


def test_entropy_of_certainty_is_0_and_of_ignorance_the_logarithm() -> None:
    certain = torch.tensor([0.0, -torch.inf, -torch.inf])
    assert entropy(certain) == 0
    assert entropy(torch.zeros(8).log_softmax(-1)) == pytest.approx(math.log(8))


def test_kl_is_that_of_torch_distributions() -> None:
    first, second = random_log_probs(1), random_log_probs(2)
    expected = torch_kl(Categorical(logits=first), Categorical(logits=second))
    torch.testing.assert_close(kl_divergence(first, second), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(kl_divergence(first, first), torch.zeros(3, 5))


def test_kl_counts_nothing_for_what_cannot_happen_and_everything_for_what_was_ruled_out() -> None:
    half = torch.tensor([0.5, 0.5, 0.0]).log()
    even = torch.full((3,), 1 / 3).log()
    assert kl_divergence(half, even) == pytest.approx(math.log(1.5))
    assert kl_divergence(half, half) == 0
    assert kl_divergence(even, half) == torch.inf


def test_rank_is_the_place_in_the_sorted_list() -> None:
    logits = random_log_probs(3)
    ids = torch.randint(50, (3, 5), generator=torch.Generator().manual_seed(3))
    order = logits.argsort(-1, descending=True)
    expected = (order == ids[..., None]).int().argmax(-1)
    assert torch.equal(rank(logits, ids), expected)


def test_rank_counts_ties_as_not_larger() -> None:
    assert rank(torch.tensor([2.0, 1.0, 2.0, 3.0]), torch.tensor(0)) == 1


def test_logit_difference_subtracts() -> None:
    logits = torch.tensor([[1.0, 4.0, 9.0], [0.0, -1.0, 5.0]])
    found = logit_difference(logits, torch.tensor([2, 0]), torch.tensor([1, 1]))
    assert found.tolist() == [5.0, 1.0]


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=20))
def test_margin_is_the_gap_of_the_two_largest(values: list[float]) -> None:
    best, second = sorted(values)[-1], sorted(values)[-2]
    assert float(top_two_margin(torch.tensor(values))) == pytest.approx(best - second, abs=1e-5)


def test_margin_over_a_single_key_is_infinite() -> None:
    assert torch.equal(top_two_margin(torch.zeros(2, 3, 1)), torch.full((2, 3), torch.inf))


@pytest.mark.parametrize(
    "said, wanted, recall",
    [
        ("Smoked tangerine peel.", "smoked tangerine peel", 1.0),
        ("peel, tangerine, smoked", "smoked tangerine peel", 1.0),
        ("a a a", "a ladle of a sort", 0.4),
        ("a", "a ladle of a sort", 0.2),
        ("the cat's tail", "the cat's tail is long", 4 / 6),
        ("", "something", 0.0),
    ],
)
def test_word_recall_counts_each_wanted_word_once(said: str, wanted: str, recall: float) -> None:
    assert word_recall(said, wanted) == pytest.approx(recall)


def test_word_recall_refuses_an_answer_without_words() -> None:
    with pytest.raises(ValueError, match="'...' holds no word to recall"):
        word_recall("anything", "...")
