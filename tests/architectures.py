"""Small random models of every architecture that the tests know.

One `Architecture` names a `transformers` configuration of two layers, and the modules of the plain
Hugging Face model whose inputs and outputs are the activations that a `Site` promises (`Parts`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

VOCABULARY = 128
LENGTH = 9


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


@dataclass(frozen=True)
class Architecture:
    """A small configuration, its parts, and the kinds of site that it cannot serve or write."""

    name: str
    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    parts: Parts = field(default_factory=Parts)
    lacks: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    model_class: str = "AutoModelForCausalLM"

    def make_config(self) -> Any:
        """The transformers configuration."""
        import transformers

        config_class = getattr(transformers, self.config)
        known = config_class()
        sizes = {name: size for name, size in _SIZES.items() if hasattr(known, name)}
        return config_class(**{**sizes, **self.settings})

    def save(self, folder: Path) -> Path:
        """A random model of this architecture as a Hugging Face folder."""
        return save_random(self.make_config(), folder, model_class=self.model_class)


_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
"""Under the names that most configurations use; each takes those that it knows."""

_GPT2 = Parts(
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
_BLOOM = Parts(
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
_FALCON = replace(_BLOOM, attn_out="self_attention", mlp_out="mlp")
_NEOX = Parts(
    blocks="gpt_neox.layers",
    embed="gpt_neox.embed_in",
    qkv=("attention.query_key_value",),
    split=by_head,
    z="attention.dense",
    attn_out="attention",
    mlp_pre="mlp.dense_h_to_4h",
    mlp_post="mlp.dense_4h_to_h",
)
_MPT = Parts(
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
_CODEGEN = Parts(
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
_SANDWICH = Parts(
    attn_out="post_attention_layernorm",
    resid_mid="pre_feedforward_layernorm",
    mlp_out="post_feedforward_layernorm",
)
_POST_NORM = replace(_SANDWICH, resid_mid="mlp")
_NEO = replace(
    _GPT2,
    qkv=("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"),
    split=None,
    z="attn.attention.out_proj",
)
_GPTJ = replace(
    _CODEGEN, qkv=("attn.q_proj", "attn.k_proj", "attn.v_proj"), split=None
)
_OPT = Parts(
    blocks="model.decoder.layers",
    embed="model.decoder.embed_tokens",
    z="self_attn.out_proj",
    resid_mid="final_layer_norm",
    mlp_in="fc1",
    mlp_pre="fc1",
    mlp_post="fc2",
    mlp_out="fc2",
)
_EXPERTS = Parts(mlp_pre=None, mlp_post=None)
_NO_MIDDLE = ("resid_mid",)
_NO_NEURONS = ("mlp_pre", "mlp_post")
_WINDOW = {"sliding_window": 4}
_LOCAL_THEN_FULL = {**_WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_FALCON_SIZES = {"ffn_hidden_size": 48}
_MPT_SIZES = {"max_seq_len": 64}
_OPT_SIZES = {"ffn_dim": 48, "word_embed_proj_dim": 32}
_NEO_SIZES = {
    "attention_types": [[["global", "local"], 1]],
    "window_size": 4,
}
_GRANITE = {"embedding_multiplier": 3.0, "residual_multiplier": 0.4, "attention_multiplier": 0.2, "logits_scaling": 2.0}
_MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}

SERVED = (
    Architecture("GPT2", "GPT2Config", {"n_inner": 48}, _GPT2),
    Architecture("GPTNeoX parallel", "GPTNeoXConfig", {"use_parallel_residual": True}, replace(_NEOX, resid_mid=None), _NO_MIDDLE),
    Architecture("GPTNeoX sequential", "GPTNeoXConfig", {"use_parallel_residual": False}, _NEOX),
    Architecture("Bloom", "BloomConfig", {}, _BLOOM),
    Architecture(
        "Falcon new layout",
        "FalconConfig",
        {**_FALCON_SIZES, "new_decoder_architecture": True, "multi_query": False, "num_kv_heads": 2, "bias": True},
        replace(_FALCON, split=by_group, resid_mid=None),
        _NO_MIDDLE,
    ),
    Architecture(
        "Falcon old layout, parallel",
        "FalconConfig",
        {**_FALCON_SIZES, "multi_query": True, "parallel_attn": True},
        replace(_FALCON, split=thirds, resid_mid=None),
        _NO_MIDDLE,
    ),
    Architecture(
        "Falcon old layout, sequential",
        "FalconConfig",
        {**_FALCON_SIZES, "multi_query": False, "parallel_attn": False, "alibi": True, "bias": True},
        _FALCON,
    ),
    Architecture("MPT", "MptConfig", _MPT_SIZES, _MPT),
    Architecture("CodeGen", "CodeGenConfig", {"n_inner": 48, "rotary_dim": 4}, _CODEGEN, _NO_MIDDLE),
    Architecture("GPTBigCode", "GPTBigCodeConfig", {"n_inner": 48, "multi_query": True}, _GPT2),
    Architecture("Llama", "LlamaConfig", {"head_dim": 16, "attention_bias": True, "mlp_bias": True}),
    Architecture("Mistral", "MistralConfig", _WINDOW),
    Architecture("Qwen2", "Qwen2Config"),
    Architecture("Qwen3", "Qwen3Config", {"head_dim": 16}),
    Architecture(
        "Phi",
        "PhiConfig",
        {"partial_rotary_factor": 0.5},
        Parts(z="self_attn.dense", resid_mid=None, mlp_pre="mlp.fc1", mlp_post="mlp.fc2"),
        _NO_MIDDLE,
    ),
    Architecture(
        "Phi3",
        "Phi3Config",
        {**_WINDOW},
        Parts(qkv=("self_attn.qkv_proj",), split=thirds, mlp_pre="mlp.gate_up_proj", gate_first=True),
    ),
    Architecture("Gemma", "GemmaConfig", {"head_dim": 16}),
    Architecture(
        "Gemma2",
        "Gemma2Config",
        {
            **_LOCAL_THEN_FULL,
            "head_dim": 16,
            "query_pre_attn_scalar": 4,
            "attn_logit_softcapping": 0.7,
            "final_logit_softcapping": 1.5,
        },
        _SANDWICH,
    ),
    Architecture("Gemma3", "Gemma3TextConfig", {**_LOCAL_THEN_FULL, "head_dim": 16, "query_pre_attn_scalar": 4}, _SANDWICH),
    Architecture("OLMo", "OlmoConfig"),
    Architecture("OLMo clipped", "OlmoConfig", {"clip_qkv": 0.5}, lacks=("v",)),
    Architecture("OLMo2", "Olmo2Config", {}, _POST_NORM),
    Architecture("OLMo3", "Olmo3Config", _LOCAL_THEN_FULL, _POST_NORM),
    Architecture("StableLM", "StableLmConfig", {"use_qkv_bias": True, "qk_layernorm": True}),
    Architecture(
        "StableLM parallel", "StableLmConfig", {"use_parallel_residual": True}, Parts(resid_mid=None), _NO_MIDDLE
    ),
    Architecture("Starcoder2", "Starcoder2Config", _WINDOW, Parts(mlp_pre="mlp.c_fc", mlp_post="mlp.c_proj")),
    Architecture("Granite", "GraniteConfig", _GRANITE, Parts(scale=0.4)),
    Architecture("SmolLM3", "SmolLM3Config", {"no_rope_layers": [1, 0]}),
    Architecture(
        "GLM4",
        "Glm4Config",
        {"head_dim": 8},
        replace(
            _SANDWICH,
            attn_out="post_self_attn_layernorm",
            resid_mid="post_attention_layernorm",
            mlp_out="post_mlp_layernorm",
            mlp_pre="mlp.gate_up_proj",
            gate_first=True,
        ),
    ),
    Architecture("EXAONE4", "Exaone4Config", _LOCAL_THEN_FULL, _POST_NORM),
    Architecture("SeedOss", "SeedOssConfig", {"head_dim": 16}),
    Architecture("Ernie4.5", "Ernie4_5Config", {"head_dim": 16, "use_bias": True}),
    Architecture(
        "Apertus", "ApertusConfig", {}, Parts(resid_mid="feedforward_layernorm", mlp_pre="mlp.up_proj")
    ),
    Architecture("Nemotron", "NemotronConfig", {"head_dim": 8}, Parts(mlp_pre="mlp.up_proj")),
    Architecture("GPT-Neo", "GPTNeoConfig", _NEO_SIZES, _NEO, lacks=("scores",), read_only=("pattern",)),
    Architecture(
        "GPT-J", "GPTJConfig", {"n_inner": 48, "rotary_dim": 4}, _GPTJ, ("resid_mid", "scores"), ("pattern",)
    ),
    Architecture("OPT", "OPTConfig", _OPT_SIZES, _OPT, lacks=("scores",), read_only=("pattern",)),
    Architecture("Mixtral", "MixtralConfig", {"num_local_experts": 4}, _EXPERTS, _NO_NEURONS),
    Architecture("OLMoE", "OlmoeConfig", {"num_experts": 4, **_MOE}, _EXPERTS, _NO_NEURONS),
    Architecture("Qwen3-MoE", "Qwen3MoeConfig", {"num_experts": 4, **_MOE}, _EXPERTS, _NO_NEURONS),
)
"""Everything that is served; `lacks` and `read_only` say what each of them cannot do."""


REFUSED = (
    Architecture("Cohere", "CohereConfig"),
    Architecture("Cohere2", "Cohere2Config"),
    Architecture("HunYuan", "HunYuanDenseV1Config", {"head_dim": 8}),
    Architecture("GPTBigCode, many key heads", "GPTBigCodeConfig", {"n_inner": 48, "multi_query": False}),
    Architecture("CTRL", "CTRLConfig", {"dff": 48}),
    Architecture("BERT as a decoder", "BertConfig", model_class="BertLMHeadModel"),
    Architecture("BERT", "BertConfig", model_class="BertForMaskedLM"),
    Architecture("RoBERTa", "RobertaConfig", model_class="RobertaForMaskedLM"),
    Architecture("T5", "T5Config", {"d_kv": 8, "d_ff": 48}, model_class="T5ForConditionalGeneration"),
)
"""What is refused at load: wrong numbers, no adapter, or no decoder."""

RESIDUAL_ONLY = (
    Architecture("Mamba", "MambaConfig", {"state_size": 4}, Parts(blocks="backbone.layers", embed="backbone.embeddings")),
    Architecture("RWKV", "RwkvConfig", {}, Parts(blocks="rwkv.blocks", embed="rwkv.embeddings")),
)
"""Decoders without attention: only their embedding, residual stream and logits are served."""


def random_model(config: Any, seed: int = 0, model_class: str = "AutoModelForCausalLM") -> Any:
    """A model with weights so large that every norm, bias, mask and cap matters."""
    import transformers

    torch.manual_seed(seed)
    auto = getattr(transformers, model_class)
    model = auto.from_config(config) if model_class.startswith("Auto") else auto(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            size = 0.3 if weight.ndim < 2 else 0.15
            weight.add_(torch.randn(weight.shape, generator=generator) * size)
    return model.eval()


def tiny_tokenizer(size: int = VOCABULARY) -> Any:
    """Word tokens: <pad>, <bos>, <eos>, <unk>, then `w4`, `w5` and so on, split at spaces."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<bos>", "<eos>", "<unk>", *(f"w{number}" for number in range(4, size))]
    built = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos", "unk")}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=built, **special)


def save_random(config: Any, folder: Path, **options: Any) -> Path:
    """Save a random model of this configuration, with a tokenizer, as a Hugging Face folder."""
    random_model(config, **options).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def probe_ids(rows: int = 2) -> Tensor:
    """[rows, LENGTH] token ids, all different within a row."""
    generator = torch.Generator().manual_seed(7)
    return torch.stack([torch.randperm(VOCABULARY - 4, generator=generator)[:LENGTH] + 4 for _ in range(rows)])
