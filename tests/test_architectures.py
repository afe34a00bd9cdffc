"""Every architecture is served with exactly the numbers of plain transformers, or refused in one sentence."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import REFUSED, RESIDUAL_ONLY, SERVED, Architecture, probe_ids
from plain_model import PlainModel, plain_model
from torch import Tensor

from workbench.edit import edited, scale, zero
from workbench.model import Model, load
from workbench.tracer import Trace, trace
from workbench.words import KINDS, Site

SAME_IN_PLAIN_HOOKS = ("attn_out", "mlp_out", "z", "mlp_post", "resid_mid")
"""Kinds whose change is made a second time with plain PyTorch hooks."""


@dataclass(frozen=True)
class Case:
    """One architecture: the workbench's model, the plain one, and what both saw of the same tokens."""

    architecture: Architecture
    model: Model
    plain: PlainModel
    ids: Tensor
    seen: dict[tuple[str, int | None], Tensor]
    logits: Tensor

    @property
    def sites(self) -> list[Site]:
        """Every site that must be served."""
        kinds = [kind for kind in KINDS if kind not in (*self.architecture.lacks, "embed", "logits")]
        return [Site("embed"), *(Site(kind, layer) for kind in kinds for layer in range(self.plain.layers))]

    def traced(self) -> Trace:
        """All sites of one pass."""
        return trace(self.model, self.model.tokens_of(self.ids.tolist()), [*self.sites, Site("logits")])


@pytest.fixture(scope="module", params=SERVED, ids=lambda architecture: architecture.name)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    architecture: Architecture = request.param
    torch.set_num_threads(1)
    folder = architecture.save(tmp_path_factory.mktemp("model"))
    plain = plain_model(folder, architecture.parts)
    ids = probe_ids()
    seen, logits = plain.values(ids)
    yield Case(architecture, load(str(folder)), plain, ids, seen, logits)


def test_hooked_logits_equal_plain_logits(case: Case) -> None:
    with torch.no_grad():
        hooked = case.model.forward(case.ids)
    assert float((hooked - case.logits).abs().max()) <= 1e-4
    assert case.traced().logits.equal(hooked)


def test_every_site_equals_its_capture_by_plain_hooks(case: Case) -> None:
    traced = case.traced()
    gaps = {str(site): gap(site.kind, traced[site], case.seen[site.kind, site.layer]) for site in case.sites}
    assert {site: value for site, value in gaps.items() if not value <= 1e-5} == {}


def gap(kind: str, found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest value; infinite for another shape or another mask."""
    if found.shape != expected.shape:
        return float("inf")
    if kind == "scores":
        seen = expected > -1e4
        if not torch.equal(found > -1e4, seen):
            return float("inf")
        found, expected = found[seen], expected[seen]
    return float((found - expected).abs().max() / expected.abs().max())


def test_kinds_that_it_lacks_are_refused_with_the_reason(case: Case) -> None:
    for kind in case.architecture.lacks:
        with pytest.raises(ValueError, match=f"has no {kind}: .*(parallel|softmax|experts|clipped)"):
            trace(case.model, "w5 w6", Site(kind, 0))


def test_parts_of_a_layer_add_up_to_the_residual_stream(case: Case) -> None:
    traced = case.traced()
    for layer in range(case.plain.layers):
        before, attention, mlp, after = (
            traced[Site(kind, layer)] for kind in ("resid_pre", "attn_out", "mlp_out", "resid_post")
        )
        assert gap("resid_post", before + attention + mlp, after) <= 1e-6
        if "resid_mid" not in case.architecture.lacks:
            assert gap("resid_mid", before + attention, traced[Site("resid_mid", layer)]) <= 1e-6


def writable_sites(case: Case, layer: int) -> list[Site]:
    return [site for site in case.sites if site.layer in (None, layer) and site.kind not in case.architecture.read_only]


def test_a_change_at_every_writable_site_changes_the_logits(case: Case) -> None:
    for site in writable_sites(case, layer=0):
        with torch.no_grad(), edited(case.model, [(site, zero())]):
            changed = case.model.forward(case.ids)
        assert float((changed - case.logits).abs().max()) > 1e-3, f"a change at {site} is lost"


def test_a_change_gives_the_logits_of_the_same_change_made_by_plain_hooks(case: Case) -> None:
    for site in writable_sites(case, layer=case.plain.layers - 1):
        if site.kind not in SAME_IN_PLAIN_HOOKS:
            continue
        with torch.no_grad(), edited(case.model, [(site, scale(-0.5))]):
            changed = case.model.forward(case.ids)
        expected = case.plain.logits_with(case.ids, site.kind, site.layer, lambda value: value * -0.5)
        assert float((changed - expected).abs().max()) <= 1e-4, f"a change at {site} does something else"


def test_edits_that_change_nothing_change_nothing_bit_for_bit(case: Case) -> None:
    sites = [site for site in case.sites if site.kind not in case.architecture.read_only]
    with torch.no_grad():
        before = case.model.forward(case.ids)
        with edited(case.model, [(site, scale(1.0)) for site in sites]):
            assert torch.equal(case.model.forward(case.ids), before)


def test_read_only_kinds_refuse_a_change(case: Case) -> None:
    for kind in case.architecture.read_only:
        with pytest.raises(ValueError, match=f"L0.{kind} is read-only"), edited(case.model, [(Site(kind, 0), zero())]):
            pass
    writable = [kind for kind in case.model.capabilities.served if kind not in case.architecture.read_only]
    assert all(case.model.capabilities.writable[kind] == tuple(range(case.plain.layers)) for kind in writable)


def test_the_committed_table_tells_what_was_measured(case: Case, generator: Any) -> None:
    assert generator.served_row(case.architecture.name, case.model) in generator.TABLE.read_text().splitlines()


@pytest.fixture(scope="module", params=RESIDUAL_ONLY, ids=lambda architecture: architecture.name)
def without_attention(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    folder = request.param.save(tmp_path_factory.mktemp("model"))
    return request.param, load(str(folder)), folder


def test_a_decoder_without_attention_serves_its_residual_stream(without_attention: tuple[Any, ...]) -> None:
    architecture, model, folder = without_attention
    plain = plain_model(folder, architecture.parts)
    ids = probe_ids()
    seen: dict[int, Tensor] = {}
    blocks = plain.model.get_submodule(architecture.parts.blocks)
    for layer, block in enumerate(blocks):
        block.register_forward_hook(lambda _module, _args, output, layer=layer: seen.update({layer: first(output)}))
    with torch.no_grad():
        expected = plain.model(ids, use_cache=False).logits
    traced = trace(model, model.tokens_of(ids.tolist()), ["resid_post", "logits"])
    assert float((traced.logits - expected).abs().max()) <= 1e-4
    assert all(gap("resid_post", traced[Site("resid_post", layer)], value) <= 1e-6 for layer, value in seen.items())


def first(output: Any) -> Tensor:
    return (output[0] if isinstance(output, tuple) else output).clone()


def test_the_committed_table_tells_of_decoders_without_attention(
    without_attention: tuple[Any, ...], generator: Any
) -> None:
    architecture, model, _ = without_attention
    assert generator.served_row(architecture.name, model) in generator.TABLE.read_text().splitlines()


def test_a_decoder_without_attention_gives_a_reason_for_every_kind_it_lacks(without_attention: tuple[Any, ...]) -> None:
    _, model, _ = without_attention
    for kind in set(KINDS) - {"embed", "resid_pre", "resid_post", "logits"}:
        with pytest.raises(ValueError, match=f"has no {kind}: .* no hook point for it that fires"):
            trace(model, "w5 w6", Site(kind, 0))


REASONS = {
    "Cohere": "wrong numbers",
    "Cohere2": "wrong numbers",
    "HunYuan": "wrong numbers",
    "GPTBigCode, many key heads": "not supported by TransformerLens",
    "CTRL": "not supported by TransformerLens",
    "BERT as a decoder": "sees later tokens",
    "BERT": "no causal language model",
    "RoBERTa": "no causal language model",
    "T5": "encoder-decoder",
}


@pytest.mark.parametrize("architecture", REFUSED, ids=lambda architecture: architecture.name)
def test_what_cannot_be_served_is_refused_in_one_sentence(
    architecture: Architecture, tmp_path: Path, generator: Any
) -> None:
    folder = architecture.save(tmp_path)
    with pytest.raises(ValueError, match=REASONS[architecture.name]) as refusal:
        load(str(folder))
    assert "\n" not in str(refusal.value)
    assert generator.refused_row(architecture.name, refusal.value) in generator.TABLE.read_text().splitlines()


@pytest.fixture(scope="module")
def generator() -> Any:
    """docs/generate_architectures.py as a module."""
    import importlib.util

    path = Path(__file__).parent.parent / "docs" / "generate_architectures.py"
    specification = importlib.util.spec_from_file_location("generate_architectures", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
