"""Coders in the files of SAELens, and its releases: only this file and SAELens' trainer know sae_lens."""

import json
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from workbench.coders.coder import Transcoder, Transcoders, folded
from workbench.coders.files import tensor_bytes
from workbench.coders.hooks import hook_of, layer_and_kind
from workbench.folders import write_folder

WEIGHTS = "sae_weights.safetensors"
PREFIX = "saelens:"

_ACTIVATIONS: dict[str, Any] = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
"""The activation of each architecture of SAELens that can be read; BatchTopK is saved as jumprelu."""


@contextmanager
def quiet() -> Generator[None]:
    """A block without SAELens' advice about HookedTransformer and about its own old names, neither of which is used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_saelens(folder: Path) -> bool:
    """Whether a folder holds one coder of SAELens."""
    return (folder / WEIGHTS).is_file() and (folder / "cfg.json").is_file()


def read_saelens(folder: Path) -> tuple[Transcoder, str]:
    """The coder of a folder, and the model's name.

    Raises:
        ValueError: an architecture or a preprocessing of activations that is not supported.
    """
    with quiet():
        from sae_lens import SAE

        return convert(SAE.load_from_disk(folder, device="cpu"), str(folder))


def read_release(name: str) -> Transcoders:
    """A coder of a release that SAELens knows, named `saelens:<release>/<id>`; it needs the network once.

    Raises:
        ValueError: there is no such release or id, or it cannot be fetched.
    """
    with quiet():
        from sae_lens import SAE
        from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    release, _, identity = name.removeprefix(PREFIX).partition("/")
    known = get_pretrained_saes_directory()
    if release not in known:
        raise ValueError(
            f"SAELens has no release {release!r}: write {PREFIX}<release>/<id>; it has {len(known)} releases"
        )
    if identity not in known[release].saes_map:
        some = ", ".join(list(known[release].saes_map)[:5])
        raise ValueError(f"release {release} has no coder {identity!r}: it has {some}, ...")
    try:
        with quiet():
            found = SAE.from_pretrained(release, identity, device="cpu")
    except OSError as error:
        raise ValueError(f"{name} could not be fetched from the Hugging Face hub: {error}") from error
    coder, model = convert(found, name)
    return Transcoders(name, {coder.layer: coder}, {"layout": "SAELens release", "model": model})


def save_saelens(coders: Transcoders, folder: str | Path) -> Path:
    """Write each layer as `layer_<n>/cfg.json` and its weights, which `SAE.load_from_disk` reads.

    SAELens has no class for top-k transcoders. They are written as its top-k autoencoder, whose encode and decode are
    theirs; that it predicts another place than it reads is told by `hook_name_out` alone.

    Raises:
        ValueError: SAELens has no class for such a coder.
    """
    folder = Path(folder)
    found = {layer: _files(one, coders.card) for layer, one in coders.items()}
    for layer, files in found.items():
        write_folder(folder / f"layer_{layer}", files)
    return folder


def convert(found: Any, source: str) -> tuple[Transcoder, str]:
    """A coder of SAELens as ours, and its model's name. Its encoder is [d_in, feature], and top-k precedes its ReLU.

    Args:
        found: a `sae_lens.SAE`.
        source: how an error names it.

    Raises:
        ValueError: an architecture, a place or a preprocessing of activations that is not supported.
    """
    cfg = found.cfg
    architecture = cfg.architecture()
    if architecture not in _ACTIVATIONS:
        raise ValueError(f"{source}: the architecture {architecture!r} is not one of {', '.join(_ACTIVATIONS)}")
    for setting in ("normalize_activations", "reshape_activations"):
        if getattr(cfg, setting) != "none":
            raise ValueError(f"{source}: {setting} is {getattr(cfg, setting)!r}: only 'none' is supported")
    weights = {name: value.detach() for name, value in found.state_dict().items()}
    layer, read = layer_and_kind(str(cfg.metadata.hook_name))
    target, write = layer_and_kind(str(cfg.metadata.hook_name_out)) if cfg.metadata.hook_name_out else (layer, read)
    if target != layer:
        raise ValueError(f"{source} reads layer {layer} and writes layer {target}: only one layer is supported")
    w_enc, b_enc, b_dec = weights["W_enc"].T.contiguous(), weights["b_enc"], weights["b_dec"]
    coder = Transcoder(
        layer=layer,
        w_enc=w_enc,
        b_enc=folded(b_enc, w_enc, b_dec) if cfg.apply_b_dec_to_input else b_enc,
        w_dec=weights["W_dec"],
        b_dec=b_dec,
        activation=_ACTIVATIONS[architecture],
        k=getattr(cfg, "k", None),
        threshold=weights.get("threshold"),
        w_skip=weights.get("W_skip"),
        read=read,
        write=write,
    )
    if getattr(cfg, "rescale_acts_by_decoder_norm", False):
        coder = coder.rescaled(coder.w_dec.norm(dim=1))
    return coder, str(cfg.metadata.model_name or "")


def _files(one: Transcoder, card: Mapping[str, Any]) -> dict[str, bytes]:
    """The two files of a layer; how long the texts of its training were is told where the card tells it."""
    tensors = {"W_enc": one.w_enc.T, "b_enc": one.b_enc, "W_dec": one.w_dec, "b_dec": one.b_dec}
    if one.threshold is not None:
        tensors["threshold"] = one.threshold
    if one.w_skip is not None:
        tensors["W_skip"] = one.w_skip
    about = {"sae_lens_version": version("sae-lens"), "model_name": str(card.get("model", ""))}
    about |= {"hook_name": f"blocks.{one.layer}.{hook_of(one.read)}"}
    extra: dict[str, Any] = {}
    if one.read != one.write:
        about["hook_name_out"] = f"blocks.{one.layer}.{hook_of(one.write)}"
        extra |= {} if one.activation == "topk" else {"d_out": one.d_out}
    if one.activation == "topk":
        extra |= {"k": one.k, "rescale_acts_by_decoder_norm": False}
    length = card.get("recipe", {}).get("context")
    config = {
        "architecture": _architecture(one),
        "d_in": one.d_in,
        "d_sae": one.width,
        "dtype": str(one.w_enc.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": about | ({} if length is None else {"context_size": length}),
        **extra,
    }
    return {"cfg.json": json.dumps(config, indent=2).encode(), WEIGHTS: tensor_bytes(tensors)}


def _architecture(one: Transcoder) -> str:
    """SAELens' name for a kind of coder. Raises ValueError where it has none."""
    transcodes, skips = one.read != one.write, one.w_skip is not None
    odd = one.activation == "topk" and (skips or one.d_in != one.d_out)
    if one.w_across is not None or not one.rectified or odd:
        what = "cross-layer transcoders" if one.w_across is not None else "values below 0, or top-k with a skip"
        raise ValueError(f"layer {one.layer}: SAELens has no {what}: save them in the format of circuit-tracer")
    if skips and not transcodes:
        raise ValueError(f"layer {one.layer}: SAELens has a skip only where a coder reads one place and writes another")
    if not transcodes or one.activation == "topk":
        return {"relu": "standard"}.get(one.activation, one.activation)
    return ("jumprelu_" if one.activation == "jumprelu" else "") + ("skip_" if skips else "") + "transcoder"
