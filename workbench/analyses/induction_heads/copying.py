"""Whether a head raises the token it looks at: the eigenvalues of what it does to the vocabulary."""

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.frozen import FrozenNorms, freeze_run
from workbench.lens import unembedding
from workbench.model import Model
from workbench.tokens import Tokens
from workbench.vocabulary import usable_tokens

_SHORT = 8
_TILE = 8192
_NOTHING = 1e-9


@torch.no_grad()
def copying_scores(model: Model, tokens: Tokens) -> tuple[Float[Tensor, "layer head"] | None, str]:
    """The copying score of every head, or None and why there is none.

    The map from the token looked at to all logits is embedding, values, outputs, unembedding: a matrix of the whole
    vocabulary whose eigenvalues, but for zeros, are those of a small one of the size of the head. Every norm on the
    way is the affine map that a short run froze it to; logits count by how far they lie from their mean.

    Args:
        model: a loaded model.
        tokens: any tokens; the first few are run.
    """
    try:
        frozen = freeze_run(model, model.tokens_of([tokens.ids[0, :_SHORT].tolist()]))
        both = _both_ends(model)
    except ValueError as error:
        return None, str(error)
    rows = []
    for layer in frozen.layers:
        shared = len(layer.outputs) // len(layer.values)
        written = _moved(frozen.final, _moved(layer.behind_attention, layer.outputs))
        read = _pulled(layer.before_attention, layer.values.transpose(1, 2)).transpose(1, 2)
        small = written @ both.to(written.dtype) @ read.repeat_interleave(shared, dim=0)
        rows.append(torch.stack([eigenvalue_share(one) for one in small.double().cpu()]))
    return torch.stack(rows).float(), ""


def eigenvalue_share(matrix: Float[Tensor, "d_head other"]) -> Float[Tensor, ""]:
    """The sum of the real parts of the eigenvalues over the sum of their sizes; 0 for a matrix of nothing.

    Example:
        >>> [float(eigenvalue_share(sign * torch.eye(3))) for sign in (1, 0, -1)]
        [1.0, 0.0, -1.0]
    """
    values = torch.linalg.eigvals(matrix)
    size = values.abs().sum()
    return values.real.sum() / size if size > _NOTHING else torch.zeros_like(size)


def _both_ends(model: Model) -> Float[Tensor, "d_model other_d_model"]:
    """The sum over the vocabulary of each token's row of the unembedding, centred, times its embedding."""
    out, _ = unembedding(model.bridge)
    into = model.bridge.original_model.get_input_embeddings().weight
    ids = usable_tokens(model).to(out.device)
    total = torch.zeros(out.shape[1], into.shape[1], device=out.device)
    mean = torch.stack([out[part].float().sum(0) for part in ids.split(_TILE)]).sum(0) / len(ids)
    for part in ids.split(_TILE):
        total += (out[part].float() - mean).T @ into[part].float()
    return total


def _moved(norm: FrozenNorms, vectors: Float[Tensor, "head d_head d_model"]) -> Float[Tensor, "head d_head d_model"]:
    """Vectors behind a norm, as it was at the last token."""
    flat = vectors - vectors.mean(-1, keepdim=True) if norm.centred else vectors
    return norm.gain[-1] * flat


def _pulled(norm: FrozenNorms, rows: Float[Tensor, "head d_head d_model"]) -> Float[Tensor, "head d_head d_model"]:
    """Rows in front of a norm that read what these read behind it."""
    before = rows * norm.gain[-1]
    return before - before.mean(-1, keepdim=True) if norm.centred else before
