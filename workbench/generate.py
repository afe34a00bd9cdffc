"""Greedy continuation, with a key-value cache, inside or outside of `edited`."""

from collections.abc import Collection, Sequence

import torch

from workbench.cache import empty_cache, keeps
from workbench.model import Model


def greedy(
    model: Model, ids: Sequence[int], new_tokens: int, *, stop: Collection[int] = (), cached: bool = True
) -> list[int]:
    """Continue a prompt by the most likely token, step by step.

    Args:
        model: a loaded model; edits that are active act on every pass (a position is one of the
            prompt, a negative one counts from its end; an edit without a position acts on generated
            tokens too).
        ids: token ids of the prompt.
        new_tokens: how many tokens to add at most, 0 or more.
        stop: token ids after which to stop (they are kept).
        cached: reuse keys and values, where the hooked model keeps any; switch off for edits that
            repeat blocks.

    Returns:
        The new token ids.

    Raises:
        ValueError: no prompt, a negative number of tokens, or more than the context has room for.
    """
    if not ids or new_tokens < 0:
        raise ValueError(f"greedy takes a prompt and 0 or more new tokens: found {len(ids)} tokens, {new_tokens} new")
    fits = model.shape.n_ctx - len(ids)
    if new_tokens > fits:
        raise ValueError(f"{new_tokens} new tokens do not fit: the prompt has {len(ids)} of {model.shape.n_ctx} tokens")
    made: list[int] = []
    cache = empty_cache() if cached else None
    entering = list(ids)
    with torch.no_grad(), model.lock:
        for _ in range(new_tokens):
            batch = torch.tensor([entering], device=model.device)
            logits = model.forward(batch, lengths=(len(ids),), cache=cache, keep=1)
            made.append(int(logits[0, -1].float().argmax()))
            if made[-1] in stop:
                break
            if cache is not None and not keeps(cache, len(ids) + len(made) - 1):
                cache = None
            entering = [made[-1]] if cache is not None else [*ids, *made]
    return made


def end_tokens(model: Model) -> set[int]:
    """The ids after which the model itself would stop."""
    config = model.bridge.original_model.generation_config
    found = getattr(config, "eos_token_id", None)
    ids = found if isinstance(found, list) else [found]
    return {int(index) for index in [*ids, model.tokenizer.eos_token_id] if index is not None}
