"""A sparse autoencoder that learns in SAELens' own trainer; only the activations, and when to stop, come from here.

SAELens is shown activations about their mean, scaled to a mean length of the root of their width (as its own
`expected_average_only_in` does without the mean), so that rates and payments mean the same at every site, and a
stream whose mean is far longer than what varies is no hindrance. Mean and scale are taken into the finished weights.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.coders.coder import Transcoder
from workbench.coders.hooks import hook_of
from workbench.coders.saelens import convert, quiet
from workbench.coders.training.buffer import Pairs
from workbench.coders.training.recipe import SAERecipe

_MOMENTS = ("exp_avg", "exp_avg_sq")


class AutoencoderLearner:
    """An autoencoder of one layer, and SAELens' `SAETrainer`.

    Args:
        recipe: what to train.
        model: the name of the model, for the files.
        layer: where the coder stands.
        seen: what it reads, for the mean and the scale.
    """

    def __init__(self, recipe: SAERecipe, model: str, layer: int, seen: Pairs) -> None:
        self.layer = layer
        self._centre = seen.x.mean(0)
        length = (seen.x - self._centre).norm(dim=1).mean()
        self._scale = torch.where(length > 0, seen.x.shape[1] ** 0.5 / length, torch.ones_like(length))
        self._trainer = _trainer(recipe, model, layer, seen)
        self._sums = torch.zeros(3, device=seen.x.device)  # missed, active and loss, since they were told
        self._summed = 0

    @property
    def step(self) -> int:
        """How many steps were taken."""
        return self._trainer.n_training_steps

    def learn(self, pairs: Pairs) -> Float[Tensor, ""]:
        """Let SAELens take one step on a batch; returns the share of variance that was missed before it."""
        taken = self._trainer.step((pairs.x - self._centre) * self._scale)
        self._trainer.n_training_steps += 1
        with torch.no_grad():
            variance = (taken.sae_in - taken.sae_in.mean(0)).square().sum().clamp_min(1e-12)
            missed = (taken.sae_in - taken.sae_out).square().sum() / variance
            active = (taken.feature_acts != 0).sum() / len(pairs.x)
            self._sums += torch.stack([missed, active, taken.loss.detach()])
        self._summed += 1
        return missed

    def seen(self) -> dict[str, float]:
        """Since this was last asked for: mean share missed, L0 and loss; and the share of dead features now."""
        missed, active, loss = (self._sums / max(1, self._summed)).tolist()
        self._sums.zero_()
        self._summed = 0
        dead = float(self._trainer.dead_neurons.float().mean())
        return {"missed": missed, "l0": active, "dead": dead, "loss": loss}

    def finished(self) -> Transcoder:
        """The coder as it is now, on activations as they are: what SAELens would save, as ours."""
        from sae_lens import SAE

        with quiet():
            sae = deepcopy(self._trainer.sae).cpu()
            sae.fold_activation_norm_scaling_factor(float(self._scale))
            sae.b_dec.data += self._centre.cpu()  # SAELens takes b_dec from what it reads, and adds it at the end
            weights = sae.state_dict()
            sae.process_state_dict_for_saving_inference(weights)
            found = SAE.from_dict(sae.cfg.get_inference_sae_cfg_dict() | {"device": "meta"})  # draws no first weights
            found.load_state_dict(weights, assign=True)
            return convert(found, f"layer {self.layer}")[0]

    def dump(self) -> dict[str, Tensor]:
        """Everything that the next step depends on."""
        trainer = self._trainer
        tensors = {f"weight/{name}": weight for name, weight in trainer.sae.state_dict().items()}
        for name, weight in trainer.sae.named_parameters():
            state = trainer.optimizer.state.get(weight, {})
            tensors |= {f"{moment}/{name}": state[moment] for moment in _MOMENTS if moment in state}
        idle = trainer.n_forward_passes_since_fired
        rest = {"centre": self._centre, "scale": self._scale, "idle": idle, "sums": self._sums}
        return tensors | rest | {"step": torch.tensor(self.step), "summed": torch.tensor(self._summed)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to where `dump` was called; the schedules of SAELens are run up to there."""
        trainer, step = self._trainer, int(tensors["step"])
        sae = trainer.sae
        sae.load_state_dict({name: tensors[f"weight/{name}"] for name in sae.state_dict()})
        for name, weight in sae.named_parameters() if step else ():
            moments = {moment: tensors[f"{moment}/{name}"].to(weight) for moment in _MOMENTS}
            trainer.optimizer.state[weight] = {"step": torch.tensor(float(step)), **moments}
        with quiet():  # a schedule says that it comes before its optimiser
            for schedule in (trainer.lr_scheduler, *trainer.coefficient_schedulers.values()):
                for _ in range(step):
                    schedule.step()
        trainer.n_forward_passes_since_fired.copy_(tensors["idle"])
        trainer.n_training_steps, trainer.n_training_samples = step, step * trainer.cfg.train_batch_size_samples
        for name in ("centre", "scale", "sums"):
            getattr(self, f"_{name}").copy_(tensors[name])
        self._summed = int(tensors["summed"])


def _trainer(recipe: SAERecipe, model: str, layer: int, seen: Pairs) -> Any:
    """SAELens' trainer of an autoencoder before its first step; the random numbers of others are left alone."""
    with quiet():
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.registry import get_sae_training_class
        from sae_lens.saes.sae import SAEMetadata
        from sae_lens.training.sae_trainer import SAETrainer

        sae_class, settings_class = get_sae_training_class(recipe.architecture)
        settings = settings_class(
            d_in=seen.x.shape[1],
            d_sae=recipe.width,
            metadata=SAEMetadata(model_name=model, hook_name=f"blocks.{layer}.{hook_of(recipe.site)}"),
            **_sparsity(recipe),
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(recipe.seed * 1009 + layer)
            sae = sae_class(settings)
        plan = SAETrainerConfig(
            total_training_samples=recipe.steps * recipe.batch,
            train_batch_size_samples=recipe.batch,
            lr=recipe.rate,
            lr_end=recipe.rate,
            lr_warm_up_steps=recipe.steps // 20,
            lr_decay_steps=recipe.steps // 5,
            device=str(seen.x.device),
            dead_feature_window=max(1, recipe.dead_after // recipe.batch),
            logger=LoggingConfig(log_to_wandb=False),
        )
        return SAETrainer(plan, sae.to(seen.x.device), iter(()))


def _sparsity(recipe: SAERecipe) -> dict[str, Any]:
    """How sparse it is to be, in the words of SAELens."""
    if recipe.architecture in ("topk", "batchtopk"):
        return {"k": recipe.k}
    norm = "l1" if recipe.architecture == "standard" else "l0"
    return {f"{norm}_coefficient": recipe.sparsity, f"{norm}_warm_up_steps": recipe.steps // 20}
