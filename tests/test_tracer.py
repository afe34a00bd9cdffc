"""The tracer keeps exactly what was asked, with the numbers of the model, and stops when it has seen it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from running import TEXT, UNEQUAL

from workbench.edit import add, edited, scale
from workbench.model import Model
from workbench.rewiring import repeat
from workbench.tracer import estimate, trace
from workbench.words import KINDS, Site

LAYER_KINDS = [kind for kind in KINDS if kind not in ("embed", "logits")]


@contextmanager
def counted_blocks(model: Model) -> Iterator[list[int]]:
    """The layers whose blocks are called inside the context."""
    called: list[int] = []
    handles = [
        block.register_forward_pre_hook(lambda _module, _args, layer=layer: called.append(layer))
        for layer, block in enumerate(model.bridge.blocks)
    ]
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()


def test_keeps_what_was_asked_and_nothing_else(tiny_llama: Model) -> None:
    traced = trace(tiny_llama, TEXT, ["L1.H2.z@-1", "L0.resid_post", Site("k", 2, head=1)])
    assert [str(site) for site in traced] == ["L1.H2.z@-1", "L0.resid_post", "L2.H1.k"]
    with pytest.raises(KeyError, match="site L1.resid_post was not asked for in this trace; it holds L1.H2.z@-1"):
        traced["L1.resid_post"]


@pytest.mark.parametrize("wanted", ["z", "L*.z", "blocks.0.attn.hook_z"])
def test_a_kind_means_every_layer_and_a_hook_name_one(wanted: str, tiny_llama: Model) -> None:
    layers = [0] if wanted.startswith("blocks") else [0, 1, 2]
    assert list(trace(tiny_llama, TEXT, wanted)) == [Site("z", layer) for layer in layers]


@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_a_head_a_neuron_and_a_position_are_slices_of_the_whole(kind: str, tiny_llama: Model) -> None:
    whole = trace(tiny_llama, TEXT, Site(kind, 1))[Site(kind, 1)]
    axes = Site(kind, 1).axes
    pos_axis = axes.index("query") if "query" in axes else 1
    cases = {Site(kind, 1, pos=-2): whole.select(pos_axis, -2), Site(kind, 1, pos=3): whole.select(pos_axis, 3)}
    if "head" in KINDS[kind]:
        head_axis = next(place for place, axis in enumerate(axes) if axis.endswith("head"))
        head = whole.select(head_axis, 1)
        cases[Site(kind, 1, head=1)] = head
        cases[Site(kind, 1, head=1, pos=-1)] = head.select(1, -1)
    if "d_mlp" in axes:
        cases[Site(kind, 1, neuron=7)] = whole[..., 7]
        cases[Site(kind, 1, neuron=7, pos=2)] = whole[:, 2, 7]
    traced = trace(tiny_llama, TEXT, cases)
    reread = trace(tiny_llama, TEXT, Site(kind, 1))
    for site, expected in cases.items():
        assert torch.equal(traced[site], expected) and torch.equal(reread[site], expected), str(site)


def test_stops_as_soon_as_everything_was_seen(tiny_model: Model) -> None:
    for wanted, layers in {"embed": [], "L0.resid_pre": [0], "L1.mlp_in": [0, 1], "L2.resid_post": [0, 1, 2]}.items():
        with counted_blocks(tiny_model) as called:
            trace(tiny_model, TEXT, wanted)
        assert called == layers, wanted


def test_sites_of_one_layer_are_all_seen_in_whatever_order_they_fire(tiny_model: Model) -> None:
    values = trace(tiny_model, TEXT, [*LAYER_KINDS, "logits"])
    for first in LAYER_KINDS:
        for second in LAYER_KINDS:
            pair = trace(tiny_model, TEXT, [Site(first, 1), Site(second, 1)])
            assert all(torch.equal(value, values[site]) for site, value in pair.items())


def test_nothing_after_the_stop_is_run(tiny_model: Model) -> None:
    with counted_blocks(tiny_model) as called, pytest.raises(ValueError, match="never fired in this pass: L2.z"):
        trace(tiny_model, TEXT, ["L0.z", "L2.z"], stop_after="L1.resid_post")
    assert called == [0, 1]


def test_prompts_of_unequal_length_give_what_each_gives_alone(tiny_llama: Model) -> None:
    wanted = [*LAYER_KINDS, "embed", "logits"]
    together = trace(tiny_llama, UNEQUAL, wanted)
    for row, text in enumerate(UNEQUAL):
        alone = trace(tiny_llama, text, wanted)
        length = together.tokens.lengths[row]
        for site, value in alone.items():
            kept = [slice(length) if axis in ("pos", "query", "key") else slice(None) for axis in site.axes[1:]]
            found = together[site][row][tuple(kept)]
            found, expected = found.clamp_min(-1e9), value[0].clamp_min(-1e9)  # masked scores
            size = expected[expected > -1e9].abs().max()
            assert float((found - expected).abs().max() / size) <= 2e-6, str(site)


def test_padding_is_not_a_number_everywhere(tiny_llama: Model) -> None:
    traced = trace(tiny_llama, UNEQUAL, [*LAYER_KINDS, "embed", "logits", "L1.H1.z", "L1.N3.mlp_post"])
    for site, value in traced.items():
        axes = [axis for axis in site.axes if not (site.head is not None and axis == "head")]
        rows = value.movedim(axes.index("query") if "query" in axes else 1, 1)
        assert torch.isnan(rows[~traced.mask]).all(), str(site)
        assert not torch.isnan(rows[traced.mask]).any(), str(site)


def test_the_last_position_is_the_last_of_each_prompt(tiny_llama: Model) -> None:
    traced = trace(tiny_llama, UNEQUAL, ["L1.resid_post", "L1.resid_post@-1", "logits", "logits@-1"])
    rows = torch.arange(len(UNEQUAL))
    for name in ("L1.resid_post", "logits"):
        assert torch.equal(traced[f"{name}@-1"], traced[name][rows, traced.tokens.last])


def test_the_last_logits_alone_are_those_of_the_whole_pass(tiny_llama: Model) -> None:
    whole = trace(tiny_llama, TEXT, "logits").logits
    last = trace(tiny_llama, TEXT, "logits@-1", dtype=torch.float64)["logits@-1"]
    assert last.dtype == torch.float64
    assert torch.allclose(last.float(), whole[:, -1], atol=1e-6)


def test_activations_are_stored_in_the_dtype_asked_for(tiny_llama: Model) -> None:
    exact = trace(tiny_llama, TEXT, ["L1.resid_post", "L1.H0.z@-1"])
    stored = trace(tiny_llama, TEXT, ["L1.resid_post", "L1.H0.z@-1"], dtype=torch.bfloat16)
    for site, value in stored.items():
        assert value.dtype == torch.bfloat16
        assert torch.equal(value, exact[site].bfloat16())


def test_numbers_too_large_for_the_dtype_are_refused(tiny_llama: Model) -> None:
    with edited(tiny_llama, [("L0.resid_post", scale(1e6))]):
        assert trace(tiny_llama, TEXT, "L1.resid_pre").activations
        with pytest.raises(ValueError, match="L1.resid_pre: the activations are not finite in float16"):
            trace(tiny_llama, TEXT, "L1.resid_pre", dtype=torch.float16)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("prompts", [(TEXT,), UNEQUAL])
def test_what_leaves_a_block_and_enters_the_next_is_stored_once(
    dtype: torch.dtype | None, prompts: tuple[str, ...], tiny_model: Model
) -> None:
    traced = trace(tiny_model, prompts, ["resid_pre", "resid_post"], dtype=dtype)
    for layer in range(2):
        leaving, entering = traced[f"L{layer}.resid_post"], traced[f"L{layer + 1}.resid_pre"]
        assert leaving.data_ptr() == entering.data_ptr()


def test_a_stream_changed_between_two_blocks_is_stored_twice(tiny_model: Model) -> None:
    with edited(tiny_model, [("L1.resid_pre", add(torch.ones(32)))]):
        traced = trace(tiny_model, TEXT, ["resid_pre", "resid_post"])
    assert torch.equal(traced["L1.resid_pre"], traced["L0.resid_post"] + 1)


@pytest.mark.parametrize("dtype", [None, torch.float64])
@pytest.mark.parametrize(
    "wanted",
    [LAYER_KINDS, ["embed", "logits"], ["L1.H2.z@-1", "L0.H1.k", "L2.N5.mlp_post", "L1.H3.pattern@2", "L0.mlp_in@4"]],
)
def test_the_estimate_is_what_is_held(wanted: list[str], dtype: torch.dtype | None, tiny_llama: Model) -> None:
    traced = trace(tiny_llama, TEXT, wanted, dtype=dtype)
    held = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in traced.values()}
    assert (
        sum(held.values())
        == estimate(tiny_llama, TEXT, wanted, dtype=dtype)
        == trace.estimate(tiny_llama, TEXT, wanted, dtype=dtype)
    )


def test_a_repeated_block_shows_its_last_run_whether_the_pass_ends_there_or_not(tiny_model: Model) -> None:
    with edited(tiny_model, [repeat(1, times=3)]):
        for kind in LAYER_KINDS:
            early = trace(tiny_model, TEXT, Site(kind, 1))[Site(kind, 1)]
            assert torch.equal(early, trace(tiny_model, TEXT, [Site(kind, 1), "logits"])[Site(kind, 1)])
        streams = trace(tiny_model, TEXT, ["resid_pre", "resid_post"])
    assert torch.equal(streams["L1.resid_post"], streams["L2.resid_pre"])
    assert not torch.equal(streams["L0.resid_post"], streams["L1.resid_pre"])


@pytest.mark.parametrize(
    ("site", "sentence"),
    [
        ("L20.resid_post", r"site L20.resid_post: the model has 3 layers \(0-2\)"),
        ("L1.H4.z", r"site L1.H4.z: there are 4 heads \(0-3\)"),
        ("L1.H2.k", r"site L1.H2.k: there are 2 heads \(0-1\)"),
        ("L1.N48.mlp_post", r"there are 48 neurons \(0-47\)"),
        ("L1.resid_post@9", r"site L1.resid_post@9: the prompt has 8 tokens \(positions 0-7\)"),
        ("L1.resid_post@-9", r"the prompt has 8 tokens"),
        ("L1.resid_pots", "'resid_pots' is unknown: did you mean resid_post"),
        ("L1.F3.mlp_post", "features belong to a sparse coder"),
    ],
)
def test_a_site_that_the_model_has_not_is_refused(site: str, sentence: str, tiny_llama: Model) -> None:
    with pytest.raises(ValueError, match=sentence):
        trace(tiny_llama, TEXT, site)


def test_no_site_at_all_is_refused(tiny_llama: Model) -> None:
    with pytest.raises(ValueError, match="no site was asked for"):
        trace(tiny_llama, TEXT, [])


@pytest.mark.real
def test_on_the_real_model_every_residual_reads_out_to_its_own_logits(real_model: Model) -> None:
    from workbench.lens import read_out

    last = real_model.shape.n_layers - 1
    traced = trace(real_model, "The capital of France is", [f"L{last}.resid_post", "logits"])
    with torch.no_grad():
        assert torch.equal(read_out(real_model.bridge, traced[f"L{last}.resid_post"]), traced.logits)
        plain = real_model.plain(traced.tokens.ids, use_cache=False).logits
    assert float((traced.logits - plain).abs().max() / plain.abs().max()) <= 1e-5, "another attention kernel"
    likely = [real_model.tokenizer.decode([index]) for index in traced.logits[0, -1].topk(5).indices.tolist()]
    assert " Paris" in likely


@pytest.mark.real
def test_the_real_model_serves_and_writes_every_kind(real_model: Model) -> None:
    capabilities = real_model.capabilities
    assert capabilities.reasons == {}
    assert set(capabilities.served) == set(LAYER_KINDS)
    assert capabilities.writable == capabilities.served
    assert all(check.passed for check in capabilities.checks)
