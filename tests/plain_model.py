"""A Hugging Face model that the workbench has never touched, captured and changed with plain PyTorch hooks.

The second witness of the tests: it shares no code with the workbench, and knows from
`parts.Parts` which module's input or output each activation is.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from architectures import LENGTH
from parts import Parts
from torch import Tensor


@dataclass(frozen=True)
class PlainModel:
    """A Hugging Face model that the workbench has never touched, and its parts."""

    model: Any
    parts: Parts
    layers: int
    heads: int
    kv_heads: int

    def part(self, layer: int, name: str) -> Any:
        """A module of a block."""
        return self.model.get_submodule(f"{self.parts.blocks}.{layer}.{name}")

    def values(self, ids: Tensor) -> tuple[dict[tuple[str, int | None], Tensor], Tensor]:
        """Every activation by (kind, layer), and the logits, from plain PyTorch hooks."""
        seen: dict[tuple[str, int | None], Tensor] = {}
        scores: list[Tensor] = []
        softmax = torch.nn.functional.softmax

        def seeing_softmax(value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if value.ndim == 4 and value.shape[-2:] == (ids.shape[1], ids.shape[1]):
                scores.append(value.clone())
            return softmax(value, *args, **kwargs)

        with ExitStack() as stack, torch.no_grad():
            for handle in self._hooks(seen):
                stack.callback(handle.remove)
            stack.enter_context(patch("torch.nn.functional.softmax", seeing_softmax))
            output = self.model(ids, use_cache=False, output_attentions=True)
        for layer, (pattern, score) in enumerate(zip(output.attentions, scores, strict=True)):
            seen["pattern", layer], seen["scores", layer] = pattern, score
        return seen, output.logits

    def _hooks(self, seen: dict[tuple[str, int | None], Tensor]) -> list[Any]:
        parts = self.parts

        def keep(
            kind: str, layer: int | None, side: str, change: Callable[[Tensor], Tensor] = lambda value: value
        ) -> Any:
            def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any = None) -> None:
                value = output if side == "output" else args[0] if args else kwargs["hidden_states"]
                value = value[0] if isinstance(value, tuple) else value
                value = value.view(-1, LENGTH, value.shape[-1])  # OPT flattens batch and position
                seen[kind, layer] = change(value).clone()

            path = parts.embed if layer is None else f"{parts.blocks}.{layer}"
            name = "" if kind in ("embed", "resid_pre", "resid_post") else getattr(parts, kind, None)
            module = self.model.get_submodule(f"{path}.{name}" if name else path)
            if side == "input":
                return module.register_forward_pre_hook(hook, with_kwargs=True)
            return module.register_forward_hook(hook, with_kwargs=True)

        hooks = [keep("embed", None, "output")]
        for layer in range(self.layers):
            hooks += [keep("resid_pre", layer, "input"), keep("resid_post", layer, "output")]
            hooks += [keep("z", layer, "input", lambda value: value.unflatten(-1, (self.heads, -1)))]
            hooks += [keep("mlp_in", layer, "input")]
            hooks += [
                keep(kind, layer, "output", lambda value: value * parts.scale) for kind in ("attn_out", "mlp_out")
            ]
            if parts.resid_mid:
                hooks += [keep("resid_mid", layer, "input")]
            if parts.mlp_post:
                hooks += [keep("mlp_post", layer, "input"), keep("mlp_pre", layer, "output", self._gate)]
            hooks += self._projections(seen, layer)
        return hooks

    def _gate(self, value: Tensor) -> Tensor:
        return value.chunk(2, dim=-1)[0] if self.parts.gate_first else value

    def _projections(self, seen: dict[tuple[str, int | None], Tensor], layer: int) -> list[Any]:
        def keep_fused(_module: Any, _args: Any, output: Tensor) -> None:
            size = output.shape[-1] // (self.heads + 2 * self.kv_heads)
            found = self.parts.split(output, self.heads, self.kv_heads, size)
            for kind, value in zip("qkv", found, strict=True):
                seen[kind, layer] = value.clone()

        if self.parts.split:
            return [self.part(layer, self.parts.qkv[0]).register_forward_hook(keep_fused)]

        def keep(kind: str, count: int) -> Callable[..., None]:
            def hook(_module: Any, _args: Any, output: Tensor) -> None:
                seen[kind, layer] = output.unflatten(-1, (count, -1)).clone()

            return hook

        counts = (self.heads, self.kv_heads, self.kv_heads)
        return [
            self.part(layer, name).register_forward_hook(keep(kind, count))
            for kind, name, count in zip("qkv", self.parts.qkv, counts, strict=True)
        ]

    def logits_with(self, ids: Tensor, kind: str, layer: int, change: Callable[[Tensor], Tensor]) -> Tensor:
        """The logits after one change to an activation, made with plain PyTorch hooks."""
        hooks = self._changing(kind, layer, change)
        try:
            with torch.no_grad():
                return self.model(ids, use_cache=False).logits
        finally:
            for hook in hooks:
                hook.remove()

    def _changing(self, kind: str, layer: int, change: Callable[[Tensor], Tensor]) -> list[Any]:
        if kind in ("z", "mlp_post"):

            def changed_input(_module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                return (change(args[0]), *args[1:])

            return [self.part(layer, getattr(self.parts, kind)).register_forward_pre_hook(changed_input)]
        scale, entering = self.parts.scale, []

        def remember(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            entering[:] = [args[0] if args else kwargs["hidden_states"]]

        def changed_output(_module: Any, _args: Any, output: Any) -> Any:
            value = output[0] if isinstance(output, tuple) else output
            skipped = entering[0] if kind == "resid_mid" else 0.0  # what passes by the branch is changed with it
            new = (change(skipped + value * scale) - skipped) / scale
            return (new, *output[1:]) if isinstance(output, tuple) else new

        branch = self.part(layer, self.parts.mlp_out if kind == "mlp_out" else self.parts.attn_out)
        block = self.model.get_submodule(f"{self.parts.blocks}.{layer}")
        return [
            block.register_forward_pre_hook(remember, with_kwargs=True),
            branch.register_forward_hook(changed_output),
        ]


def plain_model(folder: Path, parts: Parts, dtype: torch.dtype = torch.float32) -> PlainModel:
    """Load a saved model by transformers alone, with the eager attention kernel."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=dtype)
    model.requires_grad_(requires_grad=False)
    return PlainModel(
        model.eval(), parts, len(model.get_submodule(parts.blocks)), heads=4, kv_heads=_kv_heads(model.config)
    )


def _kv_heads(config: Any) -> int:
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1
    for word in ("num_key_value_heads", "num_kv_heads"):
        if getattr(config, word, None):
            return int(getattr(config, word))
    return 4
