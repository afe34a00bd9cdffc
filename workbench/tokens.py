"""Tokens: prompts as one model sees them, with a map back to the characters of the text.

Prompts of unequal length are padded on the right: in a causal model no real token can see a pad,
so the numbers at real positions are those of the prompt run alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.prompts import Prompt, Prompts


@dataclass(frozen=True)
class Tokens:
    """Token ids of some prompts, their real lengths, and the characters each token stands for."""

    ids: Int[Tensor, "batch pos"]
    lengths: tuple[int, ...]
    text: tuple[tuple[str, ...], ...]
    spans: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def mask(self) -> Bool[Tensor, "batch pos"]:
        """True where a real token stands, False on padding."""
        places = torch.arange(self.ids.shape[1], device=self.ids.device)
        return places[None, :] < torch.tensor(self.lengths, device=self.ids.device)[:, None]

    @property
    def last(self) -> Int[Tensor, " batch"]:
        """The position of each prompt's last real token."""
        return torch.tensor(self.lengths, device=self.ids.device) - 1

    def between(self, row: int, start: int, end: int) -> range:
        """The positions of the tokens that cover the characters [start, end) of a prompt.

        Raises:
            ValueError: a token reaches over the edge of the span, so the span is no run of tokens.
        """
        spans = self.spans[row]
        inside = [pos for pos, (a, b) in enumerate(spans) if a < end and b > start and b > a]
        if not inside:
            raise ValueError(f"characters {start}-{end} of the prompt are covered by no token")
        first, last = spans[inside[0]], spans[inside[-1]]
        if last[1] > end or first[0] < start - 1:
            shown = [self.text[row][pos] for pos in inside]
            raise ValueError(f"characters {start}-{end} do not end where tokens end: the tokens there are {shown}")
        return range(inside[0], inside[-1] + 1)


def encode(
    tokenizer: Any, prompts: Prompts | Prompt | str | Sequence[str], *, prepend_bos: bool, vocabulary: int
) -> Tokens:
    """Turn prompts into tokens, with the beginning-of-sequence token in front when asked.

    Raises:
        ValueError: a prompt has no token, or a token lies outside the model's vocabulary.
    """
    rows = [_encode_one(tokenizer, prompt.text, prepend_bos) for prompt in as_prompts(prompts)]
    for ids, _ in rows:
        if max(ids) >= vocabulary:
            raise ValueError(f"token id {max(ids)} is outside the model's vocabulary of {vocabulary}")
    return stack(tokenizer, [ids for ids, _ in rows], [spans for _, spans in rows])


def as_prompts(prompts: Prompts | Prompt | str | Sequence[str]) -> Prompts:
    """Prompts from whatever a person would write for them."""
    if isinstance(prompts, Prompts):
        return prompts
    return Prompts.of(prompts) if isinstance(prompts, str | Prompt) else Prompts.of(*prompts)


def _encode_one(tokenizer: Any, text: str, prepend_bos: bool) -> tuple[list[int], list[tuple[int, int]]]:
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
    ids = list(found["input_ids"])
    spans = [tuple(span) for span in found["offset_mapping"]] if tokenizer.is_fast else [(0, 0)] * len(ids)
    if not ids:
        raise ValueError(f"the prompt {text!r} gives no token")
    if prepend_bos and ids[0] != tokenizer.bos_token_id:
        ids, spans = [tokenizer.bos_token_id, *ids], [(0, 0), *spans]
    return ids, spans


def stack(
    tokenizer: Any, rows: Sequence[Sequence[int]], spans: Sequence[Sequence[tuple[int, int]]] | None = None
) -> Tokens:
    """Token ids of several prompts as one right-padded batch."""
    lengths = tuple(len(ids) for ids in rows)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    padded = torch.full((len(rows), max(lengths)), pad, dtype=torch.long)
    for row, ids in enumerate(rows):
        padded[row, : len(ids)] = torch.tensor(list(ids))
    text = tuple(token_text(tokenizer, ids) for ids in rows)
    kept = spans if spans is not None else [[(0, 0)] * length for length in lengths]
    return Tokens(padded, lengths, text, tuple(tuple(row) for row in kept))


def token_text(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """The text of each token by itself (a leading space is kept, a lone byte becomes its token name)."""
    shown = []
    for index in ids:
        text = tokenizer.decode([index], clean_up_tokenization_spaces=False)
        name = tokenizer.convert_ids_to_tokens(int(index)) or ""
        if "\ufffd" in text or not text:
            text = name or f"<{index}>"
        elif name.startswith("\u2581") and not text.startswith(" "):
            text = " " + text
        shown.append(text)
    return tuple(shown)
