"""Reading the residual stream through the model's own final norm and unembedding (the logit lens)."""

from typing import Any

from jaxtyping import Float
from torch import Tensor


def read_out(bridge: Any, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
    """The logits that the model would give if the stream ended here.

    The final norm uses the statistic of this very stream; a final logit scale (Granite) and a soft
    cap (Gemma 2) are applied where the model applies them. At load it is checked that the last
    residual gives the model's own logits.
    """
    return cap(bridge, unembed(bridge, resid))


def reads_out(bridge: Any) -> bool:
    """Whether a final norm and an unembedding lead from the residual stream to the logits."""
    return hasattr(bridge, "ln_final") and hasattr(bridge, "unembed")


def unembed(bridge: Any, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
    """Final norm and unembedding, before any scale or soft cap of the logits.

    Raises:
        ValueError: the architecture has no final norm (OPT-350m).
    """
    if not reads_out(bridge):
        name = type(bridge.original_model).__name__
        raise ValueError(f"{name} has no final norm before its unembedding: its residual stream cannot be read out")
    return bridge.unembed(bridge.ln_final(resid))


def cap(bridge: Any, logits: Float[Tensor, "... vocab"]) -> Float[Tensor, "... vocab"]:
    """The final scale and soft cap of the logits, in models that have them."""
    config = bridge.original_model.config.get_text_config()
    if scaling := getattr(config, "logits_scaling", None):
        logits = logits / scaling
    if bound := _bound(bridge):
        logits = (logits / bound).tanh() * bound
    return logits


def caps_logits(bridge: Any) -> bool:
    """Whether the model bends its logits (soft cap), so that they are no linear map of the stream."""
    return bool(_bound(bridge))


def _bound(bridge: Any) -> float | None:
    """The largest logit that a soft cap allows (under Gemma's and RecurrentGemma's name for it)."""
    config = bridge.original_model.config.get_text_config()
    return getattr(config, "final_logit_softcapping", None) or getattr(config, "logits_soft_cap", None)
