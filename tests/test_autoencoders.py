"""Autoencoders that SAELens trains on our activations: planted features come back, and every step is SAELens' own."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from coding import texts_of_planted_words
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from workbench import load, run, trace
from workbench.coders import load_coders, save_saelens
from workbench.coders.saelens import quiet
from workbench.coders.training import SAERecipe, train_sae
from workbench.coders.training.autoencoder import AutoencoderLearner, _trainer
from workbench.coders.training.buffer import Buffer, Pairs
from workbench.coders.training.texts import token_rows
from workbench.model import Model
from workbench.progress import Cancelled, listening
from workbench.prompts import Prompts

D, TRUE = 32, 40
SMALL = {"width": 24, "k": 4, "steps": 150, "batch": 256, "buffer": 1024, "rate": 1e-2, "dead_after": 20_000}
PLANTED = {
    "topk": {"k": 3},
    "batchtopk": {"k": 3},
    "jumprelu": {"sparsity": 2.0},
    "standard": {"sparsity": 1.0},
}


@pytest.fixture(scope="module")
def sparse() -> Model:
    return load("planted:sparse_mlp")


@pytest.fixture(scope="module")
def texts() -> Prompts:
    return texts_of_planted_words()


class PlantedSums:
    """Sums of a few of some unit directions, about a mean that is much longer than they are."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(7)
        rows = torch.randn(TRUE, D, generator=self.generator)
        self.directions = rows / rows.norm(dim=1, keepdim=True)
        self.mean = 5 * torch.randn(D, generator=self.generator)

    def draw(self, count: int) -> Pairs:
        active = torch.rand(count, TRUE, generator=self.generator) < 0.05
        x = (active * (0.5 + torch.rand(count, TRUE, generator=self.generator))) @ self.directions
        return Pairs(x + self.mean, x + self.mean)


def planted_recipe(architecture: str, **settings: object) -> SAERecipe:
    base = SAERecipe(width=64, steps=700, batch=256, buffer=256, rate=6e-3, dead_after=20_000)
    return replace(base, architecture=architecture, **{**PLANTED[architecture], **settings})


@pytest.mark.parametrize("architecture", PLANTED)
def test_planted_features_are_found_again(architecture: str) -> None:
    planted, recipe = PlantedSums(), planted_recipe(architecture)
    learner = AutoencoderLearner(recipe, "planted", 0, planted.draw(4096))
    for _ in range(recipe.steps):
        missed = learner.learn(planted.draw(recipe.batch))
    found = learner.finished()
    cosines = found.w_dec / found.w_dec.norm(dim=1, keepdim=True).clamp_min(1e-9) @ planted.directions.T
    best = cosines[linear_sum_assignment(-cosines.numpy())]
    fresh = planted.draw(2000).x
    gap = (fresh - found.predict(fresh)).square().sum() / (fresh - fresh.mean(0)).square().sum()
    assert float(best.mean()) > 0.95
    assert float((best > 0.9).float().mean()) > 0.9
    assert float(gap) < 0.1
    assert float(gap) == pytest.approx(float(missed), abs=0.05), "the finished coder works on activations as they are"


@pytest.mark.parametrize("architecture", PLANTED)
def test_every_step_is_that_of_saelens_own_loop(architecture: str) -> None:
    """SAELens' `fit` on the same batches, about their mean and scaled, from the same first weights."""
    planted, recipe = PlantedSums(), planted_recipe(architecture, steps=60, batch=128)
    batches = [planted.draw(recipe.batch) for _ in range(recipe.steps)]
    learner, theirs = (make(recipe, "planted", 3, batches[0]) for make in (AutoencoderLearner, _trainer))
    centre = batches[0].x.mean(0)
    scale = D**0.5 / (batches[0].x - centre).norm(dim=1).mean()
    theirs.data_provider = iter([(batch.x - centre) * scale for batch in batches])
    with quiet():
        finished = theirs.fit()
    losses = [learner.learn(batch) for batch in batches]
    for name, weight in finished.state_dict().items():
        assert torch.equal(learner._trainer.sae.state_dict()[name], weight), name
    assert losses[-1] < losses[0]
    x = planted.draw(500).x
    again = rebuilt(finished, (x - centre) * scale) / scale + centre
    torch.testing.assert_close(learner.finished().predict(x), again, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def rebuilt(sae: Any, x: Tensor) -> Tensor:
    """What SAELens' own inference class makes of activations, from the files that SAELens writes."""
    with TemporaryDirectory() as folder, quiet():
        sae.save_inference_model(folder)
        return saelens_reads(folder)(x)


def saelens_reads(folder: str | Path) -> Any:
    with quiet():
        from sae_lens import SAE

        return SAE.load_from_disk(folder)


@pytest.mark.parametrize("architecture", PLANTED)
def test_the_saved_folder_is_the_same_coder_in_saelens(sparse: Model, texts: Prompts, tmp_path, architecture) -> None:
    recipe = SAERecipe(**SMALL, site="resid_post", architecture=architecture)
    coders = train_sae(sparse, texts, recipe, layers=(1,))
    folder = save_saelens(coders, tmp_path / "coders")
    assert load_coders(folder).fingerprint == coders.fingerprint
    theirs = saelens_reads(folder / "layer_1")
    assert theirs.cfg.metadata.hook_name == "blocks.1.hook_resid_post"
    assert theirs.cfg.metadata.context_size == recipe.context
    x = trace(sparse, "stone red cat runs", "L1.resid_post")["L1.resid_post"][0]
    z = coders[1].encode(x)
    with torch.no_grad():
        torch.testing.assert_close(theirs.encode(x), z, rtol=0, atol=1e-6)
        torch.testing.assert_close(theirs(x), coders[1].decode(z, x), rtol=0, atol=1e-6)
    assert bool((z != 0).any())


@pytest.mark.parametrize("architecture", PLANTED)
def test_a_training_is_the_same_twice_and_after_a_stop(sparse: Model, texts: Prompts, tmp_path, architecture) -> None:
    recipe = SAERecipe(**SMALL | {"steps": 40, "dead_after": 300}, site="mlp_out", architecture=architecture)
    before = torch.random.get_rng_state()
    whole = train_sae(sparse, texts, recipe)
    assert torch.equal(torch.random.get_rng_state(), before), "the random numbers of others are left alone"
    torch.manual_seed(99)
    assert train_sae(sparse, texts, recipe).fingerprint == whole.fingerprint
    assert train_sae(sparse, texts, replace(recipe, seed=1)).fingerprint != whole.fingerprint
    state = tmp_path / "state.safetensors"

    def stop(done: int, total: int, label: str) -> None:
        if label == "training autoencoders" and done == 23:
            raise Cancelled

    with pytest.raises(Cancelled), listening(stop):
        train_sae(sparse, texts, recipe, state=state)
    resumed = train_sae(sparse, texts, recipe, state=state)
    assert resumed.fingerprint == whole.fingerprint
    assert resumed.card["curve"] == whole.card["curve"]
    assert list(whole) == [0, 1]


def test_more_sparsity_is_dearer() -> None:
    planted = PlantedSums()
    for architecture, dear in (("jumprelu", 20.0), ("standard", 6.0)):
        counts = []
        for sparsity in (0.05, dear):
            recipe = planted_recipe(architecture, sparsity=sparsity, steps=400)
            learner = AutoencoderLearner(recipe, "planted", 0, planted.draw(4096))
            for _ in range(recipe.steps):
                learner.learn(planted.draw(recipe.batch))
            counts.append(float((learner.finished().encode(planted.draw(2000).x) != 0).sum(-1).float().mean()))
        assert 0 < counts[1] < 0.7 * counts[0], architecture


def test_an_autoencoder_learns_from_what_its_site_shows(tiny_model: Model) -> None:
    texts = Prompts.of("w20 w31 w9", "w5 w6 w90 w12")
    rows = token_rows(tiny_model, texts, 8)
    count = sum(map(len, rows)) - 2
    for kind in ("resid_post", "attn_out", "mlp_post"):
        buffer = Buffer(tiny_model, rows, (0, 1), SAERecipe(batch=count, buffer=count, site=kind), kind, kind)
        for layer, pairs in buffer.at(0).items():
            assert pairs.x is pairs.y, "held once"
            site = f"L{layer}.{kind}"
            seen = torch.cat([trace(tiny_model, text, site)[site][0, 1:] for text in texts])
            gaps = (pairs.x[:, None] - seen[None]).abs().amax(-1)
            assert sorted(gaps.argmin(1).tolist()) == list(range(count)), "each once"
            assert float(gaps.min(1).values.max()) < 1e-3 * float(seen.abs().max())
            assert buffer.blank()[layer].x.shape == (1, seen.shape[1])


def test_sites_and_recipes_that_make_no_sense_are_refused(sparse: Model, texts: Prompts) -> None:
    for settings, sentence in (
        ({"width": 8, "k": 9, "architecture": "batchtopk"}, "top-9 of 8 features"),
        ({"width": 0}, "width 0"),
        ({"batch": 10, "buffer": 5}, "holds no batch"),
    ):
        with pytest.raises(ValueError, match=sentence):
            SAERecipe(**settings)
    for site, sentence in (("q", "a coder at q cannot be saved"), ("resid", "a coder at resid cannot be saved")):
        with pytest.raises(ValueError, match=sentence):
            train_sae(sparse, texts, SAERecipe(**SMALL, site=site))


@pytest.mark.real
def test_an_autoencoder_of_the_real_stream_keeps_most_of_the_loss(real_model: Model, tmp_path) -> None:
    """Few steps on one text over and over must learn that text, whose first position is far longer than the rest."""
    text = Prompts.of("The Eiffel Tower stands in Paris, and the Colosseum, which is far older, stands in Rome.")
    recipe = SAERecipe(width=256, k=16, steps=60, batch=20, buffer=20, rate=1e-2)
    coders = train_sae(real_model, text, recipe, layers=(6,))
    folder = save_saelens(coders, tmp_path / "sae")
    (row,) = run("transcoder_quality", real_model, text, coders=str(folder)).tables["quality"]
    assert row["explained_variance"] > 0.9
    assert row["loss_recovered"] > 0.9
    assert row["l0"] <= 16
