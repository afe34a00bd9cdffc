"""Retrieval heads: attention heads that copy the answer from anywhere in a long context.

Idea. A needle sentence is hidden at many depths of a haystack and the model is asked about it. A head
retrieves when, at the query that says a token of the answer, its largest attention weight lies on that
same token inside the needle.
Score. Share of the answer that a head copied, mean over the cases that the model answered: 0 never, 1
always (`positions`, the default). `paper_set` counts distinct tokens, as the paper's text says; `code`
counts copying steps, as the authors' code does, and can exceed 1. Activation frequency is the share of
cases in which a head copied at least one token.
Differs from the paper. The span is found by character offsets, not by overlap of token sets; a case that
fails gives NaN, never zero; random controls are seeded, leave out the retrieval heads and are matched by
layer as well; recall is ROUGE-1 without stemming. Rows of attention come from one forward pass over the
answer, which is exactly what step-by-step greedy decoding sees, and the haystack is computed once.
Beware. A base model needs the answer's beginning (`prefixed`). In grouped-query models a key-value group
shares its keys: see `kv_group_score`. Small grids order the top heads right and the middle poorly: look
at the interval.
Reference: Wu et al. 2024, arXiv 2404.15574; authors' code: consulted for its definitions.
"""

from typing import Literal

from workbench.analyses.retrieval_heads.cases import build_cases
from workbench.analyses.retrieval_heads.masking import mask_heads, refuse_sizes
from workbench.analyses.retrieval_heads.scoring import read_cases, score_all
from workbench.analyses.retrieval_heads.telling import tell, tell_failure
from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.prompts import Needles
from workbench.result import Result

NEEDS = ("scores", "z")
TOUR = {"lengths": (200, 400), "depths": (0, 50, 100), "needles_used": 3, "mask_draws": 5}


@analysis(title="Retrieval heads", family="attention", reference="arXiv:2404.15574")
def retrieval_heads(
    model: Model,
    needles: Needles,
    *,
    lengths: tuple[int, ...] = (250, 500, 1000),
    depths: tuple[int, ...] = (0, 33, 67, 100),
    needles_used: int = 3,
    score: Literal["positions", "paper_set", "code"] = "positions",
    threshold: float = 0.1,
    prefixed: bool = True,
    new_tokens: int = 30,
    recall_needed: float = 0.5,
    mask_sizes: tuple[int, ...] = (1, 3, 5),
    mask_cases: int = 3,
    mask_draws: int = 10,
    mask_mode: Literal["zero", "mean", "uniform"] = "zero",
    mask_scope: Literal["decode", "all"] = "decode",
    seed: int = 0,
) -> Result:
    """Find the heads that copy an answer out of a long context, and show that it needs them.

    Args:
        model: a loaded model.
        needles: sentences to hide, questions and answers, and the haystack.
        lengths: prompt lengths in tokens.
        depths: where the needle stands, in percent of the context.
        needles_used: how many of the needles to hide, one at a time; 0 for all.
        score: definition of the score: distinct positions, the paper's set, or the authors' count.
        threshold: a head with a mean score above this is called a retrieval head.
        prefixed: begin the answer for the model, as base models need.
        new_tokens: length of the answer at most, 1 or more; it ends at a line or sentence end.
        recall_needed: a case counts when more than this share of the answer's words is said.
        mask_sizes: how many of the best heads to mask at once; empty for no masking.
        mask_cases: answered cases on which masking is tried; 0 for none.
        mask_draws: random sets of heads per size and kind of control.
        mask_mode: what a masked head gives: nothing, its mean, or the average of all it sees.
        mask_scope: mask from the last prompt token on, as the authors do, or in the whole prompt.
        seed: seed of the intervals and of the random controls.

    Returns:
        Result with `score`, `lower`, `upper`, `frequency` ([layer, head]), `kv_group_score`,
        `case_score` ([example, layer, head], NaN for failed cases), `recall` ([depth, length]), and
        the tables `heads`, `bins`, `cases` and `masking`.
    """
    if needles_used < 0:
        raise ValueError(f"needles_used is 0 for all, or how many: found {needles_used}")
    masked = mask_sizes if mask_cases > 0 else ()
    refuse_sizes(model, masked, mask_draws)
    used = Needles.of(needles[: needles_used or len(needles)], needles.haystack)
    cases, hay = build_cases(model, used, lengths, depths, prefixed, new_tokens)
    readings = read_cases(model, cases, hay, new_tokens, recall_needed)
    answered = [reading for reading in readings if reading.answered]
    if not answered:
        return tell_failure(readings, recall_needed)
    heads = score_all(answered, score, seed)
    masking = mask_heads(model, answered, heads.ranked, masked, mask_cases, mask_draws, mask_mode, mask_scope, seed)
    return tell(model, readings, heads, masking, score, threshold)


def cost(
    model: Model,
    needles: Needles,
    *,
    lengths: tuple[int, ...],
    depths: tuple[int, ...],
    needles_used: int,
    mask_sizes: tuple[int, ...],
    mask_cases: int,
    mask_draws: int,
    **_others: object,
) -> Cost:
    """One prefill of the haystack, the rest of every prompt behind its needle, and the masked answers."""
    count = needles_used or len(needles)
    behind = count * sum(length * (100 - depth) // 100 + 60 for length in lengths for depth in depths)
    longest = max(lengths, default=0)
    masked = mask_cases * (longest + len(mask_sizes) * (2 * mask_draws + 1) * 12) if mask_sizes else 0
    shape = model.shape
    keys = 2 * shape.n_layers * shape.n_kv_heads * shape.d_head * longest * model.dtype.itemsize
    return Cost(
        passes=count * len(lengths) * len(depths) * 2 + mask_cases * 15,
        tokens=longest + behind + masked,
        bytes=max(2 * keys, 1_000_000_000 if mask_sizes else 0),
    )
