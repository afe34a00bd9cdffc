"""What the model answers: prompts of one length run together, and only a few numbers of each are kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.analyses.task_accuracy.questions import Ids, Question
from workbench.generate import continue_rows, most_likely
from workbench.metrics import top_two_margin
from workbench.model import Model
from workbench.progress import track

_BUDGET = 64_000_000
"""Logits held at once: 256 MB."""


@dataclass(frozen=True)
class Answer:
    """What the model says to one question.

    Attributes:
        said: its greedy continuation.
        first_log_probs: by token, for the first tokens of all answers of the set.
        rank: how many tokens are more likely than the target's first; None without a target.
        margin: how far the most likely token's logit leads.
        target: log probability of the whole target; None without one.
        distractor: the same of the distractor.
        corrupt_difference: target minus distractor behind the corrupt prompt.
    """

    said: Ids
    first_log_probs: dict[int, float]
    rank: int | None
    margin: float
    target: float | None
    distractor: float | None
    corrupt_difference: float | None

    @property
    def difference(self) -> float | None:
        """Log probability of the target minus that of the distractor; of single tokens the logit difference."""
        return None if self.target is None or self.distractor is None else self.target - self.distractor


@dataclass(frozen=True)
class _First:
    """What is kept of the logits behind one prompt."""

    said: Ids
    log_probs: dict[int, float]
    ranks: dict[int, int]
    margin: float


def answer(model: Model, questions: Sequence[Question], new_tokens: int) -> list[Answer]:
    """Run all questions: one pass a prompt and its continuation, one more for each answer of several tokens.

    The corrupt prompts of pairs are run as well, to score the same answers behind them.
    """
    wanted = sorted({ids[0] for one in questions for ids in (one.target, one.distractor) if ids})
    own: dict[Ids, set[int]] = {one.ids: set() for one in questions}
    for one in questions:
        own[one.ids] |= set(one.target[:1])
    firsts = _read(model, own, wanted, new_tokens, "prompts")
    other: dict[Ids, set[int]] = {one.corrupt: set() for one in questions if one.corrupt and one.compares}
    corrupt = _read(model, other, wanted, 1, "corrupt prompts")
    behind = [(one, one.ids) for one in questions] + [(one, one.corrupt) for one in questions if one.corrupt in other]
    asked = {(text, ids) for one, text in behind for ids in (one.target, one.distractor) if len(ids) > 1}
    long = _read_long(model, asked)

    def log_prob(read: Mapping[Ids, _First], text: Ids, ids: Ids) -> float | None:
        return None if not ids else long[text, ids] if len(ids) > 1 else read[text].log_probs[ids[0]]

    def corrupt_difference(one: Question) -> float | None:
        if one.corrupt not in corrupt or not one.compares:
            return None
        target, distractor = (log_prob(corrupt, one.corrupt, ids) for ids in (one.target, one.distractor))
        return None if target is None or distractor is None else target - distractor

    return [
        Answer(
            said=firsts[one.ids].said,
            first_log_probs=firsts[one.ids].log_probs,
            rank=firsts[one.ids].ranks[one.target[0]] if one.target else None,
            margin=firsts[one.ids].margin,
            target=log_prob(firsts, one.ids, one.target),
            distractor=log_prob(firsts, one.ids, one.distractor),
            corrupt_difference=corrupt_difference(one),
        )
        for one in questions
    ]


def _read(
    model: Model, prompts: Mapping[Ids, set[int]], wanted: list[int], new_tokens: int, label: str
) -> dict[Ids, _First]:
    """Continue prompts greedily; of the first logits keep those at some tokens, and the ranks of each prompt's own."""
    ids = torch.tensor(wanted, dtype=torch.long, device=model.device)
    found: dict[Ids, _First] = {}
    for group in track(list(_groups(set(prompts), max(1, _BUDGET // model.shape.d_vocab))), label):
        logits, made = _continue(model, group, new_tokens)
        log_probs, margins = logits.log_softmax(-1)[:, ids].tolist(), top_two_margin(logits).tolist()
        for row, prompt in enumerate(group):
            ranks = {own: int((logits[row] > logits[row, own]).sum()) for own in prompts[prompt]}
            table = dict(zip(wanted, log_probs[row], strict=True))
            found[prompt] = _First(tuple(made[row].tolist()), table, ranks, margins[row])
    return found


def _continue(
    model: Model, group: list[Ids], new_tokens: int
) -> tuple[Float[Tensor, "batch vocab"], Int[Tensor, "batch step"]]:
    """The logits behind some prompts of one length, and their greedy continuations."""
    first: list[Tensor] = []

    def choose(logits: Float[Tensor, "batch vocab"], step: int) -> Int[Tensor, " batch"]:
        if step == 0:
            first.append(logits)
        return most_likely(logits, step)

    made = continue_rows(model, torch.tensor(group, device=model.device), new_tokens, choose=choose)
    return first[0], made


def _read_long(model: Model, asked: set[tuple[Ids, Ids]]) -> dict[tuple[Ids, Ids], float]:
    """Log probability of answers of several tokens: the product over their tokens, in one pass each."""
    found: dict[tuple[Ids, Ids], float] = {}
    whole = {((*prompt, *ids), len(ids)): (prompt, ids) for prompt, ids in asked}
    for length in sorted({len(ids) for _, ids in asked}):
        rows = {(*prompt, *ids) for prompt, ids in asked if len(ids) == length}
        for group in track(list(_groups(rows, max(1, _BUDGET // (length * model.shape.d_vocab)))), "long answers"):
            batch = torch.tensor(group, device=model.device)
            with torch.no_grad(), model.lock:
                logits = model.forward(batch[:, :-1], keep=length)
            log_probs = logits.float().log_softmax(-1).gather(-1, batch[:, -length:, None])[..., 0]
            found |= dict(zip((whole[row, length] for row in group), log_probs.double().sum(-1).tolist(), strict=True))
    return found


def _groups(rows: set[Ids], size: int) -> Iterator[list[Ids]]:
    """Rows of one length together, at most `size` of them."""
    for length in sorted({len(row) for row in rows}):
        same = sorted(row for row in rows if len(row) == length)
        yield from (same[start : start + size] for start in range(0, len(same), size))
