"""The one engine for many variants of one prompt: every row is the prompt with its own edits.

What rows share is computed once. Tokens before the first changed position keep their keys and values;
below the first changed layer rows share a lane (see `workbench.lanes`). The numbers are those of running
each row by itself under `edited`.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

import torch

from workbench.choice import Chooser
from workbench.lanes import Batch, Outcome, Reading, Trunk
from workbench.model import Model
from workbench.progress import track
from workbench.prompts import Prompt
from workbench.tokens import Tokens
from workbench.variants import Row, Variant, read_row

__all__ = ["Outcome", "sweep"]

_BUDGET = 1_000_000_000
"""Bytes that one batch of rows may take."""

_PROOFS = (
    "unembedding the last residual gives the logits",
    "blocks replayed by themselves give the same stream",
)
"""Self-checks of the model that a sweep rests on."""


def sweep(
    model: Model,
    prompt: Tokens | Prompt | str,
    rows: Sequence[Row],
    *,
    new_tokens: int = 0,
    stop: Collection[int] = (),
    only: Sequence[int] = (),
    with_logits: bool = True,
    batch: int | None = None,
    done: Collection[int] = (),
) -> Iterator[Outcome]:
    """Run one prompt under many sets of edits.

    Args:
        model: a loaded model.
        prompt: one prompt.
        rows: for each row its edits: (site, function) pairs, `onward` edits or cuts. Positions are those
            of the prompt; an edit without one acts everywhere, on generated tokens too.
        new_tokens: length of the greedy continuation of each row.
        stop: token ids that end a continuation (they are kept).
        only: token ids whose logits alone are read, in this order; by default those of the whole vocabulary.
        with_logits: whether outcomes carry logits; a continuation by itself is quicker to have.
        batch: rows at once; by default as many as fit into 1 GB.
        done: row numbers to leave out, to resume a sweep that was stopped.

    Yields:
        An Outcome for each row, as its batch is finished (not in row order).

    Raises:
        ValueError: more than one prompt, a row without edits, a site that cannot be written, a position
            outside the prompt, more tokens than the context has room for, an edit that never took effect,
            a model whose blocks cannot be run by themselves.
        Cancelled: the listener stopped the sweep between two batches.
    """
    tokens = prompt if isinstance(prompt, Tokens) else model.tokens(prompt)
    _refuse(model, tokens, new_tokens, batch)
    length = tokens.lengths[0]
    variants = [read_row(model, number, row, length) for number, row in enumerate(rows) if number not in done]
    reading = Reading(new_tokens, frozenset(stop), tuple(only), with_logits)
    return _outcomes(model, tokens, variants, reading, batch)


def _refuse(model: Model, tokens: Tokens, new_tokens: int, batch: int | None) -> None:
    if len(tokens.lengths) != 1:
        raise ValueError(f"a sweep varies one prompt, {len(tokens.lengths)} were given")
    room = model.shape.n_ctx - tokens.lengths[0]
    if not 0 <= new_tokens <= room:
        raise ValueError(f"a sweep of this prompt makes 0-{room} new tokens, {new_tokens} were asked for")
    if batch is not None and batch < 1:
        raise ValueError(f"a batch holds at least one row, {batch} were asked for")
    failed = [proof for proof in _PROOFS if not model.capabilities.passed(proof)]
    if failed:
        raise ValueError(f"{model.name} cannot be swept: its self-check {failed[0]!r} did not pass")


def _outcomes(
    model: Model, tokens: Tokens, variants: list[Variant], reading: Reading, batch: int | None
) -> Iterator[Outcome]:
    """Run the rows, batch by batch; rows of one batch first differ at the same position."""
    batches = _batches(model, variants, tokens.lengths[0], reading, batch)
    chooser = Chooser.of(model.bridge) if reading.new_tokens else Chooser(model.bridge)
    trunk: Trunk | None = None
    for some in track(batches, f"batches of rows ({len(variants)} rows)"):
        with torch.no_grad(), model.lock:
            if trunk is None or trunk.position != some[0].position:
                trunk = Trunk.of(model, tokens, some[0].position)
            outcomes = Batch(model, chooser, trunk, some).run(reading)
        yield from outcomes


def _batches(
    model: Model, variants: list[Variant], length: int, reading: Reading, batch: int | None
) -> list[list[Variant]]:
    ordered = sorted(variants, key=lambda variant: (variant.position, variant.layer))
    batches = []
    for position, group in groupby(ordered, key=lambda variant: variant.position):
        same = list(group)
        size = batch or _rows_at_once(model, position, length, reading)
        batches += [same[start : start + size] for start in range(0, len(same), size)]
    return batches


def _rows_at_once(model: Model, position: int, length: int, reading: Reading) -> int:
    """How many rows fit, with their keys, values and logits, and the widest of a layer's activations."""
    shape, queries = model.shape, length - position
    keys = 2 * shape.n_layers * shape.n_kv_heads * shape.d_head * (length + reading.new_tokens)
    widest = queries * (3 * shape.n_heads * length + 4 * max(shape.d_model, shape.d_mlp))
    logits = len(reading.only) if reading.only and not reading.new_tokens else 2 * shape.d_vocab
    each = (keys + widest + logits) * model.dtype.itemsize
    return max(1, min(512, _BUDGET // each))
