"""Booting TransformerLens' bridge around a Hugging Face model, at the speed of the plain model.

The bridge computes each norm a second time in Python so that its scale hooks can fire. `QuietNorm`
leaves that work out while nobody listens there: the numbers are then exactly Hugging Face's own.

Its attention with linear biases (ALiBi) drops the cache of keys and values in silence; `KeepsKeys` hands it on.
"""

import copy
import logging
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components.alibi_joint_qkv_attention import ALiBiJointQKVAttentionBridge
from transformer_lens.model_bridge.generalized_components.mpt_alibi_attention import MPTALiBiAttentionBridge
from transformer_lens.model_bridge.generalized_components.normalization import NormalizationBridge
from transformer_lens.model_bridge.generalized_components.rms_normalization import RMSNormalizationBridge


class QuietNorm(NormalizationBridge):
    """A norm that runs Hugging Face's module alone while no scale hook listens."""

    def forward(self, hidden_states: Float[Tensor, "..."], **kwargs: Any) -> Float[Tensor, "..."]:
        """The wrapped norm, with its input and output hooks."""
        listened = self.hook_scale._forward_hooks or self.hook_normalized._forward_hooks
        folded = getattr(self.config, "layer_norm_folding", False)
        if listened or folded or self.hook_scale._backward_hooks or self.hook_normalized._backward_hooks:
            return super().forward(hidden_states, **kwargs)
        wrapped: Any = self.original_component
        return self.hook_out(wrapped(self.hook_in(hidden_states)))


class QuietRMSNorm(QuietNorm, RMSNormalizationBridge):
    """`QuietNorm` for root-mean-square norms."""


class KeepsKeys(ALiBiJointQKVAttentionBridge):
    """An attention with linear biases that reads and fills the cache of its call."""

    def _reconstruct_attention(self, q: Tensor, k: Tensor, v: Tensor, **call: Any) -> tuple[Tensor, Tensor]:
        self._call = call
        try:
            return super()._reconstruct_attention(q, k, v, **call)
        finally:
            del self._call

    def _reshape_qkv_to_heads(self, *args: Any, **kwargs: Any) -> Any:
        q, k, v, *sizes = super()._reshape_qkv_to_heads(*args, **kwargs)
        return q, *self._update_kv_cache(k, v, **self._call), *sizes


class MPTKeepsKeys(KeepsKeys, MPTALiBiAttentionBridge):
    """`KeepsKeys` for MPT."""


_MENDED: dict[type, type] = {
    NormalizationBridge: QuietNorm,
    RMSNormalizationBridge: QuietRMSNorm,
    ALiBiJointQKVAttentionBridge: KeepsKeys,
    MPTALiBiAttentionBridge: MPTKeepsKeys,
}


def boot(name: str, hf_model: Any, tokenizer: Any) -> Any:
    """Wrap a loaded Hugging Face model in place, as a TransformerBridge.

    Raises:
        ValueError: TransformerLens has no adapter for this architecture.
    """
    architecture = type(hf_model).__name__
    if not hf_model.config.architectures:  # from a GGUF file, or made in memory
        hf_model.config.architectures = [architecture]
    grouped = getattr(hf_model.config, "new_decoder_architecture", False)
    if grouped:
        hf_model.config.multi_query = False  # without meaning here, but TransformerLens would see a single key head
    try:
        bridge = TransformerBridge.boot_transformers(name, hf_model=hf_model, tokenizer=_for_the_bridge(tokenizer))
    except Exception as error:  # TransformerLens lets errors of every kind through here
        logging.getLogger(__name__).debug("TransformerLens refused %s", architecture, exc_info=error)
        reason = str(error).strip().split("\n")[0].split(". ")[0][:200]
        raise ValueError(f"architecture {architecture} is not supported by TransformerLens 3.9: {reason}") from error
    if not hasattr(bridge, "blocks"):
        raise ValueError(f"architecture {architecture} is no decoder with one list of blocks: it cannot be traced")
    for module in bridge.modules():
        if type(module) in _MENDED:
            module.__class__ = _MENDED[type(module)]
    if grouped:
        _split_by_group(bridge)
    return bridge


def _split_by_group(bridge: TransformerBridge) -> None:
    """Falcon's new layout keeps the queries, key and value of a group together; the bridge splits it in thirds."""
    for block in bridge.blocks:
        attention = block.attn.original_component
        fused, size = attention.query_key_value, attention.head_dim
        for name in ("weight", "bias"):
            held = getattr(fused, name)
            if held is None:
                continue
            groups = held.detach().unflatten(0, (attention.num_kv_heads, -1, size))
            parts = {"q": groups[:, :-2], "k": groups[:, -2], "v": groups[:, -1]}
            for letter, part in parts.items():
                linear = getattr(block.attn, letter).original_component
                getattr(linear, name).data = part.reshape(-1, *held.shape[1:]).contiguous()


def _for_the_bridge(tokenizer: Any) -> Any:
    """A copy that the bridge may adjust: it wants special tokens set, and would reload the files otherwise.

    The words, which are nearly all of it (hundreds of MB), are shared unless the bridge will add one.
    """
    own = copy.deepcopy(tokenizer, {} if _lacks_a_word(tokenizer) else _words_of(tokenizer))
    own.init_kwargs = {"name_or_path": "", **own.init_kwargs, "add_bos_token": True}
    return own


def _lacks_a_word(tokenizer: Any) -> bool:
    """Whether a special token that the bridge sets has no id, so that it would be added to the words."""
    special = tokenizer.special_tokens_map
    wanted = [special[name] for name in ("bos_token", "eos_token", "pad_token") if name in special]
    return "eos_token" not in special or None in tokenizer.convert_tokens_to_ids(wanted)


def _words_of(tokenizer: Any) -> dict[int, Any]:
    """The parts of a tokenizer that hold its vocabulary, by identity, as `copy.deepcopy` takes what stays shared."""
    parts = (getattr(tokenizer, name, None) for name in ("_tokenizer", "_vocab", "_merges"))
    return {id(part): part for part in parts if part is not None}


def share_weights(model: Any) -> Any:
    """A second module tree over the same weights: its hooks and its attention kernel are its own."""
    memo = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return copy.deepcopy(model, memo)


def plain_logits(model: Any, ids: torch.Tensor) -> Float[Tensor, "batch pos vocab"]:
    """The logits of a Hugging Face model that nothing is hooked into."""
    with torch.no_grad():
        return model(ids, use_cache=False).logits
