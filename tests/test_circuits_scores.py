"""Why a head looked there: all terms add up to the score, on every family, and each term is what it says."""

import pytest
import torch
from circuit_parts import frozen, random_coders
from small_models import plain_twin, prompt_ids, small_model

from workbench.circuits.looking import freeze_look
from workbench.circuits.scores import SUBLAYERS, split_score
from workbench.circuits.sources import KINDS
from workbench.tracer import trace

FAMILIES = (
    *("GPT2", "Llama", "Qwen2", "Qwen3", "Gemma2", "Gemma3", "GPTNeoX parallel", "GPTNeoX sequential"),
    *("Phi", "OLMo2"),
)
ENDS = [(0, 0), (5, 3), (8, 8), (7, 6)]


def shown_score(name, layer, head, query, key):
    """What the site shows: behind the soft cap where there is one."""
    model = small_model(name)
    return float(
        trace(model, model.tokens_of([prompt_ids()]), [f"L{layer}.scores"])[f"L{layer}.scores"][0, head, query, key]
    )


@pytest.mark.parametrize("kind", ["sublayers", "coders", "cross-layer skip"])
@pytest.mark.parametrize("name", FAMILIES)
def test_all_terms_add_up_to_the_raw_score(name, kind):
    run = frozen(name)
    coders = None if kind == "sublayers" else random_coders(skip="skip" in kind, across="skip" in kind)
    for layer, head in ((0, 1), (1, 2)):
        look = freeze_look(small_model(name), run, layer, head)
        assert look.gap < 1e-5
        for query, key in ENDS:
            split = split_score(run, look, query, key, coders)
            assert split.missing < 1e-5
            kinds = SUBLAYERS if coders is None else KINDS
            assert float(split.by_kind(kinds).sum()) == pytest.approx(split.value, abs=1e-4)
            raw = split.value if look.cap is None else look.cap * torch.tanh(torch.tensor(split.value / look.cap))
            assert float(raw) == pytest.approx(shown_score(name, layer, head, query, key), rel=1e-4, abs=1e-5)


def test_terms_are_those_of_the_modules_of_transformers():
    """Each written vector through Mistral's own weights and rotation, with the norm's size of the pass."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    model, run, twin = small_model("Mistral"), frozen("Mistral"), plain_twin("Mistral")
    layer, head, query, key = 1, 2, 7, 5
    sites = ["L0.resid_pre", "L0.attn_out", "L0.mlp_out", "L1.resid_pre"]
    traced = trace(model, model.tokens_of([prompt_ids()]), sites)
    written = torch.stack([traced[site][0] for site in sites[:3]])
    block = twin.model.layers[layer]
    size = (traced["L1.resid_pre"][0].square().mean(-1, keepdim=True) + block.input_layernorm.variance_epsilon).sqrt()
    normed = written / size * block.input_layernorm.weight
    attention, width = block.self_attn, block.self_attn.head_dim
    q = (normed @ attention.q_proj.weight.T).unflatten(-1, (-1, width)).transpose(1, 2)
    k = (normed @ attention.k_proj.weight.T).unflatten(-1, (-1, width)).transpose(1, 2)
    cos, sin = twin.model.rotary_emb(normed, torch.arange(9)[None])
    q, k = apply_rotary_pos_emb(q, k, cos, sin)
    terms = q[:, head, query] @ k[:, head // 2, key].T * attention.scaling
    split = split_score(run, freeze_look(model, run, layer, head), query, key)
    found = split.by_kind(("token", "head", "mlp"))
    assert torch.allclose(found.float(), terms, atol=1e-6)


@pytest.mark.parametrize("name", ["GPT2", "Gemma3", "GPTNeoX parallel"])
def test_a_feature_s_total_is_what_the_score_loses_without_it(name):
    """The query side alone is changed: the stream at the query, with norms held, through the head's own maps."""
    model, run, coders = small_model(name), frozen(name), random_coders()
    layer, head, query, key = 1, 0, 8, 5
    look = freeze_look(model, run, layer, head)
    split = split_score(run, look, query, key, coders)
    below, side = run.below(layer), look.query_side
    totals = split.query_totals()
    own = [place for place, one in enumerate(split.query.names) if one.startswith("L0.F") and one.endswith("@8")]
    assert own
    for place in own:
        number = int(split.query.names[place].split("@")[0].removeprefix("L0.F"))
        value = coders[0].encode(run.layers[0].mlp_in[query])[number]
        less = below.stream.clone()
        less[query] -= value * coders[0].w_dec[number]
        lost = look.queries[query] - side.vectors(below.final(less))[query]
        assert float(lost @ look.keys[key]) * look.scale == pytest.approx(float(totals[place]), abs=1e-5)


def test_the_strongest_terms_are_the_largest_of_all():
    model, run = small_model("GPT2"), frozen("GPT2")
    split = split_score(run, freeze_look(model, run, 1, 1), 8, 2, random_coders())
    terms = split.scale * split.query.vectors.double() @ split.key.vectors.double().T
    found = split.strongest(7)
    assert [abs(term) for *_, term in found] == pytest.approx(terms.abs().flatten().sort().values.flip(0)[:7].tolist())
    assert all(float(terms[first, second]) == pytest.approx(term) for first, second, term in found)
    assert torch.allclose(split.query_totals(), terms.sum(1))
    assert torch.allclose(split.key_totals(), terms.sum(0))


@pytest.mark.parametrize("name", ["Bloom", "GLM4", "CodeGen"])
def test_scores_that_are_made_otherwise_are_refused(name):
    model = small_model(name)
    with pytest.raises(ValueError, match=r"head 0\.1: in .* its scores are no product of turned queries and keys"):
        freeze_look(model, frozen(name), 0, 1)


def test_a_key_that_is_masked_is_refused():
    model, run = small_model("Mistral"), frozen("Mistral")
    look = freeze_look(model, run, 0, 0)
    for query, key in ((2, 5), (8, 0)):  # the future, and what lies before the window
        with pytest.raises(ValueError, match=f"cannot look from position {query} at {key}: the key is masked"):
            split_score(run, look, query, key)
    with pytest.raises(ValueError, match="there are 4 heads"):
        freeze_look(model, run, 0, 9)
