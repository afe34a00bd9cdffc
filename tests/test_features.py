"""The index is the full table of activations, read in one stream; edges are the products of the weights."""

import numpy as np
import pytest
import torch
from coding import D_MODEL, WIDTH, random_coders
from small_models import prompt_ids, small_model

from workbench.__main__ import answer
from workbench.coders import Transcoders, fit, load_coders
from workbench.features import (
    EDGES,
    FeatureIndex,
    Passages,
    Recipe,
    Wiring,
    build_index,
    embedded,
    examples_of,
    open_index,
    passages,
    read_excerpts,
)
from workbench.features import index as index_module
from workbench.features.gathering import lots
from workbench.model import Model, load
from workbench.progress import Cancelled, listening
from workbench.prompts import Prompts
from workbench.tracer import trace
from workbench.vocabulary import Vocabulary

TEXTS = Prompts.of(
    *("w20 w31 w9 w55 w7 w8 w70 w12 w90 w4 w6", "w5 w6 w90 w12", "w3 w4 w5 w6 w7 w31 w9 w44 w20 w21"),
    *("w60 w61 w62", "w33 w34 w35 w36 w37 w38 w39 w40 w41", "w9 w9 w9 w8 w8 w13", "w77"),
)
RECIPE = Recipe(tops=3, sampled=5, length=6)
KINDS = [
    {},
    {"activation": "jumprelu", "threshold": True},
    {"activation": "topk", "k": 6, "rectified": False},
    {"read": "resid_post", "write": "resid_post"},
]


@torch.no_grad()
def full_table(model: Model, coders: Transcoders, layer: int, found: Passages, since: int) -> tuple[torch.Tensor, ...]:
    """Every activation of every feature, passage by passage, and the place of each row."""
    rows, places = [], []
    for one in range(len(found)):
        traced = trace(model, model.tokens_of([found.row(one)]), f"L{layer}.{coders[layer].read}")
        z = coders[layer].encode(traced[f"L{layer}.{coders[layer].read}"][0])
        rows.append(z[since:])
        places.append(torch.arange(len(z))[since:] + int(found.starts[one]))
    return torch.cat(rows), torch.cat(places)


@pytest.mark.parametrize("parts", KINDS, ids=lambda parts: "-".join(map(str, parts.values())) or "relu")
def test_the_index_is_the_full_table(tiny_model, parts):
    coders = fit(random_coders(2, **parts), tiny_model)
    index = build_index(tiny_model, coders, TEXTS, recipe=RECIPE)
    for layer in coders:
        z, places = full_table(tiny_model, coders, layer, index.passages, 1)
        assert index.tokens == len(z)
        one = index[layer]
        torch.testing.assert_close(one.count, (z != 0).sum(0))
        torch.testing.assert_close(index.density(layer), (z != 0).float().mean(0))
        assert index.dead(layer).equal((z == 0).all(0))
        torch.testing.assert_close(one.total, z.double().sum(0), rtol=1e-4, atol=1e-5)
        for feature in range(WIDTH):
            column = z[:, feature]
            active = column.nonzero()[:, 0]
            sizes = column[active].abs().clamp(EDGES[0], EDGES[-1])  # the ends are open
            counts = np.histogram(sizes.numpy(), EDGES.numpy())[0]
            assert one.histogram[feature].tolist() == counts.tolist()
            best = active[column[active].abs().argsort(descending=True, stable=True)][:3]
            drawn = active[lots(places[active], 0).argsort(descending=True, stable=True)][:5]
            for kept, expected in ((one.top, best), (one.sample, drawn)):
                held = kept.places[feature] >= 0
                assert kept.places[feature][held].tolist() == places[expected].tolist()
                torch.testing.assert_close(kept.values[feature][held], column[expected], rtol=1e-4, atol=1e-5)


def tables(index: FeatureIndex) -> dict[str, torch.Tensor]:
    return {f"{layer}.{name}": value for layer, one in index.layers.items() for name, value in one.dump().items()}


def same(one: FeatureIndex, other: FeatureIndex) -> bool:
    first, second = tables(one), tables(other)
    return (
        one.card == other.card
        and one.done == other.done
        and one.tokens == other.tokens
        and all(first[name].equal(second[name]) for name in first)
    )


def test_how_many_tokens_are_held_at_once_changes_nothing(tiny_model, monkeypatch):
    coders = fit(random_coders(2), tiny_model)
    whole = build_index(tiny_model, coders, TEXTS, recipe=RECIPE)
    monkeypatch.setattr(index_module, "_NUMBERS", 2 * WIDTH)
    monkeypatch.setattr(passages, "_TOGETHER", 13)
    other = build_index(tiny_model, coders, TEXTS, recipe=RECIPE)
    for name, value in tables(whole).items():
        torch.testing.assert_close(value, tables(other)[name], rtol=1e-4, atol=1e-5)


def test_a_stopped_building_goes_on_and_ends_as_if_never_stopped(tiny_model, monkeypatch, tmp_path):
    monkeypatch.setattr(passages, "_TOGETHER", 13)
    coders = fit(random_coders(2), tiny_model)
    whole = build_index(tiny_model, coders, TEXTS, recipe=RECIPE)

    def stop(done: int, total: int, label: str) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled), listening(stop):
        build_index(tiny_model, coders, TEXTS, folder=tmp_path / "index", recipe=RECIPE)
    part = FeatureIndex.load(tmp_path / "index")
    assert 0 < part.done < len(part.passages)
    assert not part.whole
    with pytest.raises(ValueError, match="go on with it by workbench index-features"):
        open_index(tiny_model, coders, tmp_path / "index")
    seen = []
    with listening(lambda done, total, label: seen.append(total)):
        resumed = build_index(tiny_model, coders, TEXTS, folder=tmp_path / "index", recipe=RECIPE)
    assert seen[0] < len(whole.passages.batches()), "what was read is not read again"
    assert same(resumed, whole)
    assert same(FeatureIndex.load(tmp_path / "index"), whole)
    passes = tiny_model.passes
    assert same(open_index(tiny_model, coders, tmp_path / "index"), whole)
    assert tiny_model.passes == passes, "a whole index is read, not made"


def test_the_index_of_something_else_is_refused(tiny_model, tiny_llama, tmp_path):
    coders = fit(random_coders(2), tiny_model)
    folder = tmp_path / "index"
    build_index(tiny_model, coders, TEXTS, folder=folder, recipe=RECIPE)
    with pytest.raises(ValueError, match="feature index of another corpus"):
        build_index(tiny_model, coders, Prompts.of("w1 w2 w3"), folder=folder, recipe=RECIPE)
    with pytest.raises(ValueError, match="feature index of another recipe"):
        build_index(tiny_model, coders, TEXTS, folder=folder, recipe=Recipe(tops=4, sampled=5, length=6))
    with pytest.raises(ValueError, match="feature index of another coders"):
        open_index(tiny_model, fit(random_coders(2, b_enc=torch.zeros(WIDTH)), tiny_model), folder)
    with pytest.raises(ValueError, match="feature index of another model"):
        open_index(tiny_llama, coders, folder)
    with pytest.raises(ValueError, match="cannot be read"):
        FeatureIndex.load(tmp_path / "nowhere")
    with pytest.raises(KeyError, match="has no layer 7"):
        FeatureIndex.load(folder)[7]
    with pytest.raises(ValueError, match="no text of two tokens"):
        build_index(tiny_model, coders, [[5]], recipe=RECIPE)
    with pytest.raises(ValueError, match="outside the vocabulary"):
        build_index(tiny_model, coders, [[5, 100_000]], recipe=RECIPE)


def test_texts_files_and_token_ids_give_the_same_passages(tiny_model, tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_text("\n\n".join(prompt.text for prompt in TEXTS), encoding="utf-8")
    found = Passages.of(tiny_model, TEXTS, 6)
    bos = tiny_model.tokenizer.bos_token_id
    assert all(found.row(one)[0] == bos for one in range(len(found)))
    assert max(len(found.row(one)) for one in range(len(found))) == 6
    words = [id for one in range(len(found)) for id in found.row(one)[1:]]
    assert words == [id for text in TEXTS for id in tiny_model.tokens(text).ids[0, 1:].tolist()]
    rows = [found.row(one) for one in range(len(found))]
    assert found.sha256 == Passages.of(tiny_model, file, 6).sha256 == Passages.of(tiny_model, rows, 6).sha256
    assert [found.passage_at(place) for place in (0, 5, 6)] == [(0, 0), (0, 5), (1, 0)]


def test_lots_are_even():
    drawn = lots(torch.arange(100_000), 3)
    counts = np.histogram(drawn.numpy(), 10, (0, 1))[0]
    assert abs(counts - 10_000).max() < 500
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.02
    assert not drawn.equal(lots(torch.arange(100_000), 4))


def test_excerpts_show_what_the_feature_does(tiny_model):
    coders = fit(random_coders(2), tiny_model)
    index = build_index(tiny_model, coders, TEXTS, recipe=RECIPE)
    feature = int(index[1].count.argmax())
    examples = examples_of(index, 1, feature)
    assert [one.band for one in examples] == ["top"] * 3 + ["75-100 %"] * 2 + ["50-75 %", "25-50 %", "0-25 %"]
    sizes = [abs(one.value) for one in examples[3:]]
    assert sizes == sorted(sizes, reverse=True)
    for one in read_excerpts(tiny_model, coders[1], index, feature, examples, before=2, after=1):
        passage, at = index.passages.passage_at(one.example.place)
        traced = trace(tiny_model, tiny_model.tokens_of([index.passages.row(passage)]), "L1.mlp_in")
        values = coders[1].encode(traced["L1.mlp_in"][0])[:, feature]
        assert float(one.values[one.at]) == pytest.approx(float(values[at]), abs=1e-5)
        assert one.gap < 1e-5
        assert f"«{one.text[one.at]}»" in one.sentence
        assert len(one.text) <= 4


@torch.no_grad()
@pytest.mark.parametrize("parts", [{}, {"read": "resid_pre", "write": "resid_pre"}], ids=["mlp", "stream"])
def test_edges_are_products_of_the_weights_of_a_gpt2(tiny_model, parts):
    coders = fit(random_coders(3, **parts), tiny_model)
    ids = tiny_model.tokens(TEXTS[0]).ids[0].tolist()
    wiring = Wiring.of(tiny_model, coders, ids)
    plain = tiny_model.plain.transformer
    traced = trace(tiny_model, tiny_model.tokens_of([ids]), ["resid_pre", "resid_mid"])

    def normed(norm, site: str) -> torch.Tensor:
        """LayerNorm as a matrix: centring, then gain over the mean size."""
        x = traced[site][0, 1:]
        size = (1 / (x.var(-1, correction=0) + norm.eps).sqrt()).mean()
        return (torch.eye(D_MODEL) - 1 / D_MODEL) * size * norm.weight

    reads_mlp = not parts
    into = normed(plain.h[2].ln_2, "L2.resid_mid") if reads_mlp else torch.eye(D_MODEL)
    length = coders[2].w_dec.norm(dim=1)
    reading = into @ (coders[2].w_enc[4] * length[4])
    torch.testing.assert_close(wiring.readings(2, slice(4, 5))[0], reading)
    edges = dict(wiring.inputs(2, wiring.readings(2, slice(4, 5))))
    assert list(edges) == [0, 1]
    for source, (weights,) in edges.items():
        unit = coders[source].w_dec / coders[source].w_dec.norm(dim=1, keepdim=True)
        torch.testing.assert_close(weights, unit @ reading, rtol=1e-4, atol=1e-5)
        back = dict(wiring.outputs(source, unit[7:8]))[2][0, 4]
        assert float(back) == pytest.approx(float(weights[7]), abs=1e-5)
    # head 3 of layer 1: value, output and the norm in front, from the packed weights of transformers
    block = plain.h[1]
    own = slice(3 * 8, 4 * 8)
    value, output = block.attn.c_attn.weight[:, 2 * D_MODEL :][:, own], block.attn.c_proj.weight[own]
    fetched = normed(block.ln_1, "L1.resid_pre") @ value @ output @ reading
    torch.testing.assert_close(wiring.through_head(1, 3, reading[None])[0], fetched, rtol=1e-4, atol=1e-5)
    assert float(wiring.head_norms(1, reading[None])[0, 3]) == pytest.approx(float(fetched.norm()), rel=1e-4)
    assert wiring.heads_in_front(2) == (3 if reads_mlp else 2)


@torch.no_grad()
def test_edges_of_a_llama_share_values_among_heads(tiny_llama):
    coders = fit(random_coders(3), tiny_llama)
    ids = tiny_llama.tokens(TEXTS[0]).ids[0].tolist()
    wiring = Wiring.of(tiny_llama, coders, ids)
    layer = tiny_llama.plain.model.layers[1]
    x = trace(tiny_llama, tiny_llama.tokens_of([ids]), "L1.resid_pre")["L1.resid_pre"][0, 1:]
    size = (1 / (x.square().mean(-1) + tiny_llama.plain.config.rms_norm_eps).sqrt()).mean()
    direction = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(5))
    wide = layer.self_attn.head_dim
    for head in range(4):
        value = layer.self_attn.v_proj.weight[(head // 2) * wide : (head // 2 + 1) * wide]
        output = layer.self_attn.o_proj.weight[:, head * wide : (head + 1) * wide]
        expected = size * layer.input_layernorm.weight * (direction @ output @ value)
        torch.testing.assert_close(wiring.through_head(1, head, direction[None])[0], expected, rtol=1e-4, atol=1e-5)
    unembedded = Vocabulary.of(tiny_llama)
    vocabulary = embedded(tiny_llama, unembedded)
    z = vocabulary.all_z(direction[None])[0]
    scores = tiny_llama.plain.model.embed_tokens.weight[vocabulary.ids].double() @ direction.double()
    torch.testing.assert_close(z, (scores - scores.mean()) / scores.std(correction=0))


@torch.no_grad()
def test_edges_of_a_gemma_pass_the_norms_in_front_of_a_branch_and_behind_it():
    model = small_model("Gemma3")
    ids = prompt_ids(3)
    wiring = Wiring.of(model, random_coders(2), ids)
    layer, width = model.plain.model.layers[1], model.shape.d_model
    seen: dict[str, torch.Tensor] = {}
    norms = {name: getattr(layer, name) for name in ("input_layernorm", "post_attention_layernorm")}
    handles = [
        norm.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0][0, 1:]}))
        for name, norm in norms.items()
    ]
    model.plain(torch.tensor([ids]))
    for handle in handles:
        handle.remove()

    def gain(name: str) -> torch.Tensor:
        size = (1 / (seen[name].square().mean(-1) + norms[name].eps).sqrt()).mean()
        return size * (1 + norms[name].weight)

    direction = torch.randn(width, generator=torch.Generator().manual_seed(5))
    wide, shared = layer.self_attn.head_dim, model.shape.n_heads // model.shape.n_kv_heads
    for head in range(model.shape.n_heads):
        kv = head // shared
        value = layer.self_attn.v_proj.weight[kv * wide : (kv + 1) * wide]
        output = layer.self_attn.o_proj.weight[:, head * wide : (head + 1) * wide]
        expected = gain("input_layernorm") * ((gain("post_attention_layernorm") * direction) @ output @ value)
        torch.testing.assert_close(wiring.through_head(1, head, direction[None])[0], expected, rtol=1e-3, atol=1e-5)


def test_the_scale_of_features_changes_no_edge(tiny_model):
    coders = fit(random_coders(3), tiny_model)
    factors = torch.linspace(0.2, 5, WIDTH)
    scaled = Transcoders("scaled", {layer: one.rescaled(factors) for layer, one in coders.items()})
    ids = tiny_model.tokens(TEXTS[0]).ids[0].tolist()
    one, other = Wiring.of(tiny_model, coders, ids), Wiring.of(tiny_model, scaled, ids)
    torch.testing.assert_close(one.readings(2, slice(None)), other.readings(2, slice(None)))
    for (_, first), (_, second) in zip(
        one.outputs(0, one.decoders(0)), other.outputs(0, other.decoders(0)), strict=True
    ):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_a_passage_of_one_token_freezes_no_norm(tiny_model):
    with pytest.raises(ValueError, match="two tokens or more"):
        Wiring.of(tiny_model, fit(random_coders(1), tiny_model), [5])


def test_the_command_builds_the_index_that_python_builds(capsys, tmp_path):
    text = tmp_path / "corpus.txt"
    text.write_text("stone red cat runs\n\nblue river flows\n\ngreen owl runs", encoding="utf-8")
    words = ["index-features", "planted:sparse_mlp", "--text", str(text), "--out", str(tmp_path / "index")]
    assert answer(words) == 0
    assert "10 tokens, 28 features, 13 of them dead" in capsys.readouterr().out
    model = load("planted:sparse_mlp")
    coders = fit(load_coders("planted:sparse_mlp"), model)
    assert same(open_index(model, coders, tmp_path / "index"), build_index(model, coders, text))
