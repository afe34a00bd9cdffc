"""What the files of other tools call the places that a coder reads and writes, as kinds of sites."""

import re

from workbench.words import KINDS

NORMED = "normed"
"""What a coder reads that stands between the MLP's norm and the gain of that norm; `fit` turns it into mlp_in."""

READABLE = (*(kind for kind, axes in KINDS.items() if axes.endswith(("d_model", "d_mlp"))), NORMED)

_KIND_OF = {
    "ln2.hook_normalized": NORMED,
    "hook_mlp_in": "mlp_in",
    "mlp.hook_in": "mlp_in",
    "mlp.hook_out": "mlp_out",
    "hook_mlp_out": "mlp_out",
    "mlp.hook_post": "mlp_post",
    "hook_attn_out": "attn_out",
    "attn.hook_out": "attn_out",
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
}
_HOOK_OF = {kind: name for name, kind in _KIND_OF.items()} | {"mlp_in": "mlp.hook_in", "mlp_out": "hook_mlp_out"}
_NAME = re.compile(r"^blocks\.(\d+)\.(.+)$")


def kind_of(hook: str) -> str:
    """The kind of site of a hook name within a block, such as "hook_mlp_out".

    `ln2.hook_normalized` is read as the norm without its gain, which is what TransformerLens shows there with
    its norms folded, and for RMSNorm in any case.

    Raises:
        ValueError: no coder is known to stand there.
    """
    if hook not in _KIND_OF:
        raise ValueError(f"hook {hook!r} is not a place where coders are read: known are {', '.join(_KIND_OF)}")
    return _KIND_OF[hook]


def hook_of(kind: str) -> str:
    """The hook name within a block of a kind of site.

    Raises:
        ValueError: the files of other tools have no name for it.
    """
    if kind not in _HOOK_OF:
        raise ValueError(f"a coder at {kind} cannot be saved: other tools have names for {', '.join(_HOOK_OF)}")
    return _HOOK_OF[kind]


def layer_and_kind(hook: str) -> tuple[int, str]:
    """The layer and the kind of site of a full hook name, such as "blocks.5.hook_mlp_out".

    Raises:
        ValueError: the name is of another form, or no coder is known to stand there.
    """
    match = _NAME.match(hook)
    if match is None:
        raise ValueError(f"hook name {hook!r} cannot be read: expected one such as blocks.5.hook_mlp_out")
    return int(match[1]), kind_of(match[2])
