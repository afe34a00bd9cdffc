"""What the analysis says of an ablation."""

import torch

from workbench.analyses.circuit_ablation.ablating import Ablated
from workbench.lens import caps_logits
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.views import Bars, Table

_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}
TOGETHER = "all together"


def tell(model: Model, found: Ablated) -> Result:
    """The result of one prompt."""
    names = _names(found)
    changes = found.values[1:] - found.values[0]
    axis = {"component": tuple(names)}
    arrays = {
        "direct": Named(found.direct[:, 0].float().numpy(), ("component",), "logits", axis),
        "measured": Named(changes[:, 0].float().numpy(), ("component",), "logits", axis),
    }
    if len(found.random):
        random = (found.random - found.values[0])[:, 0].float().numpy()
        arrays["random"] = Named(random, ("example",), "logits")
    return Result(
        arrays=arrays,
        tables={"effects": _rows(found, names)},
        scalars={"value_set": found.clamps[0].value, "coders": found.coders.name, "draws": len(found.random)},
        views=(
            Bars(("direct", "measured"), x="component", title=f"Change of {found.targets[0].name}"),
            Table("effects", title="Every target, and random features that write as much", rows=40),
        ),
        finding=_finding(found, names),
        notes=_notes(model, found),
        checks=_checks(model, found),
    )


def _names(found: Ablated) -> list[str]:
    """What was set, and all together where that is more than one."""
    return [f"L{one.layer}.F{one.feature}@{one.pos}" for one in found.clamps] + [TOGETHER] * (len(found.clamps) > 1)


def _rows(found: Ablated, names: list[str]) -> list[dict[str, object]]:
    """A row for each feature and target, then one for the random choices."""
    before = [*found.before, None]
    rows: list[dict[str, object]] = []
    for place, name in enumerate(names):
        for column, target in enumerate(found.targets):
            was, now = float(found.values[0, column]), float(found.values[1 + place, column])
            effects = {"direct": float(found.direct[place, column]), "measured": now - was}
            rows.append({"feature": name, "activation": before[place], "target": target.name, "before": was, **effects})
    for column, target in enumerate(found.targets if len(found.random) else []):
        was = float(found.values[0, column])
        change = float(found.random[:, column].mean()) - was
        told = {"activation": None, "target": target.name, "before": was, "direct": None, "measured": change}
        rows.append({"feature": "random ones of the same size, mean", **told})
    return rows


def _finding(found: Ablated, names: list[str]) -> str:
    first, was, now = found.targets[0], float(found.values[0, 0]), float(found.values[-1, 0])
    what = names[0] if len(found.clamps) == 1 else f"{names[0]} and {len(found.clamps) - 1} more"
    value = found.clamps[0].value
    done = f"Without {what}" if value == 0 else f"With {what} at {value:g}"
    text = (
        f"{done}, {first.name} is {now:.2f} instead of {was:.2f} ({now - was:+.2f}); "
        f"with everything else held it changes by {float(found.direct[-1, 0]):+.2f}"
    )
    if not len(found.random):
        return f"{text}."
    count = "another one" if len(found.clamps) == 1 else f"{len(found.clamps)} others"
    return f"{text}; {count} of the same size change it by {float(found.random[:, 0].mean()) - was:+.2f} on average."


def _checks(model: Model, found: Ablated) -> tuple[Check, ...]:
    target, tolerance = found.targets[0], _TOLERANCE[model.dtype]
    size = max(abs(target.value), float(found.direct.abs().max()), 1e-30)
    apart = float((found.direct[: len(found.clamps)].sum(0) - found.direct[-1]).abs().max())
    gap = abs(float(found.values[0, 0]) - target.value)
    return (
        Check("the model with nothing set gives the target", gap / size, tolerance),
        Check("direct effects of single features add up to that of all", apart / size, tolerance),
    )


def _notes(model: Model, found: Ablated) -> tuple[str, ...]:
    notes = ["Held: attention patterns, norm scales, all other features and errors. Measured: the model runs on."]
    silent = [name for name, value in zip(_names(found), found.before, strict=False) if value == 0]
    if silent:
        notes.append(f"Not active on this prompt: {', '.join(silent)}.")
    if not len(found.random):
        notes.append("There are too few active features to compare with random ones.")
    if caps_logits(model.bridge):
        notes.append("Logits before the soft cap.")
    return tuple(notes)
