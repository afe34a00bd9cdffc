"""Edits do what they say, as the same change made by plain PyTorch hooks, and leave nothing behind."""

from collections.abc import Callable

import pytest
import torch
from plain_model import PlainModel
from running import TEXT, cached_logits, logits_of, with_number
from torch import Tensor

from conftest import hooks_in
from workbench.edit import add, clamp, edited, mean, onward, patch, resample, scale, zero
from workbench.model import Model
from workbench.tracer import Trace, trace
from workbench.words import KINDS, Site

OTHERS = ("w20 w21 w22 w23 w24 w25 w26", "w30 w31 w32 w33 w34 w35 w36", "w40 w41 w42 w43 w44 w45 w46")
LAYER_KINDS = [kind for kind in KINDS if kind not in ("embed", "logits")]


@pytest.fixture
def plain(plain_llama: PlainModel) -> PlainModel:
    return plain_llama


@pytest.fixture
def ids(tiny_llama: Model) -> Tensor:
    return tiny_llama.tokens(TEXT).ids


@pytest.fixture(scope="module")
def traced(tiny_llama: Model) -> Trace:
    return trace(tiny_llama, OTHERS, [*LAYER_KINDS, "embed", "logits"])


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
    "L1.z@3": lambda value: with_number(value, (slice(None), 3), 0.0),
    "L1.z@-1": lambda value: with_number(value, (slice(None), -1), 0.0),
    "L1.H2.z": lambda value: with_number(value, (..., slice(32, 48)), 0.0),
    "L1.H2.z@3": lambda value: with_number(value, (slice(None), 3, slice(32, 48)), 0.0),
    "L2.N7.mlp_post": lambda value: with_number(value, (..., 7), 0.0),
    "L2.N7.mlp_post@5": lambda value: with_number(value, (slice(None), 5, 7), 0.0),
    "L0.mlp_out@2": lambda value: with_number(value, (slice(None), 2), 0.0),
}


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


@pytest.mark.parametrize("split", [3, 5])
@pytest.mark.parametrize("text", ["L1.resid_post@2", "L1.resid_post@6", "L1.H2.z@-1", "L0.H3.pattern@4", "L2.mlp_out"])
def test_an_edit_acts_at_its_position_with_a_cache_too(text: str, split: int, tiny_llama: Model, ids: Tensor) -> None:
    with edited(tiny_llama, [(text, scale(0.0))]):
        assert torch.allclose(cached_logits(tiny_llama, ids, split), logits_of(tiny_llama, ids), atol=1e-5)


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
