"""The self-check at load finds by itself what is wrong with a hook point, and serves nothing that it cannot prove."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from architectures import SERVED, random_model, tiny_tokenizer
from torch import Tensor

from workbench import checks
from workbench.bridge import share_weights
from workbench.checks import Capabilities, prove, refuse_broken_weights
from workbench.edit import edited, scale
from workbench.entry import Cost
from workbench.model import Model, load
from workbench.sites import Places, Point
from workbench.words import KINDS

LAYER_KINDS = [kind for kind in KINDS if kind not in ("embed", "logits")]


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A Gemma 2, whose branches go through a norm before they are added."""
    architecture = next(architecture for architecture in SERVED if architecture.name == "Gemma2")
    return load(str(architecture.save(tmp_path_factory.mktemp("gemma2"))))


def proven(model: Model, points: dict[tuple[str, int | None], Point | None]) -> Capabilities:
    """What the self-check finds with some hook points exchanged or taken away."""
    mixed = {place: point for place, point in {**model.places.points, **points}.items() if point is not None}
    places = Places(mixed, model.places.blocks)
    return prove(model.bridge, model.plain, places, torch.arange(5, 13))


def test_a_sound_model_is_served_whole(tiny_llama: Model) -> None:
    found = proven(tiny_llama, {})
    assert found.served == dict.fromkeys(LAYER_KINDS, (0, 1, 2)) == found.writable
    assert found.reasons == {}
    assert [check.name for check in found.checks if not check.passed] == []
    assert len(found.checks) == 13
    assert found.sizes == {"d_model": 32, "head": 4, "kv_head": 2, "d_head": 16, "d_mlp": 48}


SWAPS: dict[tuple[str, str], tuple[set[str], str]] = {
    ("attn_out", "attn"): ({"attn_out", "mlp_out", "resid_mid"}, "does not add up"),
    ("mlp_out", "mlp"): ({"attn_out", "mlp_out", "resid_mid"}, "does not add up"),
    ("resid_pre", "embed"): ({"resid_pre", "attn_out", "mlp_out", "resid_mid"}, "does not carry|does not add up"),
    ("scores", "pattern"): ({"scores"}, "does not carry what goes into the softmax"),
    ("pattern", "scores"): ({"pattern", "scores", "v"}, "does not carry|pattern times v"),
    ("v", "k"): ({"v"}, "pattern times v is not z"),
    ("z", "q"): ({"z", "v", "pattern"}, "the input of the output projection|pattern times v is not z|the weights that"),
    ("mlp_post", "mlp_pre"): ({"mlp_post", "mlp_pre"}, "has no neurons that one linear map reads"),
    ("mlp_pre", "mlp_post"): ({"mlp_pre"}, "does not carry the input of the activation function"),
    ("mlp_post", "mlp"): ({"mlp_post", "mlp_pre"}, "belongs|has no neurons that one linear map reads"),
    ("k", "q"): ({"k"}, "carries the shape .* belongs"),
}
"""A hook point that carries another one's activation: the kinds that must go, and the reason."""


@pytest.mark.parametrize(("wrong", "carries"), SWAPS, ids=lambda kind: kind)
def test_a_hook_point_that_carries_something_else_is_found_out(wrong: str, carries: str, gemma: Model) -> None:
    gone, reason = SWAPS[wrong, carries]
    other = gemma.places.points[carries, None if carries == "embed" else 1]
    found = proven(gemma, {(wrong, 1): replace(other, d_head=gemma.places.points[wrong, 1].d_head)})
    assert {kind for kind in LAYER_KINDS if found.served.get(kind, ()) != (0, 1)} == gone
    assert all(found.served[kind] == (0,) for kind in gone), "the sound layer is still served"
    for kind in gone:
        assert any(word in found.reasons[kind] for word in reason.replace(".*", "|").split("|")), found.reasons[kind]


def test_a_hook_point_that_is_missing_leads_to_a_reason_and_no_passed_check(tiny_llama: Model) -> None:
    found = proven(tiny_llama, {("mlp_out", layer): None for layer in range(3)})
    assert {"attn_out", "mlp_out", "resid_mid"} & set(found.served) == set()
    assert found.reason("mlp_out") == "this architecture has no hook point for it that fires"
    assert "does not add up" in str(found.reason("attn_out"))
    assert not found.passed("parts of each layer add up to the residual stream")
    assert not found.passed("the MLP reads what attention wrote")


def test_a_missing_last_stream_fails_the_checks_that_need_it(tiny_llama: Model) -> None:
    found = proven(tiny_llama, {("resid_post", 2): None})
    assert not found.passed("unembedding the last residual gives the logits")
    assert not found.passed("blocks replayed by themselves give the same stream")
    assert found.served["resid_post"] == (0, 1)


class Deaf(Point):
    """A point that can be heard but not told anything."""

    def raw(self, raw: Tensor, value: Tensor) -> Tensor:
        return raw


@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_a_hook_point_that_swallows_what_is_written_is_found_out(kind: str, tiny_llama: Model) -> None:
    point = tiny_llama.places.points[kind, 1]
    found = proven(tiny_llama, {(kind, 1): Deaf(point.module, point.d_head, point.scale)})
    assert 1 not in found.writable.get(kind, ()), "a write that is lost must not be promised"
    assert found.writable[kind] == (0, 2)


def test_wrong_numbers_are_refused(tiny_model: Model) -> None:
    module = tiny_model.bridge.blocks[1].mlp
    handle = module.register_forward_hook(lambda _module, _args, output: output * 1.001)
    try:
        with pytest.raises(ValueError, match="hooked and plain logits differ by .* wrong numbers"):
            proven(tiny_model, {})
    finally:
        handle.remove()


def test_numbers_that_overflow_are_refused_with_a_dtype_that_helps(tmp_path: Path) -> None:
    architecture = next(architecture for architecture in SERVED if architecture.name == "Gemma")
    hf_model = random_model(architecture.make_config())
    with torch.no_grad():
        for layer in hf_model.model.layers:
            layer.mlp.down_proj.weight.mul_(8e4)
    hf_model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not finite in float16: load it with dtype bfloat16 or float32"):
        load(str(tmp_path), dtype="float16")
    assert load(str(tmp_path), dtype="bfloat16").capabilities.passed("hooked logits equal plain logits")


def test_a_weight_that_is_no_number_is_named(tiny_model: Model) -> None:
    copy = random_model(tiny_model.plain.config)
    refuse_broken_weights(copy)
    with torch.no_grad():
        copy.transformer.h[2].mlp.c_fc.bias[3:5] = float("nan")
    with pytest.raises(ValueError, match="weight transformer.h.2.mlp.c_fc.bias holds 2 values that are NaN"):
        refuse_broken_weights(copy)
    with torch.no_grad():
        copy.transformer.h[2].mlp.c_fc.bias[3:5] = 3e38  # finite, though their sum is not
    refuse_broken_weights(copy)


def test_the_self_check_leaves_the_model_as_it_was(tiny_llama: Model) -> None:
    ids = torch.arange(5, 12)[None]
    with torch.no_grad():
        before = tiny_llama.forward(ids)
        proven(tiny_llama, {})
        assert torch.equal(tiny_llama.forward(ids), before)


def test_an_edit_where_writing_is_impossible_is_refused(gemma: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    point = gemma.places.points["pattern", 1]
    found = proven(gemma, {("pattern", 1): Deaf(point.module, point.d_head, point.scale)})
    monkeypatch.setattr(gemma, "capabilities", found)
    refusal = pytest.raises(ValueError, match="L1.pattern is read-only in .*: a change there has no effect")
    with refusal, edited(gemma, [("L1.pattern", scale(0.0))]):
        pass


def test_capabilities_are_plain_json(tiny_llama: Model) -> None:
    told = json.loads(json.dumps(tiny_llama.capabilities.describe()))
    assert told["served"]["z"] == [0, 1, 2] and told["reasons"] == {}
    assert {check["name"] for check in told["checks"]} >= {"hooked logits equal plain logits"}


def test_a_clone_shares_its_weights_and_none_of_its_hooks(tiny_model: Model) -> None:
    clone: Any = share_weights(tiny_model.plain)
    weights = dict(tiny_model.plain.named_parameters())
    assert all(weight is weights[name] for name, weight in clone.named_parameters())
    clone.transformer.h[0].register_forward_hook(_zeroed)
    ids = torch.arange(5, 12)[None]
    with torch.no_grad():
        assert not torch.equal(clone(ids).logits, tiny_model.plain(ids).logits)


def _zeroed(_module: object, _args: object, output: Any) -> Any:
    change: Callable[[Tensor], Tensor] = torch.zeros_like
    return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)


class Clockwork:
    """A model whose passes take exactly known seconds, by a clock of its own."""

    def __init__(self, per_pass: float, per_token: float) -> None:
        self.now, self.per_pass, self.per_token = 0.0, per_pass, per_token

    def __call__(self, ids: Tensor, use_cache: bool) -> Tensor:
        self.now += self.per_pass + self.per_token * ids.numel()
        return torch.zeros(*ids.shape, 3)


@pytest.mark.parametrize(("per_pass", "per_token"), [(0.08, 0.001), (0.0, 0.02), (0.004, 0.0)])
def test_the_time_of_a_long_pass_follows_from_the_two_that_were_measured(
    per_pass: float, per_token: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Clockwork(per_pass, per_token)
    monkeypatch.setattr(checks.time, "perf_counter", lambda: model.now)
    fixed, each = checks._measure_speed(model, torch.zeros(2, 8, dtype=torch.long))
    measured = SimpleNamespace(seconds_per_pass=fixed, seconds_per_token=each)
    if per_token:
        assert Cost(passes=3, tokens=30_000).seconds(measured) == pytest.approx(3 * per_pass + 30_000 * per_token)
        assert (fixed, each) == (pytest.approx(per_pass, abs=1e-9), pytest.approx(per_token))
    else:
        assert (fixed, each) == (0.0, per_pass / 128), "nothing told the tokens apart: the guess errs upwards"


def test_a_long_prompt_is_not_charged_what_every_pass_costs(tiny_llama: Model) -> None:
    found = tiny_llama.capabilities
    assert found.seconds_per_token > 0
    alone = Cost(passes=1, tokens=16).seconds(tiny_llama)
    assert Cost(passes=1, tokens=1600).seconds(tiny_llama) < 100 * alone or found.seconds_per_pass == 0
