"""The arrays of the result: scores of all heads, the wall of thumbnails, and the chosen head."""

from dataclasses import dataclass

from torch import Tensor

from workbench.analyses.attention_patterns.reading import Scores, attending_layers
from workbench.analyses.attention_patterns.roles import CONTENT, ROLES
from workbench.analyses.attention_patterns.wall import Pictures, tile
from workbench.model import Model
from workbench.result import Named

_SHARE = "share of attention"


@dataclass(frozen=True)
class Readings:
    """Scores on the prompts, on random tokens in their place, on tokens said twice, and on those not repeated."""

    prompts: Scores
    random: Scores
    repeated: Scores
    control: Scores


def score_arrays(model: Model, readings: Readings, valued: bool) -> dict[str, Named]:
    """Means over the prompts, and over the repeated sequences."""
    layers = attending_layers(model)
    at_layers = {} if layers == tuple(range(model.shape.n_layers)) else {"layer": tuple(map(str, layers))}
    roles, content = {"component": ROLES, **at_layers}, {"component": tuple(ROLES[at] for at in CONTENT), **at_layers}

    def named(values: Tensor, axes: tuple[str, ...], unit: str, labels: dict[str, tuple[str, ...]]) -> Named:
        return Named(values.nanmean(0).numpy(), axes, unit, labels)

    by_head, wanted = ("component", "layer", "head"), list(CONTENT)
    found = {
        "role": named(readings.prompts.role, by_head, _SHARE, roles),
        "even": named(readings.prompts.even, by_head[:2], _SHARE, roles),
        "random": named(readings.random.role, by_head, _SHARE, roles),
        "repeated": named(readings.repeated.role[:, wanted], by_head, _SHARE, content),
        "repeated_control": named(readings.control.role[:, wanted], by_head, _SHARE, content),
        "entropy": named(readings.prompts.entropy, by_head[1:], "nats", at_layers),
        "even_entropy": named(readings.prompts.even_entropy, by_head[1:2], "nats", at_layers),
    }
    if valued:
        found["weighted_role"] = named(readings.prompts.weighted, by_head, _SHARE, roles)
        found["repeated_weighted"] = named(readings.repeated.weighted[:, wanted], by_head, _SHARE, content)
    return found


def picture_arrays(pictures: Pictures, layers: tuple[int, ...]) -> dict[str, Named]:
    """The wall, and the chosen head. The wall is wide: of layers and heads the more run from left to right."""
    small = pictures.thumbnails.numpy()
    cells = small.shape[-1]
    edges = [*(str(-(-cell * pictures.length // cells)) for cell in range(cells)), ""]
    of_layers, of_heads = (
        tuple(f"{name} from {edge}" if edge else "" for name in names for edge in edges)
        for names in ([f"L{layer}" for layer in layers], [f"H{head}" for head in range(small.shape[1])])
    )
    deep = len(layers) > small.shape[1]
    wall, down, across = (small.swapaxes(0, 1), of_heads, of_layers) if deep else (small, of_layers, of_heads)
    texts = pictures.tokens.text[0]
    tokens = tuple(f"{texts[start]}@{start}" if pictures.pooled else texts[start] for start in pictures.starts)
    at_tokens = {"query": tokens, "key": tokens}
    cell_axes = ("query", "key")
    found = {
        "wall": Named(tile(wall), cell_axes, _SHARE, {"query": down, "key": across}),
        "thumbnail": Named(small, ("layer", "head", *cell_axes), _SHARE, {"layer": tuple(map(str, layers))}),
        "pattern": Named(pictures.pattern.numpy(), cell_axes, _SHARE, at_tokens),
        "top_key": Named(pictures.top_keys.numpy(), ("query", "rank"), "position", {"query": texts}),
        "top_weight": Named(pictures.top_weights.numpy(), ("query", "rank"), _SHARE, {"query": texts}),
    }
    if pictures.weighted is not None:
        found["weighted_pattern"] = Named(pictures.weighted.numpy(), cell_axes, _SHARE, at_tokens)
    return found
