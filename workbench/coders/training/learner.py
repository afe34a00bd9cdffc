"""One coder that learns: its weights, its loss, its optimiser; all of it can be written down and read back.

It learns on inputs about their mean, and on inputs and outputs whose mean square about their mean is 1; mean and
scales are taken into the finished weights.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from workbench.coders.coder import Transcoder, folded
from workbench.coders.training.buffer import Pairs
from workbench.coders.training.recipe import Recipe
from workbench.coders.training.thresholds import count_active, jump

Predicted = tuple[Float[Tensor, "token d_out"], Float[Tensor, ""], Bool[Tensor, " feature"], Int[Tensor, ""]]
"""A prediction, what its sparsity costs, which features were active on some token, and how often all of them were."""

_MOMENTS = ("exp_avg", "exp_avg_sq")
_TEACH_DEAD = 1 / 32
"""The weight of what dead features are taught (Gao et al. 2024, arXiv:2406.04093, appendix A.2)."""

_FIRST_THRESHOLD = 0.1


class Learner:
    """A transcoder of one layer and Adam.

    Args:
        recipe: what to train.
        layer: where the coder stands.
        seen: inputs and outputs, for their scale and the mean output.
    """

    def __init__(self, recipe: Recipe, layer: int, seen: Pairs) -> None:
        self._recipe, self.layer = recipe, layer
        self.step = 0
        self._centre = seen.x.mean(0)
        self._scales = torch.stack([_scale(seen.x), _scale(seen.y)])
        self._weights = _first_weights(recipe, layer, seen, self._scales[1])
        self._idle = torch.zeros(recipe.width, device=seen.x.device)  # tokens since each feature was active
        self._sums = torch.zeros(2, device=seen.x.device)  # shares missed and features active, since they were told
        self._summed = 0
        self._optimiser = torch.optim.Adam(self._weights.values(), lr=recipe.rate, betas=(0.9, 0.999), fused=True)

    def learn(self, pairs: Pairs) -> Float[Tensor, ""]:
        """Take one step on a batch; returns the share of the output's variance that was missed before it."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._recipe.rate_at(self.step)
        x, y = (pairs.x - self._centre) * self._scales[0], pairs.y * self._scales[1]
        coder = self._coder()
        pre = coder.pre(x)
        predict = self._predict_few if coder.activation == "topk" and x.device.type == "cpu" else self._predict
        said, payment, fired, active = predict(coder, pre, x)
        gap = y - said
        variance = (y - y.mean(0)).square().sum().clamp_min(1e-12)
        missed = gap.square().sum() / variance
        loss = missed + payment + self._teach_dead(coder, pre, gap, variance)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        self._idle = torch.where(fired, 0, self._idle + len(x))
        self._sums += torch.stack([missed.detach(), active / len(x)])
        self._summed += 1
        self.step += 1
        return missed.detach()

    def seen(self) -> dict[str, float]:
        """Since this was last asked for: mean share of variance missed, and L0; and the share of dead features now."""
        missed, active = (self._sums / max(1, self._summed)).tolist()
        self._sums.zero_()
        self._summed = 0
        return {"missed": missed, "l0": active, "dead": float((self._idle > self._recipe.dead_after).float().mean())}

    def finished(self) -> Transcoder:
        """The coder as it is now, on activations as they are."""
        scaled = {name: value.detach().clone() for name, value in self._coder().tensors.items()}
        into, out = self._scales
        scaled["w_enc"] *= into
        scaled["b_enc"] = folded(scaled["b_enc"], scaled["w_enc"], self._centre)
        for name in ("w_dec", "b_dec"):
            scaled[name] /= out
        if "w_skip" in scaled:
            scaled["w_skip"] *= into / out
            scaled["b_dec"] = folded(scaled["b_dec"], scaled["w_skip"], self._centre)
        return self._built(scaled)

    def dump(self) -> dict[str, Tensor]:
        """Everything that the next step depends on."""
        tensors = {f"weight/{name}": weight.detach() for name, weight in self._weights.items()}
        for name, weight in self._weights.items():
            state = self._optimiser.state.get(weight, {})
            tensors |= {f"{moment}/{name}": state[moment] for moment in _MOMENTS if moment in state}
        rest = {"centre": self._centre, "scales": self._scales, "idle": self._idle, "sums": self._sums}
        rest |= {"step": torch.tensor(self.step), "summed": torch.tensor(self._summed)}
        return tensors | rest

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to where `dump` was called."""
        self.step, self._summed = int(tensors["step"]), int(tensors["summed"])
        for name in ("centre", "scales", "idle", "sums"):
            getattr(self, f"_{name}").copy_(tensors[name])
        for name, weight in self._weights.items():
            with torch.no_grad():
                weight.copy_(tensors[f"weight/{name}"])
            if self.step:
                moments = {moment: tensors[f"{moment}/{name}"].to(weight) for moment in _MOMENTS}
                self._optimiser.state[weight] = {"step": torch.tensor(float(self.step)).to(weight), **moments}

    @property
    def _threshold(self) -> Float[Tensor, " feature"]:
        """The thresholds, none of them below 0."""
        return self._weights["threshold"].relu()

    def _coder(self) -> Transcoder:
        tensors = dict(self._weights)
        if "threshold" in tensors:
            tensors["threshold"] = self._threshold
        return self._built(tensors)

    def _built(self, tensors: Mapping[str, Tensor]) -> Transcoder:
        k = self._recipe.k if self._recipe.activation == "topk" else None
        return Transcoder(
            layer=self.layer,
            w_enc=tensors["w_enc"],
            b_enc=tensors["b_enc"],
            w_dec=tensors["w_dec"],
            b_dec=tensors["b_dec"],
            activation=self._recipe.activation,
            k=k,
            threshold=tensors.get("threshold"),
            w_skip=tensors.get("w_skip"),
        )

    def _predict(
        self, coder: Transcoder, pre: Float[Tensor, "token feature"], x: Float[Tensor, "token d_in"]
    ) -> Predicted:
        """Encode and decode by all features."""
        z = jump(pre, self._threshold, self._recipe.bandwidth) if "threshold" in self._weights else coder.activate(pre)
        active = z != 0
        return coder.decode(z, x), self._payment(coder, pre, z), active.any(0), active.sum()

    def _predict_few(
        self, coder: Transcoder, pre: Float[Tensor, "token feature"], x: Float[Tensor, "token d_in"]
    ) -> Predicted:
        """The same for top-k, from the k decoder rows of each token alone: on a CPU, a step in half the time."""
        values, places = coder.strongest(pre.relu())
        written = embedding_bag(places, coder.w_dec, per_sample_weights=values, mode="sum")
        fired = torch.zeros(coder.width, dtype=torch.bool, device=x.device)
        fired[places[values > 0]] = True
        return coder.completed(written, x), values.new_zeros(()), fired, (values > 0).sum()

    def _payment(
        self, coder: Transcoder, pre: Float[Tensor, "token feature"], z: Float[Tensor, "token feature"]
    ) -> Float[Tensor, ""]:
        """What sparsity costs; nothing for top-k, which has it by construction."""
        if coder.activation == "relu":
            return self._recipe.sparsity * (z * coder.w_dec.norm(dim=1)).sum(-1).mean()
        if coder.activation == "jumprelu":
            active = count_active(pre, self._threshold, self._recipe.bandwidth)
            return self._recipe.sparsity * active.sum(-1).mean()
        return z.new_zeros(())

    def _teach_dead(
        self,
        coder: Transcoder,
        pre: Float[Tensor, "token feature"],
        gap: Float[Tensor, "token d_out"],
        variance: Float[Tensor, ""],
    ) -> Float[Tensor, ""]:
        """The error of the dead features in predicting what the living ones miss."""
        dead: Bool[Tensor, " feature"] = self._idle > self._recipe.dead_after
        count = int(dead.sum())
        if not count:
            return gap.new_zeros(())
        k = min(coder.d_out // 2, count)
        best = pre.masked_fill(~dead, -torch.inf).topk(k, dim=-1)
        z = torch.zeros_like(pre).scatter(-1, best.indices, best.values)
        missed = (gap.detach() - z @ coder.w_dec).square().sum() / variance
        return _TEACH_DEAD * min(count / (coder.d_out // 2), 1.0) * missed


def _scale(values: Float[Tensor, "token width"]) -> Float[Tensor, ""]:
    """The factor that brings values about their mean to a mean square of 1; 1 where they do not vary."""
    size = (values - values.mean(0)).square().mean().sqrt()
    return torch.where(size > 0, 1 / size.clamp_min(1e-30), torch.ones_like(size))


def _first_weights(recipe: Recipe, layer: int, seen: Pairs, scale: Tensor) -> dict[str, Tensor]:
    """Encoder rows of random directions, a decoder of zeros (as in sparsify), and the mean output as its bias."""
    device, d_in, d_out = seen.x.device, seen.x.shape[1], seen.y.shape[1]
    generator = torch.Generator().manual_seed(recipe.seed * 1009 + layer)
    rows = torch.randn(recipe.width, d_in, generator=generator)
    weights = {
        "w_enc": rows / rows.norm(dim=1, keepdim=True),
        "b_enc": torch.zeros(recipe.width),
        "w_dec": torch.zeros(recipe.width, d_out),
        "b_dec": seen.y.mean(0) * scale,
    }
    if recipe.activation == "relu":  # a decoder of zeros would leave nothing to pay for, and nothing to learn from
        weights["w_dec"] = 0.1 * torch.randn(recipe.width, d_out, generator=generator) / d_out**0.5
    if recipe.activation == "jumprelu":
        weights["threshold"] = torch.full((recipe.width,), _FIRST_THRESHOLD)
    if recipe.skip:
        weights["w_skip"] = torch.zeros(d_out, d_in)
    return {name: value.to(device=device, dtype=torch.float32).requires_grad_() for name, value in weights.items()}
