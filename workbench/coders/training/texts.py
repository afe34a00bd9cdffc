"""What a model reads while coders learn: rows of token ids, out of prompts, documents, a data set or tokens."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.model import Model
from workbench.prompts import Prompts

Row = Int[Tensor, " _pos"]
"""The token ids of one text; several of them need not be of one length."""

Texts = Prompts | Tensor | Iterable[str | Mapping[str, Any]]
"""Prompts are read as they are. Documents (texts, or rows of a data set with a `text`) are cut into rows. Token ids
are rows, or one long row that is cut."""

_TOGETHER = 256
"""Documents that the tokenizer is given at once."""


def token_rows(model: Model, texts: Texts, context: int) -> list[Row]:
    """Texts as rows of token ids.

    Args:
        model: whose tokens they are.
        texts: prompts, documents, rows of a data set, or token ids.
        context: the longest row that documents and a long row are cut into, or the model's own if that is less. Each
            begins with the model's beginning-of-sequence token where prompts do too.

    Raises:
        ValueError: there is no token, one is outside the vocabulary, or a row is longer than the model can read.
        TypeError: a row of a data set has no `text`.
    """
    context = min(context, model.shape.n_ctx)
    if isinstance(texts, Prompts):
        rows = [_row(model.tokens(prompt).ids[0]) for prompt in texts]
    elif isinstance(texts, Tensor):
        rows = list(_row(texts)) if texts.ndim == 2 else _cut(model, _row(texts), context)
    else:
        rows = [row for ids in _documents(model, texts) for row in _cut(model, ids, context)]
    if not rows:
        raise ValueError("there is no text to learn from: it is empty")
    if (length := max(map(len, rows))) > model.shape.n_ctx:
        raise ValueError(f"a row of {length} tokens was given, but {model.name} reads {model.shape.n_ctx} at most")
    every = torch.cat(rows)
    outside = every[(every < 0) | (every >= model.shape.d_vocab)]
    if len(outside):
        raise ValueError(f"token ids must lie in 0-{model.shape.d_vocab - 1} for {model.name}, found {outside[0]}")
    return rows


def read_documents(file: str | Path) -> list[str]:
    """The documents of a text file: an empty line ends each.

    Raises:
        ValueError: there is none, or the file is no UTF-8 text.
    """
    try:
        text = Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    documents = [document for document in text.split("\n\n") if document.strip()]
    if not documents:
        raise ValueError(f"{file} holds no text: it is empty")
    return documents


def digest(rows: Sequence[Row]) -> str:
    """What tells these rows from all others."""
    found = hashlib.sha256()
    for row in rows:
        found.update(len(row).to_bytes(8, "big"))
        found.update(row.numpy().tobytes())
    return found.hexdigest()


def _documents(model: Model, texts: Iterable[str | Mapping[str, Any]]) -> Iterator[Row]:
    """The ids of each document."""
    left = iter(texts)
    while part := [_text(one) for one in islice(left, _TOGETHER)]:
        for ids in model.tokenizer(part, add_special_tokens=False)["input_ids"]:
            yield torch.tensor(ids, dtype=torch.int32)


def _text(document: str | Mapping[str, Any]) -> str:
    found = document if isinstance(document, str) else document.get("text")
    if not isinstance(found, str):
        raise TypeError(f"a document is a text, or a row with a `text`: found {type(document).__name__}")
    return found


def _row(ids: Tensor) -> Tensor:
    return ids.detach().cpu().to(torch.int32).contiguous()


def _cut(model: Model, ids: Row, context: int) -> list[Row]:
    """One long row as rows of a context, the last of them shorter."""
    if not model.prepend_bos:
        return list(ids.split(context))
    start = torch.tensor([model.tokenizer.bos_token_id], dtype=ids.dtype)
    return [torch.cat([start, part[part[:1].eq(start).sum() :]]) for part in ids.split(context - 1)]
