"""One prompt: which logit difference is asked for, and what each part adds to it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.attribution import (
    Attribution,
    Directions,
    attribute,
    logit_scale,
    part_sites,
    read_uncapped,
    token_directions,
)
from workbench.lens import cap
from workbench.model import Model
from workbench.prompts import Prompt, Prompts
from workbench.tracer import resolve_position, trace
from workbench.words import Site


@dataclass(frozen=True)
class Shares:
    """What parts of one kind add to the logit difference, and typically (root mean square) to a random one."""

    asked: Float[np.ndarray, "*parts"]
    random: Float[np.ndarray, "*parts"]

    @classmethod
    def of(cls, parts: Float[Tensor, "*parts direction"]) -> "Shares":
        """The first direction is what was asked for, the others are random."""
        return cls(parts[..., 0].float().numpy(), parts[..., 1:].square().mean(-1).sqrt().float().numpy())


@dataclass(frozen=True)
class Reading:
    """One prompt and its split logit difference.

    Attributes:
        tokens: the tokens up to the position.
        distractor: empty for the mean over the vocabulary.
        said: the most likely token.
        difference: the model's logit difference, before any soft cap.
        sources: [layer, head, key], or None where z is not made of pattern and v.
        gaps: for each way to split, how far the sum is from the difference, over the larger of the
            difference and the largest component.
        logit_gap: error of the stream read out, against the model's own logits.
    """

    tokens: tuple[str, ...]
    target: str
    distractor: str
    said: str
    difference: float
    component: Shares
    head: Shares
    neuron: Shares | None
    sources: Float[np.ndarray, "layer head key"] | None
    attention_bias: float
    mlp_bias: float | None
    gaps: dict[str, float]
    norm_gap: float
    logit_gap: float


def read_prompt(model: Model, prompt: Prompt, target: str, distractor: str, pos: int, draws: int, seed: int) -> Reading:
    """Run one prompt and split its logit difference."""
    tokens = model.tokens(Prompts.of(prompt))
    here, end = Site("logits", pos=pos), Site("resid_post", model.shape.n_layers - 1, pos=pos)
    place = resolve_position(here, tokens.lengths[0])
    traced = trace(model, tokens, [*part_sites(model, pos), here])
    logits = traced[here][0].float().cpu()
    said = int(logits.argmax())
    first, second = _compared(model, prompt, target, distractor, said)
    uncapped = read_uncapped(model, traced[end][0]).cpu().double()
    difference = float(uncapped[first] - (uncapped.mean() if second is None else uncapped[second]))
    parts = attribute(model, traced, pos, _directions(model, first, second, draws, seed))
    return Reading(
        tokens=tokens.text[0][: place + 1],
        target=_text(model, first),
        distractor="" if second is None else _text(model, second),
        said=_text(model, said),
        difference=difference,
        component=Shares.of(parts.components),
        head=Shares.of(parts.heads.units),
        neuron=None if parts.neurons is None else Shares.of(parts.neurons.units),
        sources=None if parts.sources is None else parts.sources[..., : place + 1].float().numpy(),
        attention_bias=float(parts.heads.biases[..., 0].sum()),
        mlp_bias=None if parts.neurons is None else float(parts.neurons.biases[..., 0].sum()),
        gaps=_gaps(parts, difference),
        norm_gap=parts.norm_gap,
        logit_gap=_capped_gap(model, uncapped, logits),
    )


def _compared(model: Model, prompt: Prompt, target: str, distractor: str, said: int) -> tuple[int, int | None]:
    """The two tokens, by the knobs or else by the prompt; without a target it is what the model says."""
    wanted, other = target or prompt.target, distractor or prompt.distractor
    first = model.token(wanted) if wanted else said
    second = model.token(other) if other else None
    if first == second:
        raise ValueError(f"target and distractor are the same token {_text(model, first)!r}: choose two different ones")
    return first, second


def _gaps(parts: Attribution, difference: float) -> dict[str, float]:
    """How far each sum is from the difference, over the difference or the largest component if that is larger."""
    size = max(abs(difference), float(parts.components[:, 0].abs().max()), torch.finfo(torch.float32).tiny)
    return {name: abs(total - difference) / size for name, total in parts.totals().items()}


def _text(model: Model, index: int) -> str:
    return model.tokenizer.decode([index])


def _directions(model: Model, first: int, second: int | None, draws: int, seed: int) -> Directions:
    """The asked logit difference, then those of random tokens compared with the same kind of other side."""
    pairs = _random_pairs(model.shape.d_vocab, draws, seed)
    asked = torch.tensor([[first, first if second is None else second]])
    ids = torch.cat([asked, pairs]).to(model.device)
    return token_directions(model, ids[:, 0], None if second is None else ids[:, 1])


def _random_pairs(vocabulary: int, draws: int, seed: int) -> Int[Tensor, "draw pair"]:
    """Pairs of two different tokens."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(vocabulary, (draws,), generator=generator)
    step = torch.randint(1, vocabulary, (draws,), generator=generator)
    return torch.stack([first, (first + step) % vocabulary], dim=1)


def _capped_gap(model: Model, uncapped: Float[Tensor, " vocab"], logits: Float[Tensor, " vocab"]) -> float:
    """Error of the stream read out and capped, against the model's own logits, over their range."""
    made = cap(model.bridge, uncapped / logit_scale(model))
    return float((made - logits).abs().max() / logits.abs().max())
