"""What coders learn from, and how fast they learn: ours beside SAELens, in turn, in one process, on one thread.

Both capture the MLP inputs and outputs of the same layers of the same model over the same token ids, shuffle them in a
buffer of the same size, and hand out batches; wanted is 4 times SAELens' tokens for a CPU second. SAELens' store goes
on to the logits, so it depends on the vocabulary: that of GPT-2 is 50,257, and one of 1,000 shows the case in which
logits cost next to nothing. SAELens 6.54 has no trainer for transcoders, so its trainer learns a top-k autoencoder of
the same size on one layer's outputs, beside our transcoder of that layer on the same batches.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
import transformers
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers

from workbench.coders.training import Recipe
from workbench.coders.training.buffer import Buffer, Pairs
from workbench.coders.training.learner import Learner
from workbench.coders.training.texts import token_rows
from workbench.model import Model, load

LAYERS, D_MODEL, CONTEXT, ROWS = 2, 64, 128, 3000
VOCABULARIES = 50_257, 1_000
RECIPE = Recipe(width=512, k=16, batch=1024, buffer=16_384, steps=10_000, context=CONTEXT, spare_first=False)
BATCHES, ROUNDS, WANTED = 16, 4, 4.0


def small_model(vocabulary: int) -> Model:
    """A random GPT-2 of two layers of width 64."""
    words = ["<bos>", *(f"w{number}" for number in range(1, vocabulary))]
    built = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="w1"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=built, bos_token="<bos>", eos_token="<bos>")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=LAYERS, n_embd=D_MODEL, n_head=4, n_positions=CONTEXT, vocab_size=vocabulary, initializer_range=0.1
    )
    return load(transformers.GPT2LMHeadModel(config).eval(), tokenizer=tokenizer)


def their_batches(model: Model, ids: torch.Tensor) -> Iterator[dict[str, torch.Tensor]]:
    """Batches out of SAELens' multi-hook store, from ids that are tokens already."""
    from sae_lens.training.activations_store import ActivationsStore

    hooks = [f"blocks.{layer}.mlp.hook_{end}" for layer in range(LAYERS) for end in ("in", "out")]
    store = ActivationsStore.from_config_multi_hook(
        model.bridge,
        dataset=Dataset.from_dict({"tokens": ids.tolist()}),
        hook_names=hooks,
        hook_d_ins=dict.fromkeys(hooks, D_MODEL),
        streaming=False,
        context_size=CONTEXT,
        n_batches_in_buffer=RECIPE.buffer // CONTEXT,
        total_training_tokens=1000,
        store_batch_size_prompts=32,
        train_batch_size_tokens=RECIPE.batch,
        device="cpu",
    )
    return store.get_multi_hook_data_loader()


def our_batches(model: Model, ids: torch.Tensor) -> Iterator[dict[int, Pairs]]:
    """Batches out of our buffer."""
    buffer = Buffer(model, token_rows(model, ids, CONTEXT), range(LAYERS), RECIPE)
    return (buffer.at(step) for step in range(RECIPE.steps))


def their_step(pairs: Pairs) -> Callable[[], object]:
    """One step of SAELens' trainer for a top-k autoencoder."""
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=D_MODEL, d_sae=RECIPE.width, k=RECIPE.k))
    samples = RECIPE.steps * RECIPE.batch
    settings: dict[str, Any] = {"total_training_samples": samples, "train_batch_size_samples": RECIPE.batch}
    settings |= {"lr": RECIPE.rate, "lr_end": RECIPE.rate, "device": "cpu", "autocast": False}
    settings |= {"lr_scheduler_name": "constant", "lr_warm_up_steps": 0, "adam_beta1": 0.9, "adam_beta2": 0.999}
    settings |= {
        "lr_decay_steps": 0,
        "n_restart_cycles": 1,
        "dead_feature_window": 1000,
        "feature_sampling_window": 2000,
    }
    settings |= {"logger": log_nothing(), "n_checkpoints": 0, "checkpoint_path": None, "save_final_checkpoint": False}
    trainer = SAETrainer(cfg=SAETrainerConfig(**settings), sae=sae, data_provider=iter(()))
    return lambda: trainer._train_step(sae=sae, sae_in=pairs.y)


def log_nothing() -> Any:
    """SAELens' settings without Weights & Biases."""
    from sae_lens import LoggingConfig

    return LoggingConfig(log_to_wandb=False)


def rate(work: Callable[[], object], times: int) -> float:
    """Tokens for a CPU second."""
    start = time.process_time()
    for _ in range(times):
        work()
    return times * RECIPE.batch / (time.process_time() - start)


def measure(works: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """The median of some rounds, in turn, after one to warm up."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(ROUNDS + 1):
        for name, work in works.items():
            seen = rate(work, times)
            if turn:
                found[name].append(seen)
    return {name: median(rates) for name, rates in found.items()}


def show(title: str, rates: dict[str, float]) -> float:
    """Print two rates; returns the second over the first."""
    (theirs, slow), (ours, fast) = rates.items()
    print(f"{title}\n  {theirs:<44}{slow:>10,.0f} tokens / CPU s\n  {ours:<44}{fast:>10,.0f} tokens / CPU s", end="")
    print(f"   {fast / slow:.1f} x")
    return fast / slow


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for vocabulary in VOCABULARIES:
        model = small_model(vocabulary)
        ids = torch.randint(1, vocabulary, (ROWS, CONTEXT), generator=torch.Generator().manual_seed(0))
        ids[:, 0] = 0
        theirs, ours = their_batches(model, ids), our_batches(model, ids)
        captures = {"SAELens' multi-hook store": partial(next, theirs), "our buffer": partial(next, ours)}
        title = f"MLP inputs and outputs of {LAYERS} layers, shuffled; {vocabulary:,} tokens in the vocabulary"
        gained = show(title, measure(captures, BATCHES))
        print(f"  wanted {WANTED:.0f} x: {'met' if gained >= WANTED else 'MISSED'}")
    pairs = next(ours)[1]
    learner = Learner(RECIPE, 1, pairs)
    steps = {"SAELens' trainer, top-k autoencoder": their_step(pairs), "our learner": partial(learner.learn, pairs)}
    show(f"one step, {RECIPE.width} features, k {RECIPE.k}", measure(steps, BATCHES))
    learners = {layer: Learner(RECIPE, layer, one) for layer, one in next(ours).items()}

    def whole() -> None:
        for layer, one in next(ours).items():
            learners[layer].learn(one)

    rates = measure({"whole": whole}, BATCHES)
    print(f"ours from ids to {LAYERS} trained layers: {rates['whole']:,.0f} tokens / CPU s")


if __name__ == "__main__":
    main()
