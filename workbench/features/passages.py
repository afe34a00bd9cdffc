"""A corpus as token ids, cut into passages that a model reads one by one."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.coders.training import read_documents
from workbench.model import Model
from workbench.prompts import Prompts, find_file
from workbench.tokens import Tokens

Corpus = Prompts | str | Path | Sequence[Sequence[int]]
"""Prompts, a file or a bundled set of them (in plain text an empty line ends a document), or rows of token ids."""

_TOGETHER = 2048
"""Tokens in one pass, padding included."""
_TEXTS = 1000
"""Texts that are cut into tokens at once."""


@dataclass(frozen=True, eq=False)
class Passages:
    """Some passages; a place counts tokens over all of them.

    Attributes:
        ids: the tokens, passage after passage; each begins as the model's prompts do.
        starts: the place at which each passage begins, and where the last one ends.
    """

    ids: Int[Tensor, " token"]
    starts: Int[Tensor, " edge"]

    @classmethod
    def of(cls, model: Model, corpus: Corpus, length: int) -> "Passages":
        """Cut a corpus into passages of at most so many tokens; what is left of one token alone is dropped.

        Raises:
            ValueError: a length the model cannot read, a token outside its vocabulary, or nothing to read.
        """
        if not 2 <= length <= model.shape.n_ctx:
            raise ValueError(f"passages have 2-{model.shape.n_ctx} tokens on {model.name}, asked for {length}")
        rows = [torch.tensor(row, dtype=torch.int32) for row in _rows(model, corpus, length) if len(row) > 1]
        if not rows:
            raise ValueError("the corpus holds no text of two tokens or more")
        ids = torch.cat(rows)
        if int(ids.min()) < 0 or int(ids.max()) >= model.shape.d_vocab:
            raise ValueError(f"the corpus holds a token outside the vocabulary 0-{model.shape.d_vocab - 1}")
        edges = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
        return cls(ids, edges)

    def __len__(self) -> int:
        """How many passages there are."""
        return len(self.starts) - 1

    @property
    def sha256(self) -> str:
        """Of all tokens and how they are cut."""
        digest = hashlib.sha256(self.ids.numpy().tobytes())
        digest.update(self.starts.numpy().tobytes())
        return digest.hexdigest()

    def row(self, passage: int) -> list[int]:
        """The tokens of one passage."""
        return self.ids[self.starts[passage] : self.starts[passage + 1]].tolist()

    def passage_at(self, place: int) -> tuple[int, int]:
        """The passage of a place, and the position within it."""
        passage = int(torch.searchsorted(self.starts, place, right=True)) - 1
        return passage, place - int(self.starts[passage])

    def batches(self, first: int = 0) -> list[range]:
        """The passages from one on, in groups for one pass each; where a group ends does not depend on `first`."""
        lengths = self.starts.diff().tolist()
        groups, start, longest = [], 0, 0
        for passage, length in enumerate(lengths):
            longest = max(longest, length)
            if longest * (passage + 1 - start) > _TOGETHER and passage > start:
                groups.append(range(start, passage))
                start, longest = passage, length
        groups.append(range(start, len(lengths)))
        return [group for group in groups if group.start >= first]

    def tokens(self, model: Model, group: range) -> Tokens:
        """Some passages as a batch for the tracer; their texts are left out."""
        rows = [self.ids[self.starts[one] : self.starts[one + 1]].long() for one in group]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return Tokens(padded.to(model.device), tuple(map(len, rows)), (), ())


def _rows(model: Model, corpus: Corpus, length: int) -> Iterator[list[int]]:
    """The passages' token ids."""
    if not isinstance(corpus, str | Path | Prompts):
        yield from (list(row[at : at + length]) for row in corpus for at in range(0, len(row), length))
        return
    texts = _texts(corpus)
    bos = [model.tokenizer.bos_token_id] if model.prepend_bos else []
    step = length - len(bos)
    for first in range(0, len(texts), _TEXTS):
        for row in model.tokenizer(texts[first : first + _TEXTS], add_special_tokens=False, verbose=False)["input_ids"]:
            own = row[1:] if bos and row[:1] == bos else row
            yield from ([*bos, *own[at : at + step]] for at in range(0, len(own), step))


def _texts(corpus: Prompts | str | Path) -> list[str]:
    """The texts of some prompts, or of a file."""
    if isinstance(corpus, Prompts):
        return [prompt.text for prompt in corpus]
    file = find_file(corpus)
    listed = file.suffix.lower() in (".jsonl", ".csv")
    return [prompt.text for prompt in Prompts.read(file)] if listed else read_documents(file)
