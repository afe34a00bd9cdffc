"""Numbers that say how two runs, or two readings of one run, differ. Pure tensor maths."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def entropy(log_probs: Float[Tensor, "... vocab"]) -> Float[Tensor, "..."]:
    """Entropy in nats, from 0 (certain) to the logarithm of the vocabulary size."""
    possible = log_probs.clamp_min(torch.finfo(log_probs.dtype).min)  # 0 times infinity is no number
    return -(log_probs.exp() * possible).sum(-1)


def kl_divergence(log_probs: Float[Tensor, "... vocab"], other: Float[Tensor, "... vocab"]) -> Float[Tensor, "..."]:
    """KL(first || other) in nats: what is lost by believing `other` when the first is true; 0 if equal."""
    loss = log_probs.exp() * (log_probs - other)
    return loss.where(log_probs > -torch.inf, 0).sum(-1)


def rank(logits: Float[Tensor, "... vocab"], ids: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """How many tokens have a larger logit than the given one: 0 means it is the most likely."""
    own = logits.gather(-1, ids[..., None])
    return (logits > own).sum(-1)


def logit_difference(
    logits: Float[Tensor, "... vocab"], target: Int[Tensor, "..."], other: Int[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """The logit of one token minus that of another."""
    return (logits.gather(-1, target[..., None]) - logits.gather(-1, other[..., None]))[..., 0]


def word_recall(said: str, wanted: str) -> float:
    """ROUGE-1 recall without stemming: the share of the wanted words that were said, from 0 to 1.

    Example:
        >>> word_recall("a green boat", "the green rowing boat")
        0.5
    """
    heard = _words(said)
    needed = _words(wanted)
    if not needed:
        raise ValueError(f"{wanted!r} holds no word to recall")
    found = 0
    for word in needed:
        if word in heard:
            heard.remove(word)
            found += 1
    return found / len(needed)


def _words(text: str) -> list[str]:
    return "".join(sign.lower() if sign.isalnum() else " " for sign in text).split()


def top_two_margin(scores: Float[Tensor, "... key"]) -> Float[Tensor, "..."]:
    """How far the largest score is above the second largest (0 is a tie)."""
    if scores.shape[-1] < 2:
        return torch.full(scores.shape[:-1], torch.inf, dtype=scores.dtype, device=scores.device)
    best = scores.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]
