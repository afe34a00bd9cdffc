"""A block that runs by itself gives what it gave in the whole pass, for one row and for several."""

import pytest
import torch
from small_models import prompt_ids, small_model

from workbench.cache import empty_cache, filled_cache, layer_of
from workbench.model import Model
from workbench.replay import BlockCall, recorded_calls, replay_block
from workbench.tracer import trace
from workbench.words import Site

NAMES = ("GPT2", "Llama", "Gemma3", "GPTNeoX parallel", "Bloom", "OPT", "MPT", "Falcon old layout, sequential")


def calls_of(model: Model, ids: list[list[int]]) -> list[BlockCall]:
    with torch.no_grad(), recorded_calls(model.bridge) as calls:
        model.forward(torch.tensor(ids))
    return calls


@pytest.mark.parametrize("name", NAMES)
def test_rows_run_together_as_each_by_itself(name: str) -> None:
    """Three prompts through the call recorded for one of them."""
    model = small_model(name)
    prompts = [prompt_ids(seed) for seed in range(3)]
    one, twice = calls_of(model, prompts[:1]), calls_of(model, prompts[:1] * 2)
    traced = trace(model, model.tokens_of(prompts), ["resid_pre", "resid_post"])
    for layer, call in enumerate(one):
        spread = call.for_rows(3, call.growing(twice[layer]))
        with torch.no_grad():
            found = replay_block(model.bridge.blocks[layer], spread, traced[Site("resid_pre", layer)])
        torch.testing.assert_close(found, traced[Site("resid_post", layer)], atol=1e-5, rtol=1e-5)


def test_replays_onto_another_cache() -> None:
    model, ids = small_model("Gemma3"), prompt_ids()
    cache = empty_cache()
    with torch.no_grad():
        model.forward(torch.tensor([ids[:5]]), cache=cache)
        before = [layer_of(cache, layer) for layer in range(2)]
        with recorded_calls(model.bridge) as calls:
            model.forward(torch.tensor([ids[5:]]), cache=cache)
        expected = trace(model, model.tokens_of([ids]), "L1.resid_post")["L1.resid_post"][:, 5:]
        own = filled_cache([None, before[1]])
        found = replay_block(model.bridge.blocks[1], calls[1], calls[1].resid, own)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(layer_of(own, 1), layer_of(cache, 1), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def made_call(**kwargs: object) -> BlockCall:
    return BlockCall(torch.zeros(1, 3, 2), (), kwargs)


def test_tells_shared_tensors_from_those_of_every_row() -> None:
    mask, slopes, table = torch.rand(1, 1, 3, 3), torch.rand(4, 1, 3), torch.rand(1, 3, 2)
    one = made_call(mask=mask, slopes=slopes, table=(table, 7), cache=None)
    two = made_call(mask=mask.repeat(2, 1, 1, 1), slopes=slopes.repeat(2, 1, 1), table=(table, 7), cache=None)
    growing = one.growing(two)
    assert growing == {"mask": True, "slopes": True, "table": [False, None], "cache": None}
    spread = one.for_rows(5, growing)
    assert torch.equal(spread.kwargs["mask"], mask.repeat(5, 1, 1, 1))
    assert torch.equal(spread.kwargs["slopes"], slopes.repeat(5, 1, 1))
    assert spread.kwargs["table"] == (table, 7)


def test_refuses_a_call_whose_rows_differ() -> None:
    one, two = made_call(bias=torch.zeros(1, 3)), made_call(bias=torch.tensor([[0.0] * 3, [1.0] * 3]))
    with pytest.raises(ValueError, match=r"argument bias has the shape \(1, 3\) for one row and \(2, 3\)"):
        one.growing(two)


def test_refuses_a_call_of_another_kind() -> None:
    growing = made_call(mask=None, pair=None).growing(made_call(mask=None, pair=None))
    for call in (made_call(mask=torch.zeros(1, 3), pair=None), made_call(mask=None, pair=(torch.zeros(3), 1))):
        with pytest.raises(ValueError, match="their arguments change in kind"):
            call.for_rows(2, growing)


def test_a_call_for_some_of_its_rows() -> None:
    mask, slopes, shared = torch.rand(3, 1, 2), torch.rand(6, 4), torch.rand(1, 2)
    call = made_call(mask=mask, slopes=slopes, table=(shared, 7), cache=None)
    some = call.of_rows([2, 0], 3, {"mask": True, "slopes": True, "table": [False, None], "cache": None})
    assert torch.equal(some.kwargs["mask"], mask[[2, 0]])
    assert torch.equal(some.kwargs["slopes"], slopes[[4, 5, 0, 1]])
    assert some.kwargs["table"][0] is shared and some.kwargs["cache"] is None
    with pytest.raises(ValueError, match="their arguments change in kind"):
        call.of_rows([0], 3, {"mask": None, "slopes": True, "table": [False, None], "cache": None})


def test_a_call_is_read_and_written_as_a_hook_sees_it() -> None:
    stream = torch.rand(1, 2, 3)
    for args, kwargs in (((stream, 5), {"mask": None}), ((), {"hidden_states": stream, "mask": None})):
        call = BlockCall.of(args, kwargs)
        assert call.resid is stream
        assert call.written() == ((stream, *args[1:]), {"mask": None})


def test_recording_ends_after_an_error(tiny_model: Model) -> None:
    with pytest.raises(RuntimeError), recorded_calls(tiny_model.bridge):
        raise RuntimeError
    with torch.no_grad():
        calls = calls_of(tiny_model, [prompt_ids()])
    assert len(calls) == tiny_model.shape.n_layers
