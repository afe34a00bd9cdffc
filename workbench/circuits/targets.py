"""What an attribution graph explains: logits, differences of logits, any direction, any feature.

Every target is a linear reading of the residual stream at one position, behind a norm: the final one, or the
one in front of an MLP.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.attribution import token_directions
from workbench.circuits.frozen import FrozenRun, logits_at, place_of
from workbench.coders.coder import Transcoders
from workbench.model import Model
from workbench.prompts import Prompt


@dataclass(frozen=True, eq=False)
class Target:
    """A reading of the stream: its inner product with `vector` behind a norm, plus `constant`.

    Attributes:
        name: as a person would write it.
        layer: the layer whose MLP reads there; the number of layers for the final stream.
        pos: the position.
        value: what the model itself says it is, which its row must add up to.
        weight: how much it counts among several targets (a probability).
        token: the token whose logit it is, if it is one.
    """

    name: str
    layer: int
    pos: int
    vector: Float[Tensor, " d_model"]
    constant: float
    value: float
    weight: float = 1.0
    token: int | None = None


def top_logits(model: Model, run: FrozenRun, *, mass: float = 0.95, most: int = 10, pos: int = -1) -> list[Target]:
    """The logits of the likeliest tokens, each above the mean of the vocabulary.

    As circuit-tracer takes them: the fewest tokens whose probabilities reach `mass`, at most `most`, each
    weighted by its probability.
    """
    place = place_of(run, pos)
    probabilities = logits_at(model, run, place).softmax(-1)
    ranked, ids = probabilities.sort(descending=True)
    count = min(most, int((ranked.cumsum(0) < mass).sum()) + 1)
    return token_targets(model, run, ids[:count].tolist(), pos=pos)


def token_targets(model: Model, run: FrozenRun, tokens: Sequence[int], *, pos: int = -1) -> list[Target]:
    """The logits of chosen tokens, each above the mean of the vocabulary and weighted by its probability.

    Raises:
        ValueError: no token is named, or the position is not in the prompt.
    """
    if not tokens:
        raise ValueError("no target token was named: name at least one")
    place = place_of(run, pos)
    logits = logits_at(model, run, place)
    probabilities = logits.softmax(-1)
    asked = token_directions(model, torch.tensor(list(tokens), device=model.device), None)
    return [
        Target(
            name=repr(model.tokenizer.decode([token])),
            layer=len(run.layers),
            pos=place,
            vector=row,
            constant=float(constant),
            value=float(logits[token] - logits.mean()),
            weight=float(probabilities[token]),
            token=token,
        )
        for token, row, constant in zip(tokens, asked.rows.to(run.stream), asked.constants, strict=True)
    ]


def difference_target(model: Model, run: FrozenRun, token: int, other: int, *, pos: int = -1) -> Target:
    """The logit of a token minus that of another.

    Raises:
        ValueError: the two are one token, or the position is not in the prompt.
    """
    if token == other:
        raise ValueError(f"a logit difference needs two tokens, found {token} twice")
    place = place_of(run, pos)
    logits = logits_at(model, run, place)
    sides = (torch.tensor([one], device=model.device) for one in (token, other))
    asked = token_directions(model, *sides)
    first, second = (model.tokenizer.decode([one]) for one in (token, other))
    return Target(
        name=f"{first!r} - {second!r}",
        layer=len(run.layers),
        pos=place,
        vector=asked.rows[0].to(run.stream),
        constant=float(asked.constants[0]),
        value=float(logits[token] - logits[other]),
    )


def asked_targets(
    model: Model,
    run: FrozenRun,
    prompt: Prompt,
    *,
    target: str = "",
    against: str = "",
    pos: int = -1,
    mass: float = 0.95,
    most: int = 10,
) -> list[Target]:
    """The targets that words ask for, or else the prompt's own token and distractor, or else the likeliest tokens.

    Args:
        model: a loaded model.
        run: its frozen run.
        prompt: what it ran on.
        target: a token in words.
        against: a token to compare it with.
        pos: the position.
        mass: see `top_logits`.
        most: see `top_logits`.

    Raises:
        ValueError: a token to compare with stands alone, or is the same.
    """
    wanted, other = target or prompt.target, against or prompt.distractor
    if not wanted:
        if against:
            raise ValueError(f"against {against!r} needs a target: name one")
        return top_logits(model, run, mass=mass, most=most, pos=pos)
    token = model.token(wanted)
    if other:
        return [difference_target(model, run, token, model.token(other), pos=pos)]
    (only,) = token_targets(model, run, [token], pos=pos)
    return [replace(only, weight=1.0)]


def direction_target(run: FrozenRun, name: str, vector: Float[Tensor, " d_model"], *, pos: int = -1) -> Target:
    """Any direction of the normed final stream."""
    place = place_of(run, pos)
    direction = vector.to(run.stream)
    value = float(run.final(run.stream)[place] @ direction)
    return Target(name, len(run.layers), place, direction, 0.0, value)


def feature_target(run: FrozenRun, coders: Transcoders, layer: int, feature: int, *, pos: int = -1) -> Target:
    """The pre-activation of any feature, active or not.

    Raises:
        KeyError: there is no coder for the layer.
        ValueError: the coder has no such feature, or the position is not in the prompt.
    """
    coder, place = coders[layer], place_of(run, pos)
    if not 0 <= feature < coder.width:
        raise ValueError(f"feature {feature} of layer {layer}: its coder has {coder.width} features")
    value = float(coder.pre(run.layers[layer].mlp_in[place])[feature])
    vector = coder.w_enc[feature].to(run.stream)
    return Target(f"L{layer}.F{feature}@{place}", layer, place, vector, float(coder.b_enc[feature]), value)
