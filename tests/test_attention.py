"""Rows of attention read from a cached prompt are those of transformers' full attention maps."""

import pytest
import torch
from small_models import WORDS, forgetful_model, plain_twin, prompt_ids, small_model
from torch import Tensor

from workbench.attention import TopKeys, Trunk, prefill, read_rows, refuse_lost_keys, stream_rows
from workbench.cache import empty_cache, keeps, layer_of
from workbench.model import Model

NAMES = ("GPT2", "Llama", "Gemma2", "Gemma3", "GPTNeoX parallel", "Bloom", "Mixtral", "MPT")


@torch.no_grad()
def maps(name: str, ids: list[int]) -> tuple[Tensor, Tensor]:
    """Attention [layer, head, query, key] and logits [pos, vocab] of a model the workbench never touched."""
    output = plain_twin(name)(torch.tensor([ids]), output_attentions=True, use_cache=False)
    return torch.stack([layer[0] for layer in output.attentions]), output.logits[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cached", [0, 4, WORDS - 1])
def test_top_keys_and_logits_are_those_of_the_full_map(name: str, cached: int) -> None:
    model, ids, cache = small_model(name), prompt_ids(), empty_cache()
    prefill(model, ids[:cached], cache)
    logits, rows = read_rows(model, ids[cached:], cache)
    patterns, expected = maps(name, ids)
    torch.testing.assert_close(logits, expected[cached:], atol=1e-5, rtol=1e-5)
    assert torch.equal(rows.keys, patterns[:, :, cached:].argmax(-1))
    assert keeps(cache, WORDS)


def test_margins_are_the_lead_of_the_logarithms_of_attention() -> None:
    """Softmax turns a difference of scores into a ratio of weights."""
    model, ids, cache = small_model("Llama"), prompt_ids(), empty_cache()
    prefill(model, ids[:4], cache)
    _, rows = read_rows(model, ids[4:], cache)
    best = maps("Llama", ids)[0][:, :, 4:].log().topk(2).values
    torch.testing.assert_close(rows.margins, best[..., 0] - best[..., 1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["Llama", "Gemma3", "GPT2"])
def test_the_size_of_the_pieces_of_a_prefill_changes_nothing(name: str) -> None:
    model, ids = small_model(name), prompt_ids(length=20)
    caches = [empty_cache() for _ in range(3)]
    for cache, chunk in zip(caches, (1, 6, 2048), strict=True):
        prefill(model, ids, cache, chunk)
        assert keeps(cache, len(ids))
    for layer in range(model.shape.n_layers):
        for cache in caches[1:]:
            for one, other in zip(layer_of(cache, layer), layer_of(caches[0], layer), strict=True):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_trunk_gives_what_a_prefill_from_the_start_gives_in_any_order() -> None:
    model, trunk_ids = small_model("Gemma3"), prompt_ids(length=30)
    prompts = [[*trunk_ids[:shared], *prompt_ids(seed=shared + 1, length=5)] for shared in (0, 20, 7, 25, 7)]
    for order in ([0, 1, 2, 3, 4], [3, 4, 1, 0, 2]):
        trunk = Trunk(model, trunk_ids)
        for ids in (prompts[place] for place in order):
            cache, shared = trunk.cache_for(ids)
            assert keeps(cache, shared)
            assert ids[:shared] == trunk_ids[:shared]
            assert shared == len(ids) - 1 or ids[shared] != trunk_ids[shared]
            prefill(model, ids[shared:-1], cache)
            logits, rows = read_rows(model, ids[-1:], cache)
            patterns, expected = maps("Gemma3", ids)
            torch.testing.assert_close(logits[0], expected[-1], atol=1e-5, rtol=1e-5)
            assert torch.equal(rows.keys[..., 0], patterns[:, :, -1].argmax(-1))
        assert trunk.computed == 25


def test_a_prompt_within_the_trunk_leaves_its_last_token_to_be_run() -> None:
    model, ids = small_model("Llama"), prompt_ids()
    cache, shared = Trunk(model, [*ids, 5, 6]).cache_for(ids)
    assert shared == len(ids) - 1
    assert keeps(cache, shared)


def test_rows_can_be_cut_and_joined() -> None:
    keys = torch.arange(24).reshape(2, 3, 4)
    rows = TopKeys(keys, keys.float())
    halves = [rows.first(1), TopKeys(keys[..., 1:], keys[..., 1:].float())]
    assert torch.equal(halves[0].keys, keys[..., :1])
    assert torch.equal(TopKeys.joined(halves).keys, keys)
    assert torch.equal(TopKeys.joined(halves).margins, keys.float())


def test_refuses_hooked_attention_that_keeps_no_keys() -> None:
    model = forgetful_model()
    with pytest.raises(ValueError, match="its hooked attention keeps no keys"):
        refuse_lost_keys(model)


@pytest.mark.parametrize("name", NAMES)
def test_hooked_attention_keeps_its_keys(name: str) -> None:
    refuse_lost_keys(small_model(name))


def test_refuses_a_model_without_scores() -> None:
    with pytest.raises(ValueError, match=r"attention scores in the layers \[\] of 2 only"):
        read_rows(small_model("OPT"), prompt_ids(), empty_cache())


def test_no_hook_is_left(tiny_model: Model) -> None:
    read_rows(tiny_model, prompt_ids(), empty_cache())


@pytest.mark.parametrize("name", ["GPT2", "Llama", "Gemma3", "GPTNeoX parallel"])
@pytest.mark.parametrize("chunk", [1, 4, 512])
def test_streamed_rows_are_those_of_the_full_map(name: str, chunk: int) -> None:
    """Two prompts of unequal length, some queries at a time."""
    model, prompts = small_model(name), [prompt_ids(), prompt_ids(seed=1, length=5)]
    found: dict[int, list[Tensor]] = {}
    starts: dict[int, list[int]] = {}

    def take(layer: int, start: int, rows: Tensor) -> None:
        found.setdefault(layer, []).append(torch.nn.functional.pad(rows, (0, WORDS - rows.shape[-1])))
        starts.setdefault(layer, []).append(start)

    stream_rows(model, model.tokens_of(prompts), {"pattern": take}, chunk=chunk)
    patterns = torch.stack([torch.cat(found[layer], dim=2) for layer in sorted(found)], dim=1)
    for row, ids in enumerate(prompts):
        expected = maps(name, ids)[0]
        torch.testing.assert_close(patterns[row, :, :, : len(ids), : len(ids)], expected, atol=1e-5, rtol=1e-4)
    assert starts[0] == list(range(0, WORDS, chunk))


def test_a_long_prompt_is_not_streamed_where_keys_are_lost() -> None:
    model = forgetful_model()
    tokens = model.tokens_of([prompt_ids()])
    stream_rows(model, tokens, {"z": lambda *_: None}, chunk=WORDS)
    with pytest.raises(ValueError, match="its hooked attention keeps no keys"):
        stream_rows(model, tokens, {"z": lambda *_: None}, chunk=WORDS - 1)
