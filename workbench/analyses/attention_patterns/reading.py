"""Role scores of all heads, from rows of attention that are summed as they pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.analyses.attention_patterns.roles import Rows, role_keys, sum_rows
from workbench.attention import stream_rows
from workbench.attribution import norm_behind
from workbench.model import Model
from workbench.progress import track
from workbench.sites import MASKED
from workbench.tokens import Tokens
from workbench.tracer import trace
from workbench.weights import attention_bias, head_outputs
from workbench.words import Site

Factors = dict[int, Float[Tensor, "head width d_head"]]
"""For each layer a matrix per head that makes of v a vector as long as what the head writes of it."""

CHUNK = 256
_SHORT = 16
_BUDGET = 64_000_000
"""Numbers that the rows of one batch may hold: 256 MB."""


@dataclass(frozen=True)
class Scores:
    """Means over the queries of each prompt; NaN where a prompt has no query that counts.

    Attributes:
        role: attention on the keys of each role, from 0 to 1.
        weighted: value-weighted attention on them.
        even: what evenly spread attention would put there.
        entropy: of the rows, in nats.
        even_entropy: of evenly spread rows.
        gap: the largest error of "a row sums to one".
    """

    role: Float[Tensor, "example role layer head"]
    weighted: Float[Tensor, "example role layer head"]
    even: Float[Tensor, "example role layer"]
    entropy: Float[Tensor, "example layer head"]
    even_entropy: Float[Tensor, "example layer"]
    gap: float


def attending_layers(model: Model) -> tuple[int, ...]:
    """The layers that have attention to look at."""
    return model.capabilities.served["pattern"]


@torch.no_grad()
def read_factors(model: Model, tokens: Tokens) -> Factors | None:
    """The maps from v to the size of what is written, the norm behind attention included.

    A norm behind attention (Gemma 2 and 3) has a gain for each channel, which is taken in; its divisor is
    the same for all keys of a query. None where pattern times v is not z, or where what stands between the
    heads and the stream is unknown.
    """
    layers, served = attending_layers(model), model.capabilities.served
    if any(served.get(kind) != layers for kind in ("v", "z", "attn_out")):
        return None
    length = min(tokens.lengths[0], _SHORT)  # any token shows the gain of a norm, and a long prompt is costly
    first = Tokens(tokens.ids[:1, :length], (length,), (tokens.text[0][:length],), (tokens.spans[0][:length],))
    traced = trace(model, first, [Site(kind, layer, pos=-1) for layer in layers for kind in ("z", "attn_out")])
    factors: Factors = {}
    for layer in layers:
        weights = head_outputs(model, layer).float()
        z = traced[Site("z", layer, pos=-1)][0].float()
        raw = torch.einsum("hd,hdm->m", z, weights) + attention_bias(model, layer).float()
        written = traced[Site("attn_out", layer, pos=-1)][0]
        try:
            norm = norm_behind(model, Site("attn_out", layer), raw, written)
        except ValueError:  # the result says that nothing is value-weighted
            return None
        flat = weights - weights.mean(-1, keepdim=True) if norm.centred else weights
        factors[layer] = torch.linalg.qr((flat * norm.gain.float()).transpose(1, 2), mode="r").R
    return factors


def read_roles(
    model: Model, rows: Sequence[Sequence[int]], alike: Sequence[Sequence[int]], factors: Factors | None, label: str
) -> Scores:
    """Score every head on some prompts, a batch of similar lengths at a time.

    Args:
        model: a loaded model.
        rows: token ids of each prompt.
        alike: token ids of the same lengths, which say what tokens count as alike: the prompts themselves,
            or for a control those that they stand for.
        factors: what `read_factors` gave.
        label: what the progress is called.
    """
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    found = []
    for batch in track(_batches(model, [len(rows[row]) for row in order]), label):
        ran, meant = (
            model.tokens_of([given[row] for row in order[batch.start : batch.stop]]) for given in (rows, alike)
        )
        found.append(Sums(model, ran, meant, factors).run())
    back = torch.tensor(order).argsort()
    joined = {one.name: torch.cat([getattr(part, one.name) for part in found])[back] for one in fields(Scores)[:-1]}
    return Scores(**joined, gap=max(part.gap for part in found))


def _batches(model: Model, lengths: list[int]) -> list[range]:
    """Runs of prompts, sorted by length, whose rows fit into memory together."""
    batches: list[range] = []
    for place, length in enumerate(lengths):
        each = (3 * model.shape.n_heads + 10) * min(length, CHUNK) * length
        room = max(1, _BUDGET // each)
        if batches and place - batches[-1].start < room:
            batches[-1] = range(batches[-1].start, place + 1)
        else:
            batches.append(range(place, place + 1))
    return batches


@dataclass
class Sums:
    """Running sums over the queries of one batch."""

    model: Model
    tokens: Tokens
    alike: Tokens
    factors: Factors | None
    sizes: dict[int, Float[Tensor, "batch head key"]] = field(default_factory=dict)
    reach: dict[int, Bool[Tensor, "batch query key"]] = field(default_factory=dict)
    sums: dict[int, list[Rows]] = field(default_factory=dict)
    gap: float = 0.0

    def run(self) -> Scores:
        """One pass, and the means."""
        takes = {"scores": self.take_scores, "pattern": self.take_pattern}
        if self.factors is not None:
            takes = {"v": self.take_v, **takes}
        stream_rows(self.model, self.tokens, takes, chunk=CHUNK)
        return self._means()

    def take_v(self, layer: int, _start: int, v: Float[Tensor, "batch pos kv_head d_head"]) -> None:
        """How large a vector each head would write of each key."""
        assert self.factors is not None, "v is only watched when there are factors"
        sizes = written_sizes(v, self.factors[layer])
        self.sizes[layer] = torch.cat([self.sizes[layer], sizes], dim=-1) if layer in self.sizes else sizes

    def take_scores(self, layer: int, _start: int, scores: Float[Tensor, "batch head query key"]) -> None:
        """Which keys a query can see in this layer: the past, or what of it lies in a window."""
        self.reach[layer] = scores[:, 0] >= MASKED

    def take_pattern(self, layer: int, start: int, pattern: Float[Tensor, "batch head query key"]) -> None:
        """Reduce the rows of one layer."""
        rows = pattern.float()
        end = rows.shape[-1]
        real = self.tokens.mask[:, start:end]
        self.gap = max(self.gap, float(((rows.sum(-1) - 1).abs() * real[:, None]).max()))
        places = torch.arange(start, end, device=rows.device)
        keys = role_keys(self.alike.ids, start, end)
        found = sum_rows(rows, self.sizes.get(layer), keys, self.reach.pop(layer), real & (places > 0))
        self.sums.setdefault(layer, []).append(found)

    def _means(self) -> Scores:
        """Sums over all chunks, over how many queries they hold."""
        layers = [
            {one.name: sum(getattr(part, one.name) for part in self.sums[layer]) for one in fields(Rows)}
            for layer in attending_layers(self.model)
        ]
        total = {name: torch.stack([layer[name] for layer in layers], dim=1).cpu() for name in layers[0]}
        counted = total["counted"].transpose(1, 2)  # batch role layer
        role, weighted = (total[name].transpose(1, 2) / counted[..., None] for name in ("mass", "weighted"))
        return Scores(
            role=role,
            weighted=weighted,
            even=total["even"].transpose(1, 2) / counted,
            entropy=total["entropy"] / total["queries"][..., None],
            even_entropy=total["even_entropy"] / total["queries"],
            gap=self.gap,
        )


def written_sizes(
    v: Float[Tensor, "batch pos kv_head d_head"], factors: Float[Tensor, "head width d_head"]
) -> Float[Tensor, "batch head pos"]:
    """The length of what each head would write if it attended to one position alone."""
    shared = v.float().repeat_interleave(len(factors) // v.shape[2], dim=2)
    return torch.einsum("bphd,hwd->bhpw", shared, factors).norm(dim=-1)
