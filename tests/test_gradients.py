"""Gradients at every site are those of autograd on the plain model, and finite differences."""

from pathlib import Path

import pytest
import torch
from architectures import SERVED
from plain_model import PlainModel, plain_model
from running import TEXT, UNEQUAL
from torch import Tensor

from workbench.edit import add, edited
from workbench.model import Model, load
from workbench.tracer import trace
from workbench.words import KINDS, Site

LAYER_KINDS = [kind for kind in KINDS if kind not in ("embed", "logits")]


@pytest.fixture(scope="module")
def precise_model(llama_folder: Path) -> Model:
    """The tiny Llama in 64 bits, where derivatives can be checked."""
    return load(str(llama_folder), dtype="float64")


@pytest.fixture(scope="module")
def smooth_model(tiny_folder: Path) -> Model:
    """The tiny GPT-2 in 64 bits; a Llama computes its norms and its softmax in 32 all the same."""
    return load(str(tiny_folder), dtype="float64")


@pytest.fixture(scope="module")
def precise_plain(llama_folder: Path) -> PlainModel:
    llama = next(architecture for architecture in SERVED if architecture.name == "Llama")
    return plain_model(llama_folder, llama.parts, torch.float64)


def metric(logits: Tensor) -> Tensor:
    """Something curved."""
    return (logits[:, -1, 5] - logits[:, -1, 6]).square().sum() + logits[:, 2, 7].sum()


INPUTS, OUTPUTS = ("resid_pre", "z", "mlp_post"), ("resid_post", "attn_out", "mlp_out")


@pytest.mark.parametrize("kind", [*INPUTS, *OUTPUTS])
def test_gradients_are_those_of_autograd_on_the_plain_model(
    kind: str, precise_model: Model, precise_plain: PlainModel
) -> None:
    traced = trace(precise_model, TEXT, [Site(kind, 1), "logits"], grads_of=metric)
    parts = precise_plain.parts
    name = "" if kind.startswith("resid") else getattr(parts, kind)
    module = precise_plain.model.get_submodule(f"{parts.blocks}.1.{name}".rstrip("."))
    leaves: list[Tensor] = []

    def hang_on(value: Tensor) -> Tensor:
        leaves.append(value.detach().requires_grad_())
        return leaves[-1]

    def replace_input(_module: object, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (hang_on(args[0]), *args[1:])

    def replace_output(_module: object, _args: object, output: Tensor | tuple[Tensor, ...]) -> object:
        return (hang_on(output[0]), *output[1:]) if isinstance(output, tuple) else hang_on(output)

    pre, post = module.register_forward_pre_hook, module.register_forward_hook
    handle = pre(replace_input) if kind in INPUTS else post(replace_output)
    try:
        value = metric(precise_plain.model(traced.tokens.ids, use_cache=False).logits)
    finally:
        handle.remove()
    (expected,) = torch.autograd.grad(value, leaves)
    assert traced.metric == pytest.approx(float(value.detach()), rel=1e-12)
    assert torch.allclose(traced.grad(Site(kind, 1)).flatten(2), expected.flatten(2), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["embed", *LAYER_KINDS])
def test_gradients_are_finite_differences(kind: str, smooth_model: Model) -> None:
    site = Site("embed") if kind == "embed" else Site(kind, 1)
    traced = trace(smooth_model, TEXT, site, grads_of=metric)
    generator = torch.Generator().manual_seed(3)
    step = torch.randn(traced[site].shape, generator=generator, dtype=torch.float64) * 1e-4

    def moved(sign: float) -> float:
        with torch.no_grad(), edited(smooth_model, [(site, add(sign * step))]):
            return float(metric(smooth_model.forward(traced.tokens.ids)))

    slope = (moved(1.0) - moved(-1.0)) / 2
    expected = float((traced.grad(site) * step).sum())
    assert expected != 0.0
    assert slope == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_gradients_of_heads_and_positions_are_slices_of_the_whole(precise_model: Model) -> None:
    traced = trace(precise_model, UNEQUAL, ["L1.z", "L1.H2.z@-1"], grads_of=lambda logits: logits[:, 1, 3].sum())
    whole = traced.grad("L1.z")
    assert torch.equal(traced.grad("L1.H2.z@-1"), whole[torch.arange(3), traced.tokens.last, 2])
    assert torch.isnan(whole[~traced.mask]).all() and not torch.isnan(whole[traced.mask]).any()


def test_all_gradients_of_one_pass_are_those_of_single_passes(precise_model: Model) -> None:
    together = trace(precise_model, TEXT, LAYER_KINDS, grads_of=metric)
    for site in together:
        alone = trace(precise_model, TEXT, site, grads_of=metric).grad(site)
        assert torch.allclose(together.grad(site), alone, rtol=1e-6, atol=1e-10), str(site)


def test_a_metric_of_the_last_position_needs_no_other_logits(precise_model: Model) -> None:
    shapes = []

    def at_the_end(logits: Tensor) -> Tensor:
        shapes.append(logits.shape[1])
        return (logits[:, -1, 5] - logits[:, -1, 6]).square().sum()

    whole = trace(precise_model, TEXT, ["z", "L1.resid_pre", "logits@-1"], grads_of=at_the_end)
    last = trace(precise_model, TEXT, ["z", "L1.resid_pre", "logits@-1"], grads_of=at_the_end, last_only=True)
    assert shapes == [8, 1]
    assert last.metric == pytest.approx(whole.metric, rel=1e-9)
    torch.testing.assert_close(last["logits@-1"], whole["logits@-1"])
    for site in ("L0.z", "L1.resid_pre"):
        torch.testing.assert_close(last.grad(site), whole.grad(site), rtol=1e-6, atol=1e-12)


def test_the_last_position_alone_is_refused_where_it_is_not_enough(precise_model: Model) -> None:
    for prompts, sites in ((UNEQUAL, ["z"]), (TEXT, ["z", "logits"])):
        with pytest.raises(ValueError, match="last_only: the prompts differ in length, or logits of other positions"):
            trace(precise_model, prompts, sites, grads_of=lambda logits: logits.sum(), last_only=True)


def test_a_metric_of_many_numbers_is_refused(precise_model: Model) -> None:
    with pytest.raises(ValueError, match=r"grads_of must give one number, it gave the shape \(1, 128\)"):
        trace(precise_model, TEXT, "L1.z", grads_of=lambda logits: logits[:, -1])


def test_a_gradient_needs_a_site_before_the_logits(precise_model: Model) -> None:
    with pytest.raises(ValueError, match="a gradient is taken at a site before the logits"):
        trace(precise_model, TEXT, ["logits", "logits@-1"], grads_of=metric)
