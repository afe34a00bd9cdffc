"""Edits do what they say, as the same change made by plain PyTorch hooks, and leave nothing behind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch as replaced

import pytest
import torch
from architectures import SERVED
from conftest import hooks_in
from plain_model import PlainModel, plain_model
from torch import Tensor

from workbench.edit import add, clamp, edited, mean, onward, patch, resample, scale, zero
from workbench.model import Model
from workbench.rewiring import cut, repeat, skip
from workbench.tracer import Trace, trace
from workbench.words import KINDS, Site

TEXT = "w5 w6 w7 w8 w9 w10 w11"
OTHERS = ("w20 w21 w22 w23 w24 w25 w26", "w30 w31 w32 w33 w34 w35 w36", "w40 w41 w42 w43 w44 w45 w46")
LAYER_KINDS = [kind for kind in KINDS if kind not in ("embed", "logits")]


@pytest.fixture(scope="module")
def plain(llama_folder: Path) -> PlainModel:
    llama = next(architecture for architecture in SERVED if architecture.name == "Llama")
    return plain_model(llama_folder, llama.parts)


@pytest.fixture
def ids(tiny_llama: Model) -> Tensor:
    return tiny_llama.tokens(TEXT).ids


@pytest.fixture(scope="module")
def traced(tiny_llama: Model) -> Trace:
    return trace(tiny_llama, OTHERS, [*LAYER_KINDS, "embed", "logits"])


def logits_of(model: Model, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model.forward(ids)


VECTOR = torch.linspace(-1.0, 1.0, 32)

MAKERS: dict[str, tuple[Callable[[Trace], object], Callable[[Tensor, Trace], Tensor]]] = {
    "zero": (lambda _: zero(), lambda value, _: value * 0),
    "add": (lambda _: add(VECTOR, scale=3.0), lambda value, _: value + 3 * VECTOR),
    "scale": (lambda _: scale(-2.0), lambda value, _: value * -2),
    "clamp": (lambda _: clamp(1.5), lambda value, _: value * 0 + 1.5),
    "patch": (lambda traced: patch(traced["L1.attn_out"][:1]), lambda value, traced: traced["L1.attn_out"][:1]),
    "mean": (
        lambda traced: mean(traced, "L1.attn_out"),
        lambda value, traced: traced["L1.attn_out"].mean((0, 1)).expand_as(value),
    ),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_a_maker_does_what_it_says(
    maker: str, tiny_llama: Model, plain: PlainModel, ids: Tensor, traced: Trace
) -> None:
    make, change = MAKERS[maker]
    with edited(tiny_llama, [("L1.attn_out", make(traced))]):
        found = logits_of(tiny_llama, ids)
    expected = plain.logits_with(ids, "attn_out", 1, lambda value: change(value, traced))
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, logits_of(tiny_llama, ids), atol=1e-3)


def test_a_resampled_prompt_has_the_activation_of_another(tiny_llama: Model, ids: Tensor, traced: Trace) -> None:
    candidates = traced["L1.mlp_out"]
    drawn = []
    for seed in range(8):
        with edited(tiny_llama, [("L1.mlp_out", resample(traced, "L1.mlp_out", seed))]):
            value = trace(tiny_llama, TEXT, "L1.mlp_out")["L1.mlp_out"][0]
        drawn.append(next(row for row in range(3) if torch.equal(candidates[row], value)))
    assert set(drawn) == {0, 1, 2}


def test_a_resample_of_unequal_prompts_needs_a_position(tiny_llama: Model) -> None:
    unequal = trace(tiny_llama, ["w5 w6", "w7 w8 w9"], ["L1.mlp_out", "L1.mlp_out@-1"])
    with pytest.raises(ValueError, match="the traced prompts differ in length, so name a position"):
        resample(unequal, "L1.mlp_out", seed=0)
    with edited(tiny_llama, [("L1.mlp_out@-1", resample(unequal, "L1.mlp_out@-1", seed=0))]):
        logits_of(tiny_llama, unequal.tokens.ids)


def test_a_mean_over_unequal_prompts_leaves_the_padding_out(tiny_llama: Model) -> None:
    unequal = trace(tiny_llama, ["w5 w6", "w7 w8 w9 w10"], "L1.mlp_out")
    value = mean(unequal, "L1.mlp_out")(torch.zeros(1, 2, 32))
    rows = torch.cat([unequal["L1.mlp_out"][0, :3], unequal["L1.mlp_out"][1]])
    assert torch.allclose(value[0, 0], rows.mean(0))


PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "L1.z@3": lambda value: at(value, (slice(None), 3), 0.0),
    "L1.z@-1": lambda value: at(value, (slice(None), -1), 0.0),
    "L1.H2.z": lambda value: at(value, (..., slice(32, 48)), 0.0),
    "L1.H2.z@3": lambda value: at(value, (slice(None), 3, slice(32, 48)), 0.0),
    "L2.N7.mlp_post": lambda value: at(value, (..., 7), 0.0),
    "L2.N7.mlp_post@5": lambda value: at(value, (slice(None), 5, 7), 0.0),
    "L0.mlp_out@2": lambda value: at(value, (slice(None), 2), 0.0),
}


def at(value: Tensor, place: object, number: float) -> Tensor:
    changed = value.clone()
    changed[place] = number
    return changed


@pytest.mark.parametrize("text", PARTS)
def test_an_edit_of_a_head_a_neuron_or_a_position_changes_that_alone(
    text: str, tiny_llama: Model, plain: PlainModel, ids: Tensor
) -> None:
    site = Site.parse(text)
    with edited(tiny_llama, [(text, zero())]):
        found = logits_of(tiny_llama, ids)
    expected = plain.logits_with(ids, site.kind, site.layer, PARTS[text])
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["pattern", "scores"])
def test_an_edit_of_an_attention_map_is_seen_by_the_head_and_query_that_it_names(kind: str, tiny_llama: Model) -> None:
    before = trace(tiny_llama, TEXT, ["L1.pattern", "L1.z"])
    with edited(tiny_llama, [(f"L1.H2.{kind}@4", zero())]):
        after = trace(tiny_llama, TEXT, ["L1.pattern", "L1.z"])
    row = torch.zeros(8) if kind == "pattern" else torch.tensor([0.2] * 5 + [0.0] * 3)
    assert torch.allclose(after["L1.pattern"][0, 2, 4], row)
    changed = (after["L1.z"] != before["L1.z"]).any(-1)[0]
    assert changed.nonzero().tolist() == [[4, 2]]


def test_an_edit_of_a_key_head_reaches_the_queries_of_its_group(tiny_llama: Model) -> None:
    before = trace(tiny_llama, TEXT, "L1.pattern")["L1.pattern"]
    with edited(tiny_llama, [("L1.H1.k", scale(2.0))]):
        after = trace(tiny_llama, TEXT, "L1.pattern")["L1.pattern"]
    assert torch.equal(after[0, :2], before[0, :2])
    assert not torch.isclose(after[0, 2:], before[0, 2:]).all(-1).all(-1).any()


IDENTITIES: dict[str, Callable[[Tensor], Callable[[Tensor], Tensor]]] = {
    "the same tensor": lambda value: lambda activation: activation,
    "a copy": lambda value: lambda activation: activation.clone(),
    "scale by 1": lambda value: scale(1.0),
    "nothing added": lambda value: add(torch.zeros(1)),
    "its own patch": patch,
}


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("model_name", ["tiny_model", "tiny_llama"])
def test_an_edit_that_changes_nothing_changes_nothing_bit_for_bit(
    identity: str, model_name: str, request: pytest.FixtureRequest
) -> None:
    model: Model = request.getfixturevalue(model_name)
    sites = [Site("embed"), *(Site(kind, layer) for kind in LAYER_KINDS for layer in range(3))]
    own = trace(model, TEXT, [*sites, "logits"])
    for parts in (sites, [Site(site.kind, site.layer, pos=3) for site in sites]):
        edits = [(site, IDENTITIES[identity](own[site])) for site in parts]
        with edited(model, edits):
            assert torch.equal(logits_of(model, own.tokens.ids), own.logits)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_stream_of_another_prompt_gives_its_logits_bit_for_bit(
    layer: int, tiny_llama: Model, ids: Tensor, traced: Trace
) -> None:
    with edited(tiny_llama, [(Site("resid_post", layer), patch(traced[Site("resid_post", layer)][1:2]))]):
        assert torch.equal(logits_of(tiny_llama, ids)[0], traced.logits[1])


def test_edits_act_in_the_given_order(tiny_llama: Model, ids: Tensor) -> None:
    one, two = ("L1.mlp_out", add(VECTOR)), ("L1.mlp_out", scale(2.0))
    with edited(tiny_llama, [one, two]):
        first = logits_of(tiny_llama, ids)
    with edited(tiny_llama, [one]), edited(tiny_llama, [two]):
        nested = logits_of(tiny_llama, ids)
    with edited(tiny_llama, [two, ("L1.mlp_out", add(VECTOR, scale=2.0))]):
        same = logits_of(tiny_llama, ids)
    with edited(tiny_llama, [two, one]):
        swapped = logits_of(tiny_llama, ids)
    assert torch.equal(first, nested)
    assert torch.allclose(first, same, atol=1e-5)
    assert not torch.allclose(first, swapped, atol=1e-3)


def test_the_end_of_an_inner_block_leaves_the_outer_edit(tiny_llama: Model, ids: Tensor) -> None:
    plain_logits = logits_of(tiny_llama, ids)
    with edited(tiny_llama, [("L0.mlp_out", zero())]):
        outer = logits_of(tiny_llama, ids)
        with edited(tiny_llama, [("L2.attn_out", zero())]):
            assert not torch.equal(logits_of(tiny_llama, ids), outer)
        assert torch.equal(logits_of(tiny_llama, ids), outer)
    assert torch.equal(logits_of(tiny_llama, ids), plain_logits)


def test_an_edit_between_attention_and_mlp_counts_on_the_stream_as_it_is_then(
    tiny_llama: Model, ids: Tensor, traced: Trace
) -> None:
    wanted = traced["L1.resid_mid"][:1]
    with edited(tiny_llama, [("L1.resid_mid", patch(wanted)), ("L1.resid_pre", add(VECTOR, scale=5.0))]):
        found = trace(tiny_llama, TEXT, ["L1.resid_mid", "L1.resid_post", "L1.mlp_out"])
    assert torch.allclose(found["L1.resid_mid"], wanted, atol=1e-5)
    assert torch.allclose(found["L1.resid_post"], wanted + found["L1.mlp_out"], atol=1e-5)


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
    "an edge": (cut(1, query=5, key=2), lambda scores: at(scores, (slice(None), slice(None), 5, 2), INFINITE)),
    "an edge of a head": (cut(1, query=5, key=2, head=3), lambda scores: at(scores, (slice(None), 3, 5, 2), INFINITE)),
    "a key": (cut(1, key=2), lambda scores: at(scores, (..., slice(None), 2), INFINITE)),
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


def cached_logits(model: Model, ids: Tensor, split: int) -> Tensor:
    """The logits of a prompt that is run in two parts with a key-value cache."""
    from transformers import DynamicCache

    cache, length = DynamicCache(), (ids.shape[1],)
    with torch.no_grad():
        parts = [model.forward(ids[:, :split], lengths=length, cache=cache)]
        return torch.cat([*parts, model.forward(ids[:, split:], lengths=length, cache=cache)], dim=1)


@pytest.mark.parametrize("split", [3, 5])
@pytest.mark.parametrize("text", ["L1.resid_post@2", "L1.resid_post@6", "L1.H2.z@-1", "L0.H3.pattern@4", "L2.mlp_out"])
def test_an_edit_acts_at_its_position_with_a_cache_too(text: str, split: int, tiny_llama: Model, ids: Tensor) -> None:
    with edited(tiny_llama, [(text, scale(0.0))]):
        assert torch.allclose(cached_logits(tiny_llama, ids, split), logits_of(tiny_llama, ids), atol=1e-5)


def test_a_cut_acts_at_its_query_with_a_cache_too(tiny_llama: Model, ids: Tensor) -> None:
    with edited(tiny_llama, [cut(1, query=5, key=2)]):
        assert torch.allclose(cached_logits(tiny_llama, ids, 4), logits_of(tiny_llama, ids), atol=1e-5)
    with pytest.raises(ValueError, match="cannot run with a key-value cache"), edited(tiny_llama, [repeat(1)]):
        cached_logits(tiny_llama, ids, 4)


def test_an_edit_from_a_position_onward_acts_on_all_later_ones(tiny_llama: Model, ids: Tensor) -> None:
    before = trace(tiny_llama, TEXT, "L1.resid_post")["L1.resid_post"]
    for since in (5, -3):
        with edited(tiny_llama, [onward("L1.resid_post", add(VECTOR), since)]):
            after = trace(tiny_llama, TEXT, "L1.resid_post")["L1.resid_post"]
            assert torch.allclose(cached_logits(tiny_llama, ids, 6), logits_of(tiny_llama, ids), atol=1e-5)
        assert torch.equal(after[:, :5], before[:, :5])
        assert torch.equal(after[:, 5:], before[:, 5:] + VECTOR)
    with pytest.raises(ValueError, match="name the position once, as `since`"):
        onward("L1.resid_post@2", zero(), 5)


def test_a_change_made_in_place_counts_and_harms_nothing(tiny_llama: Model, ids: Tensor) -> None:
    def in_place(value: Tensor) -> Tensor:
        value[:, 2] = 0.0
        return value

    with edited(tiny_llama, [("L1.resid_post", in_place)]):
        streams = trace(tiny_llama, TEXT, ["resid_pre", "resid_post", "logits"])
    with edited(tiny_llama, [("L1.resid_post@2", zero())]):
        assert torch.equal(logits_of(tiny_llama, ids), streams.logits)


def stop(_value: Tensor) -> Tensor:
    raise KeyboardInterrupt


def break_down(_value: Tensor) -> Tensor:
    raise RuntimeError("broken")


FAULTS: dict[str, tuple[str, Callable[[Tensor], object], type[BaseException], str]] = {
    "another shape": ("L1.z", lambda value: value[:, :1], ValueError, r"must keep the shape \(1, 8, 4, 16\)"),
    "no tensor": ("L1.z", lambda value: value.numpy(), TypeError, "must return a tensor, it returned ndarray"),
    "nothing": ("L1.z", lambda value: None, TypeError, "must return a tensor, it returned NoneType"),
    "not a number": ("L1.z", lambda value: value * float("nan"), ValueError, "returned numbers that are not finite"),
    "infinite": ("L1.z@2", lambda value: value / 0.0, ValueError, "returned numbers that are not finite"),
    "a patch that does not fit": ("L1.z", patch(torch.zeros(1, 9, 4, 16)), ValueError, r"\(1, 9, 4, 16\) does not fit"),
    "an error": ("L1.z", break_down, RuntimeError, "broken"),
    "Ctrl-C": ("L1.z", stop, KeyboardInterrupt, "^$"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_edit_raises_and_leaves_the_model_as_it_was(fault: str, tiny_llama: Model, ids: Tensor) -> None:
    site, function, error, sentence = FAULTS[fault]
    baseline, hooks = logits_of(tiny_llama, ids), hooks_in(tiny_llama)
    with pytest.raises(error, match=sentence), edited(tiny_llama, [("L0.mlp_out", zero()), (site, function)]):
        trace(tiny_llama, TEXT, "L2.resid_post")
    assert hooks_in(tiny_llama) == hooks
    assert tiny_llama.current_pass is None and not tiny_llama.rehearsing
    assert torch.equal(logits_of(tiny_llama, ids), baseline)


def test_an_error_between_the_edits_removes_them(tiny_llama: Model) -> None:
    hooks = hooks_in(tiny_llama)
    with pytest.raises(ZeroDivisionError), edited(tiny_llama, [("L1.z", zero())]):
        _ = 1 / 0
    assert hooks_in(tiny_llama) == hooks
    with pytest.raises(ValueError, match="L9"), edited(tiny_llama, [("L1.z", zero()), ("L9.z", zero())]):
        pass
    assert hooks_in(tiny_llama) == hooks


def test_an_edit_that_never_took_effect_is_an_error(tiny_llama: Model, ids: Tensor) -> None:
    with (
        pytest.raises(ValueError, match="edits that never took effect in any pass: L1.scores cut query 40 key 0"),
        edited(tiny_llama, [cut(1, query=40, key=0)]),
    ):
        logits_of(tiny_llama, ids)
    with pytest.raises(ValueError, match="never took effect in any pass: L2.z"), edited(tiny_llama, [("L2.z", zero())]):
        trace(tiny_llama, TEXT, "L0.resid_post")


def test_an_edit_outside_the_prompt_is_refused(tiny_llama: Model, ids: Tensor) -> None:
    with pytest.raises(ValueError, match="the prompt has 8 tokens"), edited(tiny_llama, [("L1.z@8", zero())]):
        logits_of(tiny_llama, ids)


def test_the_logits_can_be_read_only(tiny_llama: Model) -> None:
    with pytest.raises(ValueError, match="site logits can be read only"), edited(tiny_llama, [("logits", zero())]):
        pass


def test_scores_that_are_changed_stay_causal(tiny_llama: Model) -> None:
    with edited(tiny_llama, [("L1.scores", clamp(3.0))]):
        pattern = trace(tiny_llama, TEXT, "L1.pattern")["L1.pattern"]
    expected = torch.ones(8, 8).tril() / torch.arange(1, 9)[:, None]
    assert torch.allclose(pattern, expected.expand_as(pattern))
