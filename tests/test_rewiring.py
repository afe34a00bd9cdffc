"""Edges cut, blocks skipped and blocks repeated give the numbers of a model that is really built so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch as replaced

import pytest
import torch
from plain_model import PlainModel
from running import TEXT, cached_logits, logits_of, with_number
from torch import Tensor

from workbench.edit import add, edited, zero
from workbench.model import Model
from workbench.rewiring import cut, repeat, skip
from workbench.tracer import trace

VECTOR = torch.linspace(-1.0, 1.0, 32)


@pytest.fixture
def plain(plain_llama: PlainModel) -> PlainModel:
    return plain_llama


@pytest.fixture
def ids(tiny_llama: Model) -> Tensor:
    return tiny_llama.tokens(TEXT).ids


@contextmanager
def changed_softmax(layer: int, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change the scores of one layer on their way into a plain model's softmax."""
    softmax, calls = torch.nn.functional.softmax, []

    def changing(value: Tensor, *args: object, **kwargs: object) -> Tensor:
        calls.append(value)
        return softmax(change(value) if len(calls) == layer + 1 else value, *args, **kwargs)

    with replaced("torch.nn.functional.softmax", changing):
        yield


INFINITE = float("-inf")
CUTS: dict[str, tuple[object, Callable[[Tensor], Tensor]]] = {
    "an edge": (cut(1, query=5, key=2), lambda scores: with_number(scores, (slice(None), slice(None), 5, 2), INFINITE)),
    "an edge of a head": (
        cut(1, query=5, key=2, head=3),
        lambda scores: with_number(scores, (slice(None), 3, 5, 2), INFINITE),
    ),
    "a key": (cut(1, key=2), lambda scores: with_number(scores, (..., slice(None), 2), INFINITE)),
}


@pytest.mark.parametrize("name", CUTS)
def test_a_cut_is_minus_infinity_before_the_softmax(
    name: str, tiny_llama: Model, plain: PlainModel, ids: Tensor
) -> None:
    edit, change = CUTS[name]
    with edited(tiny_llama, [edit]):
        found = trace(tiny_llama, TEXT, ["L1.pattern", "logits"])
    with changed_softmax(1, change), torch.no_grad():
        expected = plain.model(ids, use_cache=False).logits
    assert torch.allclose(found.logits, expected, atol=1e-5)
    assert not torch.allclose(found.logits, logits_of(tiny_llama, ids), atol=1e-4)
    assert torch.allclose(found["L1.pattern"].sum(-1), torch.ones(1, 4, 8))


def test_negative_positions_of_a_cut_count_from_the_end_of_each_prompt(tiny_llama: Model) -> None:
    texts = [TEXT, TEXT.rsplit(" ", 2)[0]]
    batch = tiny_llama.tokens(texts)
    assert len(set(batch.lengths)) == 2
    with edited(tiny_llama, [cut(1, query=-1, key=-2)]):
        together = trace(tiny_llama, batch, ["logits@-1"])["logits@-1"]
    for row, (text, length) in enumerate(zip(texts, batch.lengths, strict=True)):
        with edited(tiny_llama, [cut(1, query=length - 1, key=length - 2)]):
            alone = trace(tiny_llama, text, ["logits@-1"])["logits@-1"][0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(alone, trace(tiny_llama, text, ["logits@-1"])["logits@-1"][0], atol=1e-4)


def test_a_cut_of_everything_a_query_can_see_is_refused(tiny_llama: Model, ids: Tensor) -> None:
    for edit in (cut(1, query=3), cut(1, key=0)):
        with pytest.raises(ValueError, match="would have no key left to attend to"), edited(tiny_llama, [edit]):
            logits_of(tiny_llama, ids)
    with pytest.raises(ValueError, match="cut needs a key or a query"):
        cut(1)
    with pytest.raises(ValueError, match=r"the prompt has 8 tokens \(0-7\)"), edited(tiny_llama, [cut(1, key=8)]):
        logits_of(tiny_llama, ids)


def rearranged(plain: PlainModel, ids: Tensor, order: list[int]) -> Tensor:
    """The logits of a plain model whose blocks stand in another order."""
    backbone = plain.model.model
    blocks = backbone.layers
    backbone.layers = torch.nn.ModuleList([blocks[layer] for layer in order])
    plain.model.config.num_hidden_layers = len(order)
    try:
        with torch.no_grad():
            return plain.model(ids, use_cache=False).logits
    finally:
        backbone.layers = blocks
        plain.model.config.num_hidden_layers = len(blocks)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_skipped_block_is_a_model_without_it(layer: int, tiny_llama: Model, plain: PlainModel, ids: Tensor) -> None:
    with edited(tiny_llama, [skip("block", layer)]):
        found = logits_of(tiny_llama, ids)
    assert torch.allclose(found, rearranged(plain, ids, [each for each in range(3) if each != layer]), atol=1e-6)


@pytest.mark.parametrize("part", ["attn", "mlp"])
def test_a_skipped_branch_adds_nothing(part: str, tiny_llama: Model, plain: PlainModel, ids: Tensor) -> None:
    with edited(tiny_llama, [skip(part, 1)]):
        found = logits_of(tiny_llama, ids)
    assert torch.allclose(found, plain.logits_with(ids, f"{part}_out", 1, lambda value: value * 0), atol=1e-6)


def test_a_skipped_block_gives_back_what_an_edit_let_in(tiny_llama: Model) -> None:
    with edited(tiny_llama, [skip("block", 1), ("L1.resid_pre", add(VECTOR))]):
        streams = trace(tiny_llama, TEXT, ["L0.resid_post", "L1.resid_post"])
    assert torch.equal(streams["L1.resid_post"], streams["L0.resid_post"] + VECTOR)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_repeated_block_is_a_model_with_more_of_it(
    times: int, tiny_llama: Model, plain: PlainModel, ids: Tensor
) -> None:
    with edited(tiny_llama, [repeat(1, times)]):
        found = logits_of(tiny_llama, ids)
    assert torch.allclose(found, rearranged(plain, ids, [0, *[1] * times, 2]), atol=1e-6)


def test_an_impossible_rewiring_is_refused(tiny_llama: Model) -> None:
    with pytest.raises(ValueError, match="skip 'head' is unknown: allowed are block, attn, mlp"):
        skip("head", 1)
    with pytest.raises(ValueError, match="a block runs at least once, 0 times were asked for"):
        repeat(1, times=0)
    for edit in (skip("block", 3), repeat(3), cut(3, key=1), ("L3.z", zero())):
        with pytest.raises(ValueError, match=r"the model has 3 layers \(0-2\)"), edited(tiny_llama, [edit]):
            pass


def test_a_cut_acts_at_its_query_with_a_cache_too(tiny_llama: Model, ids: Tensor) -> None:
    with edited(tiny_llama, [cut(1, query=5, key=2)]):
        assert torch.allclose(cached_logits(tiny_llama, ids, 4), logits_of(tiny_llama, ids), atol=1e-5)
    with pytest.raises(ValueError, match="cannot run with a key-value cache"), edited(tiny_llama, [repeat(1)]):
        cached_logits(tiny_llama, ids, 4)


def test_a_cut_of_a_query_beyond_the_prompt_never_takes_effect(tiny_llama: Model, ids: Tensor) -> None:
    with (
        pytest.raises(ValueError, match="edits that never took effect in any pass: L1.scores cut query 40 key 0"),
        edited(tiny_llama, [cut(1, query=40, key=0)]),
    ):
        logits_of(tiny_llama, ids)
