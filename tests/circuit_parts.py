"""Random transcoders for small models, and graphs of them."""

from dataclasses import replace
from functools import cache

import torch
from small_models import prompt_ids, small_model

from workbench.circuits.frozen import freeze_run
from workbench.circuits.graph import explain
from workbench.circuits.targets import top_logits
from workbench.coders import Transcoder, Transcoders

WIDTH = 24
FAMILIES = ("GPT2", "Llama", "Qwen2", "Gemma2", "Gemma3", "GPTNeoX parallel", "GPTNeoX sequential")


def random_coders(depth=2, d_model=32, seed=0, *, skip=False, across=False, activation="jumprelu", layers=None):
    """Seeded transcoders whose features are often active."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    def one(layer):
        return Transcoder(
            layer=layer,
            w_enc=normal(WIDTH, d_model) / d_model**0.5,
            b_enc=0.3 * normal(WIDTH),
            w_dec=0.3 * normal(WIDTH, d_model),
            b_dec=0.3 * normal(d_model),
            activation=activation,
            k=6 if activation == "topk" else None,
            rectified=activation != "topk",
            threshold=torch.full((WIDTH,), 0.2) if activation == "jumprelu" else None,
            w_skip=0.1 * normal(d_model, d_model) if skip else None,
            w_across=0.3 * normal(depth - 1 - layer, WIDTH, d_model) if across and layer < depth - 1 else None,
        )

    return Transcoders("random", {layer: one(layer) for layer in layers or range(depth)})


@cache
def frozen(name):
    """A frozen run of the small model of an architecture."""
    model = small_model(name)
    return freeze_run(model, model.tokens_of([prompt_ids()]))


def graph_of(name, *, keep_first=True, rows_at_once=512, targets=None, **options):
    """The graph of a small model with random transcoders."""
    run = frozen(name)
    aims = top_logits(small_model(name), run) if targets is None else targets
    return explain(run, random_coders(**options), aims, keep_first=keep_first, rows_at_once=rows_at_once)


def gemma_coders(model, frozen, width=256):
    """Seeded transcoders of the real model's size, with thresholds that let eight features through at a token."""
    generator = torch.Generator().manual_seed(0)
    size = model.shape.d_model

    def one(layer):
        coder = Transcoder(
            layer=layer,
            w_enc=torch.randn(width, size, generator=generator) / size**0.5,
            b_enc=torch.zeros(width),
            w_dec=torch.randn(width, size, generator=generator),
            b_dec=torch.zeros(size),
        )
        pre = coder.pre(frozen.layers[layer].mlp_in[1:]).flatten().sort(descending=True).values
        return replace(coder, activation="jumprelu", threshold=pre[8 * (len(frozen.ids) - 1)].expand(width).clone())

    return Transcoders("random", {layer: one(layer) for layer in range(model.shape.n_layers)})


def double(coders):
    """The same coders in 64 bits."""
    return replace(coders, layers={layer: one.to(dtype=torch.float64) for layer, one in coders.items()})
