"""Interventions from a graph: set features to other values, frozen or propagated, and see what the targets do.

Frozen, everything but the linear paths is held: patterns, norm scales, all other features and errors. That is
the direct effect, and equals the column of the graph. Propagated, the model itself runs on: the difference that
the features make is added to what their MLPs write, and everything behind them answers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from workbench.circuits.frozen import FrozenLayer, FrozenRun
from workbench.circuits.targets import Target
from workbench.coders.coder import Transcoders
from workbench.edit import Edit, edited, refuse_read_only
from workbench.model import Model
from workbench.progress import track
from workbench.sites import Change as Hook
from workbench.tracer import trace
from workbench.words import Site

_ROWS = 16
"""How many variants of the prompt run at once."""


@dataclass(frozen=True)
class Clamp:
    """A feature at a position, and the value that it is set to; 0 ablates it."""

    layer: int
    pos: int
    feature: int
    value: float = 0.0


@torch.no_grad()
def frozen_effects(
    run: FrozenRun,
    coders: Transcoders,
    clamps: Sequence[Clamp],
    targets: Sequence[Target],
    *,
    keep_first: bool = True,
) -> Float[Tensor, " target"]:
    """How much the targets change when features are set and everything else is held: the direct effect.

    The change is pushed forward through the frozen maps, from the features to the targets.

    Args:
        run: a frozen run.
        coders: its transcoders.
        clamps: features and their new values.
        targets: what is looked at; features too (`feature_target`).
        keep_first: whether the skips do nothing at the first position, as in the graph.
    """
    written = _written(run, coders, clamps)
    change = torch.zeros_like(run.stream)
    effects = torch.zeros(len(targets), dtype=run.stream.dtype)
    for layer, frozen in enumerate(run.layers):
        attention = _moved_attention(frozen, change)
        read = frozen.before_mlp.moved(change + attention if frozen.sequential else change)
        for place, target in enumerate(targets):
            if target.layer == layer:
                effects[place] = read[target.pos] @ target.vector
        change = change + attention + written[layer]
        skip = coders[layer].w_skip if layer in coders else None
        if skip is not None:
            skipped = read @ skip.to(read).T
            skipped[: int(keep_first)] = 0
            change = change + skipped
    end = run.final.moved(change)
    for place, target in enumerate(targets):
        if target.layer == len(run.layers):
            effects[place] = end[target.pos] @ target.vector
    return effects


def _written(run: FrozenRun, coders: Transcoders, clamps: Sequence[Clamp]) -> list[Float[Tensor, "pos d_model"]]:
    """What the changed features add behind each MLP."""
    written = [torch.zeros_like(run.stream) for _ in run.layers]
    for one in clamps:
        coder = coders[one.layer]
        value = coder.encode(run.layers[one.layer].mlp_in[one.pos])[one.feature]
        for layer in range(one.layer, len(run.layers)):
            if (decoder := coder.decoder_to(layer)) is not None:
                written[layer][one.pos] += ((one.value - value) * decoder[one.feature]).to(run.stream)
    return written


def _moved_attention(layer: FrozenLayer, change: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos d_model"]:
    """How attention answers a change of the stream, with its pattern held."""
    v = torch.einsum("pm,hmd->phd", layer.before_attention.moved(change), layer.values)
    shared = v.repeat_interleave(len(layer.outputs) // len(layer.values), dim=1)
    return layer.behind_attention.moved(torch.einsum("hqk,khd,hdm->qm", layer.pattern, shared, layer.outputs))


@dataclass
class ClampFeatures:
    """An edit that sets features to values while the model runs, each row of the batch its own.

    A feature's value in this very pass is read at its MLP's input; the difference to the wanted one goes to
    what the MLP writes, and for a cross-layer transcoder to what the later ones write.
    """

    coders: Transcoders
    rows: Sequence[Sequence[Clamp]]
    count: int = 0
    differences: dict[int, Float[Tensor, " clamp"]] = field(default_factory=dict)

    @property
    def fired(self) -> bool:
        """Whether a pass was changed, or there was nothing to change."""
        return self.count > 0 or not any(self.rows)

    def attach(self, model: Model) -> list[RemovableHandle]:
        """Hook the reading and the writing in."""
        sources = sorted({one.layer for row in self.rows for one in row})
        handles = []
        for layer in sources:
            handles += model.places.attach(Site("mlp_in", layer), self._reader(layer))
        for layer in range(model.shape.n_layers):
            reaching = [source for source in sources if self.coders[source].decoder_to(layer) is not None]
            if reaching:
                refuse_read_only(model, Site("mlp_out", layer))
                handles += model.places.attach(Site("mlp_out", layer), self._writer(layer, reaching))
        return handles

    def _at(self, layer: int) -> list[tuple[int, Clamp]]:
        return [(row, one) for row, clamps in enumerate(self.rows) for one in clamps if one.layer == layer]

    def _reader(self, layer: int) -> Hook:
        def read(x: Tensor) -> None:
            asked = self._at(layer)
            rows, places = [row for row, _ in asked], [one.pos for _, one in asked]
            found = self.coders[layer].encode(x[rows, places])
            values = found[torch.arange(len(asked)), [one.feature for _, one in asked]]
            self.differences[layer] = torch.tensor([one.value for _, one in asked]).to(values) - values

        return read

    def _writer(self, layer: int, reaching: Iterable[int]) -> Hook:
        def write(out: Tensor) -> Tensor:
            changed = out.clone()
            for source in reaching:
                asked = self._at(source)
                decoder = self.coders[source].decoder_to(layer)
                assert decoder is not None  # `reaching` was chosen so
                vectors = self.differences[source][:, None] * decoder[[one.feature for _, one in asked]]
                where = tuple(torch.tensor([[row, one.pos] for row, one in asked]).T)
                changed.index_put_(where, vectors.to(out), accumulate=True)
            self.count += 1
            return changed

        return write


@torch.no_grad()
def measure(
    model: Model, run: FrozenRun, coders: Transcoders, variants: Sequence[Sequence[Clamp]], targets: Sequence[Target]
) -> Float[Tensor, "variant target"]:
    """The targets' values when the model itself runs with features set; an empty variant is the model as it is.

    Args:
        model: a loaded model.
        run: what gives the prompt.
        coders: the transcoders whose features are set.
        variants: for each variant of the prompt the features that are set in it.
        targets: what is read.
    """
    found = []
    for first in track(range(0, len(variants), _ROWS), "passes with features set"):
        rows = variants[first : first + _ROWS]
        found.append(read_with(model, run, ClampFeatures(coders, rows), targets, len(rows)))
    return torch.cat(found).cpu()


@torch.no_grad()
def read_with(
    model: Model, run: FrozenRun, edit: Edit, targets: Sequence[Target], rows: int = 1
) -> Float[Tensor, "row target"]:
    """The targets' values in one pass with an edit, over the prompt as often as there are rows."""
    depth = model.shape.n_layers
    ends = [("resid_post", depth - 1) if target.layer == depth else ("mlp_in", target.layer) for target in targets]
    sites = [Site(*end, pos=target.pos) for end, target in zip(ends, targets, strict=True)]
    with edited(model, [edit]):
        traced = trace(model, model.tokens_of([run.ids] * rows), set(sites))
    return torch.stack([_read(model, target, traced[site]) for target, site in zip(targets, sites, strict=True)], dim=1)


def _read(model: Model, target: Target, stream: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
    """A target's value in each row, by the model's own final norm where it reads the final stream."""
    read = model.bridge.ln_final(stream) if target.layer == model.shape.n_layers else stream
    return read.to(target.vector) @ target.vector + target.constant
