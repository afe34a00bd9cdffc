"""A history of training: what each kept checkpoint can do, and which heads do it."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.model import Model, load
from workbench.progress import track
from workbench.sources import checkpoints
from workbench.tracer import trace
from workbench.training.evaluation import right
from workbench.words import Site
from workbench.world.questions import repeated
from workbench.world.recall import random_words

_REACH, _WORDS = 8, 60


@dataclass(frozen=True)
class Moment:
    """One checkpoint.

    Attributes:
        step: the training step.
        copied: share of repeated random words that the model continues right.
        induction: attention of the best head to one place behind the earlier copy of the current token, in [0, 1].
        previous: attention of the best head to one place before the current token, in [0, 1].
        sink: attention to the first token where nothing can be copied, of the head that attends to it most, in
            [0, 1]; attention that is spread evenly would give 0.04.
    """

    step: int
    copied: float
    induction: float
    previous: float
    sink: float


def watch(name: str, examples: int = 20) -> list[Moment]:
    """Measure every checkpoint of a model.

    Args:
        name: a bundled model or a folder, with checkpoints.
        examples: how many repeated spans the attention is averaged over.

    Raises:
        ValueError: the model has no checkpoints.
    """
    steps = checkpoints(name)
    if not steps:
        raise ValueError(f"model {name} has no checkpoints to watch")
    return [_moment(load(name, checkpoint=step), step, examples) for step in track(steps, "checkpoints")]


def _moment(model: Model, step: int, examples: int) -> Moment:
    copied = right(model, repeated())
    scores = torch.stack([attention_scores(model, *spans) for spans in _spans(examples)]).mean(0)
    induction, previous = (float(best) for best in scores.amax(dim=(1, 2)))
    rng = Random("sink")
    sinks = torch.stack(
        [sink_scores(model, list(dict.fromkeys(random_words(rng, _WORDS)))) for _ in range(examples)]
    ).mean(0)
    return Moment(step, sum(copied) / len(copied), induction, previous, float(sinks.max()))


def _spans(examples: int, length: int = 16) -> Sequence[tuple[list[str], list[str]]]:
    rng = Random("history")
    return [(random_words(rng, length), random_words(rng, rng.randint(0, 16))) for _ in range(examples)]


def attention_scores(model: Model, span: list[str], between: Sequence[str] = ()) -> Float[Tensor, "kind layer head"]:
    """Attention of every head in the second copy of a span: behind the first copy, and just before.

    A head may look any fixed number of places behind the copy, or before, up to eight; the best number counts: a
    small model may learn induction with a first head that looks four places back as well as with one that looks one.

    Args:
        model: a model that reads each word as one token.
        span: the words that come twice.
        between: other words between the two copies.
    """
    patterns = _patterns(model, [*span, *between, *span])
    queries = torch.arange(patterns.shape[-1] - len(span), patterns.shape[-1])
    back = len(span) + len(between)
    after, before = (
        torch.stack([patterns[:, :, queries, queries + start + sign * step].mean(-1) for step in range(1, _REACH + 1)])
        for start, sign in ((-back, 1), (0, -1))
    )
    return torch.stack([after.amax(0), before.amax(0)])


def sink_scores(model: Model, words: Sequence[str]) -> Float[Tensor, "layer head"]:
    """Attention of every head to the first token, mean over the later ones.

    Args:
        model: a model that reads each word as one token.
        words: words without repetition, so that there is nothing to copy and a head may have nothing to look for.
    """
    return _patterns(model, words)[:, :, _REACH:, 0].mean(-1)


def _patterns(model: Model, words: Sequence[str]) -> Float[Tensor, "layer head query key"]:
    sites = [Site("pattern", layer) for layer in range(model.shape.n_layers)]
    seen = trace(model, " " + " ".join(words), sites)
    return torch.stack([seen[site][0] for site in sites])
