"""Tokens keep the way back to the characters, and padding stays out of everything."""

from typing import Any

import pytest
import torch
from architectures import tiny_tokenizer
from small_models import plain_twin

from workbench.model import Model, load
from workbench.prompts import Prompt, Prompts
from workbench.tokens import Tokens, as_prompts, encode, token_text

TEXT = "w5 w6 w77 w8"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture
def tokens(tokenizer: Any) -> Tokens:
    return encode(tokenizer, [TEXT, "w9 w10"], prepend_bos=True, vocabulary=128)


def test_prompts_are_padded_on_the_right_behind_their_first_token(tokens: Tokens) -> None:
    assert tokens.ids.tolist() == [[1, 5, 6, 77, 8], [1, 9, 10, 0, 0]]
    assert tokens.lengths == (5, 3)
    assert tokens.mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    assert tokens.last.tolist() == [4, 2]
    assert tokens.text == (("<bos>", "w5", "w6", "w77", "w8"), ("<bos>", "w9", "w10"))


def test_the_first_token_is_not_doubled(tokenizer: Any) -> None:
    found = encode(tokenizer, "<bos> w5", prepend_bos=True, vocabulary=128)
    assert found.ids.tolist() == [[1, 5]]
    assert encode(tokenizer, "w5", prepend_bos=False, vocabulary=128).ids.tolist() == [[5]]


def test_every_token_knows_the_characters_it_stands_for(tokens: Tokens) -> None:
    assert tokens.spans[0] == ((0, 0), (0, 2), (3, 5), (6, 9), (10, 12))
    assert [TEXT[start:end] for start, end in tokens.spans[0][1:]] == TEXT.split()


def test_a_span_of_characters_is_a_run_of_tokens(tokens: Tokens) -> None:
    assert tokens.between(0, 3, 9) == range(2, 4)
    assert tokens.between(0, 2, 9) == range(2, 4), "a leading space belongs to the token behind it"
    assert tokens.between(1, 0, 6) == range(1, 3)


@pytest.mark.parametrize(
    ("start", "end", "sentence"),
    [
        (7, 8, r"characters 7-8 do not end where tokens end: the tokens there are \['w77'\]"),
        (3, 8, "do not end where tokens end"),
        (50, 60, "covered by no token"),
        (2, 3, "covered by no token"),
    ],
)
def test_a_span_that_cuts_a_token_is_refused(start: int, end: int, sentence: str, tokens: Tokens) -> None:
    with pytest.raises(ValueError, match=sentence):
        tokens.between(0, start, end)


def test_a_token_outside_the_vocabulary_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="token id 77 is outside the model's vocabulary of 50"):
        encode(tokenizer, TEXT, prepend_bos=False, vocabulary=50)


def test_whatever_a_person_writes_becomes_prompts() -> None:
    assert as_prompts("one") == as_prompts(["one"]) == as_prompts(Prompt("one")) == Prompts.of("one")
    given = Prompts.of("one", "two")
    assert as_prompts(given) is given


def test_a_lone_byte_shows_its_token_name_and_a_space_is_kept() -> None:
    class Bytes:
        def decode(self, ids: list[int], clean_up_tokenization_spaces: bool) -> str:
            return {0: "\ufffd", 1: "", 2: "word", 3: " word"}[ids[0]]

        def convert_ids_to_tokens(self, index: int) -> str:
            return {0: "<0xE2>", 1: "", 2: "\u2581word", 3: "\u0120word"}[index]

    assert token_text(Bytes(), [0, 1, 2, 3]) == ("<0xE2>", "<1>", " word", " word")


def test_a_model_refuses_what_it_cannot_read(tiny_model: Model) -> None:
    with pytest.raises(ValueError, match="the prompt is empty"):
        tiny_model.tokens("  ")
    with pytest.raises(ValueError, match="the prompt is 66 tokens long, but .* reads 64; it is not cut silently"):
        tiny_model.tokens(" ".join(["w5"] * 65))
    for number in (128, -1):
        with pytest.raises(ValueError, match=f"token ids must lie in 0-127, found {number}"):
            tiny_model.tokens_of([[5, 6], [number, 7]])
    for rows in ([], [[]], [[5], []]):
        with pytest.raises(ValueError, match="no token id was given"):
            tiny_model.tokens_of(rows)


def test_one_word_is_one_token_or_refused_with_its_pieces(tiny_model: Model) -> None:
    assert tiny_model.token("w9") == 9
    with pytest.raises(ValueError, match=r"'w9 w10' is 2 tokens for .*, not one: \['w9', 'w10'\]"):
        tiny_model.token("w9 w10")


def test_tokens_given_as_numbers_are_the_same_as_their_text(tiny_model: Model) -> None:
    named = tiny_model.tokens([TEXT, "w9 w10"])
    numbers = tiny_model.tokens_of([[1, 5, 6, 77, 8], [1, 9, 10]])
    assert torch.equal(named.ids, numbers.ids)
    assert named.text == numbers.text and named.lengths == numbers.lengths


@pytest.mark.parametrize("complete", [True, False])
def test_the_bridge_adjusts_a_tokenizer_of_its_own_and_shares_its_words_unless_it_adds_one(complete: bool) -> None:
    tokenizer = tiny_tokenizer()
    if not complete:
        tokenizer.eos_token = tokenizer.unk_token = None
    before = dict(tokenizer.special_tokens_map), len(tokenizer), tokenizer.padding_side
    own: Any = load(plain_twin("Llama"), tokenizer=tokenizer).bridge.tokenizer
    assert len(own) == len(tokenizer) + (0 if complete else 1)
    assert (own.backend_tokenizer is tokenizer.backend_tokenizer) is complete
    own.pad_token, own.padding_side = "w5", "left"
    assert before == (tokenizer.special_tokens_map, len(tokenizer), tokenizer.padding_side)
    assert before[2] == "right"
