"""What enters and leaves the MLPs, seen in a pass of the plain model, which is faster than the hooked one.

Which module of a block shows a site is not looked up but found: it is the one whose output is what the hooked pass
shows there. Where there is none, the hooked pass itself is used.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from workbench.model import Model
from workbench.tokens import Tokens
from workbench.tracer import trace
from workbench.words import Site

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
_HALF_TOLERANCE = 0.05
"""The largest difference that two kernels of attention may make at a position, over the largest value there; a wrong
module is far beyond."""

_NOTHING = 1e-5
"""Where a position holds less than this share of the largest value, this share is taken as its largest."""


class _Enough(Exception):
    """Every site has been seen; the rest of the pass is not needed."""


class Capture:
    """Shows some sites of one model again and again.

    Args:
        model: a loaded model.
        sites: sites of blocks, with an axis of positions.
        probe: a short text, by which the modules are found.
    """

    def __init__(self, model: Model, sites: Sequence[Site], probe: Tokens) -> None:
        self._model, self._sites = model, tuple(sites)
        self._modules = find_modules(model, sites, probe)

    def __call__(self, tokens: Tokens) -> Mapping[Site, Tensor]:
        """The activations of a batch, [batch, pos, width] each; at padding they mean nothing."""
        if self._modules is None:
            return trace(self._model, tokens, self._sites)
        return _outputs(self._model, self._modules, tokens)


def find_modules(model: Model, sites: Sequence[Site], probe: Tokens) -> dict[Site, Module] | None:
    """The module of the plain model whose output is what each site shows; None where one has none."""
    wanted = trace(model, probe, sites)
    blocks = _plain_blocks(model)
    inside = {block: dict.fromkeys(blocks[block].modules()) for block in {site.block for site in sites}}
    seen = _outputs(model, {module: module for modules in inside.values() for module in modules}, probe)
    found = {}
    for site in sites:
        gaps = {module: _gap(seen[module], wanted[site]) for module in inside[site.block] if module in seen}
        best = min(gaps, key=lambda module: gaps[module])
        if not gaps[best] <= _TOLERANCE.get(model.dtype, _HALF_TOLERANCE):
            return None
        found[site] = best
    return found


def _plain_blocks(model: Model) -> list[Module]:
    """The blocks of the plain model: they have the names of the hooked ones."""
    names = {id(module): name for name, module in model.bridge.original_model.named_modules()}
    return [model.plain.get_submodule(names[id(block)]) for block in model.places.blocks]


def _gap(shown: Tensor, wanted: Tensor) -> float:
    """At the worst position, the largest difference over the largest value; infinite between shapes that differ."""
    if shown.shape != wanted.shape:
        return float("inf")
    sizes = wanted.float().abs().amax(-1)
    gaps = (shown.float() - wanted.float()).abs().amax(-1)
    return float((gaps / sizes.clamp_min(_NOTHING * float(sizes.max()) + 1e-30)).max())


@torch.no_grad()
def _outputs(model: Model, modules: Mapping[Any, Module], tokens: Tokens) -> dict[Any, Tensor]:
    """What some modules give in one pass, which ends with the last of them."""
    seen: dict[Any, Tensor] = {}

    def keeper(names: list[Any]) -> Callable[..., None]:
        def keep(_module: Module, _inputs: Any, output: Any) -> None:
            if isinstance(value := output[0] if isinstance(output, tuple) else output, Tensor):
                seen.update(dict.fromkeys(names, value))
            if len(seen) == len(modules):
                raise _Enough

        return keep

    by_module: dict[Module, list[Any]] = {}
    for name, module in modules.items():
        by_module.setdefault(module, []).append(name)
    with ExitStack() as stack, model.lock:
        for module, names in by_module.items():
            stack.callback(module.register_forward_hook(keeper(names)).remove)
        with suppress(_Enough):
            model.plain(tokens.ids, use_cache=False)
    return seen
