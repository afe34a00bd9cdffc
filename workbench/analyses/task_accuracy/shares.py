"""The shares of prompts done, their intervals, and the same with the answers of other rows."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.analyses.task_accuracy.answering import Answer
from workbench.analyses.task_accuracy.questions import Question
from workbench.stats import bootstrap_mean

_DRAWS = 1000

SHARES = ("says", "prefers")


@dataclass(frozen=True)
class Row:
    """One question and its answer."""

    question: Question
    answer: Answer

    @property
    def says(self) -> bool | None:
        """Whether the continuation begins with the target; None without a target."""
        target = self.question.target
        return self.answer.said[: len(target)] == target if target else None

    @property
    def prefers(self) -> bool | None:
        """Whether the target is more probable than the distractor; None without two answers."""
        return self.answer.difference > 0 if self.question.compares else None  # ty: ignore[unsupported-operator]


@dataclass(frozen=True)
class Share:
    """A share of the prompts, and the same with the answers of other rows (NaN if there is no other)."""

    count: int
    right: int
    limits: tuple[float, float]
    permuted: float
    permuted_limits: tuple[float, float]

    @property
    def value(self) -> float:
        """From 0 to 1."""
        return self.right / self.count

    def __str__(self) -> str:
        low, high = self.limits
        beside = f"; {self.permuted:.2f} with the answers of other rows" if not np.isnan(self.permuted) else ""
        return f"{self.right} of {self.count} ({self.value:.2f}, 95% interval {low:.2f}-{high:.2f}{beside})"


def share_of(rows: list[Row], name: str, seed: int) -> Share | None:
    """One of the shares, over the rows that have it, each question once; None where none has."""
    known = [row for row in rows if getattr(row, name) is not None]
    scored = list({(row.question.ids, row.question.target, row.question.distractor): row for row in known}.values())
    if not scored:
        return None
    right = np.array([getattr(row, name) for row in scored], dtype=np.float32)
    low, high = bootstrap_mean(right, seed=seed)
    permuted = permuted_shares(_cross(scored, name), seed)
    ends = np.quantile(permuted, [0.025, 0.975])
    limits, permuted_limits = (float(low), float(high)), (float(ends[0]), float(ends[1]))
    return Share(len(scored), int(right.sum()), limits, float(permuted.mean()), permuted_limits)


def _cross(rows: list[Row], name: str) -> Float[np.ndarray, "row other"]:
    """Whether the answer to one row is right by the target (and distractor) of another."""
    if name == "says":
        targets = [row.question.target for row in rows]
        return np.array([[row.answer.said[: len(ids)] == ids for ids in targets] for row in rows], dtype=np.float32)
    told_apart = [row for row in rows if row.question.target[0] != row.question.distractor[0]]
    pairs = [(row.question.target[0], row.question.distractor[0]) for row in told_apart]
    tables = [row.answer.first_log_probs for row in told_apart]
    cross = [[table[first] > table[other] for first, other in pairs] for table in tables]
    return np.array(cross, dtype=np.float32).reshape(len(tables), len(pairs))


def permuted_shares(cross: Float[np.ndarray, "row other"], seed: int) -> Float[np.ndarray, " draw"]:
    """The share that is right when every row gets the answers of a row drawn without replacement."""
    if len(cross) < 2:
        return np.array([np.nan])
    generator = np.random.default_rng(seed)
    rows = np.arange(len(cross))
    return np.array([cross[rows, generator.permutation(len(cross))].mean() for _ in range(_DRAWS)])
