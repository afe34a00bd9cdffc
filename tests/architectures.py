"""Small random models of every architecture that the tests know.

One `Architecture` names a `transformers` configuration of two layers, and the modules of the plain
Hugging Face model whose inputs and outputs are the activations that a `Site` promises (`Parts`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from parts import (
    BLOOM,
    CODEGEN,
    EXPERTS,
    FALCON,
    GPT2,
    GPTJ,
    MPT,
    NEO,
    NEOX,
    OPT,
    POST_NORM,
    SANDWICH,
    Parts,
    by_group,
    thirds,
)
from torch import Tensor

VOCABULARY = 128
LENGTH = 9


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
    Architecture("GPT2", "GPT2Config", {"n_inner": 48}, GPT2),
    Architecture(
        "GPTNeoX parallel", "GPTNeoXConfig", {"use_parallel_residual": True}, replace(NEOX, resid_mid=None), _NO_MIDDLE
    ),
    Architecture("GPTNeoX sequential", "GPTNeoXConfig", {"use_parallel_residual": False}, NEOX),
    Architecture("Bloom", "BloomConfig", {}, BLOOM),
    Architecture(
        "Falcon new layout",
        "FalconConfig",
        {**_FALCON_SIZES, "new_decoder_architecture": True, "multi_query": False, "num_kv_heads": 2, "bias": True},
        replace(FALCON, split=by_group, resid_mid=None),
        _NO_MIDDLE,
    ),
    Architecture(
        "Falcon old layout, parallel",
        "FalconConfig",
        {**_FALCON_SIZES, "multi_query": True, "parallel_attn": True},
        replace(FALCON, split=thirds, resid_mid=None),
        _NO_MIDDLE,
    ),
    Architecture(
        "Falcon old layout, sequential",
        "FalconConfig",
        {**_FALCON_SIZES, "multi_query": False, "parallel_attn": False, "alibi": True, "bias": True},
        FALCON,
    ),
    Architecture("MPT", "MptConfig", _MPT_SIZES, MPT),
    Architecture("CodeGen", "CodeGenConfig", {"n_inner": 48, "rotary_dim": 4}, CODEGEN, _NO_MIDDLE),
    Architecture("GPTBigCode", "GPTBigCodeConfig", {"n_inner": 48, "multi_query": True}, GPT2),
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
        SANDWICH,
    ),
    Architecture(
        "Gemma3", "Gemma3TextConfig", {**_LOCAL_THEN_FULL, "head_dim": 16, "query_pre_attn_scalar": 4}, SANDWICH
    ),
    Architecture("OLMo", "OlmoConfig"),
    Architecture("OLMo clipped", "OlmoConfig", {"clip_qkv": 0.5}, lacks=("v",)),
    Architecture("OLMo2", "Olmo2Config", {}, POST_NORM),
    Architecture("OLMo3", "Olmo3Config", _LOCAL_THEN_FULL, POST_NORM),
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
            SANDWICH,
            attn_out="post_self_attn_layernorm",
            resid_mid="post_attention_layernorm",
            mlp_out="post_mlp_layernorm",
            mlp_pre="mlp.gate_up_proj",
            gate_first=True,
        ),
    ),
    Architecture("EXAONE4", "Exaone4Config", _LOCAL_THEN_FULL, POST_NORM),
    Architecture("SeedOss", "SeedOssConfig", {"head_dim": 16}),
    Architecture("Ernie4.5", "Ernie4_5Config", {"head_dim": 16, "use_bias": True}),
    Architecture("Apertus", "ApertusConfig", {}, Parts(resid_mid="feedforward_layernorm", mlp_pre="mlp.up_proj")),
    Architecture("Nemotron", "NemotronConfig", {"head_dim": 8}, Parts(mlp_pre="mlp.up_proj")),
    Architecture("GPT-Neo", "GPTNeoConfig", _NEO_SIZES, NEO, lacks=("scores",), read_only=("pattern",)),
    Architecture("GPT-J", "GPTJConfig", {"n_inner": 48, "rotary_dim": 4}, GPTJ, ("resid_mid", "scores"), ("pattern",)),
    Architecture("OPT", "OPTConfig", _OPT_SIZES, OPT, lacks=("scores",), read_only=("pattern",)),
    Architecture("Mixtral", "MixtralConfig", {"num_local_experts": 4}, EXPERTS, _NO_NEURONS),
    Architecture("OLMoE", "OlmoeConfig", {"num_experts": 4, **_MOE}, EXPERTS, _NO_NEURONS),
    Architecture("Qwen3-MoE", "Qwen3MoeConfig", {"num_experts": 4, **_MOE}, EXPERTS, _NO_NEURONS),
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
    Architecture(
        "Mamba", "MambaConfig", {"state_size": 4}, Parts(blocks="backbone.layers", embed="backbone.embeddings")
    ),
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
