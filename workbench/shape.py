"""The sizes of a decoder, and its fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

_ORIGIN = ("architectures", "dtype", "torch_dtype", "transformers_version")
"""Entries of a configuration that do not change what the model computes, beside the private ones."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder."""

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int


def measure_shape(bridge: Any, sizes: Mapping[str, int]) -> Shape:
    """The sizes that the activations really had, and the context length from the configuration."""
    config = bridge.original_model.config.get_text_config()
    words = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    context = next((getattr(config, word) for word in words if getattr(config, word, None)), bridge.cfg.n_ctx)
    return Shape(
        n_layers=len(bridge.blocks),
        d_model=sizes["d_model"],
        n_heads=sizes["head"],
        n_kv_heads=sizes["kv_head"],
        d_head=sizes["d_head"],
        d_mlp=sizes["d_mlp"],
        d_vocab=bridge.original_model.get_input_embeddings().weight.shape[0],
        n_ctx=int(context),
    )


def fingerprint(hf_model: Any, tokenizer: Any) -> str:
    """SHA-256 over what decides the numbers: all weights, the configuration and the vocabulary.

    Of the weights the names, shapes, dtypes and bytes (1 second a gigabyte); of the configuration all but
    where it came from.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(hf_model.named_parameters()):
        digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    config = {key: value for key, value in hf_model.config.to_dict().items() if key[0] != "_" and key not in _ORIGIN}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    vocabulary = tokenizer.get_vocab()
    digest.update("\0".join(sorted(vocabulary, key=vocabulary.__getitem__)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
