"""Edits in words do what the functions they name do, are read back from their text, and are refused in one sentence."""

import pytest
import torch
from running import TEXT, logits_of
from small_models import small_model

import workbench
from workbench.edit import Edit, clamp, edited, onward, scale, zero
from workbench.edit_words import edits, read_edits
from workbench.rewiring import cut, repeat, skip

SAME = {
    "zero L1.H2": ("L1.H2.z", zero()),
    "zero L0.H1@3": ("L0.H1.z@3", zero()),
    "scale L1.mlp_out 0.5": ("L1.mlp_out", scale(0.5)),
    "scale L0.attn -2": ("L0.attn_out", scale(-2.0)),
    "clamp L1.N7 5": ("L1.N7.mlp_post", clamp(5.0)),
    "zero L0.mlp from -2": onward("L0.mlp_out", zero(), -2),
    "scale L0.resid_post@-1 1.5": ("L0.resid_post@-1", scale(1.5)),
    "skip L1": skip("block", 1),
    "skip L0.attn": skip("attn", 0),
    "skip L1.mlp": skip("mlp", 1),
    "repeat L0 3": repeat(0, 3),
    "cut L1.H2 key 0 query 4": cut(1, key=0, query=4, head=2),
    "cut L0 key 1": cut(0, key=1),
}


@pytest.mark.parametrize("text", SAME)
def test_words_do_what_the_functions_do(text: str) -> None:
    model = small_model("Llama")
    ids = model.tokens(TEXT).ids
    plain = logits_of(model, ids)
    with edited(model, [SAME[text]]):
        expected = logits_of(model, ids)
    with edited(model, edits(text)):
        found = logits_of(model, ids)
    assert torch.equal(found, expected)
    assert not torch.equal(found, plain), "the edit must show, or the test proves nothing"


@pytest.mark.parametrize("text", SAME)
def test_the_idle_twin_of_an_edit_changes_nothing_bit_for_bit(text: str) -> None:
    model = small_model("Llama")
    ids = model.tokens(TEXT).ids
    plain = logits_of(model, ids)
    with edited(model, [written.idle() for written in read_edits(text)]):
        assert torch.equal(logits_of(model, ids), plain)


@pytest.mark.parametrize("text", [*SAME, "scale L0.H1 0.1", "clamp L3.N12 1e-07", "zero L4.scores@2"])
def test_the_text_of_an_edit_is_read_back(text: str) -> None:
    (written,) = read_edits(text)
    assert read_edits(str(written)) == [written]


def test_several_edits_are_parted_by_semicolons_or_lines_and_act_together() -> None:
    model = small_model("Llama")
    ids = model.tokens(TEXT).ids
    with edited(model, [SAME["zero L1.H2"], SAME["skip L0.attn"]]):
        expected = logits_of(model, ids)
    for text in ("zero L1.H2; skip L0.attn", "zero L1.H2\n  skip L0.attn ;\n"):
        made = workbench.edits(text)
        assert all(isinstance(one, Edit) for one in made)
        with edited(model, made):
            assert torch.equal(logits_of(model, ids), expected)


@pytest.mark.parametrize(
    "text, message",
    [
        (" ; ", "no edit was given: write one such as 'zero L5.H1'"),
        ("zerro L1.H2", "the verb 'zerro' is unknown: did you mean zero\\? allowed are zero, scale, clamp, skip"),
        ("scale L1.H2", "edit 'scale L1.H2' cannot be read; write scale PLACE NUMBER, as in 'scale L3.mlp_out 0.5'"),
        ("scale L1.H2 much", "could not convert string to float: 'much'; write scale PLACE NUMBER"),
        ("clamp L1.N2 inf", "the number is not finite"),
        ("zero L1.H2 0.5", "edit 'zero L1.H2 0.5' cannot be read; write zero PLACE"),
        ("zero L1.H2@3 from 4", "the position is named twice"),
        ("zero L1.N2.z", "site z has no neurons"),
        ("zero", "site '' cannot be read.*; write zero PLACE"),
        ("skip L1.H2", "cannot be read; write skip LAYER, LAYER.attn or LAYER.mlp"),
        ("repeat L1 0", "a block runs at least once; write repeat LAYER TIMES"),
        ("cut L1.H2", "cannot be read; write cut LAYER or LAYER.HEAD with a query, a key or both"),
        ("cut L1 key -1", "count from the front"),
        ("cut L1 key 1 key 2", "key is named twice"),
    ],
)
def test_what_cannot_be_read_is_refused_with_how_it_is_written(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edits(text)
