"""The oracle of attribution graphs: a plain Hugging Face model, frozen with hooks, and autograd through it.

It shares nothing with the workbench but the weights of the transcoders. Patterns and norm scales are detached,
and each MLP writes leaves instead: features, an error, and at the first position its output.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from unittest.mock import patch

import torch
from architectures import SERVED
from torch import Tensor


@dataclass
class FrozenTwin:
    """A plain model whose MLPs are replaced; `leaves` are what gradients are taken of."""

    name: str
    model: object
    coders: object
    leaves: dict = field(default_factory=dict)
    read: dict = field(default_factory=dict)
    logits: Tensor | None = None

    def run(self, ids, shifts=None, detached=True):
        """One pass. `shifts` adds to feature values by (layer, pos, feature), with everything else held."""
        self.shifts = shifts or {}
        parts = next(one for one in SERVED if one.name == self.name).parts
        softmax = torch.nn.functional.softmax
        modules = dict(self.model.named_modules())
        with ExitStack() as stack:
            stack.enter_context(
                patch("torch.nn.functional.softmax", lambda *args, **kwargs: self._held(softmax(*args, **kwargs)))
            )
            self.held, self.turn = getattr(self, "held", []), 0
            self.filling = not self.held
            hooked = [(m, self._norm) for m in modules.values() if "Norm" in type(m).__name__]
            for layer in self.coders:
                path = f"{parts.blocks}.{layer}"
                reader = modules[f"{path}.{parts.mlp_in}"]
                stack.callback(reader.register_forward_pre_hook(self._reader(layer)).remove)
                hooked.append((modules[f"{path}.{parts.mlp_out}"], self._writer(layer)))
            hooked.append((modules[parts.embed], self._leaf("token")))
            if "transformer.wpe" in modules:
                hooked.append((modules["transformer.wpe"], self._leaf("position")))
            hooked.append((self.model.get_output_embeddings(), self._keep_logits))
            # what replaces an MLP's output stands behind the norm of that output, so it must be hooked after it
            for module, hook in hooked:
                stack.callback(module.register_forward_hook(hook).remove)
            self.model(torch.tensor([ids]), use_cache=False)
        return self

    def _held(self, value):
        """Something that is computed once and held in every later pass."""
        if self.filling:
            self.held.append(value.detach())
        self.turn += 1
        return self.held[self.turn - 1]

    def _norm(self, module, args, out):
        x, gain = args[0], getattr(module, "weight", None)
        if gain is None or (type(module).__name__ != "LayerNorm" and x.shape[-1] != self.model.config.hidden_size):
            return None
        if type(module).__name__ == "LayerNorm":
            scale = self._held((x.var(-1, correction=0, keepdim=True) + module.eps).rsqrt())
            return gain * (x - x.mean(-1, keepdim=True)) * scale + module.bias
        ratio = self._held(out / x)
        return x * ratio

    def _reader(self, layer):
        def read(_module, args):
            self.read[layer] = args[0][0]

        return read

    def _writer(self, layer):
        def write(_module, _args, out):
            coder, x, y = self.coders[layer], self.read[layer], out[0]
            if self.filling:
                values = coder.encode(x).detach()
                values[0] = 0
                self.leaves["feature", layer] = values.requires_grad_()
            writes = self._written(layer) + coder.b_dec
            if coder.w_skip is not None:
                writes = writes + x @ coder.w_skip.T
            if self.filling:
                self.leaves["error", layer] = (y - writes).detach()[1:].requires_grad_()
                self.leaves["first", layer] = y.detach()[0].requires_grad_()
            made = torch.cat([self.leaves["first", layer][None], writes[1:] + self.leaves["error", layer]])
            return made[None]

        return write

    def _written(self, layer):
        total = 0.0
        for source in self.coders:
            decoder = self.coders[source].decoder_to(layer)
            if source <= layer and decoder is not None:
                values = self.leaves["feature", source]
                for (place, pos, feature), shift in self.shifts.items():
                    if place == source:
                        values = values + torch.zeros_like(values).index_put_(
                            (torch.tensor(pos), torch.tensor(feature)), torch.tensor(shift).to(values)
                        )
                total = total + values @ decoder
        return total

    def _leaf(self, kind):
        def keep(_module, _args, out):
            if self.filling:
                self.leaves[kind, None] = out.detach().requires_grad_()
            return self.leaves[kind, None]

        return keep

    def _keep_logits(self, _module, _args, out):
        self.logits = out[0]

    def value(self, layer, pos, feature):
        """A pre-activation, or for layer None a logit above the mean of the vocabulary."""
        if layer is None:
            return self.logits[pos, feature] - self.logits[pos].mean()
        coder = self.coders[layer]
        return self.read[layer][pos] @ coder.w_enc[feature] + coder.b_enc[feature]

    def row(self, layer, pos, feature):
        """What each leaf adds to a value: its gradient times itself, by (kind, layer)."""
        names = list(self.leaves)
        value = self.value(layer, pos, feature)
        grads = torch.autograd.grad(value, [self.leaves[name] for name in names], allow_unused=True, retain_graph=True)
        shares = {}
        for name, grad in zip(names, grads, strict=True):
            leaf = self.leaves[name].detach()
            shares[name] = leaf * (torch.zeros_like(leaf) if grad is None else grad)
        return shares, float(value.detach())
