"""Attention patterns: what each head attends to, as roles, entropy and pictures.

Idea. Many heads do one thing: they attend to the token before, to the first token, to themselves, to an
earlier copy of the current token (duplicate token), or to what came behind that copy (induction). Each is
the share of attention that falls on the role's keys. Value-weighted attention counts a key by the vector
that the head really writes of it, so that a head that rests on an empty token is seen to write nothing.
Score. Mean over the queries that have a key of the role of the attention on those keys, 0 to 1, the first
query left out. `even`: the same for attention spread evenly over what the layer can see. `random`: on the
same positions where all tokens but the first are random, so that roles by content fall and roles by
position stay. Induction and duplicate scores are also taken on random tokens said twice, the standard test;
there `control` is the same positions where the second half does not repeat. Value-weighted attention of
query q on key k is a(q, k) |v(k) W_O| over its sum over k, with the gain of a norm behind attention taken
in; a row that writes next to nothing counts 0. Entropy of a row is in nats.
Differs from the paper. Mass is divided by the queries that can play the role, not by all, so that a perfect
induction head scores 1; the induction diagonal is found by which tokens are alike, not by a fixed distance.
Beware. A high share says where a head looks, not what it does there. The first token often is a resting
place. On short prompts even attention scores high; look at `even`. In sliding-window layers only keys inside
the window count.
Reference: Elhage et al. 2021, Olsson et al. 2022, arXiv 2209.11895; value-weighting after Kobayashi et al.
2020, arXiv 2004.10102; authors' code: not consulted.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.analyses.attention_patterns.arrays import Readings
from workbench.analyses.attention_patterns.reading import (
    CHUNK,
    Factors,
    Scores,
    attending_layers,
    read_factors,
    read_roles,
)
from workbench.analyses.attention_patterns.roles import ROLES
from workbench.analyses.attention_patterns.telling import tell
from workbench.analyses.attention_patterns.wall import draw
from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.result import Result
from workbench.vocabulary import usable_tokens
from workbench.words import Site

NEEDS = ("scores", "pattern")
TOUR = {"repeated": 30, "repeats": 2, "draws": 1}


@analysis(title="Attention patterns", family="attention", reference="arXiv:2209.11895")
def attention_patterns(
    model: Model,
    prompts: Prompts,
    *,
    layer: int = -1,
    head: int = -1,
    example: int = 0,
    pool: Literal["max", "mean"] = "max",
    cells: int = 12,
    top: int = 3,
    repeated: int = 50,
    repeats: int = 4,
    draws: int = 2,
    seed: int = 0,
) -> Result:
    """Score what every head attends to, and show one head in full beside thumbnails of all.

    Args:
        model: a loaded model.
        prompts: texts of two tokens or more; roles are averaged over them.
        layer: layer of the head that is shown in full; -1 (with head -1) for the strongest induction head.
        head: which head of that layer.
        example: which prompt is drawn, counted from 0.
        pool: what a cell of a thumbnail shows: the largest weight in it, or the mean over its queries.
        cells: cells along each side of a thumbnail, 2 or more.
        top: how many heads of each role, and keys of each query, to list.
        repeated: how many random tokens are said twice to test for induction.
        repeats: how many such sequences, 1 or more.
        draws: how many times the prompts' tokens are replaced by random ones, 1 or more.
        seed: seed of the random tokens.

    Returns:
        Result with `role`, `even`, `random`, `weighted_role` ([component, layer, head]), `repeated`,
        `repeated_control`, `entropy`, `even_entropy`, the pictures `wall`, `thumbnail`, `pattern`,
        `weighted_pattern`, the keys `top_key` and `top_weight` of the chosen head, and the tables `roles`,
        `heads` and `rows`.

    Example:
        >>> attention_patterns(model, prompts, repeated=20).arrays["role"].axes
        ('component', 'layer', 'head')
    """
    _refuse(
        prompts, example, cells=(cells, 2), top=(top, 1), repeated=(repeated, 2), repeats=(repeats, 1), draws=(draws, 1)
    )
    tokens = model.tokens(prompts)
    if min(tokens.lengths) < 2:
        raise ValueError(f"prompt {tokens.lengths.index(min(tokens.lengths))} is a single token: two are needed")
    rows = [tokens.ids[row, :length].tolist() for row, length in enumerate(tokens.lengths)]
    factors = read_factors(model, tokens)
    generator = torch.Generator().manual_seed(seed)
    readings = Readings(
        prompts=read_roles(model, rows, rows, factors, "prompts"),
        random=_read_random(model, rows, draws, factors, generator),
        **_read_repeated(model, repeated, repeats, factors, generator),
    )
    chosen = _choose(model, readings.repeated, layer, head)
    drawn = model.tokens(Prompts.of(prompts[example]))
    return tell(model, readings, draw(model, drawn, chosen, cells, pool, top, factors), example, top, pool)


def cost(
    model: Model, prompts: Prompts, *, repeated: int, repeats: int, draws: int, example: int, **_others: object
) -> Cost:
    """One pass over the prompts, one for each draw, two over the repeated tokens, one for the pictures."""
    lengths = model.tokens(prompts).lengths
    widest = max(*lengths, 2 * repeated + 1)
    return Cost(
        passes=3 + draws,
        tokens=(1 + draws) * sum(lengths) + lengths[min(example, len(lengths) - 1)] + 2 * repeats * (2 * repeated + 1),
        bytes=max(256_000_000, 12 * model.shape.n_heads * min(widest, CHUNK) * widest),
    )


def _refuse(prompts: Prompts, example: int, **least: tuple[int, int]) -> None:
    """Raise ValueError for a knob below the least that it may be, or a prompt that is not there."""
    for name, (given, allowed) in least.items():
        if given < allowed:
            raise ValueError(f"{name} must be {allowed} or more, found {given}")
    if not 0 <= example < len(prompts):
        raise ValueError(f"example {example}: there are {len(prompts)} prompts (0-{len(prompts) - 1})")


def _read_random(
    model: Model, rows: list[list[int]], draws: int, factors: Factors | None, generator: torch.Generator
) -> Scores:
    """The prompts with all tokens but the first replaced, scored on the keys of the real tokens."""
    many = [row for row in rows for _ in range(draws)]
    words = usable_tokens(model)
    drawn = [[row[0], *words[torch.randint(len(words), (len(row) - 1,), generator=generator)].tolist()] for row in many]
    return read_roles(model, drawn, many, factors, "random tokens")


def _read_repeated(
    model: Model, repeated: int, repeats: int, factors: Factors | None, generator: torch.Generator
) -> dict[str, Scores]:
    """Random tokens said twice, and with another second half on the same keys."""
    start = [model.tokenizer.bos_token_id] if model.prepend_bos else []
    words = usable_tokens(model)
    most = min(model.shape.n_ctx - len(start), len(words)) // 2
    if repeated > most:
        raise ValueError(
            f"repeated must be {most} or less for a context of {model.shape.n_ctx} tokens and a vocabulary of "
            f"{len(words)}: found {repeated}"
        )
    twice, once = [], []
    for _ in range(repeats):
        first, other = words[torch.randperm(len(words), generator=generator)[: 2 * repeated]].view(2, -1).tolist()
        twice.append([*start, *first, *first])
        once.append([*start, *first, *other])
    return {
        "repeated": read_roles(model, twice, twice, factors, "repeated tokens"),
        "control": read_roles(model, once, twice, factors, "control without repeats"),
    }


def _choose(model: Model, repeated: Scores, layer: int, head: int) -> tuple[int, int]:
    """The head to show: the one that is asked for, or the strongest on repeated tokens."""
    if layer == -1 and head == -1:
        best: Float[Tensor, "layer head"] = repeated.role[:, ROLES.index("induction")].mean(0)
        place, number = divmod(int(best.argmax()), best.shape[1])
        return attending_layers(model)[place], number
    if layer < 0 or head < 0:
        raise ValueError(f"layer and head are given together, or are both -1: found layer {layer}, head {head}")
    model.check_site(Site("pattern", layer, head=head))
    return layer, head
