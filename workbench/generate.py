"""Continuations, greedy or sampled, with a key-value cache, inside or outside of `edited`."""

from collections.abc import Callable, Collection, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.cache import empty_cache, keeps
from workbench.model import Model

Choose = Callable[[Float[Tensor, "batch vocab"], int], Int[Tensor, " batch"]]
"""Called as choose(logits, step), with logits in 32 bits; returns the next token of every row."""


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
    rows = torch.tensor([list(ids)], device=model.device)
    return continue_rows(model, rows, new_tokens, stop=stop, cached=cached)[0].tolist()


def most_likely(logits: Float[Tensor, "batch vocab"], _step: int) -> Int[Tensor, " batch"]:
    """The greedy choice."""
    return logits.argmax(-1)


def sampling(noise: Float[Tensor, "step vocab"], temperature: float) -> Choose:
    """A choice that follows the model's probabilities at a temperature, decided by noise that is drawn before.

    The largest of logits / temperature + Gumbel noise is a fair draw. Two runs with the same noise say the
    same as long as they give the same logits, so where they part it is the model that changed.
    """

    def choose(logits: Float[Tensor, "batch vocab"], step: int) -> Int[Tensor, " batch"]:
        return (logits / temperature + noise[step].to(logits.device)).argmax(-1)

    return choose


def gumbel_noise(steps: int, vocabulary: int, seed: int) -> Float[Tensor, "step vocab"]:
    """Noise for `sampling`."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(steps, vocabulary, generator=generator).clamp_min(torch.finfo(torch.float32).tiny)
    return -(-uniform.log()).log()


def continue_rows(
    model: Model,
    ids: Int[Tensor, "batch pos"],
    new_tokens: int,
    *,
    choose: Choose = most_likely,
    stop: Collection[int] = (),
    cached: bool = True,
) -> Int[Tensor, "batch step"]:
    """Continue prompts of one length together, step by step.

    Args:
        model: a loaded model, edits as in `greedy`.
        ids: token ids of the prompts, none of them padding.
        new_tokens: how many tokens to add at most, 0 or more.
        choose: what takes the next tokens from the logits; it sees every step, and may keep what it sees.
        stop: token ids after which a row has ended; the work stops when all rows have.
        cached: reuse keys and values.

    Returns:
        The new token ids; what a row holds behind a token of `stop` means nothing.

    Raises:
        ValueError: a negative number of tokens, or more than the context has room for.
    """
    if new_tokens < 0:
        raise ValueError(f"a continuation has 0 or more new tokens: found {new_tokens} new")
    count, length = ids.shape
    fits = model.shape.n_ctx - length
    if new_tokens > fits:
        raise ValueError(f"{new_tokens} new tokens do not fit: the prompt has {length} of {model.shape.n_ctx} tokens")
    made = ids.new_empty(count, 0)
    ended = torch.zeros(count, dtype=torch.bool, device=ids.device)
    endings = torch.tensor(sorted(stop), dtype=torch.long, device=ids.device)
    cache = empty_cache() if cached else None
    entering = ids
    with torch.no_grad(), model.lock:
        for step in range(new_tokens):
            logits = model.forward(entering, lengths=(length,) * count, cache=cache, keep=1)
            chosen = choose(logits[:, -1].float(), step)
            made = torch.cat([made, chosen[:, None]], dim=1)
            ended |= torch.isin(chosen, endings)
            if bool(ended.all()):
                break
            if cache is not None and not keeps(cache, length + step):
                cache = None
            entering = chosen[:, None] if cache is not None else torch.cat([ids, made], dim=1)
    return made


def end_tokens(model: Model) -> set[int]:
    """The ids after which the model itself would stop."""
    config = model.bridge.original_model.generation_config
    found = getattr(config, "eos_token_id", None)
    ids = found if isinstance(found, list) else [found]
    return {int(index) for index in [*ids, model.tokenizer.eos_token_id] if index is not None}
