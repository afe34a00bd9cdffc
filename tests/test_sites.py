"""Texts, kinds and TransformerLens names stand for the sites that they seem to."""

from types import SimpleNamespace

import pytest
import torch

from workbench.model import Model
from workbench.sites import MASKED, expand, places_of, read_site, whole_shape
from workbench.words import KINDS, Site

NAMES = {
    "hook_embed": "embed",
    "blocks.3.hook_resid_pre": "L3.resid_pre",
    "blocks.3.hook_resid_mid": "L3.resid_mid",
    "blocks.3.hook_resid_post": "L3.resid_post",
    "blocks.3.hook_in": "L3.resid_pre",
    "blocks.3.hook_out": "L3.resid_post",
    "blocks.3.hook_attn_out": "L3.attn_out",
    "blocks.3.hook_mlp_out": "L3.mlp_out",
    "blocks.13.attn.hook_q": "L13.q",
    "blocks.3.attn.hook_z": "L3.z",
    "blocks.3.attn.hook_attn_scores": "L3.scores",
    "blocks.3.attn.hook_pattern": "L3.pattern",
    "blocks.3.mlp.hook_pre": "L3.mlp_pre",
    "blocks.3.mlp.hook_post": "L3.mlp_post",
    "L3.H2.z@5": "L3.H2.z@5",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_name_of_transformer_lens_is_read(name: str) -> None:
    assert str(read_site(name)) == NAMES[name]


@pytest.mark.parametrize(
    "name", ["blocks.3.attn.hook_in", "blocks.3.mlp.hook_in", "blocks.3.attn.hook_out", "blocks.3.hook_mlp_in"]
)
def test_a_hook_name_that_means_something_else_from_model_to_model_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"hook name '{name}' is no site: write a site such as L3.mlp_in"):
        read_site(name)


def test_kinds_are_expanded_to_the_layers_that_have_them() -> None:
    served = {"z": (0, 2), "resid_post": (0, 1, 2)}
    assert [str(site) for site in expand(["z", "L*.H1.z@-1", "embed", "L1.resid_post"], served)] == [
        "L0.z",
        "L2.z",
        "L0.H1.z@-1",
        "L2.H1.z@-1",
        "embed",
        "L1.resid_post",
    ]
    assert expand("z", served) == expand(["z", "L0.z"], served) == (Site("z", 0), Site("z", 2))
    assert expand("pattern", served) == (Site("pattern", 0),), "so that its absence is noticed"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_shape_that_it_documents(kind: str, tiny_llama: Model) -> None:
    sizes = {"d_model": 32, "head": 4, "kv_head": 2, "d_head": 16, "d_mlp": 48, "vocab": 128}
    site = Site(kind) if kind in ("embed", "logits") else Site(kind, 1)
    seen: list[torch.Size] = []
    if kind == "logits":
        seen.append(tiny_llama.forward(torch.ones(2, 7, dtype=torch.long)).shape)
    else:
        for handle in (handles := tiny_llama.places.attach(site, lambda value: seen.append(value.shape))):
            assert handle is not None
        try:
            tiny_llama.forward(torch.ones(2, 7, dtype=torch.long))
        finally:
            for handle in handles:
                handle.remove()
    assert [tuple(shape) for shape in seen] == [whole_shape(kind, sizes, batch=2, length=7)]


def test_a_site_without_a_hook_point_cannot_be_attached(tiny_model: Model) -> None:
    with pytest.raises(ValueError, match="site L7.z: this architecture has no hook point for z"):
        tiny_model.places.attach(Site("z", 7), lambda value: None)


def test_masked_scores_lie_below_the_mark_in_every_dtype() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        assert torch.finfo(dtype).min < MASKED


def test_a_model_that_cannot_run_is_refused_in_one_sentence(tiny_model: Model) -> None:
    class Broken(torch.nn.Module):
        original_model = SimpleNamespace()
        cfg, blocks, hook_dict = tiny_model.bridge.cfg, tiny_model.bridge.blocks, {}

        def forward(self, *_args: object, **_kwargs: object) -> None:
            raise RuntimeError("first line\nsecond line")

    with pytest.raises(ValueError, match=r"cannot be run by TransformerLens 3.9 \(RuntimeError: first line\)$"):
        places_of(Broken(), torch.arange(4))
