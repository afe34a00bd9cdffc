"""Decode the rows of two models, and of one with noise, layer by layer."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.model import Model, load
from workbench.neurons import Norms, fold_rows, mixtures, neuron_rows
from workbench.progress import track
from workbench.vocabulary import Vocabulary
from workbench.words import Site

_SAMPLED = 4
_SAME = ("n_layers", "d_model", "d_mlp", "d_vocab")


@dataclass(frozen=True)
class Pair:
    """What is compared.

    Attributes:
        other: the tuned model; None to look at noise alone.
        through: whose unembedding and norms the tuned rows meet.
    """

    base: Model
    other: Model | None
    through: str
    direction: str
    fold: str
    layers: tuple[int, ...]

    @classmethod
    def of(cls, base: Model, other: str, through: str, direction: str, fold: str, layers: tuple[int, ...]) -> "Pair":
        """Load the other model beside the base.

        Raises:
            ValueError: a layer that the model has not, or another shape or vocabulary.
        """
        chosen = layers or base.capabilities.served["mlp_post"]
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"layers names a number twice: {layers}")
        for layer in chosen:
            base.check_site(Site("mlp_post", layer))
        if not other:
            return cls(base, None, through, direction, fold, tuple(chosen))
        tuned = load(other, dtype=str(base.dtype).removeprefix("torch."), device=str(base.device))
        for name in _SAME:
            own, its = getattr(base.shape, name), getattr(tuned.shape, name)
            if own != its:
                raise ValueError(f"{tuned.name} has {name} {its}, but {base.name} has {own}: no neuron has a partner")
        if tuned.tokenizer.get_vocab() != base.tokenizer.get_vocab():
            raise ValueError(
                f"{tuned.name} and {base.name} have different vocabularies: their tokens cannot be compared"
            )
        return cls(base, tuned, through, direction, fold, tuple(chosen))


@dataclass(frozen=True)
class Compared:
    """Per neuron, layer by layer; for each of `versions` (`tuned` if there is another model, and `noise`).

    Attributes:
        kept: whether the top token is that of the base.
        shared: share of the base's top tokens among the version's.
        change: length of the change over that of the row.
        z: of the base's top token.
        tokens: the base's top token.
        new_tokens: the first version's top token.
        null_z: of the top token of random directions.
        noise_gap: largest error of the length of the noise, relative.
        sort_gap: by how much the top tokens of sampled rows lie behind those of a full sort, in z.
        unembedding_change: length of the change of the unembedding over its own; None without another model.
    """

    pair: Pair
    versions: tuple[str, ...]
    kept: Bool[Tensor, "version layer neuron"]
    shared: Float[Tensor, "version layer neuron"]
    change: Float[Tensor, "layer neuron"]
    z: Float[Tensor, "layer neuron"]
    tokens: Int[Tensor, "layer neuron"]
    new_tokens: Int[Tensor, "layer neuron"]
    null_z: Float[Tensor, " draw"]
    noise_gap: float
    sort_gap: float
    unembedding_change: float | None


@torch.no_grad()
def compare(pair: Pair, noise: float, top: int, draws: int, seed: int) -> Compared:
    """Compare every neuron of the chosen layers.

    Raises:
        ValueError: fewer tokens than are asked for, or no neuron that does anything.
    """
    reader = _Reader.of(pair)
    if top > len(reader.vocabulary.ids):
        raise ValueError(f"{top} tokens were asked for, but the vocabulary has {len(reader.vocabulary.ids)}")
    share = -(-draws // len(pair.layers))
    found = [reader.layer(layer, noise, top, share, seed) for layer in track(pair.layers, "layers compared")]
    null = torch.cat([one.null_z for one in found])
    if len(null) == 0:
        raise ValueError(f"every {pair.direction} row of the layers {list(pair.layers)} is zero: nothing to compare")
    return Compared(
        pair,
        ("tuned", "noise") if pair.other else ("noise",),
        torch.stack([one.kept for one in found], dim=1),
        torch.stack([one.shared for one in found], dim=1),
        *(torch.stack([getattr(one, name) for one in found]) for name in ("change", "z", "tokens", "new_tokens")),
        null,
        max(one.noise_gap for one in found),
        reader.sort_gap(top),
        reader.unembedding_change(),
    )


@dataclass(frozen=True)
class _Layer:
    """What `Compared` holds, of one layer."""

    kept: Bool[Tensor, "version neuron"]
    shared: Float[Tensor, "version neuron"]
    change: Float[Tensor, " neuron"]
    z: Float[Tensor, " neuron"]
    tokens: Int[Tensor, " neuron"]
    new_tokens: Int[Tensor, " neuron"]
    null_z: Float[Tensor, " draw"]
    noise_gap: float


@dataclass(frozen=True)
class _Reader:
    """Both models with what their rows are decoded through."""

    pair: Pair
    vocabulary: Vocabulary
    norms: Norms | None
    other_vocabulary: Vocabulary
    other_norms: Norms | None

    @classmethod
    def of(cls, pair: Pair) -> "_Reader":
        """The unembeddings and norms that the pair asks for."""
        vocabulary = Vocabulary.of(pair.base)
        norms = None if pair.fold == "none" else Norms.of(pair.base)
        if pair.other is None or pair.through == "base":
            return cls(pair, vocabulary, norms, vocabulary, norms)
        other_norms = None if pair.fold == "none" else Norms.of(pair.other)
        return cls(pair, vocabulary, norms, Vocabulary.of(pair.other), other_norms)

    def layer(self, layer: int, noise: float, top: int, draws: int, seed: int) -> _Layer:
        """Decode the base, the tuned and the shaken rows of one layer."""
        generator = torch.Generator().manual_seed(1000 * seed + layer)
        rows = self._raw(self.pair.base, layer)
        changed = None if self.pair.other is None else self._raw(self.pair.other, layer)
        lengths = noise * rows.norm(dim=1) if changed is None else (changed - rows).norm(dim=1)
        shaken = rows + (push := _noise(rows, lengths, generator))
        base, drawn = self._folded(rows, layer, self.norms), self._folded(shaken, layer, self.norms)
        null = mixtures(base, draws, generator)
        decoded = self.vocabulary.extremes(torch.cat([base, drawn, null]), top)
        own, others = decoded.promoted[: len(rows)], [decoded.promoted[len(rows) : 2 * len(rows)]]
        if changed is not None:
            tuned = self._folded(changed, layer, self.other_norms)
            others.insert(0, self.other_vocabulary.extremes(tuned, top).promoted)
        sizes = rows.norm(dim=1).clamp_min(torch.finfo(rows.dtype).tiny)
        return _Layer(
            torch.stack([one[:, 0] == own[:, 0] for one in others]).cpu(),
            torch.stack([(own[:, :, None] == one[:, None]).any(2).float().mean(1) for one in others]).cpu(),
            (lengths / sizes).float().cpu(),
            decoded.promoted_z[: len(rows), 0].float().cpu(),
            own[:, 0].cpu(),
            others[0][:, 0].cpu(),
            decoded.promoted_z[2 * len(rows) :, 0].float().cpu(),
            float(((push.norm(dim=1) - lengths).abs() / lengths.clamp_min(torch.finfo(rows.dtype).tiny)).max()),
        )

    def sort_gap(self, top: int) -> float:
        """Streamed tokens of a few rows of the first layer against a full sort in 64 bits, in z."""
        first = self.pair.layers[0]
        rows = self._folded(self._raw(self.pair.base, first), first, self.norms)
        rows = rows[torch.linspace(0, len(rows) - 1, _SAMPLED).long()]
        whole = self.vocabulary.all_z(rows)
        found = self.vocabulary.extremes(rows, top).promoted
        own = whole.gather(1, torch.searchsorted(self.vocabulary.ids, found))
        return float((own - whole.sort(dim=1, descending=True).values[:, :top]).abs().max())

    def unembedding_change(self) -> float | None:
        """How far tuning moved the unembedding."""
        if self.pair.other is None:
            return None
        tuned = self.vocabulary if self.pair.through == "base" else self.other_vocabulary
        tuned = Vocabulary.of(self.pair.other) if self.pair.through == "base" else tuned
        moved = whole = 0.0
        for (_, own), (_, its) in zip(
            self.vocabulary.blocks(), replace(tuned, ids=self.vocabulary.ids).blocks(), strict=True
        ):
            moved += float((its - own).double().square().sum())
            whole += float(own.double().square().sum())
        return (moved / whole) ** 0.5

    def _raw(self, model: Model, layer: int) -> Float[Tensor, "neuron d_model"]:
        rows = neuron_rows(model, layer, self.pair.direction, "none")
        return rows.to(torch.promote_types(rows.dtype, torch.float32))

    def _folded(
        self, rows: Float[Tensor, "neuron d_model"], layer: int, norms: Norms | None
    ) -> Float[Tensor, "neuron d_model"]:
        return fold_rows(rows, layer, self.pair.direction, self.pair.fold, norms)


def _noise(
    rows: Float[Tensor, "neuron d_model"], lengths: Float[Tensor, " neuron"], generator: torch.Generator
) -> Float[Tensor, "neuron d_model"]:
    """Random vectors of given lengths."""
    drawn = torch.randn(rows.shape, generator=generator).to(rows)
    return lengths[:, None] * torch.nn.functional.normalize(drawn, dim=1)
