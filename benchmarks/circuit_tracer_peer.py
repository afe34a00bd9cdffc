"""One attribution graph by circuit-tracer 0.5, in its own environment: the other side of bench_circuit_tracer.

It reads a folder that bench_circuit_tracer wrote (a model, transcoders, token ids) and writes its graph, what it
prunes, its scores and what that took. Nothing of the workbench is imported here.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from circuit_tracer import attribute
from circuit_tracer.graph import compute_graph_scores, prune_graph
from circuit_tracer.replacement_model.replacement_model_transformerlens import TransformerLensReplacementModel
from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set
from memory import largest_memory
from safetensors.torch import save_file
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


class KeepsItsTables(TransformerLensReplacementModel):
    """Without the sharing of rotary tables between layers, which makes the logits of Gemma 3 wrong by 8."""

    def _deduplicate_attention_buffers(self) -> None:
        pass


def build(work: Path, about: dict[str, Any]) -> TransformerLensReplacementModel:
    """The model with its transcoders."""
    files = {layer: str(work / "coders" / f"layer_{layer}.safetensors") for layer in range(about["layers"])}
    coders = load_transcoder_set(
        files, "bench", "mlp.hook_in", "hook_mlp_out", device=torch.device("cpu"), lazy_encoder=False
    )
    words = json.loads((Path(about["model"]) / "tokenizer_config.json").read_text())
    special = {name: words[name] for name in ("bos_token", "pad_token", "unk_token", "eos_token") if words.get(name)}
    special |= {"name_or_path": about["model"], "add_bos_token": True}  # else TransformerLens would load it anew
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(Path(about["model"]) / "tokenizer.json"), **special)
    twin = AutoModelForCausalLM.from_pretrained(about["model"], dtype=torch.float32)
    if about["name"]:
        return KeepsItsTables.from_pretrained_and_transcoders(
            about["name"], coders, hf_model=twin, tokenizer=tokenizer, device="cpu", dtype=torch.float32
        )
    plain = twin.config
    config = HookedTransformerConfig(
        n_layers=plain.n_layer,
        d_model=plain.n_embd,
        n_heads=plain.n_head,
        d_head=plain.n_embd // plain.n_head,
        n_ctx=plain.n_positions,
        d_vocab=plain.vocab_size,
        act_fn=plain.activation_function,
        eps=plain.layer_norm_epsilon,
        normalization_type="LN",
        model_name="bench",
        device="cpu",
    )
    model = KeepsItsTables(config, tokenizer, default_padding_side="right")
    model.load_and_process_state_dict(
        convert_gpt2_weights(twin, config), fold_ln=False, center_writing_weights=False, center_unembed=False
    )
    model._configure_replacement_model(coders)
    return model


def main(work: Path) -> None:
    torch.set_num_threads(1)
    about = json.loads((work / "about.json").read_text())
    model = build(work, about)
    built, start = time.process_time(), time.perf_counter()
    ids = torch.tensor(about["ids"])
    graph = attribute(ids, model, batch_size=about["batch"])
    seconds, wall = time.process_time() - built, time.perf_counter() - start
    assert graph.input_tokens.tolist() == about["ids"], "circuit-tracer read other tokens"
    peak = largest_memory()
    begun = time.process_time()
    nodes, edges, cumulative = prune_graph(graph, about["node_threshold"], about["edge_threshold"])
    replacement, completeness = compute_graph_scores(graph)
    pruning = time.process_time() - begun
    tensors = {
        "adjacency": graph.adjacency_matrix,
        "features": graph.active_features,
        "activations": graph.activation_values,
        "tokens": graph.logit_token_ids,
        "probabilities": graph.logit_probabilities,
        "nodes": nodes,
        "edges": edges,
        "cumulative": cumulative,
    }
    save_file({name: value.detach().contiguous() for name, value in tensors.items()}, work / "theirs.safetensors")
    told = {"built": built, "seconds": seconds, "wall": wall, "peak": peak, "pruning": pruning}
    told |= {"replacement": replacement, "completeness": completeness}
    (work / "theirs.json").write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
