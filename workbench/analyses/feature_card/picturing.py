"""The pictures of a card, the strips of tokens first."""

from workbench.analyses.feature_card.seeing import Seen
from workbench.analyses.feature_card.wires import Wires
from workbench.features import Excerpt
from workbench.views import Bars, Heatmap, Lines, Scatter, Table, Tokens, View
from workbench.views.texts import number_text

_BANDS = {"top": "Strongest", "own": "Your text"}
_TABLES = {
    "features_before": "Earlier features that it reads, whatever the input",
    "features_through_heads": "Earlier features that it reads through heads",
    "features_after": "Later features that read it",
    "similar": "Features with similar decoders",
    "heads": "Heads in front of it",
    "examples": "All examples",
}


def picture(seen: Seen, strips: dict[str, Excerpt], tables: set[str], wires: Wires) -> tuple[View, ...]:
    """All views of a card.

    Args:
        seen: the feature on the corpus.
        strips: what is shown token by token, by the name of its array.
        tables: the tables that the card has.
        wires: what its weights say.
    """
    views: list[View] = [_strip(name, one) for name, one in strips.items()]
    if seen.count:
        share = f"{100 * seen.density:.3g} % of tokens"
        views += [
            Bars("histogram", x="step", title=f"Its activations by size ({share})"),
            Lines("quantiles", x="step", title="Quantiles of its activations, where it is active"),
        ]
    if wires.ends:
        views.append(Table("tokens", rows=2 * wires.top * len(wires.ends), title="Tokens that it writes and reads"))
    if wires.reach is not None:
        views += [
            Heatmap("reach", x="head", y="layer", title="How much of what it reads each head can bring"),
            Heatmap("reach_random", x="head", y="layer", title="The same for random readings of the layer"),
        ]
    if wires.before or wires.after:
        views.append(
            Bars(("strongest_edge", "chance_edge"), x="layer", title="Strongest edge to each layer, and chance")
        )
    if "features_before" in tables:
        title = "Edges by weight, and by what they do on average"
        views.append(Scatter("weight", "mean effect", table="features_before", label="feature", title=title))
    return (*views, *(Table(name, title=title) for name, title in _TABLES.items() if name in tables))


def _strip(name: str, one: Excerpt) -> Tokens:
    """One example, named by its band."""
    band = _BANDS.get(one.example.band, f"Drawn from its {one.example.band} band")
    return Tokens(name, title=f"{band}: {number_text(one.example.value)} at {one.text[one.at]!r}")
