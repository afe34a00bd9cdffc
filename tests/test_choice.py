"""The screened choice is the choice among all logits in full, also where tokens come close."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench import choice
from workbench.choice import Choice, Chooser

WIDTH, WORDS = 48, 1000


def bridge(weight: Tensor, bias: Tensor | None = None, bound: float | None = None) -> Any:
    """A model that is nothing but a final norm and an unembedding."""
    head = nn.Linear(*weight.T.shape, bias=bias is not None)
    head.weight.data = weight
    if bias is not None:
        head.bias.data = bias
    config = SimpleNamespace(final_logit_softcapping=bound)
    config.get_text_config = lambda: config
    original = SimpleNamespace(config=config, get_output_embeddings=lambda: head)
    return SimpleNamespace(ln_final=lambda stream: 3 * stream, unembed=head, original_model=original)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def in_full(model: Any, resid: Tensor) -> Choice:
    return Chooser(model).choose(resid)


def close_calls() -> Tensor:
    """An unembedding in which every token has three near twins, closer than bfloat16 can tell."""
    weight = random(WORDS // 4, WIDTH)
    twins = [weight * (1 + step * 1e-5) for step in range(4)]
    return torch.cat(twins)[torch.randperm(WORDS, generator=torch.Generator().manual_seed(1))]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs each screening left over."""
    found: list[int] = []
    near = choice._near

    def counting(*args: Any) -> Any:
        pairs = near(*args)
        found.append(-1 if pairs is None else len(pairs[0]))
        return pairs

    monkeypatch.setattr(choice, "_near", counting)
    return found


WEIGHTS = {"random": random(WORDS, WIDTH), "near twins": close_calls(), "large": random(WORDS, WIDTH) * 1e3}


@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
def test_chooses_what_all_logits_in_full_choose(weight: Tensor, counted: list[int]) -> None:
    model = bridge(weight)
    for seed in range(4):
        resid = random(40, WIDTH, seed=seed) / 40
        found, expected = Chooser.screening(model).choose(resid), in_full(model, resid)
        assert torch.equal(found.ids, expected.ids)
        torch.testing.assert_close(found.leads, expected.leads, atol=1e-3 * float(weight.abs().max()), rtol=1e-4)
    assert len(counted) == 4
    assert all(2 * 40 <= pairs < 40 * WORDS for pairs in counted), "some tokens must be left over, and not all"


def test_negative_logits_are_no_smaller_than_the_filling() -> None:
    """The vocabulary is filled up to whole blocks with zeros, which no row may take for tokens."""
    weight = -random(WORDS, WIDTH).abs()
    model, resid = bridge(weight), random(40, WIDTH).abs() / 40
    found = Chooser.screening(model).choose(resid)
    assert torch.equal(found.ids, in_full(model, resid).ids)
    assert found.ids.max() < WORDS


def test_when_all_tokens_are_near_all_logits_are_computed(counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_CROWD", 100)
    model = bridge(torch.ones(WORDS, WIDTH) + 1e-4 * random(WORDS, WIDTH))
    resid = random(40, WIDTH)
    assert torch.equal(Chooser.screening(model).choose(resid).ids, in_full(model, resid).ids)
    assert counted == [-1]


def test_numbers_that_are_not_finite_are_left_to_the_full_logits(counted: list[int]) -> None:
    model, resid = bridge(random(WORDS, WIDTH)), random(40, WIDTH)
    resid[3] = torch.nan
    assert torch.equal(Chooser.screening(model).choose(resid).ids, in_full(model, resid).ids)
    assert counted == [-1]


def test_few_rows_are_not_screened(counted: list[int]) -> None:
    Chooser.screening(bridge(random(WORDS, WIDTH))).choose(random(3, WIDTH))
    assert counted == []


def test_equal_logits_give_the_first_token() -> None:
    assert Choice.among(torch.tensor([[1.0, 5.0, 5.0, 2.0]])).ids.tolist() == [1]
    assert Choice.among(torch.tensor([[1.0, 5.0, 5.0, 2.0]])).leads.tolist() == [0]


def test_screens_only_where_it_is_exact_and_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    def screens(model: Any) -> bool:
        return Chooser.of(model).screen is not None

    weight = random(WORDS, WIDTH)
    monkeypatch.setattr(choice, "_halves_are_quick", lambda: True)
    assert not screens(bridge(weight)), "a small vocabulary"
    monkeypatch.setattr(choice, "_WIDE", WORDS)
    assert screens(bridge(weight))
    assert screens(bridge(weight, bias=torch.zeros(WORDS)))
    assert not screens(bridge(weight, bias=random(WORDS)))
    assert not screens(bridge(weight.double()))
    assert not screens(bridge(weight, bound=30.0)), "a cap rounds large logits to the same one"
    scaled = bridge(weight)
    head = scaled.unembed
    scaled.unembed = lambda stream: 2 * head(stream)
    assert not screens(scaled)
    monkeypatch.setattr(choice, "_halves_are_quick", lambda: False)
    assert not screens(bridge(weight))
