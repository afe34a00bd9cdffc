"""Transcoders of Dunefsky et al. 2024, in safetensors beside their settings; their pickles are refused.

They take `b_dec` off what they read before they encode, and add `b_dec_out` to what they write.
"""

from pathlib import Path

from workbench.coders.coder import Transcoder, folded
from workbench.coders.files import named, read_json, read_tensors
from workbench.coders.hooks import layer_and_kind

WEIGHTS = "weights.safetensors"


def is_dunefsky(folder: Path) -> bool:
    """Whether a folder holds one converted checkpoint."""
    return (folder / WEIGHTS).is_file() and (folder / "cfg.json").is_file()


def read_dunefsky(folder: Path) -> tuple[Transcoder, str]:
    """The transcoder of a folder, and the model's name.

    Raises:
        ValueError: the files are damaged, or of a coder that reads one layer and writes another.
    """
    settings = read_json(folder / "cfg.json")
    file = folder / WEIGHTS
    w_enc, b_enc, w_dec, b_in, b_out = named(file, read_tensors(file), "W_enc", "b_enc", "W_dec", "b_dec", "b_dec_out")
    hooks = [str(settings.get(name, "")) for name in ("hook_point", "out_hook_point")]
    (layer, read), (target, write) = (layer_and_kind(hook) for hook in hooks)
    if layer != target:
        raise ValueError(f"{folder} reads layer {layer} and writes layer {target}: only one layer is supported")
    encoder = w_enc.T.contiguous()
    coder = Transcoder(
        layer=layer,
        w_enc=encoder,
        b_enc=folded(b_enc, encoder, b_in),
        w_dec=w_dec,
        b_dec=b_out,
        read=read,
        write=write,
    )
    return coder, str(settings.get("model_name", ""))
