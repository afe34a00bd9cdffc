"""The model that learns, its optimiser, and one step of both; all of it can be written down and read back."""

import json
from typing import Any

import torch
import transformers
from jaxtyping import Int
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from workbench.training.recipe import Recipe

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Learner:
    """A Llama and AdamW.

    Attributes:
        model: the Hugging Face model, in fp32.
        step: how many steps were taken.
        compiled: whether the model is compiled.
    """

    def __init__(self, recipe: Recipe, vocabulary: int, device: torch.device, compiled: bool = False):
        self.recipe = recipe
        self.step = 0
        self.compiled = compiled
        self._device = device
        self.model = new_model(recipe, vocabulary).to(device)
        matrices = [weight for weight in self.model.parameters() if weight.ndim > 1]
        others = [weight for weight in self.model.parameters() if weight.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}]
        self._optimiser = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), fused=True)
        self._run: Any = torch.compile(self.model) if compiled else self.model

    def learn(self, rows: Int[Tensor, "row pos"]) -> float:
        """Take one step on some rows and return their mean loss in nats per token."""
        rows = rows.to(self._device)
        for group in self._optimiser.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        with torch.autocast(self._device.type, torch.bfloat16):
            logits = self._run(rows[:, :-1], use_cache=False).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return float(loss.detach())

    def dump(self) -> bytes:
        """Weights, moments and step: all that the next step depends on."""
        tensors = {f"weight/{name}": weight.detach() for name, weight in self.model.named_parameters()}
        for name, weight in self.model.named_parameters():
            state = self._optimiser.state.get(weight, {})
            tensors |= {f"{moment}/{name}": state[moment] for moment in _MOMENTS if moment in state}
        return save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, {"step": str(self.step)})

    def restore(self, file: str) -> None:
        """Go back to where `dump` was called.

        Raises:
            ValueError: the file belongs to a model of another size.
        """
        with safe_open(file, framework="pt") as opened:
            self.step = json.loads(opened.metadata()["step"])
            found = set(opened.keys())
            for name, weight in self.model.named_parameters():
                key = f"weight/{name}"
                if key not in found or list(weight.shape) != opened.get_slice(key).get_shape():
                    raise ValueError(
                        f"{file} belongs to a model of another size: {name} does not fit; use another --out"
                    )
                with torch.no_grad():
                    weight.copy_(opened.get_tensor(key))
                if self.step:
                    self._optimiser.state[weight] = self._moments(opened, name)

    def _moments(self, opened: Any, name: str) -> dict[str, Tensor]:
        moments = {moment: opened.get_tensor(f"{moment}/{name}").to(self._device) for moment in _MOMENTS}
        return {"step": torch.tensor(float(self.step), device=self._device), **moments}


def new_model(recipe: Recipe, vocabulary: int) -> transformers.LlamaForCausalLM:
    """An untrained Llama with the first weights of the recipe's seed; the global random state stays as it was.

    All tokens share one random vector. A head that looks at positions alone, such as a previous-token head, needs
    something constant to read, and no bias of a Llama gives it. The logits do not feel it, because it adds the same
    to every one of them.
    """
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.width,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = transformers.LlamaForCausalLM(config)
        with torch.no_grad():
            model.model.embed_tokens.weight.add_(config.initializer_range * torch.randn(recipe.width))
    return model
