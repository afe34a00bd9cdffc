"""Where plain transformers keeps each activation, family by family: module paths, and how fused projections split."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor


def thirds(fused: Tensor, heads: int, kv_heads: int, size: int) -> tuple[Tensor, ...]:
    """Query, key and value one after the other: [q q q q k k v v]."""
    parts = fused.split([heads * size, kv_heads * size, kv_heads * size], dim=-1)
    return tuple(part.unflatten(-1, (-1, size)) for part in parts)


def by_head(fused: Tensor, heads: int, kv_heads: int, size: int) -> tuple[Tensor, ...]:
    """Query, key and value of each head together: [qkv qkv qkv qkv]."""
    return fused.unflatten(-1, (heads, 3, size)).unbind(-2)


def by_group(fused: Tensor, heads: int, kv_heads: int, size: int) -> tuple[Tensor, ...]:
    """The queries of a group, then its key and its value: [qqkv qqkv]."""
    groups = fused.unflatten(-1, (kv_heads, heads // kv_heads + 2, size))
    return groups[..., :-2, :].flatten(2, 3), groups[..., -2, :], groups[..., -1, :]


def in_quarters(fused: Tensor, heads: int, kv_heads: int, size: int) -> tuple[Tensor, ...]:
    """CodeGen's four accelerator shards, each query, value, key: [qvk qvk qvk qvk]."""
    query, value, key = fused.unflatten(-1, (4, 3, -1)).unbind(-2)
    return tuple(part.flatten(-2).unflatten(-1, (heads, size)) for part in (query, key, value))


@dataclass(frozen=True)
class Parts:
    """Module paths in a plain model; all but `blocks` and `embed` are relative to a block.

    Attributes:
        qkv: the three projections, or the fused one with `split` to take it apart.
        z, mlp_in, mlp_post, resid_mid: modules whose input is the activation.
        mlp_pre, attn_out, mlp_out: modules whose output is the activation.
        gate_first: the first half of the output of `mlp_pre` is the gate.
        scale: what the block multiplies both branches with before it adds them.
    """

    blocks: str = "model.layers"
    embed: str = "model.embed_tokens"
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    split: Callable[..., tuple[Tensor, ...]] | None = None
    z: str = "self_attn.o_proj"
    attn_out: str = "self_attn"
    resid_mid: str | None = "post_attention_layernorm"
    mlp_in: str = "mlp"
    mlp_pre: str | None = "mlp.gate_proj"
    mlp_post: str | None = "mlp.down_proj"
    mlp_out: str = "mlp"
    gate_first: bool = False
    scale: float = 1.0


GPT2 = Parts(
    blocks="transformer.h",
    embed="transformer.wte",
    qkv=("attn.c_attn",),
    split=thirds,
    z="attn.c_proj",
    attn_out="attn",
    resid_mid="ln_2",
    mlp_pre="mlp.c_fc",
    mlp_post="mlp.c_proj",
)
BLOOM = Parts(
    blocks="transformer.h",
    embed="transformer.word_embeddings",
    qkv=("self_attention.query_key_value",),
    split=by_head,
    z="self_attention.dense",
    attn_out="self_attention.dense",
    mlp_pre="mlp.dense_h_to_4h",
    mlp_post="mlp.dense_4h_to_h",
    mlp_out="mlp.dense_4h_to_h",
)
FALCON = replace(BLOOM, attn_out="self_attention", mlp_out="mlp")
NEOX = Parts(
    blocks="gpt_neox.layers",
    embed="gpt_neox.embed_in",
    qkv=("attention.query_key_value",),
    split=by_head,
    z="attention.dense",
    attn_out="attention",
    mlp_pre="mlp.dense_h_to_4h",
    mlp_post="mlp.dense_4h_to_h",
)
MPT = Parts(
    blocks="transformer.blocks",
    embed="transformer.wte",
    qkv=("attn.Wqkv",),
    split=thirds,
    z="attn.out_proj",
    attn_out="attn",
    resid_mid="norm_2",
    mlp_in="ffn.up_proj",
    mlp_pre="ffn.up_proj",
    mlp_post="ffn.down_proj",
    mlp_out="ffn.down_proj",
)
CODEGEN = Parts(
    blocks="transformer.h",
    embed="transformer.wte",
    qkv=("attn.qkv_proj",),
    split=in_quarters,
    z="attn.out_proj",
    attn_out="attn",
    resid_mid=None,
    mlp_pre="mlp.fc_in",
    mlp_post="mlp.fc_out",
)
SANDWICH = Parts(
    attn_out="post_attention_layernorm",
    resid_mid="pre_feedforward_layernorm",
    mlp_out="post_feedforward_layernorm",
)
POST_NORM = replace(SANDWICH, resid_mid="mlp")
NEO = replace(
    GPT2,
    qkv=("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"),
    split=None,
    z="attn.attention.out_proj",
)
GPTJ = replace(CODEGEN, qkv=("attn.q_proj", "attn.k_proj", "attn.v_proj"), split=None)
OPT = Parts(
    blocks="model.decoder.layers",
    embed="model.decoder.embed_tokens",
    z="self_attn.out_proj",
    resid_mid="final_layer_norm",
    mlp_in="fc1",
    mlp_pre="fc1",
    mlp_post="fc2",
    mlp_out="fc2",
)
EXPERTS = Parts(mlp_pre=None, mlp_post=None)
