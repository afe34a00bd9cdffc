"""The feature index: where each feature of some coders is active in a corpus, built once and kept in a folder.

It is built in one stream over the corpus; besides the corpus' token ids it holds a few numbers for each feature,
and at no time a table of tokens by features. What a stopped building has written is an index of the first passages,
and building goes on from it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.coders import Transcoders
from workbench.coders.files import read_json, read_tensors, tensor_bytes
from workbench.features.gathering import Gathered
from workbench.features.passages import Corpus, Passages
from workbench.folders import write_folder
from workbench.model import Model
from workbench.progress import Cancelled, track
from workbench.strict_json import canonical, dumps
from workbench.tracer import trace
from workbench.words import Site

SCHEMA_VERSION = 1
CARD_FILE, TENSORS_FILE = "index.json", "index.safetensors"
_NUMBERS = 16_000_000
"""Feature values held at once: 64 MB."""


@dataclass(frozen=True)
class Recipe:
    """What an index keeps.

    Attributes:
        tops: activations of the largest size for each feature.
        sampled: activations for each feature drawn evenly from all, for the lower quantiles.
        length: the longest passage in tokens; a shorter context of the model counts instead.
        spare_first: leave out the first token of each passage, where sinks live.
        seed: of the draw.
    """

    tops: int = 20
    sampled: int = 40
    length: int = 128
    spare_first: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tops < 1 or self.sampled < 1 or self.length < 2:
            raise ValueError(
                "tops and sampled are 1 or more, length is 2 or more: "
                f"found {self.tops}, {self.sampled} and {self.length}"
            )


@dataclass(frozen=True, eq=False)
class FeatureIndex:
    """An index over a corpus; `index[layer]` holds the numbers of that layer's features.

    Attributes:
        card: model, coders, corpus and recipe, as plain JSON.
        passages: the corpus.
        layers: what was gathered, by layer.
        done: how many passages have been read.
        tokens: how many tokens were counted.
    """

    card: Mapping[str, Any]
    passages: Passages
    layers: Mapping[int, Gathered]
    done: int = 0
    tokens: int = 0

    def __getitem__(self, layer: int) -> Gathered:
        """What was gathered in a layer. Raises KeyError saying which layers there are."""
        if layer not in self.layers:
            raise KeyError(f"the feature index has no layer {layer}: it has {', '.join(map(str, self.layers))}")
        return self.layers[layer]

    @property
    def whole(self) -> bool:
        """Whether all passages have been read."""
        return self.done == len(self.passages)

    @property
    def since(self) -> int:
        """Positions of a passage before this one are not counted."""
        return int(self.card["recipe"]["spare_first"])

    def density(self, layer: int) -> Float[Tensor, " feature"]:
        """On which share of the tokens each feature is active, 0 to 1."""
        return self[layer].count / max(self.tokens, 1)

    def dead(self, layer: int) -> Bool[Tensor, " feature"]:
        """Which features are active on no token."""
        return self[layer].count == 0

    def usual(self, layer: int) -> Float[Tensor, " feature"]:
        """The mean activation of each feature where it is active; 0 for dead ones."""
        one = self[layer]
        return (one.total / one.count.clamp_min(1)).float()

    def save(self, folder: str | Path) -> Path:
        """Write the index into a folder, whole or not at all."""
        tensors = {
            f"L{layer}/{name}": value for layer, one in self.layers.items() for name, value in one.dump().items()
        }
        tensors |= {"ids": self.passages.ids, "starts": self.passages.starts}
        card = {"schema_version": SCHEMA_VERSION, **self.card, "done": self.done, "tokens": self.tokens}
        files = {CARD_FILE: dumps(card, indent=1).encode(), TENSORS_FILE: tensor_bytes(tensors)}
        write_folder(Path(folder), files)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "FeatureIndex":
        """Read an index, whole or not yet.

        Raises:
            ValueError: there is none, it is damaged, or from a newer workbench.
        """
        card = read_json(Path(folder) / CARD_FILE)
        if card.pop("schema_version", None) != SCHEMA_VERSION:
            raise ValueError(
                f"{folder} holds a feature index of another version: this workbench reads {SCHEMA_VERSION}"
            )
        tensors = read_tensors(Path(folder) / TENSORS_FILE)
        try:
            layers = {int(layer): Gathered.restore(_part(tensors, f"L{layer}/")) for layer in card["layers"]}
            passages = Passages(tensors["ids"], tensors["starts"])
            return cls(card, passages, layers, card.pop("done"), card.pop("tokens"))
        except KeyError as error:
            raise ValueError(f"the feature index in {folder} is damaged: {error} is missing") from error


def build_index(
    model: Model,
    coders: Transcoders,
    corpus: Corpus,
    *,
    folder: str | Path | None = None,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
    save_every: float = 120.0,
) -> FeatureIndex:
    """Read a corpus once, and index where every feature of some coders is active.

    Args:
        model: a loaded model.
        coders: what `fit` returned for it.
        corpus: prompts, a text file (an empty line ends a document) or bundled set, or rows of token ids.
        folder: where the index is kept. One that is there for the same model, coders, corpus and recipe is read
            instead, and gone on with when it is not whole.
        recipe: what is kept.
        save_every: seconds between two writings of the folder.

    Raises:
        ValueError: the folder holds the index of something else; a corpus with nothing to read.
        Cancelled: whoever listens to the progress stopped it; the folder is written first.
    """
    recipe = replace(recipe, length=min(recipe.length, model.shape.n_ctx))
    passages = Passages.of(model, corpus, recipe.length)
    card = {**_identity(model, coders), "corpus": _about(corpus, passages), "recipe": asdict(recipe)}
    if folder is not None and (Path(folder) / CARD_FILE).is_file():
        found = FeatureIndex.load(folder)
        _refuse_other(found, card, Path(folder))
    else:
        empty = {layer: Gathered.empty(one.width, recipe.tops, recipe.sampled) for layer, one in coders.items()}
        found = FeatureIndex(card, passages, empty)
    return _read_on(model, coders, found, folder, save_every)


def open_index(model: Model, coders: Transcoders, folder: str | Path) -> FeatureIndex:
    """The index of a folder.

    Raises:
        ValueError: there is none, it is of another model or of other coders, or its building was stopped.
    """
    found = FeatureIndex.load(folder)
    _refuse_other(found, _identity(model, coders), Path(folder))
    if not found.whole:
        raise ValueError(
            f"the feature index in {folder} has {found.done} of {len(found.passages)} passages: go on with it by "
            "workbench index-features"
        )
    return found


def _identity(model: Model, coders: Transcoders) -> dict[str, Any]:
    return {
        "model": {"name": model.name, "fingerprint": model.fingerprint},
        "coders": {"name": coders.name, "fingerprint": coders.fingerprint},
        "layers": list(coders),
    }


def _about(corpus: Corpus, passages: Passages) -> dict[str, Any]:
    name = str(corpus) if isinstance(corpus, str | Path) else f"{len(corpus)} texts"
    return {"name": name, "fingerprint": passages.sha256, "passages": len(passages), "tokens": len(passages.ids)}


def _refuse_other(found: FeatureIndex, wanted: Mapping[str, Any], folder: Path) -> None:
    """Raise ValueError naming what an index was made of, where that is something else."""
    for part, own in wanted.items():
        held = found.card[part]
        alike = (own["fingerprint"], held["fingerprint"]) if "fingerprint" in own else (canonical(own), canonical(held))
        if alike[0] != alike[1]:
            told = (held.get("name", held), own.get("name", own)) if isinstance(own, dict) else (held, own)
            raise ValueError(
                f"{folder} holds the feature index of another {part} ({told[0]}, asked for {told[1]}): "
                "name another folder"
            )


def _read_on(
    model: Model, coders: Transcoders, index: FeatureIndex, folder: str | Path | None, save_every: float
) -> FeatureIndex:
    """Read the passages that are left."""
    if index.whole:
        return index
    keep: Callable[[FeatureIndex], object] = (lambda _: None) if folder is None else (lambda one: one.save(folder))
    saved = time.monotonic()
    try:
        for group in track(index.passages.batches(index.done), "passages indexed"):
            tokens = _read(model, coders, index, group)
            index = replace(index, done=group.stop, tokens=index.tokens + tokens)
            if time.monotonic() - saved > save_every and not index.whole:
                keep(index)
                saved = time.monotonic()
    except Cancelled:
        keep(index)
        raise
    keep(index)
    return index


@torch.no_grad()
def _read(model: Model, coders: Transcoders, index: FeatureIndex, group: range) -> int:
    """Run one group of passages and take in what its features do; returns how many tokens were counted."""
    tokens = index.passages.tokens(model, group)
    sites = {layer: Site(one.read, layer) for layer, one in coders.items()}
    traced = trace(model, tokens, sites.values())
    counted = tokens.mask.clone()
    counted[:, : index.since] = False
    places = torch.cat(
        [
            torch.arange(length)[index.since :] + index.passages.starts[one]
            for one, length in zip(group, tokens.lengths, strict=True)
        ]
    )
    for layer, one in coders.items():
        inputs = traced[sites[layer]][counted]
        step = max(1, _NUMBERS // one.width)
        for x, where in zip(inputs.split(step), places.split(step), strict=True):
            index[layer].add(one.encode(x), where, index.card["recipe"]["seed"])
    return len(places)


def _part(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
