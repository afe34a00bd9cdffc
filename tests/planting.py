"""Planted models for the tests, and plain PyTorch ways to look into them and to change them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from workbench.planted import Planted, plant


@cache
def planted(name: str) -> Planted:
    """One build of each model for all tests, with attention that can be looked at."""
    built = plant(name)
    built.model.set_attn_implementation("eager")
    return built


def ids_of(model: Planted, text: str, special: bool = True) -> Tensor:
    """The token ids of a text, (1, pos)."""
    return model.tokenizer(text, return_tensors="pt", add_special_tokens=special)["input_ids"]


@torch.no_grad()
def run(model: Planted, ids: Tensor, **knobs: object) -> SimpleNamespace:
    """Logits (pos, vocab) and, when asked, patterns (layer, head, query, key) and streams of one prompt."""
    out = model.model(ids, **knobs)
    patterns = torch.stack([layer[0] for layer in out.attentions]) if out.attentions else None
    return SimpleNamespace(logits=out.logits[0], patterns=patterns, streams=out.hidden_states)


def next_word(model: Planted, text: str) -> str:
    """What the model says after a text."""
    return model.tokenizer.decode(run(model, ids_of(model, text)).logits[-1].argmax())


def outputs_of(model: Planted, ids: Tensor, modules: Sequence[nn.Module]) -> list[Tensor]:
    """What each of these modules puts out for one prompt, (pos, ...)."""
    kept: dict[nn.Module, Tensor] = {}
    with ExitStack() as stack:
        for module in modules:
            handle = module.register_forward_hook(lambda this, _, out: kept.update({this: out[0]}))
            stack.callback(handle.remove)
        run(model, ids)
    return [kept[module] for module in modules]


@contextmanager
def changed(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change what comes out of a module."""

    def hook(_module: nn.Module, _inputs: object, out: Tensor | tuple) -> Tensor | tuple:
        return change(out) if isinstance(out, Tensor) else (change(out[0]), *out[1:])

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def without_head(model: Planted, layer: int, head: int) -> Iterator[None]:
    """Let one head of a Llama write nothing."""
    projection, size = model.model.model.layers[layer].self_attn.o_proj, model.model.config.head_dim
    place = torch.arange(projection.in_features) // size == head
    handle = projection.register_forward_pre_hook(lambda _, inputs: (inputs[0].masked_fill(place, 0),))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def without_layer(model: Planted, layer: int) -> Iterator[None]:
    """Let one layer of a Llama pass its input on."""
    handle = model.model.model.layers[layer].register_forward_hook(lambda _, inputs, __: inputs[0])
    try:
        yield
    finally:
        handle.remove()
