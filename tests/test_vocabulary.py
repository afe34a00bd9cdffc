"""The stream over the vocabulary finds what a full sort finds, whatever the sizes of its tiles."""

import numpy as np
import pytest
import torch
from small_models import small_model

import workbench.vocabulary
from workbench.model import load
from workbench.vocabulary import Vocabulary, usable_tokens


def drawn(rows: int, tokens: int, size: int = 12) -> tuple[Vocabulary, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows + tokens)
    weight = torch.randn(tokens, size, generator=generator) + 0.5
    return Vocabulary.over(weight, torch.arange(tokens)), torch.randn(rows, size, generator=generator)


@pytest.mark.parametrize(
    ("rows", "tokens", "count", "tile", "groups"),
    [
        (7, 1000, 10, (512, 4096), 256),  # one ragged tile
        (40, 1024, 10, (16, 256), 32),  # whole tiles, many groups
        (40, 1030, 10, (16, 256), 32),  # and a rest of six tokens
        (33, 500, 40, (16, 256), 32),  # more wanted than there are groups
        (5, 300, 300, (2, 64), 16),  # all of them, more than a tile holds
        (1, 3, 2, (4, 2), 2),
    ],
)
def test_both_ends_are_those_of_a_full_sort(monkeypatch, rows, tokens, count, tile, groups):
    monkeypatch.setattr(workbench.vocabulary, "_CPU_TILE", tile)
    monkeypatch.setattr(workbench.vocabulary, "_GROUPS", groups)
    vocabulary, directions = drawn(rows, tokens)
    found = vocabulary.extremes(directions, count)
    scores = directions.double() @ vocabulary.weight.double().T
    z = (scores - scores.mean(1, keepdim=True)) / scores.std(1, correction=0, keepdim=True)
    order = z.argsort(dim=1, descending=True)
    assert torch.equal(found.promoted, order[:, :count])
    assert torch.equal(found.suppressed, order.flip(1)[:, :count])
    assert torch.allclose(found.promoted_z.double(), z.gather(1, found.promoted), atol=1e-5)
    assert torch.allclose(found.suppressed_z.double(), z.gather(1, found.suppressed), atol=1e-5)
    assert torch.allclose(vocabulary.all_z(directions), z)


def test_equal_scores_come_in_the_order_of_their_ids(monkeypatch):
    monkeypatch.setattr(workbench.vocabulary, "_CPU_TILE", (8, 64))
    monkeypatch.setattr(workbench.vocabulary, "_GROUPS", 16)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-2, 3, (500, 3), generator=generator).float()
    directions = torch.randint(-2, 3, (20, 3), generator=generator).float()
    found = Vocabulary.over(weight, torch.arange(500)).extremes(directions, 30)
    scores = directions @ weight.T
    for ids, descending in ((found.promoted, True), (found.suppressed, False)):
        best = scores.sort(dim=1, descending=descending).values[:, :30]
        assert torch.equal(scores.gather(1, ids), best)
        same = best[:, 1:] == best[:, :-1]
        assert same.any()
        assert (ids[:, 1:] > ids[:, :-1])[same].all()
        assert all(len(set(row)) == 30 for row in ids.tolist())


def test_mean_and_deviation_need_no_score():
    vocabulary, directions = drawn(9, 700)
    scores = directions.double() @ vocabulary.weight.double().T
    mean, deviation = vocabulary.moments(directions)
    assert torch.allclose(mean, scores.mean(1), rtol=1e-8)
    assert torch.allclose(deviation, scores.std(1, correction=0), rtol=1e-6)
    asked = torch.tensor([3, 699, 0])
    assert torch.allclose(vocabulary.z(directions, asked).double(), vocabulary.all_z(directions)[:, asked], atol=1e-5)


def test_z_does_not_depend_on_the_length_of_a_row_and_is_zero_for_none():
    vocabulary, directions = drawn(4, 100)
    directions[2] = 0
    found, longer = vocabulary.extremes(directions, 5), vocabulary.extremes(1000 * directions, 5)
    assert torch.equal(found.promoted, longer.promoted)
    assert torch.allclose(found.suppressed_z, longer.suppressed_z, atol=1e-5)
    assert (found.promoted_z[2] == 0).all()
    assert found.peak[2] == 0


def test_a_row_along_which_all_tokens_are_the_same_has_no_z():
    vocabulary, directions = drawn(3, 100)
    vocabulary.weight[:, 4] = 0.3
    flat = Vocabulary.over(vocabulary.weight, vocabulary.ids)
    directions[1] = torch.nn.functional.one_hot(torch.tensor(4), 12)
    assert flat.extremes(directions, 5).peak[1] == 0
    assert (flat.all_z(directions)[1] == 0).all()


def test_only_a_tile_of_scores_is_held(monkeypatch):
    monkeypatch.setattr(workbench.vocabulary, "_CPU_TILE", (16, 32))
    vocabulary, directions = drawn(100, 300)
    tiles = [(start, len(ids), scores.data_ptr()) for start, ids, scores in vocabulary.tiles(directions)]
    assert len(tiles) == 7 * 10
    assert len({place for *_, place in tiles}) == 1, "every tile takes the same room"
    assert max(width for _, width, _ in tiles) == 32


def test_some_tokens_only():
    vocabulary, directions = drawn(6, 200)
    odd = torch.arange(1, 200, 2)
    found = Vocabulary.over(vocabulary.weight, odd).extremes(directions, 4)
    alone = Vocabulary.over(vocabulary.weight[odd], torch.arange(100)).extremes(directions, 4)
    assert torch.equal(found.promoted, odd[alone.promoted])
    assert torch.allclose(found.promoted_z, alone.promoted_z, atol=1e-5)


def test_alike_is_the_mean_cosine_of_all_pairs():
    vocabulary, _ = drawn(1, 60)
    ids = torch.tensor([[1, 5, 9, 30], [2, 2, 2, 2]])
    centred = (vocabulary.weight.double() - vocabulary.mean).numpy()
    units = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = [units[a] @ units[b] for a in (1, 5, 9, 30) for b in (1, 5, 9, 30) if a != b]
    assert vocabulary.coherence(ids).tolist() == pytest.approx([np.mean(cosines), 1.0], abs=1e-6)
    with pytest.raises(ValueError, match="tokens are alike in pairs: 1 token a row has none"):
        vocabulary.coherence(ids[:, :1])


def test_half_precision_rows_are_multiplied_in_32_bits():
    weight = drawn(1, 400)[0].weight.bfloat16()
    directions = drawn(8, 400)[1].bfloat16()
    half = Vocabulary.over(weight, torch.arange(400)).extremes(directions, 10)
    whole = Vocabulary.over(weight.float(), torch.arange(400)).extremes(directions.float(), 10)
    assert torch.equal(half.promoted, whole.promoted)
    assert half.promoted_z.dtype == torch.float32
    assert torch.equal(half.promoted_z, whole.promoted_z)


def test_tokens_that_no_text_leads_to_are_left_out():
    model = small_model("Llama")  # <pad>, <bos>, <eos>, <unk>, w4, w5, ...
    assert usable_tokens(model).tolist() == list(range(4, 128))
    assert len(Vocabulary.of(model).ids) == 124
    assert len(Vocabulary.of(model, unused=True).ids) == 128


def test_unused_names_are_left_out_and_words_about_them_kept(monkeypatch):
    model = load("planted:late_hop")
    names = {"a": 4, "<unused7>": 5, "<|reserved_special_token_3|>": 6, "[unused1]": 7, "unused": 8, "<b>": 9}
    monkeypatch.setattr(model.tokenizer, "get_vocab", lambda: names | {"beyond": model.shape.d_vocab})
    assert usable_tokens(model).tolist() == [4, 8, 9]
