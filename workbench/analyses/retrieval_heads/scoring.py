"""What each head copied: top keys of the answering queries against the tokens that were said."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.analyses.retrieval_heads.cases import Case
from workbench.attention import TopKeys, Trunk, prefill, read_rows, refuse_lost_keys
from workbench.cache import empty_cache
from workbench.drafting import Decoded, Stop, decode_with_guess
from workbench.generate import end_tokens
from workbench.metrics import word_recall
from workbench.model import Model
from workbench.progress import track
from workbench.stats import bootstrap_mean

Score = Literal["positions", "paper_set", "code"]

UNSTABLE = 1e-3
"""A lead of the top key over the second below this could flip with the rounding of another kernel."""


@dataclass(frozen=True)
class Reading:
    """What the model said in one case, and what each head looked at while saying it."""

    case: Case
    said: str
    recall: float
    answered: bool
    decoded: Decoded

    @property
    def unstable(self) -> int:
        """Rows whose top key leads by less than UNSTABLE."""
        return int((self.decoded.rows.margins < UNSTABLE).sum())


@dataclass(frozen=True)
class Heads:
    """Scores of all heads over the answered cases, with their interval, and the heads best first."""

    mean: Float[Tensor, "layer head"]
    active: Float[Tensor, "layer head"]
    low: Float[np.ndarray, "layer head"]
    high: Float[np.ndarray, "layer head"]
    ranked: list[tuple[int, int]]


def read_cases(model: Model, cases: list[Case], hay: list[int], new_tokens: int, recall_needed: float) -> list[Reading]:
    """Answer every prompt greedily and keep the top key of every head at every answering query."""
    refuse_lost_keys(model)
    trunk = Trunk(model, hay)
    stops = stop_rule(model)
    readings = []
    for case in track(cases, "needle prompts"):
        ids = case.ids
        cache, shared = trunk.cache_for(ids)
        prefill(model, ids[shared:-1], cache)
        decoded = decode_with_guess(model, ids[-1], cache, case.answer_ids, new_tokens, stops)
        said = model.tokenizer.decode(list(decoded.ids))
        recall = word_recall(said, case.needle.answer)
        readings.append(Reading(case, said, recall, recall > recall_needed, decoded))
    return readings


def stop_rule(model: Model) -> Stop:
    """An answer ends at the model's own end token, at a line end, or at the end of a sentence."""
    ends = end_tokens(model)

    def stops(token: int) -> bool:
        text = model.tokenizer.decode([token])
        return token in ends or "\n" in text or text.rstrip().endswith(".")

    return stops


def rows_that_differ(model: Model, reading: Reading) -> int:
    """Decode a case again step by step; count the rows whose top key differs (all, if the tokens do)."""
    ids = reading.case.ids
    cache = empty_cache()
    prefill(model, ids[:-1], cache)
    entering, made, parts = ids[-1], [], []
    for _ in reading.decoded.ids:
        logits, rows = read_rows(model, [entering], cache)
        entering = int(logits[-1].argmax())
        made.append(entering)
        parts.append(rows)
    if tuple(made) != reading.decoded.ids:
        return reading.decoded.rows.keys.numel()
    return int((TopKeys.joined(parts).keys != reading.decoded.rows.keys).sum())


def score_all(answered: list[Reading], definition: Score, seed: int) -> Heads:
    """Mean score, activation frequency and interval of every head."""
    per_case = torch.stack([score_heads(reading, definition) for reading in answered]).cpu()
    active = torch.stack([hits(reading).any(-1) for reading in answered]).float().mean(0).cpu()
    low, high = bootstrap_mean(per_case.numpy(), seed=seed)
    mean = per_case.mean(0)
    order = torch.argsort(mean.flatten(), descending=True, stable=True).tolist()
    return Heads(mean, active, low, high, [divmod(index, mean.shape[1]) for index in order])


def hits(reading: Reading) -> Bool[Tensor, "layer head query"]:
    """Where a head's top key is a token of the answer in the context, and is the token being said."""
    keys = reading.decoded.rows.keys
    spoken = torch.tensor(reading.decoded.ids, device=keys.device)
    prompt = reading.case.tokens.ids[0]
    inside = (keys >= reading.case.span.start) & (keys < reading.case.span.stop)
    said = prompt[keys.clamp_max(len(prompt) - 1)] == spoken
    return inside & said


def score_heads(reading: Reading, definition: Score) -> Float[Tensor, "layer head"]:
    """The retrieval score of every head in one case.

    Args:
        reading: a case that was answered.
        definition: `positions`: distinct positions of the answer that were copied, over their number;
            `paper_set`: distinct tokens copied over the distinct tokens of the answer (the paper's
            text); `code`: copying steps over the answer's length (the authors' code; may exceed 1).
    """
    copied = hits(reading)
    span = reading.case.span
    if definition == "code":
        return copied.sum(-1).float() / len(span)
    places = torch.tensor([*span], device=copied.device)
    taken = (copied[..., None] & (reading.decoded.rows.keys[..., None] == places)).any(-2)
    if definition == "positions":
        return taken.sum(-1).float() / len(span)
    ids = reading.case.tokens.ids[0][places]
    distinct = ids.unique()
    return (taken[..., None, :] & (ids == distinct[:, None])).any(-1).sum(-1).float() / len(distinct)
