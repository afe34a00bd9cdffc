"""Do the heads matter? Recall when they are masked, against random heads and heads of the same layers."""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from workbench.analyses.retrieval_heads.scoring import Reading, stop_rule
from workbench.edit import Function, SiteEdit, onward, patch, zero
from workbench.metrics import word_recall
from workbench.model import Model
from workbench.progress import track
from workbench.sweep import sweep
from workbench.tokens import Tokens
from workbench.tracer import trace
from workbench.words import Site

Head = tuple[int, int]
Mode = Literal["zero", "mean", "uniform"]
Scope = Literal["decode", "all"]

_MEAN_TOKENS = 256


def mask_heads(
    model: Model,
    answered: list[Reading],
    ranked: list[Head],
    sizes: tuple[int, ...],
    cases: int,
    draws: int,
    mode: Mode,
    scope: Scope,
    seed: int,
) -> list[dict[str, object]]:
    """Recall of some answered cases under every mask, as a table; empty when no masking is asked for."""
    if not sizes:
        return []
    masks = choose_masks(ranked, sizes, draws, seed)
    shown = answered[:: max(1, len(answered) // cases)][:cases]
    heads = [heads for _, _, heads in masks]
    recalls = [masked_recall(model, reading, heads, mode, scope) for reading in track(shown, "masking")]
    return recall_table(masks, recalls, float(np.mean([reading.recall for reading in shown])))


def refuse_sizes(model: Model, sizes: tuple[int, ...], draws: int) -> None:
    """Raise ValueError when there are too few heads to mask as many random ones, or no draws of them."""
    count = model.shape.n_layers * model.shape.n_heads
    for size in sizes:
        if not 0 < size <= count // 2:
            raise ValueError(f"{size} heads cannot be masked against as many random ones: there are {count}")
    if sizes and draws < 1:
        raise ValueError(f"mask_draws must be 1 or more, found {draws}: without controls masking says nothing")


def choose_masks(
    ranked: list[Head], sizes: Iterable[int], draws: int, seed: int
) -> list[tuple[str, int, tuple[Head, ...]]]:
    """Sets of heads to mask: the best, random others, and others of the same layers.

    Args:
        ranked: all heads, best first.
        sizes: how many heads to mask at once.
        draws: random sets of each kind.
        seed: seed of the draws.

    Returns:
        (kind, size, heads) with kind "top", "random" or "same layers".
    """
    generator = np.random.default_rng(seed)
    masks: list[tuple[str, int, tuple[Head, ...]]] = []
    for size in sizes:
        best, rest = ranked[:size], ranked[size:]
        masks.append(("top", size, tuple(best)))
        for _ in range(draws):
            chosen = generator.choice(len(rest), size, replace=False)
            masks.append(("random", size, tuple(rest[index] for index in chosen)))
            matched = _same_layers(best, rest, generator)
            if matched is not None:
                masks.append(("same layers", size, matched))
    return masks


def _same_layers(best: list[Head], rest: list[Head], generator: np.random.Generator) -> tuple[Head, ...] | None:
    """For each masked head another head of its layer; None when a layer has too few others."""
    free = list(rest)
    chosen = []
    for layer, _ in best:
        others = [head for head in free if head[0] == layer]
        if not others:
            return None
        chosen.append(others[generator.integers(len(others))])
        free.remove(chosen[-1])
    return tuple(chosen)


def masked_recall(
    model: Model, reading: Reading, masks: list[tuple[Head, ...]], mode: Mode, scope: Scope
) -> list[float]:
    """The recall of one case under each set of masked heads, in their order.

    A masked answer ends by the same rule as the plain one, and has at most as many tokens.
    """
    tokens = reading.case.tokens
    start = tokens.lengths[0] - 1 if scope == "decode" else 0
    makers = _makers(model, tokens, mode)
    rows = [[_masked(head, makers[head], mode, start) for head in heads] for heads in masks]
    said: dict[int, float] = {}
    stops = stop_rule(model)
    spoken = reading.decoded.ids
    stop = {index for index in spoken[-1:] if stops(index)}
    for outcome in sweep(model, tokens, rows, new_tokens=len(spoken), stop=stop):
        ends = [place for place, index in enumerate(outcome.ids) if stops(index)]
        ids = outcome.ids[: ends[0] + 1] if ends else outcome.ids
        said[outcome.row] = word_recall(model.tokenizer.decode(list(ids)), reading.case.needle.answer)
    return [said[row] for row in range(len(rows))]


def _masked(head: Head, function: Function, mode: Mode, start: int) -> SiteEdit:
    kind = "scores" if mode == "uniform" else "z"
    return onward(Site(kind, head[0], head=head[1]), function, since=start)


def _makers(model: Model, tokens: Tokens, mode: Mode) -> dict[Head, Function]:
    """What stands in for each head's output; equal scores make a head average all values it sees."""
    heads = [(layer, head) for layer in model.capabilities.served["z"] for head in range(model.shape.n_heads)]
    if mode != "mean":
        return {head: zero() for head in heads}
    beginning = model.tokens_of([tokens.ids[0, :_MEAN_TOKENS].tolist()])
    traced = trace(model, beginning, "z")
    means = {layer: traced[Site("z", layer)][0, 1:].mean(0) for layer in model.capabilities.served["z"]}
    return {(layer, head): patch(means[layer][head].clone()) for layer, head in heads}


def recall_table(
    masks: list[tuple[str, int, tuple[Head, ...]]], recalls: list[list[float]], plain: float
) -> list[dict[str, object]]:
    """One row per number of heads and kind: mean recall over cases and draws, and the spread of draws."""
    rows: list[dict[str, object]] = [_row("none", 0, np.array([plain]), "")]
    for kind, size in dict.fromkeys((kind, size) for kind, size, _ in masks):
        chosen = [index for index, mask in enumerate(masks) if mask[:2] == (kind, size)]
        per_draw = np.array([[case[index] for case in recalls] for index in chosen]).mean(1)
        heads = ", ".join(f"L{layer}.H{head}" for layer, head in masks[chosen[0]][2]) if kind == "top" else ""
        rows.append(_row(kind, size, per_draw, heads))
    return rows


def _row(kind: str, size: int, per_draw: np.ndarray, heads: str) -> dict[str, object]:
    return {
        "masked": kind,
        "heads": size,
        "recall": float(per_draw.mean()),
        "lowest": float(per_draw.min()),
        "highest": float(per_draw.max()),
        "draws": len(per_draw),
        "which": heads,
    }
