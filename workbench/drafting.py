"""Greedy decoding with a guess: the same tokens as step by step, in fewer passes.

A guess of the coming tokens is run in one pass; as far as the model's own choice agrees, the pass has
computed exactly what the single steps would have. At the first disagreement the model's choice stands
and the rest of the guess is thrown away.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.attention import TopKeys, read_rows
from workbench.model import Model

Stop = Callable[[int], bool]


@dataclass(frozen=True)
class Decoded:
    """The greedy continuation, the top key behind each of its tokens, and what it took."""

    ids: tuple[int, ...]
    rows: TopKeys
    passes: int


def decode_with_guess(
    model: Model, last: int, cache: Any, guess: Sequence[int], new_tokens: int, stop: Stop
) -> Decoded:
    """Continue greedily a prompt whose cache holds all but its last token.

    Args:
        model: a loaded model.
        last: the prompt's last token.
        cache: keys and values of the tokens before it; extended here.
        guess: what the model might say; a wrong guess costs time, never truth.
        new_tokens: length of the continuation at most, 1 or more.
        stop: whether a token ends it (the token is kept).

    Returns:
        The tokens that step-by-step greedy decoding gives; row i is the query that chose token i.

    Raises:
        ValueError: no token is asked for, or more than the context has room for.
    """
    room = model.shape.n_ctx - cache.get_seq_length() - 1
    if not 1 <= new_tokens <= room:
        raise ValueError(f"an answer here has 1-{room} tokens, {new_tokens} were asked for")
    made: list[int] = []
    rows: list[TopKeys] = []
    passes = 0
    guess = list(guess)
    ahead = guess
    while True:
        draft = ahead[: new_tokens - len(made) - 1]
        logits, found = read_rows(model, [last, *draft], cache)
        passes += 1
        chosen = logits.argmax(-1).tolist()
        kept = 1
        while kept <= len(draft) and chosen[kept - 1] == draft[kept - 1] and not stop(chosen[kept - 1]):
            kept += 1
        made += chosen[:kept]
        rows.append(found.first(kept))
        if len(made) >= new_tokens or stop(made[-1]):
            return Decoded(tuple(made), TopKeys.joined(rows), passes)
        if kept <= len(draft):
            cache.crop(kept - 1 - len(draft))
        last = made[-1]
        ahead = _after(guess, made)


def _after(guess: list[int], made: list[int]) -> list[int]:
    """What follows in the guess after the last two tokens that were made, or after the last one."""
    for width in (2, 1):
        for start in range(len(guess) - width, -1, -1):
            if guess[start : start + width] == made[-width:]:
                return guess[start + width :]
    return []
