"""Pairs as one model sees them: which are used, and the one number that is read from the logits of a run."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.alignment import Aligned, align
from workbench.metrics import logit_difference
from workbench.model import Model
from workbench.pairs import Pair, Pairs
from workbench.progress import track
from workbench.tracer import trace
from workbench.words import Site

Metric = Literal["difference", "logit", "probability"]

UNITS = {"difference": "logits", "logit": "logits", "probability": "probability"}
"""What the metrics are measured in."""


@dataclass(frozen=True)
class Reading:
    """The number that is read from the logits: of the target, or target minus distractor."""

    metric: Metric
    target: int
    distractor: int

    def __call__(self, logits: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*rows"]:
        """The number for each row of logits."""
        exact = logits.float()
        if self.metric == "probability":
            exact = exact.log_softmax(-1)
        first = torch.full(logits.shape[:-1], self.target, device=logits.device)
        if self.metric == "difference":
            return logit_difference(exact, first, torch.full_like(first, self.distractor))
        chosen = exact.gather(-1, first[..., None])[..., 0]
        return chosen.exp() if self.metric == "probability" else chosen

    @property
    def needed(self) -> tuple[int, ...]:
        """The tokens whose logits are enough; none when all are needed."""
        return {"difference": (self.target, self.distractor), "logit": (self.target,)}.get(self.metric, ())

    @property
    def of_needed(self) -> "Reading":
        """The same reading of logits that hold the needed tokens alone."""
        return Reading(self.metric, 0, 1) if self.needed else self


@dataclass(frozen=True)
class Case:
    """One pair and how its runs are read."""

    aligned: Aligned
    reading: Reading

    @property
    def first(self) -> int:
        """The first position at which the two runs differ."""
        return self.aligned.first

    @property
    def length(self) -> int:
        """How many tokens each prompt has."""
        return self.aligned.length


def choose_pairs(pairs: Pairs, corruption: str, count: int) -> Pairs:
    """The first pairs of one kind of corruption ("" for the first one's kind, "all" for any kind).

    Raises:
        ValueError: no pair is of that kind, or the count is negative.
    """
    if count < 0:
        raise ValueError(f"pairs_used is 0 for all, or how many: found {count}")
    chosen = pairs if corruption == "all" else pairs.of_corruption(corruption or pairs[0].corruption)
    return Pairs(chosen[: count or len(chosen)])


def build_cases(model: Model, pairs: Pairs, metric: Metric, *, skip: bool) -> tuple[list[Case], list[str]]:
    """The pairs as cases, and why others were left out.

    Args:
        model: a loaded model.
        pairs: those to use.
        metric: what is read.
        skip: leave out a pair that does not fit the model's tokens, instead of refusing all.

    Raises:
        ValueError: a pair (with `skip`, every pair) that does not fit, or has no distractor to compare with.
    """
    cases, unfit = [], []
    for pair in pairs:
        try:
            cases.append(_case(model, pair, metric))
        except ValueError as error:
            if not skip:
                raise
            unfit.append(str(error))
    if not cases:
        raise ValueError(f"none of {len(pairs)} pairs fits {model.name}, the first one because: {unfit[0]}")
    return cases, unfit


def _case(model: Model, pair: Pair, metric: Metric) -> Case:
    aligned = align(model, pair)
    if metric == "difference" and aligned.distractor is None:
        raise ValueError(
            f"pair {pair.clean!r} has no distractor to take a logit difference with: name one, or choose "
            "metric=logit or metric=probability"
        )
    return Case(aligned, Reading(metric, aligned.target, -1 if aligned.distractor is None else aligned.distractor))


@dataclass(frozen=True)
class Ends:
    """What all pairs give without any patch.

    Attributes:
        clean: the metric of each clean run.
        corrupt: the metric of each corrupt run.
        means: what each head gives on average over tokens and clean prompts, <bos> left out.
    """

    clean: Float[np.ndarray, " example"]
    corrupt: Float[np.ndarray, " example"]
    means: Float[Tensor, "layer head d_head"] | None


def read_ends(model: Model, cases: list[Case], *, average: bool) -> Ends:
    """Run every pair once, and average what the heads give if asked to."""
    layers = range(model.shape.n_layers)
    sites = [Site("logits", pos=-1), *([Site("z", layer) for layer in layers] if average else [])]
    start = int(model.prepend_bos)
    metrics, sums, count = [], None, 0
    for case in track(cases, "pairs read"):
        traced = trace(model, case.aligned.tokens, sites)
        metrics.append(case.reading(traced[sites[0]]).double().cpu().numpy())
        if average:
            own = torch.stack([traced[Site("z", layer)][0, start:].sum(0) for layer in layers])
            sums = own if sums is None else sums + own
            count += case.length - start
    clean, corrupt = np.array(metrics).T
    return Ends(clean, corrupt, None if sums is None else sums / count)


def refuse_close(ends: Ends, least: float, metric: Metric) -> None:
    """Raise ValueError when clean and corrupt are on average too close to divide by their difference."""
    clean, corrupt = float(ends.clean.mean()), float(ends.corrupt.mean())
    if not abs(clean - corrupt) >= least:
        raise ValueError(
            f"clean and corrupt are too close to measure effects as shares of their difference: the {metric} is "
            f"{clean:.3g} for clean and {corrupt:.3g} for corrupt on average, and {least:g} apart is the least "
            "(least_difference)"
        )
