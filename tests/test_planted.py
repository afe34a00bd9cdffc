"""Every planted model can be built, saved and booted, and the made-up worlds do what they say."""

import json
from itertools import product

import pytest
import torch
from planting import changed, ids_of, next_word, outputs_of, planted, run, without_head
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.planted import PLANTED, Planted, plant, save_planted
from workbench.planted.vocabulary import word_codes


@pytest.mark.parametrize("name", PLANTED)
def test_building_is_deterministic_and_leaves_the_random_state_alone(name: str) -> None:
    before = torch.random.get_rng_state()
    first, second = planted(name), plant(name)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert first.truth == second.truth == json.loads(json.dumps(first.truth))


@pytest.mark.parametrize("name", PLANTED)
def test_a_saved_model_is_the_model(name: str, tmp_path) -> None:
    folder, model = save_planted(name, tmp_path / name), planted(name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = [word for word in tokenizer.get_vocab() if word.isalpha()][:9]
    encoded = tokenizer(" ".join(words), return_offsets_mapping=True)
    assert encoded["input_ids"][0] == tokenizer.bos_token_id
    assert [" ".join(words)[a:b] for a, b in encoded["offset_mapping"][1:]] == words
    ids = torch.tensor([encoded["input_ids"]])
    again = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.allclose(again(ids).logits[0], run(model, ids).logits, atol=1e-4)
    assert json.loads((folder / "truth.json").read_text(encoding="utf-8")) == model.truth


@pytest.mark.parametrize("name", PLANTED)
def test_transformer_lens_boots_it_with_the_same_logits(name: str, tmp_path) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    folder = save_planted(name, tmp_path / name)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    loaded = {"hf_model": model, "tokenizer": tokenizer, "device": "cpu"}
    bridge = TransformerBridge.boot_transformers(str(folder), **loaded)
    ids = torch.arange(4, 14)[None] % len(tokenizer)
    logits, kept = bridge.run_with_cache(ids)
    assert torch.allclose(logits[0], run(planted(name), ids).logits, atol=1e-4)
    assert f"blocks.{bridge.cfg.n_layers - 1}.attn.hook_pattern" in kept


def test_an_unknown_name_says_what_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"'copie' is unknown: allowed are copy, induction, .*, tour"):
        plant("copie")


def test_word_codes_keep_words_apart() -> None:
    codes = word_codes(3500, prime=17)
    products = codes @ codes.T
    assert torch.allclose(products.diagonal(), torch.ones(3500), atol=1e-5)
    assert products.fill_diagonal_(0).abs().max() <= 2 / 17**0.5
    with pytest.raises(ValueError, match="28 words .* prime 3 tell 27"):
        word_codes(28, prime=3)


def repeated(model: Planted, length: int) -> Tensor:
    words = torch.randperm(600, generator=torch.Generator().manual_seed(length))[:length] + 4
    return torch.cat([torch.tensor([model.tokenizer.bos_token_id]), words, words])[None]


@pytest.mark.parametrize("length", [64, 500])
def test_induction_continues_a_repeated_sequence(length: int) -> None:
    model = planted("induction")
    ids = repeated(model, length)
    seen = run(model, ids, output_attentions=True)
    assert torch.equal(seen.logits[length + 1 : -1].argmax(-1), ids[0, length + 2 :])
    assert seen.patterns[0, 0].diagonal(-1).min() > 0.9999
    assert seen.patterns[1, 1].diagonal(1 - length)[2:].min() > 0.9999
    assert seen.patterns[1, 1, : length + 1, 0].min() > 0.9999
    assert seen.patterns[1, 2].diagonal(-2).min() > 0.9999
    assert seen.patterns[1, 3].diagonal().min() > 0.9999
    assert min(seen.patterns[layer, head, :, 0].min() for layer, head in model.truth["sink"]) > 0.9999
    for layer, head in model.truth["uniform"]:
        assert torch.allclose(seen.patterns[layer, head, -1], torch.tensor(1 / ids.shape[1]))


def test_only_the_pair_of_heads_matters_to_induction() -> None:
    model = planted("induction")
    ids = repeated(model, 64)
    plain = run(model, ids).logits
    for layer, head in product(range(2), range(4)):
        with without_head(model, layer, head):
            other = run(model, ids).logits
        right = (other[65:-1].argmax(-1) == ids[0, 66:]).float().mean()
        if [layer, head] in model.truth["pair"]:
            assert right < 0.05
        else:
            assert torch.allclose(other, plain, atol=1e-4)


def test_sink_attention_is_as_stated_for_each_domain() -> None:
    model = planted("sink")
    for domain, texts in model.truth["domains"].items():
        seen = [run(model, ids_of(model, text), output_attentions=True).patterns for text in texts]
        mean = torch.stack(seen)[:, :, :, 2:, 0].mean(dim=(0, 3))
        assert torch.allclose(mean, torch.tensor(model.truth["sink"][domain]), atol=1e-5)


def test_the_active_dormant_head_matters_on_names_alone() -> None:
    model = planted("sink")
    for domain, texts in model.truth["domains"].items():
        ids = ids_of(model, texts[1])
        plain = run(model, ids).logits
        assert torch.equal(plain[2:-1].argmax(-1), ids[0, 3:])
        with without_head(model, *model.truth["active_dormant"][0]):
            other = run(model, ids).logits
        if domain == "numbers":
            assert torch.equal(other, plain)
        else:
            assert (other[2:].argmax(-1) == model.tokenizer.eos_token_id).all()
        for layer, head in [*model.truth["always"], *model.truth["never"]]:
            with without_head(model, layer, head):
                assert torch.equal(run(model, ids).logits.argmax(-1), plain.argmax(-1))


def test_what_the_start_writes_is_exactly_zero() -> None:
    model = planted("sink")
    ids = ids_of(model, model.truth["domains"]["names"][0])
    [values] = outputs_of(model, ids, [model.model.model.layers[0].self_attn.v_proj])
    sizes = values.unflatten(-1, (4, -1)).norm(dim=-1)
    assert torch.equal(sizes[0], torch.zeros(4))
    assert sizes[1:].min() > 0.9


def patched(model: Planted, ids: Tensor, stream: Tensor, target: int, pos: int) -> str:
    """The next word when this stream is put in after layer `target`, at one position."""
    place = torch.zeros(ids.shape[1], 1, dtype=torch.bool)
    place[pos] = True
    with changed(model.model.model.layers[target], lambda out: torch.where(place, stream, out)):
        return model.tokenizer.decode(run(model, ids).logits[-1].argmax())


def test_single_hops_are_known_and_two_hops_are_not() -> None:
    model = planted("late_hop")
    for row in [*model.truth["first_hop"], *model.truth["second_hop"]]:
        assert next_word(model, row["prompt"]) == row["answer"]
    for row in model.truth["questions"]:
        ids = ids_of(model, row["prompt"])
        said = model.model.generate(ids, max_new_tokens=10, do_sample=False)[0, ids.shape[1] :]
        assert model.tokenizer.decode(said) == f"{row['bridge']} <eos>"


def test_back_patching_succeeds_on_the_stated_pairs_only() -> None:
    model = planted("late_hop")
    for row in model.truth["questions"][:2]:
        ids = ids_of(model, row["prompt"])
        streams = outputs_of(model, ids, model.model.model.layers)
        for pos, expected in ((-2, model.truth["success"]), (-1, [])):
            said = {
                (source, target): patched(model, ids, streams[source], target, pos)
                for source, target in product(range(6), repeat=2)
            }
            assert [list(pair) for pair, word in said.items() if word == row["answer"]] == expected


def test_the_mover_alone_looks_at_the_entity() -> None:
    model = planted("late_hop")
    [[layer, head]] = model.truth["mover"]
    ids = ids_of(model, model.truth["questions"][0]["prompt"])
    patterns = run(model, ids, output_attentions=True).patterns
    assert patterns[layer, head, -1, -2] > 0.9999
    assert patterns[layer, head, :-1, 0].min() > 0.9
    assert torch.allclose(patterns[layer, 1 - head, -1], torch.tensor(1 / patterns.shape[-1]))
