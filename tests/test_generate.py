"""Greedy continuation is that of transformers, with and without a cache, and under edits."""

import pytest
import torch
from small_models import WORDS, plain_greedy, plain_twin, prompt_ids, small_model

from workbench.edit import add, edited, onward, patch, scale
from workbench.generate import continue_rows, end_tokens, greedy, gumbel_noise, sampling
from workbench.model import Model
from workbench.words import Site

NEW = 5
BIASED = ("MPT", "Falcon old layout, sequential")


@pytest.mark.parametrize("name", ["GPT2", "Gemma3", "GPTNeoX parallel", "Bloom", "OPT", *BIASED])
def test_says_what_transformers_says(name: str) -> None:
    model, ids = small_model(name), prompt_ids()
    expected = plain_greedy(plain_twin(name), ids, NEW)
    assert greedy(model, ids, NEW) == expected
    assert greedy(model, ids, NEW, cached=False) == expected


def test_keeps_the_stop_token_and_ends() -> None:
    model, ids = small_model("Llama"), prompt_ids()
    said = greedy(model, ids, NEW)
    assert greedy(model, ids, NEW, stop=said[2:3]) == said[: said.index(said[2]) + 1]


def test_no_new_tokens_are_none() -> None:
    assert greedy(small_model("Llama"), prompt_ids(), 0) == []


@pytest.mark.parametrize("cached", [True, False])
def test_a_position_is_one_of_the_prompt(cached: bool) -> None:
    """From the front or from the end, an edit acts on the prompt and never on a generated token."""
    model, ids = small_model("Llama"), prompt_ids()
    vector = torch.randn(model.shape.d_model, generator=torch.Generator().manual_seed(5))
    said = []
    for pos in (-1, WORDS - 1):
        with edited(model, [(Site("resid_post", 0, pos=pos), patch(vector))]):
            said.append(greedy(model, ids, NEW, cached=cached))
    with edited(model, [onward(Site("resid_post", 0), patch(vector), since=-1)]):
        everywhere = greedy(model, ids, NEW, cached=cached)
    assert said[0] == said[1] != everywhere


@pytest.mark.parametrize("name", ["GPT2", "Gemma3", "MPT"])
def test_an_edit_acts_alike_with_and_without_a_cache(name: str) -> None:
    model, ids = small_model(name), prompt_ids()
    vector = torch.randn(model.shape.d_model, generator=torch.Generator().manual_seed(6))
    for edit in ((Site("resid_post", 0), add(vector)), onward(Site("z", 1, head=1), scale(-9.0), since=WORDS)):
        with edited(model, [edit]):
            said = greedy(model, ids, NEW)
            assert said == greedy(model, ids, NEW, cached=False)
    assert said != greedy(model, ids, NEW), "the last edit must show, or the test proves nothing"


def test_refuses_more_tokens_than_the_context_holds(tiny_model: Model) -> None:
    with pytest.raises(ValueError, match="60 new tokens do not fit: the prompt has 9 of 64 tokens"):
        greedy(tiny_model, prompt_ids(), 60)


@pytest.mark.parametrize("ids, new_tokens", [([], 3), ([5, 6], -1)])
def test_refuses_nothing_to_continue(tiny_model: Model, ids: list[int], new_tokens: int) -> None:
    with pytest.raises(ValueError, match=f"found {len(ids)} tokens, {new_tokens} new"):
        greedy(tiny_model, ids, new_tokens)


def test_end_tokens_are_those_of_model_and_tokenizer(tiny_model: Model) -> None:
    config = tiny_model.bridge.original_model.generation_config
    before = config.eos_token_id
    try:
        config.eos_token_id = [7, 8]
        assert end_tokens(tiny_model) == {7, 8, tiny_model.tokenizer.eos_token_id}
        config.eos_token_id = None
        assert end_tokens(tiny_model) == {tiny_model.tokenizer.eos_token_id}
    finally:
        config.eos_token_id = before


@pytest.mark.parametrize("name", ["GPT2", "Gemma3", "MPT"])
def test_rows_of_one_length_are_continued_as_each_by_itself(name: str) -> None:
    model, rows = small_model(name), [prompt_ids(seed) for seed in range(4)]
    together = continue_rows(model, torch.tensor(rows), NEW)
    assert together.tolist() == [greedy(model, ids, NEW) for ids in rows]


def test_rows_go_on_until_all_have_ended() -> None:
    model, rows = small_model("Llama"), [prompt_ids(seed) for seed in range(3)]
    whole = continue_rows(model, torch.tensor(rows), NEW).tolist()
    stop = {whole[0][0], whole[1][2], whole[2][1]}
    ends = [next((step for step, token in enumerate(row) if token in stop), NEW - 1) for row in whole]
    assert continue_rows(model, torch.tensor(rows), NEW, stop=stop).shape[1] == max(ends) + 1


def test_a_draw_follows_the_probabilities_of_its_temperature() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0]])
    for temperature in (0.5, 2.0):
        choose = sampling(gumbel_noise(20_000, 4, seed=0), temperature)
        drawn = torch.tensor([int(choose(logits, step)) for step in range(20_000)])
        shares = torch.bincount(drawn, minlength=4) / len(drawn)
        torch.testing.assert_close(shares, (logits[0] / temperature).softmax(-1), atol=0.015, rtol=0)
