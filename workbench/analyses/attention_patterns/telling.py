"""What the analysis says: arrays, tables, views, checks and the finding, from the scores and the pictures."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.analyses.attention_patterns.arrays import Readings, picture_arrays, score_arrays
from workbench.analyses.attention_patterns.reading import Scores, attending_layers
from workbench.analyses.attention_patterns.roles import CONTENT, ROLES, role_keys
from workbench.analyses.attention_patterns.wall import LONGEST, Pictures, Pool
from workbench.model import Model
from workbench.result import Check, Result
from workbench.tokens import Tokens
from workbench.views import Heatmap, Table, View

_CLEAR = 0.5
"""A head plays a role when more than this share of its attention does."""

_ROWS = 200
"""Queries of the chosen head that the table lists: the last ones."""


@dataclass(frozen=True)
class _Test:
    """One role as it was tested: on the prompts, or on random tokens said twice."""

    role: str
    on: str
    score: Float[Tensor, "layer head"]
    weighted: Float[Tensor, "layer head"]
    even: Float[Tensor, " layer"]
    control: Float[Tensor, "layer head"]

    @classmethod
    def of(cls, place: int, on: str, scores: Scores, control: Scores) -> "_Test":
        """The mean over examples."""
        parts = (scores.role, scores.weighted, scores.even, control.role)
        return cls(ROLES[place], on, *(part[:, place].nanmean(0) for part in parts))

    def best(self, count: int) -> list[tuple[int, int]]:
        """The places of the strongest heads, of those that were scored."""
        scores = self.score.flatten()
        order = torch.argsort(scores.nan_to_num(-1), descending=True, stable=True)[:count].tolist()
        return [divmod(index, self.score.shape[1]) for index in order if not scores[index].isnan()]

    def row(self, layers: tuple[int, ...], place: int, head: int, valued: bool) -> dict[str, object]:
        """One head in one role, for the table."""
        return {
            "role": self.role,
            "on": self.on,
            "head": f"L{layers[place]}.H{head}",
            "score": float(self.score[place, head]),
            "even": float(self.even[place]),
            "control": float(self.control[place, head]),
            "value_weighted": float(self.weighted[place, head]) if valued else None,
        }


def tell(model: Model, readings: Readings, pictures: Pictures, example: int, top: int, pool: Pool) -> Result:
    """The result of all scores and pictures."""
    layers = attending_layers(model)
    tests = [_Test.of(place, "prompts", readings.prompts, readings.random) for place in range(len(ROLES))]
    tests += [_Test.of(place, "repeated tokens", readings.repeated, readings.control) for place in CONTENT]
    valued = pictures.weighted is not None
    return Result(
        arrays=score_arrays(model, readings, valued) | picture_arrays(pictures, layers),
        tables={
            "roles": [one.row(layers, *place, valued) for one in tests for place in one.best(top)],
            "heads": [
                _head_row(tests, readings.prompts, layers, place, head)
                for place in range(len(layers))
                for head in range(model.shape.n_heads)
            ],
            "rows": _key_rows(pictures),
        },
        scalars={"shown": pictures.name, "tokens": pictures.length, **_scalars(tests, layers)},
        views=_views(pictures.name, valued, pool),
        finding=_finding(tests, layers),
        notes=_notes(readings, pictures),
        checks=_checks(model, readings, pictures, example),
    )


def _head_row(tests: list[_Test], scores: Scores, layers: tuple[int, ...], place: int, head: int) -> dict[str, object]:
    """One head: its scores, its entropy beside that of even attention, and the role it clearly plays, if any."""
    values = {f"{one.role}, repeated" if one.on != "prompts" else one.role: one.score[place, head] for one in tests}
    known = {name: float(value) for name, value in values.items() if not bool(value.isnan())}
    best = max(known, key=lambda name: known[name])
    return {
        "head": f"L{layers[place]}.H{head}",
        "plays": best if known[best] > _CLEAR else "",
        **{name: known.get(name) for name in values},
        "entropy": float(scores.entropy[:, place, head].mean()),
        "even entropy": float(scores.even_entropy[:, place].mean()),
    }


def _key_rows(pictures: Pictures) -> list[dict[str, object]]:
    """The strongest keys of the chosen head for the last queries."""
    texts = pictures.tokens.text[0]
    rows = []
    for query in range(max(0, pictures.length - _ROWS), pictures.length):
        row: dict[str, object] = {"query": query, "token": texts[query]}
        for rank, key in enumerate(pictures.top_keys[query].tolist()):
            weight = float(pictures.top_weights[query, rank]) if key >= 0 else None
            row |= {f"key {rank}": f"{texts[key]} @{key}" if key >= 0 else "", f"weight {rank}": weight}
        rows.append(row)
    return rows


def _scalars(tests: list[_Test], layers: tuple[int, ...]) -> dict[str, object]:
    """The strongest head of each role on the prompts, or for the roles by content on repeated tokens."""
    found: dict[str, object] = {}
    for one in [*tests[: CONTENT[0]], *tests[len(ROLES) :]]:
        named = [f"L{layers[place]}.H{head}" for place, head in one.best(1)]
        found[one.role.replace(" ", "_")] = named[0] if named else None
    return found


def _finding(tests: list[_Test], layers: tuple[int, ...]) -> str:
    first = tests[ROLES.index("first token")]
    previous = _strongest(tests[0], layers, "on random tokens")
    induction = _strongest(tests[-1], layers, "where nothing repeats")
    resting = int((first.score > _CLEAR).sum())
    heads = f"{resting} of {first.score.numel()} heads put more than half of their attention on the first token"
    return f"{previous[0].upper()}{previous[1:]}; {induction}; {heads}."


def _strongest(test: _Test, layers: tuple[int, ...], control: str) -> str:
    """The best head of a role, with its controls, in words."""
    best = test.best(1)
    if not best:
        return f"no layer reaches the keys of the {test.role} role on the {test.on}"
    place, head = best[0]
    return (
        f"{test.role} on the {test.on}: L{layers[place]}.H{head} ({test.score[place, head]:.2f} of its "
        f"attention, {test.even[place]:.2f} if it were even, {test.control[place, head]:.2f} {control})"
    )


def _views(name: str, valued: bool, pool: Pool) -> tuple[View, ...]:
    maps = [
        Heatmap("role", x="head", y="layer", select={"component": place}, title="Attention by role, on the prompts")
        for place in range(CONTENT[0])
    ]
    maps += [
        Heatmap("repeated", x="head", y="layer", select={"component": place}, title="Attention by role, on repeats")
        for place in range(len(CONTENT))
    ]
    wall = Heatmap(
        "wall",
        x="key",
        y="query",
        title="Every head in small",
        caption=f"One map for each layer L and head H; each cell shows the {pool} of its block of the prompt.",
    )
    pictures = [wall, Heatmap("pattern", x="key", y="query", title=f"Attention of {name}")]
    if valued:
        pictures.append(
            Heatmap("weighted_pattern", x="key", y="query", title=f"Attention of {name}, weighted by what it writes")
        )
    return (
        *maps,
        Heatmap("entropy", x="head", y="layer", title="Entropy of attention"),
        *pictures,
        Table("roles", rows=50, title="Strongest heads of each role"),
        Table("rows", rows=50, title=f"Keys of {name}, by query"),
    )


def _checks(model: Model, readings: Readings, pictures: Pictures, example: int) -> tuple[Check, ...]:
    """Rows sum to one; the whole map of the chosen head gives the scores that were summed in passing."""
    allowed = 1e-4 if model.dtype in (torch.float32, torch.float64) else 2e-2
    gap = max(one.gap for one in (readings.prompts, readings.random, readings.repeated, readings.control))
    sums = Check("rows of attention sum to one, largest error", gap, allowed)
    if pictures.pooled:
        return (sums,)
    layer, head = pictures.chosen
    streamed = readings.prompts.role[example, :, attending_layers(model).index(layer), head]
    again = scores_of_map(pictures.pattern, pictures.tokens)
    error = float((streamed - again).nan_to_num(0).abs().max())
    return sums, Check(f"the whole map of {pictures.name} gives its role scores, largest error", error, allowed)


def scores_of_map(pattern: Float[Tensor, "query key"], tokens: Tokens) -> Float[Tensor, " role"]:
    """Role scores of one head from its whole map, in which NaN marks what a query cannot see."""
    keys = role_keys(tokens.ids.cpu(), 0, tokens.lengths[0])[0] & ~pattern.isnan()
    mass = torch.where(keys, pattern.nan_to_num(0), 0).sum((1, 2))
    return mass / keys.any(-1).sum(-1)


def _notes(readings: Readings, pictures: Pictures) -> tuple[str, ...]:
    notes = [
        f"The first token, {pictures.tokens.text[0][0]!r} in the prompt that is drawn, is left out as a query; it "
        "sees only itself. NaN in maps marks keys that a query cannot see, and the lines between thumbnails.",
        "control: for roles by position the same positions of random tokens (it should stay), for duplicate token "
        "and induction on repeated tokens the same positions where nothing repeats (it should fall).",
    ]
    if bool(readings.prompts.role[:, list(CONTENT)].isnan().all(0).any()):
        notes.append("Duplicate token or induction on the prompts is NaN where no token comes again within reach.")
    if pictures.pooled:
        notes.append(
            f"The prompt has {pictures.length} tokens: the map of {pictures.name} is pooled to {LONGEST} cells a side "
            "by the maximum; top_key has every query."
        )
    if pictures.weighted is None:
        notes.append("Not value-weighted: in this model what a head writes cannot be split over the tokens it reads.")
    return tuple(notes)
