"""Fit coders to a model: prove that they belong, and let them read what the model's sites show."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.coders.coder import Transcoder, Transcoders, folded
from workbench.coders.hooks import NORMED
from workbench.model import Model
from workbench.words import Site

_LOUD = 1024.0
"""Size of the vector that shows a norm's gain: so large that its epsilon is lost."""


def fit(coders: Transcoders, model: Model, layers: tuple[int, ...] = ()) -> Transcoders:
    """The coders of some layers (all by default) on the model's device, reading its sites.

    Where coders read the norm in front of the MLP without its gain and bias (`normed`), the two are taken into
    the encoder, so that they read `mlp_in`.

    Raises:
        ValueError: a layer or a site that the model has not, or a width that is not the model's.
    """
    chosen = coders.only(layers)
    missing = [layer for layer in chosen if layer >= model.shape.n_layers]
    if missing:
        raise ValueError(f"coders {coders.name} are for layer {missing[0]}: {model.name} has {model.shape.n_layers}")
    if chosen.crosses and len(chosen) < len(coders):
        raise ValueError(f"coders {coders.name} write across layers, so all of them are needed: leave layers out")
    found = {layer: _fit(one, model, coders.name) for layer, one in chosen.to(device=model.device).items()}
    return replace(chosen, layers=found)


def _fit(coder: Transcoder, model: Model, name: str) -> Transcoder:
    fitted = _unnormed(coder, model) if coder.read == NORMED else coder
    for word, width, kind in (("read", fitted.d_in, fitted.read), ("write", fitted.d_out, fitted.write)):
        site = Site(kind, fitted.layer)
        model.check_site(site)
        own = {"d_model": model.shape.d_model, "d_mlp": model.shape.d_mlp}.get(site.axes[-1], 0)
        if width != own:
            raise ValueError(f"coders {name} {word} {width} numbers at {site}, but {model.name} has {own} there")
    return fitted


@torch.no_grad()
def _unnormed(coder: Transcoder, model: Model) -> Transcoder:
    """The same coder reading behind the gain and the bias of the MLP's norm."""
    site = Site("mlp_in", coder.layer)
    model.check_site(site)
    norm = getattr(model.bridge.blocks[coder.layer], "ln2", None)
    if norm is None or coder.d_in != model.shape.d_model:
        raise ValueError(f"{site}: {model.name} has no norm of its own and of {coder.d_in} numbers in front of the MLP")
    gain, bias = _gain_and_bias(norm.original_component, coder.d_in, model)
    if bool((gain == 0).any()):
        raise ValueError(f"{site}: the gain of the norm in front of the MLP is 0 somewhere, so it cannot be taken off")
    rows = _divided(coder.w_enc, gain)
    skip = None if coder.w_skip is None else _divided(coder.w_skip, gain)
    return replace(
        coder,
        read="mlp_in",
        w_enc=rows,
        b_enc=folded(coder.b_enc, rows, bias),
        w_skip=skip,
        b_dec=coder.b_dec if skip is None else folded(coder.b_dec, skip, bias),
    )


def _divided(rows: Float[Tensor, "out d_model"], gain: Float[Tensor, " d_model"]) -> Float[Tensor, "out d_model"]:
    return (rows.cpu().double() / gain).to(rows)


def _gain_and_bias(
    norm: Callable[[Tensor], Tensor], width: int, model: Model
) -> tuple[Float[Tensor, " d_model"], Float[Tensor, " d_model"]]:
    """What a norm multiplies by and adds, found by showing it two vectors; in 64 bits, on the CPU."""
    shown = torch.full((width,), _LOUD, dtype=model.dtype, device=model.device)
    shown[1::2] *= -1
    if width % 2:
        shown[-3:] = torch.tensor([1.0, 1.0, -2.0]).to(shown) * _LOUD  # the mean stays 0
    bias, answer = (norm(given).cpu().double() for given in (torch.zeros_like(shown), shown))
    exact = shown.cpu().double()
    return (answer - bias) * exact.square().mean().sqrt() / exact, bias
