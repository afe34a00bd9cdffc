"""What the search found: tables of features, a picture of those that stand out, checks and the finding."""

import numpy as np

from workbench.analyses.feature_search.reading import Belonging, Directions
from workbench.analyses.feature_search.standing_out import Standing
from workbench.features import FeatureIndex
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.views import Bars, Heatmap, Scatter, Table, View

_FEW_TOKENS = 10_000

Rows = list[dict[str, object]]


def tell(model: Model, index: FeatureIndex, text: Standing, token: Belonging | None, listed: int) -> Result:
    """The result of a search."""
    tables = {"text_features": _text_rows(index, text, listed)}
    if token is not None:
        tables |= {
            "firing": _firing_rows(index, token, listed),
            "reading": _direction_rows(index, token.reading, listed),
            "writing": _direction_rows(index, token.writing, listed),
        }
    tables = {name: rows for name, rows in tables.items() if rows}
    return Result(
        arrays=_arrays(text),
        tables=tables,
        scalars=_scalars(model, index, text, token, tables),
        views=_views(tables),
        finding=_finding(model, text, token, tables),
        notes=_notes(index, text, token),
        checks=_checks(text, token),
    )


def _text_rows(index: FeatureIndex, text: Standing, listed: int) -> Rows:
    rows: Rows = []
    for layer, feature in text.ranked[:listed]:
        count = int(text.counted.count[layer][feature])
        score = float(text.scores[layer][feature])
        rows.append(
            {
                "feature": f"L{layer}.F{feature}",
                "surprise": float(text.surprises[layer][feature]),
                "excess": float(text.excesses[layer][feature]),
                "beyond chance": score > text.largest_by_chance,
                "active on": count,
                "of tokens": text.counted.tokens,
                "density": float(index.density(layer)[feature]),
                "mean activation": float(text.counted.total[layer][feature]) / max(count, 1),
                "usual activation": float(index.usual(layer)[feature]),
                "layer": layer,
                "number": feature,
            }
        )
    return rows


def _firing_rows(index: FeatureIndex, token: Belonging, listed: int) -> Rows:
    """The features that are active where the token is read, the most surprising first."""
    if not token.counted.tokens:
        return []
    found = [
        (float(scores[feature]), layer, feature)
        for layer, scores in token.surprises.items()
        for feature in scores.topk(min(listed, len(scores))).indices.tolist()
    ]
    return [
        {
            "feature": f"L{layer}.F{feature}",
            "surprise": score,
            "beyond chance": score > token.chance,
            "active on": int(token.counted.count[layer][feature]),
            "of tokens": token.counted.tokens,
            "density": float(index.density(layer)[feature]),
            "mean activation": float(token.counted.total[layer][feature])
            / max(int(token.counted.count[layer][feature]), 1),
            "layer": layer,
            "number": feature,
        }
        for score, layer, feature in sorted(found, key=lambda one: (-one[0], one[1], one[2]))[:listed]
    ]


def _direction_rows(index: FeatureIndex, directions: Directions, listed: int) -> Rows:
    """The features whose directions lie farthest along the token, at either end."""
    found = [
        (float(z[feature]), layer, feature)
        for layer, z in directions.z.items()
        for feature in z.abs().topk(min(listed, len(z))).indices.tolist()
    ]
    return [
        {
            "feature": f"L{layer}.F{feature}",
            "z": z,
            "expected by chance": directions.by_chance(z),
            "density": float(index.density(layer)[feature]),
            "layer": layer,
            "number": feature,
        }
        for z, layer, feature in sorted(found, key=lambda one: (-abs(one[0]), one[1], one[2]))[:listed]
    ]


def _arrays(text: Standing) -> dict[str, Named]:
    shown = [f"L{layer}.F{feature}" for layer, feature in text.ranked[: len(text.activations)]]
    labels = {"layer": tuple(map(str, text.layers))}
    best = np.array([float(text.scores[layer].max()) for layer in text.layers], np.float32)
    chance = np.array([np.quantile(text.chance[layer], 0.95) for layer in text.layers], np.float32)
    unit = "root of log-likelihood ratio" if text.by == "surprise" else "length"
    return {
        "activations": Named(
            text.activations.numpy(), ("feature", "pos"), "activation", {"feature": tuple(shown), "pos": text.tokens}
        ),
        "standing_out": Named(best, ("layer",), unit, labels),
        "chance": Named(chance, ("layer",), unit, labels),
    }


def _scalars(
    model: Model, index: FeatureIndex, text: Standing, token: Belonging | None, tables: dict[str, Rows]
) -> dict[str, object]:
    found: dict[str, object] = {
        "tokens": text.counted.tokens,
        "corpus tokens": index.tokens,
        "features": sum(len(one) for one in text.scores.values()),
        "above chance": text.above,
        "largest by chance": text.largest_by_chance,
        "top feature": tables["text_features"][0]["feature"],
        "fingerprint of coders": text.coders.fingerprint,
        "fingerprint of corpus": index.card["corpus"]["fingerprint"],
    }
    if token is not None:
        found |= {"token": model.tokenizer.decode([token.token]), "occurrences read": token.counted.tokens}
        found |= {name: tables[name][0]["feature"] for name in ("firing", "reading", "writing") if name in tables}
    return found


def _finding(model: Model, text: Standing, token: Belonging | None, tables: dict[str, Rows]) -> str:
    best = tables["text_features"][0]
    total = sum(len(one) for one in text.scores.values())
    density, score = 100 * float(str(best["density"])), float(str(best[text.by]))
    said = (
        f"{text.above} of {total:,} features stand out on this text beyond chance; most does {best['feature']}, active "
        f"on {best['active on']} of {best['of tokens']} tokens and on {density:.3g} % of the corpus ({text.by} "
        f"{score:.2f}, pieces of the corpus reach {text.largest_by_chance:.2f})"
    )
    if token is None:
        return f"{said}."
    name = repr(model.tokenizer.decode([token.token]))
    parts = []
    if "firing" in tables:
        fires = tables["firing"][0]
        parts.append(f"{fires['feature']} fires on {name} most ({fires['active on']} of {fires['of tokens']})")
    for table, verb in (("reading", "reads"), ("writing", "writes")):
        if table in tables:
            row = tables[table][0]
            against = "against it " if float(str(row["z"])) < 0 else ""
            parts.append(f"{row['feature']} {verb} {against}farthest along it (z {float(str(row['z'])):.1f})")
    return f"{said}; {', '.join(parts)}." if parts else f"{said}."


def _notes(index: FeatureIndex, text: Standing, token: Belonging | None) -> tuple[str, ...]:
    notes = [f"Corpus: {index.card['corpus']['name']}, {index.tokens:,} tokens."]
    if index.since:
        notes.append("The first token of a text is not counted: NaN stands there.")
    if index.tokens < _FEW_TOKENS:
        notes.append(f"With fewer than {_FEW_TOKENS} tokens of corpus, a feature that is silent there may be common.")
    if text.counted.tokens > index.tokens // 2:
        notes.append("The corpus is hardly longer than the text, so draws from it are nearly all of it.")
    if token is not None and not token.counted.tokens:
        notes.append("The token is not in the corpus, so no feature can be seen firing on it.")
    return tuple(notes)


def _checks(text: Standing, token: Belonging | None) -> tuple[Check, ...]:
    checks = [Check("share of features active in a piece of the corpus more often than in all of it", text.odd, 1e-4)]
    if token is not None:
        gap = max(token.reading.gap, token.writing.gap)
        checks.append(Check("z of the token against the slow definition, largest error", gap, 1e-3))
    return tuple(checks)


def _views(tables: dict[str, Rows]) -> tuple[View, ...]:
    views: list[View] = [
        Table("text_features", title="Features that stand out on the text"),
        Heatmap("activations", x="pos", y="feature", title="What they do on the first text, token by token"),
        Bars(("standing_out", "chance"), x="layer", title="The largest score of each layer, and what chance reaches"),
        Scatter(
            *("density", "mean activation"),
            table="text_features",
            colour="surprise",
            label="feature",
            title="How rare they are, and how strong on this text",
        ),
    ]
    titles = {
        "firing": "Features that fire on the token",
        "reading": "Features that read its embedding",
        "writing": "Features that write it",
    }
    return (*views, *(Table(name, title=title) for name, title in titles.items() if name in tables))
