"""Every layout of files is read as its makers mean it, and what is saved comes back exactly."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from coding import D_MODEL, WIDTH, crossing_coders, random_coder, random_coders
from safetensors.torch import load_file, save_file

from workbench.coders import Transcoders, load_coders, load_transcoders, save_circuit_tracer, save_saelens

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # SAELens' own
X = torch.randn(7, D_MODEL, generator=torch.Generator().manual_seed(11))
JUMPS = {"activation": "jumprelu", "threshold": True}
SAE = {"read": "resid_post", "write": "resid_post"}


def same(found: Transcoders, expected: Transcoders) -> bool:
    """Whether every number and every setting is equal."""
    return found.fingerprint == expected.fingerprint


def write(folder: Path, tensors: dict[str, torch.Tensor], file: str, **settings: object) -> Path:
    folder.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / file)
    (folder / "cfg.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "parts",
    [
        *({}, {"w_skip": True}, JUMPS, {**JUMPS, "w_skip": True}),
        *(SAE, {**SAE, **JUMPS}, {**SAE, "activation": "topk", "k": 6}, {"read": "normed"}),
        {"activation": "topk", "k": 6},
    ],
    ids=lambda parts: "-".join(map(str, parts.values())),
)
def test_saelens_round_trip_is_exact_and_its_own_class_agrees(tmp_path, parts, dtype):
    from sae_lens import SAE as SaeLens

    coders = random_coders(2, **parts).to(dtype=dtype)
    folder = save_saelens(coders, tmp_path / "coders")
    loaded = load_coders(folder)
    assert same(loaded, coders)
    assert loaded.card["layout"] == "SAELens"
    assert loaded.card["model"] == "tiny"
    theirs = SaeLens.load_from_disk(folder / "layer_1", device="cpu")
    x = X.to(dtype)
    with torch.no_grad():
        tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.05}
        torch.testing.assert_close(theirs.encode(x), coders[1].encode(x), **tolerance)
        torch.testing.assert_close(theirs(x), coders[1].predict(x), **tolerance)


def test_a_saelens_autoencoder_that_takes_its_bias_off_first_is_read_as_it_computes(tmp_path):
    from sae_lens import StandardSAE, StandardSAEConfig

    theirs = StandardSAE(StandardSAEConfig(d_in=D_MODEL, d_sae=WIDTH, apply_b_dec_to_input=True))
    theirs.cfg.metadata.hook_name = "blocks.4.hook_resid_pre"
    torch.nn.init.normal_(theirs.b_dec)
    theirs.save_model(tmp_path)
    ours = load_coders(tmp_path)[4]
    assert (ours.read, ours.write) == ("resid_pre", "resid_pre")
    with torch.no_grad():
        torch.testing.assert_close(ours.encode(X), theirs.encode(X))
        torch.testing.assert_close(ours.predict(X), theirs(X))


def test_a_saelens_topk_over_decoder_norms_is_read_as_it_computes(tmp_path):
    from sae_lens import TopKSAE, TopKSAEConfig

    theirs = TopKSAE(TopKSAEConfig(d_in=D_MODEL, d_sae=WIDTH, k=7, rescale_acts_by_decoder_norm=True))
    theirs.cfg.metadata.hook_name = "blocks.0.hook_mlp_out"
    theirs.W_dec.data *= torch.linspace(0.5, 2, WIDTH)[:, None]
    theirs.save_model(tmp_path)
    ours = load_coders(tmp_path)[0]
    with torch.no_grad():
        torch.testing.assert_close(ours.encode(X), theirs.encode(X))
        torch.testing.assert_close(ours.predict(X), theirs(X))


def test_batchtopk_of_saelens_is_a_threshold_at_inference(tmp_path):
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig

    trained = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=D_MODEL, d_sae=WIDTH, k=4))
    trained.cfg.metadata.hook_name = "blocks.2.hook_mlp_out"
    trained.topk_threshold = torch.tensor(0.7, dtype=trained.topk_threshold.dtype)
    trained.save_inference_model(tmp_path)
    ours = load_coders(tmp_path)[2]
    assert ours.activation == "jumprelu"
    torch.testing.assert_close(ours.threshold, torch.full((WIDTH,), 0.7))


@pytest.mark.parametrize(
    "parts",
    [
        *({}, {"w_skip": True}, JUMPS, {"activation": "topk", "k": 6}),
        *({"activation": "topk", "k": 6, "rectified": False}, {"read": "resid_mid"}),
    ],
    ids=lambda parts: "-".join(map(str, parts.values())),
)
def test_circuit_tracer_round_trip_is_exact(tmp_path, parts):
    coders = random_coders(3, **parts)
    assert same(load_coders(save_circuit_tracer(coders, tmp_path / "set")), coders)
    assert sorted(file.name for file in (tmp_path / "set").iterdir()) == [
        "config.yaml",
        *(f"layer_{layer}.safetensors" for layer in range(3)),
    ]


@pytest.mark.parametrize("parts", [{}, JUMPS], ids=["relu", "jumprelu"])
def test_cross_layer_round_trip_is_exact(tmp_path, parts):
    coders = crossing_coders(3, **parts)
    folder = save_circuit_tracer(coders, tmp_path / "clt")
    assert same(load_coders(folder), coders)
    stored = load_file(folder / "W_dec_0.safetensors")["W_dec_0"]
    assert stored.shape == (WIDTH, 3, D_MODEL)
    torch.testing.assert_close(stored[:, 2], coders[0].w_across[1])


def test_circuit_tracer_files_of_others_are_read_as_it_computes(tmp_path):
    """Its gate keeps values below 0, and its hook names are read from config.yaml."""
    coder = random_coder(threshold=-torch.ones(WIDTH), activation="jumprelu", rectified=False)
    tensors = {"W_enc": coder.w_enc, "b_enc": coder.b_enc, "W_dec": coder.w_dec, "b_dec": coder.b_dec}
    save_file(tensors | {"activation_function.threshold": coder.threshold}, tmp_path / "layer_0.safetensors")
    config = {"model_kind": "transcoder_set", "feature_input_hook": "hook_resid_mid", "model_name": "google/gemma"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    found = load_coders(tmp_path)
    pre = X @ coder.w_enc.T + coder.b_enc
    torch.testing.assert_close(found[0].encode(X), pre * (pre > -1))
    assert (found[0].read, found[0].write, found.card["model"]) == ("resid_mid", "mlp_out", "google/gemma")


@pytest.mark.parametrize("transcodes", [True, False])
def test_sparsify_folders_are_read_as_they_compute(tmp_path, transcodes):
    coder = random_coder(w_skip=True)
    tensors = {"encoder.weight": coder.w_enc, "encoder.bias": coder.b_enc, "W_dec": coder.w_dec, "b_dec": coder.b_dec}
    tensors |= {"W_skip": coder.w_skip} if transcodes else {}
    for layer in (3, 5):
        folder = tmp_path / f"layers.{layer}.mlp"
        write(folder, tensors, "sae.safetensors", activation="topk", k=9, transcode=transcodes, d_in=D_MODEL)
    found = load_coders(tmp_path)
    assert list(found) == [3, 5]
    x = X if transcodes else X - coder.b_dec
    values, places = (x @ coder.w_enc.T + coder.b_enc).relu().topk(9)
    expected = (
        torch.stack([value @ coder.w_dec[place] for value, place in zip(values, places, strict=True)]) + coder.b_dec
    )
    expected = expected + X @ coder.w_skip.T if transcodes else expected
    torch.testing.assert_close(found[5].predict(X), expected)
    assert found[5].read == ("mlp_in" if transcodes else "mlp_out")


def test_a_sparsify_folder_of_another_activation_is_refused(tmp_path):
    write(tmp_path / "layers.0.mlp", {"b_dec": X[0]}, "sae.safetensors", activation="groupmax", k=9)
    with pytest.raises(ValueError, match="the activation 'groupmax' is not supported"):
        load_coders(tmp_path)


def scope_tensors(skip: bool = False) -> dict[str, torch.Tensor]:
    coder = random_coder(**JUMPS, w_skip=True)
    tensors = {"w_enc": coder.w_enc.T, "w_dec": coder.w_dec, "b_enc": coder.b_enc, "b_dec": coder.b_dec}
    tensors |= {"threshold": coder.threshold}
    return tensors | ({"affine_skip_connection": coder.w_skip.T} if skip else {})


def test_gemma_scope_is_read_in_front_of_the_gain(tmp_path):
    folder = tmp_path / "gemma-scope-2b-pt-transcoders" / "layer_7" / "width_16k" / "average_l0_76"
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **{name.replace("w_", "W_"): value for name, value in scope_tensors().items()})
    coder = load_coders(folder)[7]
    assert (coder.read, coder.write) == ("normed", "mlp_out")
    assert load_coders(folder, read="mlp_in")[7].read == "mlp_in"
    expected = replace(random_coder(**JUMPS), layer=7, read="normed")
    assert same(Transcoders("", {7: coder}), Transcoders("", {7: expected}))


def test_gemma_scope_2_is_read_with_its_affine_skip(tmp_path):
    folder = tmp_path / "gemma-scope-2-270m-pt" / "transcoder" / "layer_5_width_16k_l0_small_affine"
    folder.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in scope_tensors(True).items()}, folder / "params.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_name": "gemma-v3-270m"}), encoding="utf-8")
    found = load_coders(folder)
    expected = replace(random_coder(**JUMPS, w_skip=True), layer=5)
    assert same(found, Transcoders("", {5: expected}))
    assert found.card["model"] == "gemma-v3-270m"


def test_gemma_scope_2_cross_layer_files_are_read(tmp_path):
    coders = crossing_coders(3, **JUMPS)
    folder = tmp_path / "clt" / "width_262k_l0_big"
    folder.mkdir(parents=True)
    for layer, one in coders.items():
        w_dec = torch.full((WIDTH, 3, D_MODEL), torch.nan)  # what is written to earlier layers is not read
        w_dec[:, layer] = one.w_dec
        w_dec[:, layer + 1 :] = one.w_across.transpose(0, 1)
        tensors = {"w_enc": one.w_enc.T, "b_enc": one.b_enc, "w_dec": w_dec, "b_dec": one.b_dec}
        tensors |= {"threshold": one.threshold}
        save_file(
            {name: value.contiguous() for name, value in tensors.items()}, folder / f"params_layer_{layer}.safetensors"
        )
    assert same(load_coders(folder), coders)


def test_converted_checkpoints_of_dunefsky_are_read_as_they_compute(tmp_path):
    coder, b_in = random_coder(8), X[0]
    tensors = {"W_enc": coder.w_enc.T, "b_enc": coder.b_enc, "W_dec": coder.w_dec, "b_dec": b_in}
    tensors |= {"b_dec_out": coder.b_dec}
    hooks = {"hook_point": "blocks.8.ln2.hook_normalized", "out_hook_point": "blocks.8.hook_mlp_out"}
    folder = write(tmp_path / "gpt2", tensors, "weights.safetensors", **hooks, model_name="gpt2-small")
    found = load_coders(folder)
    assert (found[8].read, found[8].write, found.card["model"]) == ("normed", "mlp_out", "gpt2-small")
    expected = torch.relu((X - b_in) @ coder.w_enc.T + coder.b_enc) @ coder.w_dec + coder.b_dec
    torch.testing.assert_close(found[8].predict(X), expected, atol=1e-5, rtol=1e-5)


class Trap:
    """Opening its pickle would leave a file behind."""

    def __reduce__(self):
        return Path.touch, (Path("opened"),)


def test_a_pickle_is_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2-layer8.pt").write_bytes(pickle.dumps(Trap()))
    for name in ("gpt2-layer8.pt", "."):
        with pytest.raises(ValueError, match=r"pickled checkpoint.*save_file as weights\.safetensors"):
            load_coders(name)
    assert not (tmp_path / "opened").exists()


def test_what_cannot_be_found_or_held_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="do not exist: give a folder"):
        load_coders("nowhere")
    with pytest.raises(ValueError, match="holds no coder in a known layout"):
        load_coders(tmp_path)
    with pytest.raises(ValueError, match="SAELens has no release 'nothing'"):
        load_coders("saelens:nothing/layer_1")
    with pytest.raises(ValueError, match="has no coder 'wrong'"):
        load_coders("saelens:gemma-scope-2b-pt-transcoders/wrong")
    with pytest.raises(ValueError, match="are no transcoders"):
        load_coders("planted:tour")
    with pytest.raises(ValueError, match="coders cannot stand at 'ln2'"):
        load_coders("planted:sparse_mlp", read="ln2")
    with pytest.raises(ValueError, match="SAELens has no values below 0, or top-k with a skip"):
        save_saelens(random_coders(activation="topk", k=3, w_skip=True), tmp_path / "a")
    with pytest.raises(ValueError, match="every layer from 0 on"):
        save_circuit_tracer(random_coders().only((1,)), tmp_path / "b")
    with pytest.raises(ValueError, match="thresholds below 0"):
        save_circuit_tracer(random_coders(activation="jumprelu", threshold=-torch.ones(WIDTH)), tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_and_two_coders_of_one_layer_are_told(tmp_path):
    save_saelens(random_coders(1), tmp_path / "one")
    save_saelens(random_coders(1), tmp_path / "two")
    with pytest.raises(ValueError, match="two coders of layer 0"):
        load_coders(tmp_path)
    folder = save_circuit_tracer(random_coders(1), tmp_path / "three")
    file = folder / "layer_0.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match="cannot be read as weights"):
        load_coders(folder)


def test_only_transcoders_are_loaded_where_transcoders_are_asked_for(tmp_path):
    assert load_transcoders("planted:sparse_mlp").fingerprint == load_coders("planted:sparse_mlp").fingerprint
    coder = replace(random_coder(1), read="resid_post", write="resid_post")
    folder = save_saelens(Transcoders("own", {1: coder}), tmp_path / "set")
    assert load_coders(folder)[1].write == "resid_post"
    with pytest.raises(ValueError, match="transcoders were asked for, but .* reads and writes resid_post at layer 1"):
        load_transcoders(folder)
