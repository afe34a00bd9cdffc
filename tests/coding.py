"""Random sparse coders for the tests."""

from dataclasses import replace

import torch

from workbench.coders import Transcoder, Transcoders
from workbench.prompts import Prompts

D_MODEL, WIDTH = 32, 48


def random_coder(layer: int = 0, **parts: object) -> Transcoder:
    """A coder of 48 features on 32 numbers; "skip" and "jumprelu" and the like are given as its attributes."""
    generator = torch.Generator().manual_seed(17 + layer)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    coder = Transcoder(
        layer=layer,
        w_enc=draw(WIDTH, D_MODEL),
        b_enc=draw(WIDTH),
        w_dec=draw(WIDTH, D_MODEL),
        b_dec=draw(D_MODEL),
    )
    extra = {"w_skip": draw(D_MODEL, D_MODEL), "threshold": draw(WIDTH).abs(), "w_across": draw(2, WIDTH, D_MODEL)}
    wanted = {name: extra[name] if value is True and name in extra else value for name, value in parts.items()}
    return replace(coder, **wanted)


def random_coders(layers: int = 3, **parts: object) -> Transcoders:
    """A coder for each layer."""
    return Transcoders("random", {layer: random_coder(layer, **parts) for layer in range(layers)}, {"model": "tiny"})


def crossing_coders(layers: int = 3, **parts: object) -> Transcoders:
    """A cross-layer transcoder: the features of each layer write to every later one."""
    whole = random_coders(layers, w_across=True, **parts)
    cut = {layer: replace(one, w_across=one.w_across[: layers - 1 - layer]) for layer, one in whole.items()}
    return replace(whole, layers=cut)


def texts_of_planted_words() -> Prompts:
    """Sixty rows of random words that `planted:sparse_mlp` knows."""
    words = ["red", "green", "blue", "cat", "dog", "owl", "stone", "river", "runs", "sleeps", "flows"]
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(len(words), (60, 30), generator=generator).tolist()
    return Prompts.of(*(" ".join(words[number] for number in row) for row in rows))
