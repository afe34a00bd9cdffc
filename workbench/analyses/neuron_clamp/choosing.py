"""Which neurons are clamped, which tokens they write and read, and which neurons are their controls."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.attribution import attribute, part_sites, token_directions
from workbench.model import Model
from workbench.neurons import Norms, neuron_rows
from workbench.prompts import Prompt, Prompts
from workbench.tracer import trace
from workbench.vocabulary import Vocabulary
from workbench.weights import neuron_outputs
from workbench.words import Site

_LIKE = 20
"""Controls are drawn from so many neurons whose columns come nearest in length."""


@dataclass(frozen=True)
class Chosen:
    """A neuron with its tokens and its controls.

    Attributes:
        write, write_z: the measured token of its column, and its z (negative where it is written against).
        read, read_z: the farthest token of the row that it reads with.
        controls: other neurons of its layer.
    """

    layer: int
    neuron: int
    write: int
    write_z: float
    read: int
    read_z: float
    controls: tuple[int, ...]

    @property
    def name(self) -> str:
        """Its short name."""
        return f"L{self.layer}.N{self.neuron}"

    @property
    def group(self) -> tuple[int, ...]:
        """The neuron, and its controls."""
        return (self.neuron, *self.controls)


@torch.no_grad()
def choose(
    model: Model, prompts: Prompts, sites: list[Site], token: str, count: int, controls: int, seed: int
) -> list[Chosen]:
    """The given neurons, or those that write farthest along a token, or add most to what the model says.

    Raises:
        ValueError: a site that is no single neuron, a token that is several, or no neuron that can be a control.
    """
    vocabulary, norms = Vocabulary.of(model), Norms.of(model)
    wanted = model.token(token) if token else None
    if sites:
        places = [_place(model, site) for site in sites]
        if len(set(places)) < len(places):
            raise ValueError(f"neurons names one twice: {', '.join(map(str, sites))}")
    elif wanted is None:
        places = _strongest(model, prompts[0], count)
    else:
        places = _writers(model, vocabulary, norms, wanted, count)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for layer, neuron in places:
        write = neuron_rows(model, layer, "write", "all", norms)[neuron : neuron + 1]
        written, written_z = _farthest(vocabulary, write) if wanted is None else (wanted, _z(vocabulary, write, wanted))
        read = _farthest(vocabulary, neuron_rows(model, layer, "read", "none")[neuron : neuron + 1])
        others = _controls(model, layer, {own for where, own in places if where == layer}, neuron, controls, generator)
        found.append(Chosen(layer, neuron, written, written_z, *read, others))
    return found


def _place(model: Model, site: Site) -> tuple[int, int]:
    if site.kind != "mlp_post" or site.neuron is None or site.pos is not None:
        raise ValueError(f"site {site}: neurons are named as L3.N5.mlp_post, without a position")
    model.check_site(site)
    return site.block, site.neuron


def _strongest(model: Model, prompt: Prompt, count: int) -> list[tuple[int, int]]:
    """The neurons that add most, either way, to what the model says after a prompt."""
    traced = trace(model, prompt, [*part_sites(model, -1), Site("logits", pos=-1)])
    said = traced["logits@-1"][0].float().argmax()[None]
    parts = attribute(model, traced, -1, token_directions(model, said, None))
    assert parts.neurons is not None, "the analysis needs neurons"
    return _first(parts.neurons.units[..., 0].abs(), range(model.shape.n_layers), count)


def _writers(model: Model, vocabulary: Vocabulary, norms: Norms, token: int, count: int) -> list[tuple[int, int]]:
    """The neurons whose columns go farthest along a token, either way."""
    ids = torch.tensor([token], device=model.device)
    layers = model.capabilities.served["mlp_post"]
    found = torch.stack(
        [vocabulary.z(neuron_rows(model, layer, "write", "all", norms), ids)[:, 0].float().abs() for layer in layers]
    )
    return _first(found, layers, count)


def _first(sizes: Float[Tensor, "layer d_mlp"], layers: Sequence[int], count: int) -> list[tuple[int, int]]:
    order = sizes.flatten().argsort(descending=True, stable=True)[:count].tolist()
    return [(layers[one // sizes.shape[1]], one % sizes.shape[1]) for one in order]


def _farthest(vocabulary: Vocabulary, row: Float[Tensor, "1 d_model"]) -> tuple[int, float]:
    found = vocabulary.extremes(row, 1)
    sign = -1 if bool(found.downward[0]) else 1
    return int(found.farther[0, 0]), sign * float(found.peak[0])


def _z(vocabulary: Vocabulary, row: Float[Tensor, "1 d_model"], token: int) -> float:
    return float(vocabulary.z(row, torch.tensor([token], device=row.device))[0, 0])


def _controls(
    model: Model, layer: int, taken: set[int], neuron: int, count: int, generator: torch.Generator
) -> tuple[int, ...]:
    """Neurons drawn from those with columns of nearly the same length."""
    lengths = neuron_outputs(model, layer).float().norm(dim=1)
    order = (lengths - lengths[neuron]).abs().argsort(stable=True).tolist()
    like = [other for other in order if other not in taken and lengths[other] > 0]
    if len(like) < count:
        raise ValueError(f"L{layer} has {len(like)} other neurons that write anything, {count} controls were asked for")
    drawn = torch.randperm(min(len(like), max(_LIKE, count)), generator=generator)[:count].tolist()
    return tuple(like[one] for one in drawn)
