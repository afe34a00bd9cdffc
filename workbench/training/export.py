"""A trained model as a Hugging Face folder: weights as fp16 safetensors beside a plain config.json."""

import json
from pathlib import Path

import torch
from safetensors.torch import save

from workbench.folders import replace_file
from workbench.sources import checkpoint_name
from workbench.training.learner import Learner


def export(learner: Learner, folder: Path, step: int | None = None) -> None:
    """Write the weights as they are now.

    Args:
        learner: whose weights.
        folder: of the model; the tokenizer is in it already.
        step: to keep these weights beside the last ones, as a checkpoint that `load(checkpoint=step)` reads.
    """
    model = learner.model
    weights = {name: tensor.to(torch.float16).cpu().contiguous() for name, tensor in model.state_dict().items()}
    del weights["lm_head.weight"]  # the embedding is used twice and kept once
    name = "model.safetensors" if step is None else f"model.{checkpoint_name(step)}.safetensors"
    replace_file(folder / name, save(weights, {"format": "pt"}))
    config = model.config.to_diff_dict()
    theta = config["rope_parameters"]["rope_theta"]  # transformers 5 reads it there, transformers 4 at the top
    config |= {"architectures": ["LlamaForCausalLM"], "torch_dtype": "float16", "rope_theta": theta}
    config = {key: value for key, value in config.items() if key not in ("dtype", "transformers_version")}
    replace_file(folder / "config.json", (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
