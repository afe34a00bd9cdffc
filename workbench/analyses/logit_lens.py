"""Logit lens: what the model would say if it stopped after each layer.

Idea. The residual stream is read after every layer through the model's own final norm and unembedding,
as if the remaining layers did nothing. Where the final answer appears, the layers before it have done
their work.
Score. Probability and rank (0 = top) of the target token, entropy of the distribution in nats, and
KL(final || layer) in nats, 0 at the last layer; all [layer, pos].
Differs from the paper. The final norm takes the statistic of each layer's own stream; a final logit
scale (Granite) and soft cap (Gemma 2) are applied as in the model.
Beware. Early layers need not be written in the language of the unembedding: in some families (Gemma) the
lens says little before the middle. A low probability early on does not mean that the answer is not known.
Reference: nostalgebraist 2020, "interpreting GPT: the logit lens"; authors' code: not consulted.
"""

import functools
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from workbench.catalog import Cost, analysis
from workbench.lens import Readings, caps_logits, read_layers, read_out
from workbench.metrics import entropy
from workbench.model import Model
from workbench.progress import track
from workbench.prompts import Prompts
from workbench.result import Check, Named, Result
from workbench.tracer import Trace, trace
from workbench.views import Heatmap, Lines, Table
from workbench.words import Site

NEEDS = ("resid_post",)
TOUR = {"top": 5}

_UNITS = {"target_probability": "probability", "target_rank": "rank", "entropy": "nats", "kl": "nats"}
_CHUNK_NUMBERS = 64_000_000
"""Logits of the last layer held at once, to find what the model says in the end: 256 MB."""
_LISTED = 3_000
"""Rows of the table of top tokens, so that a result stays small."""


@analysis(title="Logit lens", family="lens", reference="nostalgebraist 2020, the logit lens")
def logit_lens(
    model: Model,
    prompts: Prompts,
    *,
    site: Literal["resid_post", "resid_mid", "resid_pre"] = "resid_post",
    target: str = "",
    top: int = 5,
) -> Result:
    """Read the residual stream of every layer and position as a prediction of the next token.

    Args:
        model: a loaded model.
        prompts: one prompt for a map with the tokens as labels, or several.
        site: where in each layer to read: after the block, between attention and MLP, or before it.
        target: the token to follow, such as " Paris" (exactly one token); empty for each prompt's own
            target, or else for what the model says in the end at each position.
        top: how many tokens to list per layer and position, 1 or more.

    Returns:
        Result with `target_probability`, `target_rank`, `entropy` and `kl` ([layer, pos], with an
        example axis for several prompts) and the table `top_tokens`: the most likely tokens at each
        layer and position, or at the last positions of a prompt that has too many for 3,000 rows.

    Example:
        >>> logit_lens(model, prompts).arrays["kl"].axes
        ('layer', 'pos')
    """
    if top < 1:
        raise ValueError(f"top must be 1 or more, found {top}")
    model.check_site(Site(site, 0))
    layers = model.capabilities.served[site]
    traced = trace(model, prompts, [*(Site(site, layer) for layer in layers), Site("logits", pos=-1)])
    listed = max(_LISTED // (len(prompts) * len(layers) * top), 1)
    maps, table = [], []
    for row, length in enumerate(traced.tokens.lengths):
        wanted, first = _target_id(model, prompts, row, target), max(length - listed, 0)
        pieces = _read_prompt(model, traced, row, site, layers, wanted, top, first)
        maps.append({name: torch.cat([getattr(piece, name) for piece in pieces], dim=1) for name in _UNITS})
        table += _top_tokens(model, traced.tokens.text[row], row, layers, pieces, first)
    arrays = _arrays(maps, traced, layers, prompts)
    return Result(
        arrays=arrays,
        tables={"top_tokens": table},
        scalars=_scalars(table, maps[0], layers),
        views=_views(top * len(layers), target),
        finding=_finding(table, maps[0], layers),
        notes=_notes(model, traced, site, listed),
        checks=_checks(model, traced, layers[-1], maps) if site == "resid_post" else (),
    )


def cost(model: Model, prompts: Prompts, *, site: str = "resid_post", target: str = "", top: int = 5) -> Cost:
    """One pass, and the unembedding once more for every layer."""
    del site, target, top
    tokens = model.tokens(prompts)
    layers = model.shape.n_layers
    count = sum(tokens.lengths)
    head = model.shape.d_model * model.shape.d_vocab
    body = max(model.parameters - head, 1)
    stream = 4 * layers * count * model.shape.d_model
    return Cost(
        passes=1,
        tokens=round(count * (1 + layers * head / (body + head))),
        bytes=stream + 4 * min(max(tokens.lengths) * model.shape.d_vocab, _CHUNK_NUMBERS),
    )


def _target_id(model: Model, prompts: Prompts, row: int, target: str) -> int | None:
    wanted = target or prompts[row].target
    return None if not wanted else model.token(wanted)


@torch.no_grad()
def _read_prompt(
    model: Model, traced: Trace, row: int, site: str, layers: tuple[int, ...], target: int | None, top: int, first: int
) -> list[Readings]:
    """What is read of one prompt, some positions at a time; top tokens from the first listed position on."""
    length = traced.tokens.lengths[row]
    pieces: list[Readings] = []
    step = max(1, _CHUNK_NUMBERS // model.shape.d_vocab)
    for start in track(range(0, length, step), "positions"):
        places = slice(start, min(start + step, length))
        streams = torch.stack([traced[Site(site, layer)][row, places] for layer in layers])
        if target is None:
            ids = read_out(model.bridge, streams[-1]).argmax(-1)
        else:
            ids = torch.full(streams.shape[1:2], target, device=streams.device)
        pieces.append(read_layers(model.bridge, streams, ids, top, min(max(first - start, 0), places.stop - start)))
    return pieces


def _top_tokens(
    model: Model, text: tuple[str, ...], row: int, layers: tuple[int, ...], pieces: list[Readings], first: int
) -> list[dict[str, object]]:
    """The most likely tokens of one prompt; the last position and the last layer come first."""
    values = torch.cat([piece.best for piece in pieces], dim=1).tolist()
    ids = torch.cat([piece.best_ids for piece in pieces], dim=1).tolist()
    said = functools.cache(lambda index: model.tokenizer.decode([index]))
    return [
        {
            "example": row,
            "pos": pos,
            "after": text[pos],
            "layer": layers[place],
            "rank": rank,
            "token": said(index),
            "probability": value,
        }
        for pos in reversed(range(first, first + len(values[0])))
        for place in reversed(range(len(layers)))
        for rank, (value, index) in enumerate(zip(values[place][pos - first], ids[place][pos - first], strict=True))
    ]


def _arrays(
    maps: list[dict[str, Tensor]], traced: Trace, layers: tuple[int, ...], prompts: Prompts
) -> dict[str, Named]:
    labels = {"layer": tuple(map(str, layers))}
    if len(maps) == 1:
        shown = {**labels, "pos": traced.tokens.text[0]}
        return {name: Named(maps[0][name].numpy(), ("layer", "pos"), unit, shown) for name, unit in _UNITS.items()}
    texts = {"example": tuple(prompt.text for prompt in prompts)}
    width = max(traced.tokens.lengths)
    found = {}
    for name, unit in _UNITS.items():
        stacked = np.full((len(maps), len(layers), width), np.nan, dtype=np.float32)
        for row, one in enumerate(maps):
            stacked[row, :, : one[name].shape[1]] = one[name].numpy()
        found[name] = Named(stacked, ("example", "layer", "pos"), unit, labels | texts)
    return found


@torch.no_grad()
def _checks(model: Model, traced: Trace, last: int, maps: list[dict[str, Tensor]]) -> tuple[Check, ...]:
    """The last layer's reading at the last position against the model's own logits."""
    read = read_out(model.bridge, traced[Site("resid_post", last, pos=-1)])
    logits = traced[Site("logits", pos=-1)]
    gap = float((read - logits).abs().max() / logits.abs().max())
    own = entropy(logits.double().log_softmax(-1)).cpu()
    streamed = torch.tensor([one["entropy"][-1, -1] for one in maps]).double()
    allowed = 1e-4 if model.dtype in (torch.float32, torch.float64) else 5e-2
    return (
        Check("last layer read out equals the model's logits, relative", gap, 1e-5),
        Check(
            "its streamed entropy equals that of the model's logits, in nats",
            float((own - streamed).abs().max()),
            allowed,
        ),
    )


def _settled(maps: dict[str, Tensor], layers: tuple[int, ...]) -> int | None:
    """The first layer from which on the target stays on top at the last position."""
    ranks = maps["target_rank"][:, -1]
    if ranks[-1] != 0:
        return None
    misses = (ranks != 0).nonzero()
    return layers[0] if len(misses) == 0 else layers[int(misses[-1]) + 1]


def _scalars(table: list[dict], maps: dict[str, Tensor], layers: tuple[int, ...]) -> dict[str, object]:
    final = table[0]
    return {
        "prediction": final["token"],
        "probability": final["probability"],
        "settled_layer": _settled(maps, layers),
        "final_target_rank": int(maps["target_rank"][-1, -1]),
    }


def _finding(table: list[dict], maps: dict[str, Tensor], layers: tuple[int, ...]) -> str:
    scalars = _scalars(table, maps, layers)
    said = f"The model ends with {scalars['prediction']!r} (probability {scalars['probability']:.3f})"
    if scalars["settled_layer"] is None:
        return f"{said}; the target ends at rank {scalars['final_target_rank']}."
    return f"{said}; the target is on top from layer {scalars['settled_layer']} of {layers[-1]} on."


def _views(rows: int, target: str) -> tuple[Heatmap | Lines | Table, ...]:
    of = repr(target) if target else "the final prediction (or each prompt's target)"
    return (
        Heatmap("target_probability", x="pos", y="layer", title=f"Probability of {of} at each layer"),
        Table(
            "top_tokens",
            rows=min(rows, 40),
            title="Most likely tokens at each layer and position",
            caption="The last position comes first, and at each position the last layer.",
        ),
        Heatmap("kl", x="pos", y="layer", title="KL(final || layer)"),
        Heatmap("entropy", x="pos", y="layer", title="Entropy of the reading"),
        Lines("target_rank", x="layer", select={"pos": -1}, title="Rank of the target at the last position"),
    )


def _notes(model: Model, traced: Trace, site: str, listed: int) -> tuple[str, ...]:
    notes = ["The final norm uses the statistic of each layer's own stream."]
    if caps_logits(model.bridge):
        notes.append("The model's soft cap on the logits is applied at every layer.")
    if site != "resid_post":
        notes.append(f"Read at {site}: the last reading is not yet the model's output, but KL is taken to it.")
    if len(set(traced.tokens.lengths)) > 1:
        notes.append("NaN marks positions beyond the end of a shorter prompt.")
    if (longest := max(traced.tokens.lengths)) > listed:
        notes.append(f"Top tokens are listed at the last {listed} of {longest} positions: the result stays small.")
    return tuple(notes)
