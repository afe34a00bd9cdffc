"""Names mean what they say, and every damaged or foreign checkpoint is refused in one sentence."""

import json
import logging
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from workbench import sources
from workbench.checkpoint import read_tokenizer
from workbench.model import Model, load
from workbench.sources import Source, find_source

MIDDLE = "transformer.h.1.attn.c_attn.weight"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(config))


def cut(file: Path, part: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])


def put(weights: dict[str, torch.Tensor], name: str, place: tuple[int, ...], value: float) -> None:
    weights[name][place] = value


def save_pickle(folder: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def remove_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def want_remote_code(folder: Path) -> None:
    change_config(
        folder,
        model_type="nonesuch",
        architectures=["NonesuchModel"],
        auto_map={"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    )
    (folder / "code.py").write_text(f"open({str(folder / 'was-here')!r}, 'w')\nclass Config: pass\nclass Model: pass\n")


def split_without_parts(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {MIDDLE: "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated weights": (lambda it: cut(it / "model.safetensors", 0.5), "model.safetensors of .* is cut or damaged"),
    "empty weights": (lambda it: cut(it / "model.safetensors", 0), r"is cut or damaged \(0 bytes\)"),
    "garbage weights": (
        lambda it: (it / "model.safetensors").write_bytes(b"\xff" * 1000),
        "model.safetensors of .* is cut or damaged",
    ),
    "missing tensor": (
        lambda it: change_weights(it, lambda weights: weights.pop(MIDDLE)),
        f"not complete: 1 tensors are missing, first {MIDDLE}",
    ),
    "wrong shape": (
        lambda it: change_weights(it, lambda weights: weights.update({MIDDLE: torch.zeros(32, 95)})),
        rf"{MIDDLE} has the shape \(32, 95\), where \(32, 96\) belongs",
    ),
    "a layer too many": (
        lambda it: change_weights(it, lambda weights: weights.update({MIDDLE.replace("1", "7"): torch.zeros(32, 96)})),
        "the file holds transformer.h.7.attn.c_attn.weight, for which the configuration has no place",
    ),
    "NaN weight": (
        lambda it: change_weights(it, lambda weights: put(weights, MIDDLE, (0, 0), float("nan"))),
        f"weight {MIDDLE} holds 1 values that are NaN or infinite",
    ),
    "infinite weight": (
        lambda it: change_weights(it, lambda weights: put(weights, MIDDLE, (3, 4), float("inf"))),
        f"weight {MIDDLE} holds 1 values that are NaN or infinite",
    ),
    "pickle only": (save_pickle, "only as a pickle checkpoint, which could run code"),
    "no weights": (lambda it: (it / "model.safetensors").unlink(), "holds no weights: expected model.safetensors"),
    "missing part": (split_without_parts, "weight files are missing: model-00001-of-00002.safetensors"),
    "cut index": (
        lambda it: (it / "model.safetensors.index.json").write_text('{"weight_m'),
        "model.safetensors.index.json of .* cannot be read",
    ),
    "missing tokenizer": (remove_tokenizer, "holds no tokenizer: expected tokenizer.json"),
    "empty tokenizer": (
        lambda it: (it / "tokenizer.json").write_text("{}"),
        "the tokenizer of .* cannot be read: KeyError 'added_tokens'",
    ),
    "cut config": (lambda it: cut(it / "config.json", 0.3), "the config.json of .* cannot be read"),
    "missing config": (lambda it: (it / "config.json").unlink(), "is no Hugging Face model: it holds no config.json"),
    "impossible config": (lambda it: change_config(it, n_head=5), "describes no model: .* divisible by num_heads"),
    "unknown architecture": (
        lambda it: change_config(it, model_type="nonesuch", architectures=["Nonesuch"]),
        "does not recognize this architecture",
    ),
    "remote code": (want_remote_code, "wants to run code of its own: load it with trust_remote_code"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_model_is_refused_in_one_sentence(
    fault: str, folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    damage, sentence = FAULTS[fault]
    damage(folder)
    files = sorted(folder.rglob("*"))
    capfd.readouterr()
    with pytest.raises((ValueError, FileNotFoundError), match=sentence) as refusal:
        load(str(folder))
    assert "\n" not in str(refusal.value)
    assert "".join(capfd.readouterr()) == ""
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert sorted(folder.rglob("*")) == files, "something was left behind"


def test_a_damaged_model_leaves_the_others_usable(folder: Path, tiny_folder: Path) -> None:
    cut(folder / "model.safetensors", 0.5)
    with pytest.raises(ValueError, match="cut or damaged"):
        load(str(folder))
    assert load(str(tiny_folder)).capabilities.passed("hooked logits equal plain logits")


def test_a_good_model_loads_without_a_word(tiny_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging as talk

    before = talk.get_verbosity(), talk.is_progress_bar_enabled()
    load(str(tiny_folder))
    assert "".join(capfd.readouterr()) == ""
    assert (talk.get_verbosity(), talk.is_progress_bar_enabled()) == before


def test_a_weight_of_another_kind_is_left_out_with_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    change_weights(folder, lambda weights: weights.update({"vision.tower": torch.zeros(2)}))
    load(str(folder))
    assert "the weight vision.tower is in the file, but not in the model" in caplog.text


MISSING = {
    "no-such-model": "model 'no-such-model' is not on this machine, and the hub cannot be reached",
    "someone/no-such-model": "model 'someone/no-such-model' is not on this machine",
    "/no/such/folder": "folder /no/such/folder does not exist",
    "./nothing": "folder ./nothing does not exist",
    "a/b/c": "folder a/b/c does not exist",
    "nothing.gguf": "GGUF file nothing.gguf does not exist",
    "": "no model was named",
    "planted:nothing": "planted model 'nothing' is unknown",
}


@pytest.mark.parametrize("name", MISSING)
def test_a_name_that_stands_for_nothing_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_hub_answers", lambda: False)
    with pytest.raises((ValueError, FileNotFoundError), match=MISSING[name]) as refusal:
        load(name)
    assert "\n" not in str(refusal.value)


def test_without_a_network_the_hub_is_asked_once_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def unreachable(_address: object, timeout: float) -> None:
        asked.append(timeout)
        raise OSError("no route to host")

    monkeypatch.setattr(sources, "getproxies", dict)
    monkeypatch.setattr(socket, "create_connection", unreachable)
    assert find_source("someone/no-such-model").offline
    assert len(asked) == 1 and asked[0] <= 3


def test_a_proxy_is_trusted_to_reach_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "getproxies", lambda: {"https": "http://proxy:3128"})
    assert not find_source("someone/some-model", "main").offline


def test_a_local_folder_is_read_without_asking_the_hub(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", None)
    source = find_source(str(tiny_folder))
    assert source.local and source.where["local_files_only"]


def test_the_name_of_the_real_model_means_the_folder_that_the_environment_names(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_REAL_MODEL", str(tiny_folder))
    assert find_source("gemma-3-270m").place == str(tiny_folder)


def test_a_tokenizer_holds_its_words_once_and_reads_as_before(tmp_path: Path) -> None:
    letters = [*("a", "b", "c", "ab", "abc"), "▁", "<unk>", "<pad>", "<bos>", "<eos>", "<mask>"]
    words = {word: place for place, word in enumerate(letters)}
    made = transformers.GemmaTokenizer(vocab=words, merges=[("a", "b"), ("ab", "c")])
    made.save_pretrained(tmp_path)
    plain: Any = transformers.AutoTokenizer.from_pretrained(tmp_path)
    found = read_tokenizer(Source("made", str(tmp_path), local=True), trust_remote_code=False)
    assert {"_vocab", "_merges"} <= vars(plain).keys() and not {"_vocab", "_merges"} & vars(found).keys()
    found.save_pretrained(tmp_path / "again")
    for tokenizer in (found, transformers.AutoTokenizer.from_pretrained(tmp_path / "again")):
        assert tokenizer("abc cab").input_ids == plain("abc cab").input_ids
        assert tokenizer.get_vocab() == plain.get_vocab()


def test_a_token_outside_the_vocabulary_is_refused(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["w4"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="token id 5000 is outside the model's vocabulary of 128"):
        load(str(folder)).tokens("w4 w5")


def test_a_model_too_large_for_the_memory_is_refused_before_it_is_read(folder: Path) -> None:
    change_config(folder, n_embd=65_536, n_head=64, n_inner=262_144, n_layer=200, vocab_size=200_000)
    with pytest.raises(ValueError, match="million parameters, .* GB as float32, but only .* GB are free on cpu"):
        load(str(folder))


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"dtype": "float8"}, "dtype 'float8' is unknown: allowed are float32, bfloat16, float16, float64"),
        ({"device": "abacus"}, "device 'abacus' is unknown"),
    ],
)
def test_an_unknown_option_is_refused(option: dict[str, str], sentence: str, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        load(str(tiny_folder), **option)


def test_a_model_object_gives_the_numbers_of_its_folder(tiny_folder: Path, tiny_model: Model) -> None:
    import transformers

    hf_model = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_folder)
    with pytest.raises(TypeError, match="a model object needs its tokenizer"):
        load(hf_model)
    model = load(hf_model, tokenizer=tokenizer)
    ids = torch.arange(5, 12)[None]
    assert model.fingerprint == tiny_model.fingerprint
    with torch.no_grad():
        assert torch.equal(model.forward(ids), tiny_model.forward(ids))


def test_a_model_made_in_memory_is_served() -> None:
    from architectures import SERVED, random_model, tiny_tokenizer

    gemma = next(architecture for architecture in SERVED if architecture.name == "Gemma3")
    made = random_model(gemma.make_config())
    assert made.config.architectures is None
    assert load(made, tokenizer=tiny_tokenizer()).capabilities.reasons == {}


def test_a_changed_setting_changes_the_fingerprint(folder: Path, tiny_model: Model) -> None:
    file = folder / "config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "layer_norm_epsilon": 0.5}))
    changed = load(str(folder)).fingerprint
    file.write_text(json.dumps({**settings, "transformers_version": "5.0.0"}))
    assert load(str(folder)).fingerprint == tiny_model.fingerprint != changed


def test_one_changed_weight_changes_the_fingerprint(folder: Path, tiny_model: Model) -> None:
    change_weights(folder, lambda weights: put(weights, MIDDLE, (0, 0), 0.125))
    assert load(str(folder)).fingerprint != tiny_model.fingerprint


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_every_dtype_passes_its_self_check(dtype: str, tiny_folder: Path) -> None:
    model = load(str(tiny_folder), dtype=dtype)
    assert str(model.dtype) == f"torch.{dtype}"
    assert all(check.passed for check in model.capabilities.checks)
    assert model.capabilities.reasons == {}
