"""An autoencoder that copies costs nothing; every number is that of a slow road, and of SAELens's own classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from coding import D_MODEL, WIDTH, random_coder, random_coders
from torch.nn.functional import cross_entropy

from workbench.analyses.sae_features import sae_features
from workbench.coders import Transcoder, Transcoders, save_circuit_tracer, save_saelens
from workbench.model import Model, load
from workbench.prompts import Prompts
from workbench.result import Result
from workbench.tracer import trace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # SAELens' own
TEXTS = Prompts.of("w20 w31 w9 w55 w7 w8 w70", "w5 w6 w90 w12", "w3 w4 w5 w6 w7 w31 w9 w44")
PLANTED = Prompts.of("stone red cat runs", "red stone cat sleeps", "blue river flows")
SITES = ("resid_post", "resid_mid", "attn_out", "mlp_out")


@pytest.fixture(scope="module")
def sparse() -> Model:
    return load("planted:sparse_mlp")


def copying(site: str, layer: int, width: int) -> Transcoders:
    """Every number once as it is and once negated, through ReLU: nothing is lost."""
    both = torch.cat([torch.eye(width), -torch.eye(width)])
    zeros = torch.zeros(2 * width), torch.zeros(width)
    coder = Transcoder(layer=layer, w_enc=both, b_enc=zeros[0], w_dec=both, b_dec=zeros[1], read=site, write=site)
    return Transcoders("copy", {layer: coder})


def test_the_planted_features_of_a_text_are_named_and_exact(sparse):
    result = sae_features(sparse, PLANTED, top=5)
    assert result.passed
    by_token = {row["token"]: row["features"] for row in result.tables["tokens"]}
    assert by_token["red"] == "L0.F3 0.5"
    assert set(by_token["cat"].replace(" 0.75", "").replace(" 0.5", "").split(", ")) == {"L0.F0", "L0.F1", "L0.F6"}
    assert result.scalars["explained_variance"] == pytest.approx(1, abs=1e-6)
    assert result.scalars["loss_recovered"] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(result.arrays["error"].values[1:], 0, atol=1e-5)
    assert result.arrays["l0"].values[1:].tolist() == [1, 1, 3, 1]


@pytest.mark.parametrize("site", SITES)
def test_an_autoencoder_that_copies_costs_nothing(tiny_model, tmp_path, site):
    folder = save_saelens(copying(site, 1, D_MODEL), tmp_path / "copy")
    result = sae_features(tiny_model, TEXTS, coders=str(folder))
    assert result.passed
    assert result.scalars["site"] == f"L1.{site}"
    assert result.scalars["explained_variance"] == pytest.approx(1, abs=1e-6)
    assert result.scalars["l0"] == pytest.approx(D_MODEL)
    np.testing.assert_allclose(result.arrays["kl_mean"].values[:3], 0, atol=1e-6)
    assert result.arrays["kl_mean"].values[3:].min() > 1e-6


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
@pytest.mark.parametrize("site", ["resid_post", "mlp_out"])
def test_saelens_encodes_and_rebuilds_the_same_and_the_loss_is_that_of_plain_hooks(
    tiny_model, tmp_path, site, architecture
):
    from sae_lens import SAE

    kinds = {"standard": {}, "topk": {"activation": "topk", "k": 7}, "jumprelu": {"activation": "jumprelu"}}
    threshold = {"threshold": True} if architecture == "jumprelu" else {}
    coders = random_coders(2, read=site, write=site, **kinds[architecture], **threshold)
    folder = save_saelens(coders, tmp_path / "saes")
    result = sae_features(tiny_model, TEXTS, coders=str(folder), layer=1, top=WIDTH)
    assert result.passed
    theirs = SAE.load_from_disk(folder / "layer_1", device="cpu")
    assert theirs.cfg.architecture() == architecture
    x = [trace(tiny_model, text, f"L1.{site}")[f"L1.{site}"][0] for text in TEXTS]
    z, rebuilt = [theirs.encode(one) for one in x], [theirs(one) for one in x]
    held = {name: int(name.removeprefix("L1.F")) for name in result.arrays["activations"].labels["feature"]}
    np.testing.assert_allclose(
        result.arrays["activations"].values[:, 1:], z[0][1:, list(held.values())].T.numpy(), atol=1e-5
    )
    stacked = torch.cat([one[1:] for one in z])
    assert result.scalars["l0"] == pytest.approx(float((stacked != 0).sum(1).float().mean()))
    wanted, missed = (
        torch.cat([one[1:] for one in x]),
        torch.cat([a[1:] - b[1:] for a, b in zip(x, rebuilt, strict=True)]),
    )
    unexplained = missed.square().sum() / (wanted - wanted.mean(0)).square().sum()
    assert result.scalars["explained_variance"] == pytest.approx(1 - float(unexplained), abs=1e-4)
    error = (x[0] - rebuilt[0]).norm(dim=1) / x[0].norm(dim=1)
    np.testing.assert_allclose(result.arrays["error"].values[1:], error[1:].numpy(), rtol=1e-3)
    for row in result.tables["features"]:
        column = stacked[:, row["number"]]
        assert row["active on"] == int((column != 0).sum())
        assert row["largest"] == pytest.approx(float(column[column.abs().argmax()]), rel=1e-3)
        assert row["mean activation"] == pytest.approx(float(column.sum() / (column != 0).sum()), rel=1e-3)
        assert float(z[row["text"]][row["position"], row["number"]]) == pytest.approx(row["largest"], rel=1e-3)
    check_losses(tiny_model, result, site, rebuilt, wanted.mean(0))


def check_losses(model: Model, result: Result, site: str, rebuilt: list[torch.Tensor], mean: torch.Tensor) -> None:
    """The losses with hooks on the plain transformers model."""
    block = model.plain.transformer.h[1]
    module = block.mlp if site == "mlp_out" else block
    total = {"original": [], "rebuilt": [], "mean ablation": [], "zero ablation": []}
    for text, own in zip(TEXTS, rebuilt, strict=True):
        ids = model.tokens(text).ids
        puts = {"original": None, "rebuilt": own, "mean ablation": mean.expand_as(own), "zero ablation": own * 0}
        for name, put in puts.items():

            def hook(_module, _inputs, output, put=put):
                value = output[0] if isinstance(output, tuple) else output
                new = value if put is None else torch.cat([value[:, :1], put[None, 1:]], dim=1)
                return (new, *output[1:]) if isinstance(output, tuple) else new

            handle = module.register_forward_hook(hook)
            logits = model.plain(ids).logits[0]
            handle.remove()
            total[name].append(cross_entropy(logits[1:-1], ids[0, 2:], reduction="none"))
    losses = {row["run"]: row["cross_entropy"] for row in result.tables["losses"]}
    for name, parts in total.items():
        assert losses[name] == pytest.approx(float(torch.cat(parts).mean()), abs=1e-4)


@torch.no_grad()
def test_random_errors_are_as_long_as_the_coders(tiny_model, tmp_path):
    """A coder that misses nothing has random errors of no length; one that misses much has long ones."""
    folder = save_saelens(random_coders(1, read="resid_post", write="resid_post"), tmp_path / "random")
    first = sae_features(tiny_model, TEXTS, coders=str(folder), seed=0)
    other = sae_features(tiny_model, TEXTS, coders=str(folder), seed=1)
    assert first.scalars["kl of random errors"] != other.scalars["kl of random errors"]
    assert first.scalars["kl"] == other.scalars["kl"]
    assert first.scalars["kl of random errors"] > 1e-4
    dull = replace(
        random_coder(read="resid_post", write="resid_post"),
        w_dec=torch.zeros(WIDTH, D_MODEL),
        b_dec=torch.zeros(D_MODEL),
    )
    folder = save_circuit_tracer(Transcoders("nothing", {0: dull}), tmp_path / "nothing")
    nothing = sae_features(tiny_model, TEXTS, coders=str(folder))
    loss = nothing.arrays["cross_entropy"].values
    assert loss[1] == pytest.approx(loss[4], abs=1e-5), "what rebuilds nothing is zero ablation"
    np.testing.assert_allclose(nothing.arrays["error"].values[1:], 1, atol=1e-5)
    assert "activations" not in nothing.arrays


def test_a_run_repeats_itself_and_survives_the_disk(sparse, tmp_path):
    first, second = (sae_features(sparse, PLANTED, layer=1) for _ in range(2))
    assert (first.arrays, first.tables) == (second.arrays, second.tables)
    loaded = Result.load(first.save(tmp_path / "run"))
    assert loaded == first
    for number in range(len(first.views)):
        assert loaded.figure(number).to_json() == first.figure(number).to_json()


def test_what_cannot_be_read_is_refused(sparse, tiny_model):
    with pytest.raises(ValueError, match="have no layer 4: they have 0, 1"):
        sae_features(sparse, PLANTED, layer=4)
    with pytest.raises(ValueError, match="no token of the first text can be scored"):
        sae_features(sparse, Prompts.of("red"))
    with pytest.raises(ValueError, match="no coders were named"):
        sae_features(tiny_model, TEXTS)
    with pytest.raises(ValueError, match="top and draws are 1 or more"):
        sae_features(sparse, PLANTED, draws=0)


@pytest.mark.real
def test_a_copy_costs_nothing_on_the_real_model(real_model, tmp_path):
    folder = save_saelens(copying("resid_post", 5, real_model.shape.d_model), tmp_path / "copy")
    text = "The Eiffel Tower stands in Paris, and the Colosseum stands in Rome."
    result = sae_features(real_model, Prompts.of(text), coders=str(folder))
    assert result.passed
    assert result.scalars["explained_variance"] == pytest.approx(1, abs=1e-5)
    assert result.scalars["kl"] < 1e-5
    assert result.scalars["cross_entropy, zero ablation"] > result.scalars["cross_entropy, original"] + 1
