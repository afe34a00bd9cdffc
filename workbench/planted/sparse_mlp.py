"""Sparse MLP: a GPT-2 with ReLU whose MLPs are transcoders, every feature of which has a meaning.

"red cat" is followed by "runs", any other "cat" by "sleeps". A head of layer 0 keeps the previous
word. The features of the first MLP fire on one kind of word each; those of the second weigh the
first's, with one edge that inhibits. MLP in, ReLU, MLP out is all there is: an exact transcoder.

The stream is written twice, once negated, so that its mean is zero and LayerNorm has nothing to
subtract; a ballast of 300 makes what it divides by constant to 1 part in 10,000.
"""

from math import sqrt
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from workbench.planted import Planted
from workbench.planted.llama import seeded_model
from workbench.planted.vocabulary import BOS, EOS, PAD, SPECIAL, word_tokenizer


class Feature(NamedTuple):
    """One feature of a transcoder: what its encoder reads, its bias, and what its decoder writes."""

    name: str
    reads: dict[str, float]
    bias: float
    writes: str


_COLOURS, _ANIMALS = ["red", "green", "blue"], ["cat", "dog", "owl"]
_SAID = ["runs", "sleeps", "flows"]
_WORDS = [*_COLOURS, *_ANIMALS, "stone", "river", *_SAID]
_FEATURES = [
    [
        Feature("a colour before", {f"before {word}": 1.0 for word in _COLOURS}, -0.25, "colour"),
        Feature("an animal now", {f"now {word}": 1.0 for word in _ANIMALS}, -0.25, "animal"),
        Feature("a river now", {"now river": 1.0}, -0.25, "river"),
        *(Feature(f"{word} now", {f"now {word}": 1.0}, -0.5, f"unread {word}") for word in _WORDS),
    ],
    [
        Feature("a coloured animal", {"colour": 3.0, "animal": 2.0}, -2.5, "say runs"),
        Feature("an animal", {"colour": -1.5, "animal": 2.0}, 0.0, "say sleeps"),
        Feature("a coloured river", {"colour": 3.0, "river": 2.0}, -2.5, "say flows"),
    ],
]
_CONTEXT, _BALLAST, _WAVES = 64, 300.0, 6
_SPEEDS = 3.0 ** -torch.arange(_WAVES)
_COORDINATES = [
    "one",
    *(f"{slot} {word}" for slot in ("now", "before", "unread") for word in _WORDS),
    *("colour", "animal", "river"),
    *(f"say {word}" for word in _SAID),
    *(f"{wave} {speed}" for wave in ("cosine", "sine") for speed in range(_WAVES)),
]
_D_MODEL = 2 * len(_COORDINATES)


def sparse_mlp() -> Planted:
    """Build the sparse-MLP model: GPT-2 with 2 layers of 2 heads, 14 features a layer, ReLU, 11 words.

    Truth. `features` lists, by layer, what each feature reads (named directions and their weights), its bias
    and what it writes (a direction, with weight 1); the other features of layer 1 are zero.
    `directions` gives each named direction as the coordinate that holds it, half of it negated in
    the second half of the stream. `examples` give the next word of a prompt and the feature values at
    its last position, right to 0.001. In layer 0 the features from number 3 on fire for one word each
    and nothing reads them. The edge from "a colour before" to "an animal" is negative; "a coloured
    river" is connected but silent unless the river has a colour. Head [0, 0] (`previous`) attends to
    the previous token; the others attend evenly and write nothing.
    """
    tokenizer = word_tokenizer(_WORDS, _CONTEXT)
    model = _blank_gpt2(len(tokenizer))
    words = torch.stack([_direction(f"now {word}") for word in _WORDS])
    said = torch.stack([_direction(f"say {word}") for word in _SAID])
    model.transformer.wte.weight.data[len(SPECIAL) :] = words
    model.lm_head.weight.data[-len(_SAID) :] = 20 * said
    model.lm_head.weight.data[EOS] = 5 * _direction("one") / _BALLAST
    _write_previous_head(model)
    for layer, features in enumerate(_FEATURES):
        for number, feature in enumerate(features):
            read = torch.stack([strength * _direction(name) for name, strength in feature.reads.items()])
            _part(model, layer, "mlp.c_fc.weight")[:, number] = read.sum(dim=0)
            _part(model, layer, "mlp.c_fc.bias")[number] = feature.bias
            _part(model, layer, "mlp.c_proj.weight")[number] = _direction(feature.writes)
    return Planted(model, tokenizer, _truth())


def _direction(name: str) -> Float[Tensor, " d_model"]:
    """The unit direction of a named coordinate: there, and negated in the second half of the stream."""
    place = torch.eye(len(_COORDINATES))[_COORDINATES.index(name)]
    return torch.cat([place, -place]) / sqrt(2)


def _blank_gpt2(vocabulary: int) -> GPT2LMHeadModel:
    """A GPT-2 that knows its position and does nothing."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=_CONTEXT,
        n_embd=_D_MODEL,
        n_layer=2,
        n_head=2,
        n_inner=len(_FEATURES[0]),
        activation_function="relu",
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    model = seeded_model(GPT2LMHeadModel, config)
    for name, weight in model.named_parameters():
        weight.data.fill_(_BALLAST / sqrt(_D_MODEL) if "ln_" in name and name.endswith("weight") else 0.0)
    angles = torch.arange(_CONTEXT)[:, None] * _SPEEDS
    model.transformer.wpe.weight.data = (
        _BALLAST * _direction("one") + angles.cos() @ _waves("cosine") + angles.sin() @ _waves("sine")
    )
    return model


def _part(model: GPT2LMHeadModel, layer: int, name: str) -> Float[Tensor, "..."]:
    """The parameter of this name in a layer, to be written in place."""
    return model.get_parameter(f"transformer.h.{layer}.{name}").data


def _waves(kind: str) -> Float[Tensor, "wave d_model"]:
    return torch.stack([_direction(f"{kind} {speed}") for speed in range(_WAVES)])


def _write_previous_head(model: GPT2LMHeadModel) -> None:
    """Head 0 of layer 0: the query's waves, set back by one position, against the key's."""
    d_head = _D_MODEL // model.config.n_head
    cosine, sine = _waves("cosine"), _waves("sine")
    back, across = _SPEEDS.cos()[:, None], _SPEEDS.sin()[:, None]
    query = torch.cat([back * cosine + across * sine, back * sine - across * cosine])
    read = torch.stack([_direction(f"now {word}") for word in _WORDS])
    write = torch.stack([_direction(f"before {word}") for word in _WORDS])
    weight = _part(model, 0, "attn.c_attn.weight")
    weight[:, : len(query)] = 80 * sqrt(d_head) * query.T
    weight[:, _D_MODEL : _D_MODEL + len(query)] = torch.cat([cosine, sine]).T
    weight[:, 2 * _D_MODEL : 2 * _D_MODEL + len(read)] = read.T
    _part(model, 0, "attn.c_proj.weight")[: len(write)] = write


def _truth() -> dict[str, object]:
    return {
        "features": [[feature._asdict() for feature in features] for features in _FEATURES],
        "directions": {name: place for place, name in enumerate(_COORDINATES)},
        "previous": [[0, 0]],
        "examples": [
            {
                "prompt": "stone red cat",
                "next": "runs",
                "values": {"a colour before": 0.75, "an animal now": 0.75, "cat now": 0.5}
                | {"a coloured animal": 1.25, "an animal": 0.375},
            },
            {
                "prompt": "red stone cat",
                "next": "sleeps",
                "values": {"an animal now": 0.75, "cat now": 0.5, "an animal": 1.5},
            },
            {
                "prompt": "blue river",
                "next": "flows",
                "values": {
                    "a colour before": 0.75,
                    "a river now": 0.75,
                    "river now": 0.5,
                    "a coloured river": 1.25,
                },
            },
            {"prompt": "cat river", "next": "<eos>", "values": {"a river now": 0.75, "river now": 0.5}},
        ],
    }
