"""Decoding with a guess gives the tokens and the rows of step-by-step decoding, whatever the guess."""

import pytest
import torch
from small_models import plain_greedy, plain_twin, prompt_ids, small_model

from workbench.attention import TopKeys, prefill, read_rows
from workbench.cache import empty_cache
from workbench.drafting import Decoded, decode_with_guess
from workbench.model import Model

NEW = 8
NAMES = ("GPT2", "Llama", "Gemma3")


def never(_token: int) -> bool:
    return False


def decoded(model: Model, guess: list[int], new_tokens: int = NEW, stop: object = never) -> Decoded:
    ids, cache = prompt_ids(), empty_cache()
    prefill(model, ids[:-1], cache)
    return decode_with_guess(model, ids[-1], cache, guess, new_tokens, stop)


def step_by_step(model: Model, new_tokens: int = NEW) -> tuple[list[int], TopKeys]:
    """The slow definition: one token, one pass, one row."""
    ids, cache = prompt_ids(), empty_cache()
    prefill(model, ids[:-1], cache)
    entering, made, parts = ids[-1], [], []
    for _ in range(new_tokens):
        logits, rows = read_rows(model, [entering], cache)
        entering = int(logits[-1].argmax())
        made.append(entering)
        parts.append(rows)
    return made, TopKeys.joined(parts)


def guesses(said: list[int]) -> dict[str, list[int]]:
    wrong = [(token + 1) % 128 for token in said]
    return {
        "right": said,
        "wrong": wrong,
        "right, then wrong": [*said[:3], *wrong[3:]],
        "wrong, then right": [*wrong[:2], *said[2:]],
        "one wrong in the middle": [*said[:4], wrong[4], *said[5:]],
        "a token missing": [*said[:2], *said[3:]],
        "empty": [],
        "too short": said[:2],
        "too long": [*said, *said, *wrong],
    }


@pytest.mark.parametrize("name", NAMES)
def test_any_guess_gives_the_greedy_tokens_and_rows(name: str) -> None:
    model = small_model(name)
    said, rows = step_by_step(model)
    assert said == plain_greedy(plain_twin(name), prompt_ids(), NEW)
    for kind, guess in guesses(said).items():
        found = decoded(model, guess)
        assert list(found.ids) == said, kind
        assert torch.equal(found.rows.keys, rows.keys), kind
        torch.testing.assert_close(found.rows.margins, rows.margins, atol=1e-5, rtol=1e-5)


def test_a_better_guess_takes_fewer_passes() -> None:
    model = small_model("Llama")
    said, _ = step_by_step(model)
    taken = {kind: decoded(model, guess).passes for kind, guess in guesses(said).items()}
    assert taken["right"] == taken["too long"] == 1
    assert taken["empty"] == NEW
    assert taken["right, then wrong"] < NEW
    assert taken["one wrong in the middle"] <= NEW // 2


@pytest.mark.parametrize("new_tokens", [1, 2, 5])
def test_makes_as_many_tokens_as_asked_and_reads_a_row_for_each(new_tokens: int) -> None:
    model = small_model("Llama")
    said, _ = step_by_step(model)
    for guess in guesses(said).values():
        found = decoded(model, guess, new_tokens)
        assert list(found.ids) == said[:new_tokens]
        assert found.rows.keys.shape == (model.shape.n_layers, model.shape.n_heads, new_tokens)


@pytest.mark.parametrize("place", [0, 3, NEW - 1])
def test_a_stop_token_ends_also_inside_of_a_right_guess(place: int) -> None:
    model = small_model("Gemma3")
    said, rows = step_by_step(model)
    first = said.index(said[place])
    for guess in guesses(said).values():
        found = decoded(model, guess, stop=said[place].__eq__)
        assert list(found.ids) == said[: first + 1]
        assert torch.equal(found.rows.keys, rows.keys[..., : first + 1])


@pytest.mark.parametrize("new_tokens", [0, -3, 56])
def test_refuses_answers_without_room(tiny_model: Model, new_tokens: int) -> None:
    with pytest.raises(ValueError, match=f"an answer here has 1-55 tokens, {new_tokens} were asked for"):
        decoded(tiny_model, [5], new_tokens)
