"""Neurons as directions of the residual stream: what they read, what gates them, what they write.

A row of the up projection, of the gate, or a column of the down projection is compared with tokens either as
it stands, or taken through the norms between it and the unembedding. These norms are affine maps but for the
size that divides them, and a size changes no order and no z, so each is taken as frozen in one short pass.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.bridge import QuietNorm
from workbench.lens import reads_out
from workbench.model import Model
from workbench.norms import FrozenNorm, Norm, freeze, norm_between
from workbench.tracer import Trace, trace
from workbench.weights import mlp_bias, neuron_gates, neuron_inputs, neuron_outputs
from workbench.words import Site

DIRECTIONS = ("read", "gate", "write")
FOLDS = ("none", "final", "all")

_NO_WAY = 0.1
"""A frozen norm that misses by more than this is not the norm that stands there: rounding is far below it."""


@dataclass(frozen=True)
class Norms:
    """The norms that a neuron's rows meet: in front of each MLP, behind it, and the final one."""

    before: tuple[FrozenNorm, ...]
    behind: tuple[FrozenNorm, ...]
    final: FrozenNorm

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model) -> "Norms":
        """Every norm, found by what it did to a short run of tokens.

        Raises:
            ValueError: there is no final norm, or a branch of this architecture is changed in an unknown way.
        """
        if not reads_out(model.bridge):
            raise ValueError(
                f"{model.name} has no final norm before its unembedding: rows can be decoded unfolded only"
            )
        layers = range(model.shape.n_layers)
        kinds = [kind for kind in ("resid_pre", "resid_mid") if model.capabilities.served.get(kind)]
        sites = [Site(kind, layer, pos=-1) for layer in layers for kind in (*kinds, "mlp_in", "mlp_post", "mlp_out")]
        ids = [(7 * step + 5) % model.shape.d_vocab for step in range(1, 6)]
        traced = trace(model, model.tokens_of([ids]), [*sites, Site("resid_post", layers[-1], pos=-1)])
        last = traced[Site("resid_post", layers[-1], pos=-1)][0]
        return cls(
            tuple(norm_before(model, traced, layer, kinds) for layer in layers),
            tuple(norm_behind(model, traced, layer) for layer in layers),
            freeze(model.bridge.ln_final.original_component, last),
        )


def neuron_rows(
    model: Model, layer: int, direction: str, fold: str, norms: Norms | None = None
) -> Float[Tensor, "neuron d_model"]:
    """One direction for each neuron of a layer, to be compared with the rows of the unembedding.

    Args:
        model: a loaded model.
        layer: the layer.
        direction: `read` (what it reads: the up rows), `gate` (what opens it) or `write` (what it adds).
        fold: `none` for the weights as they stand; `final` through the final norm; `all` through the MLP's
            own norm too: the one in front for `read` and `gate`, the one behind (Gemma 2 and 3) for `write`.
        norms: the norms of the model, for any fold but `none`.

    Raises:
        ValueError: an unknown direction or fold, or a gate in a model without gates.
    """
    if direction not in DIRECTIONS or fold not in FOLDS:
        raise ValueError(f"neurons have the directions {DIRECTIONS} and the folds {FOLDS}, found {direction}, {fold}")
    rows = {"read": neuron_inputs, "gate": neuron_gates, "write": neuron_outputs}[direction](model, layer).detach()
    return rows if fold == "none" else fold_rows(rows, layer, direction, fold, norms or Norms.of(model))


def fold_rows(
    rows: Float[Tensor, "neuron d_model"], layer: int, direction: str, fold: str, norms: Norms | None
) -> Float[Tensor, "neuron d_model"]:
    """Rows that stand where a layer's reading, gate or writing rows stand, through the norms of a fold."""
    if fold == "none" or norms is None:
        return rows
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if fold == "all":
        rows = _through(norms.behind[layer], rows) if direction == "write" else norms.before[layer].pulled(rows)
    return _through(norms.final, rows)


def usual_fold(direction: str) -> str:
    """How a direction is mostly decoded: readings as they stand, writings through all norms behind them."""
    return "all" if direction == "write" else "none"


def mixtures(
    rows: Float[Tensor, "neuron d_model"], draws: int, generator: torch.Generator
) -> Float[Tensor, "draw d_model"]:
    """Random directions with the covariance of the rows about zero: the rows, mixed by normal numbers.

    Rows of zeros (neurons that do nothing) take no part; without any other there are no directions.
    """
    alive = rows[(rows != 0).any(1)]
    alive = alive.to(torch.promote_types(alive.dtype, torch.float32))
    if len(alive) == 0:
        return alive
    weights = torch.randn(draws, len(alive), generator=generator).to(alive)
    return weights @ alive / len(alive) ** 0.5


def norm_before(model: Model, traced: Trace, layer: int, kinds: list[str]) -> FrozenNorm:
    """What stands between the stream and an MLP, at the last position of one prompt."""
    entered = traced[Site("mlp_in", layer, pos=-1)][0]
    streams = [traced[Site(kind, layer, pos=-1)][0] for kind in kinds]
    ways = [norm_between(stream, entered, _norms_of(model, layer)) for stream in streams]
    return _known(model, min(ways, key=lambda way: way.gap), Site("mlp_in", layer))


def norm_behind(model: Model, traced: Trace, layer: int) -> FrozenNorm:
    """What stands between the neurons of an MLP and the stream, at the last position of one prompt."""
    weights = neuron_outputs(model, layer).detach()
    raw = traced[Site("mlp_post", layer, pos=-1)][0] @ weights + mlp_bias(model, layer).detach()
    way = norm_between(raw, traced[Site("mlp_out", layer, pos=-1)][0], _norms_of(model, layer))
    return _known(model, way, Site("mlp_out", layer))


def _known(model: Model, way: FrozenNorm, site: Site) -> FrozenNorm:
    if not way.gap <= _NO_WAY:
        raise ValueError(
            f"{site}: in {model.name} neither a plain factor nor one of the block's norms stands between it and "
            f"the stream (nearest: {way.gap:.0e} off), so no norm can be folded: decode with fold none"
        )
    return way


def _norms_of(model: Model, layer: int) -> list[Norm]:
    parts = model.places.blocks[layer].children()
    return [part.original_component for part in parts if isinstance(part, QuietNorm)]


def _through(norm: FrozenNorm, rows: Float[Tensor, "neuron d_model"]) -> Float[Tensor, "neuron d_model"]:
    """Parts of a stream behind a norm, its bias left out."""
    return replace(norm, bias=torch.zeros_like(norm.bias))(rows)
