"""What the analysis says: the target in each run, both shares, the members of the circuit."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.analyses.circuit_check.checking import Asked, Found
from workbench.circuits.sufficiency import Shares
from workbench.lens import caps_logits
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.views import Bars, Table

_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}
_RUNS = ("as it is", "without the circuit", "without random sets", "circuit alone", "random sets alone", "no feature")


def tell(model: Model, found: Found, asked: Asked) -> Result:
    """The result of one prompt."""
    labels = {"component": _names(found)}
    shares = {
        "necessity": Named(_plain(found.shares.necessity), ("component",), "share", labels),
        "sufficiency": Named(_plain(found.shares.sufficiency), ("component",), "share", labels),
        "necessity_random": Named(_plain(found.random.necessity), ("example",), "share"),
        "sufficiency_random": Named(_plain(found.random.sufficiency), ("example",), "share"),
    }
    return Result(
        arrays=_values(found) | shares,
        tables={"sets": _set_rows(found), "members": _member_rows(found)},
        scalars={
            "target": found.target.name,
            "whole": found.shares.whole,
            "none": found.shares.none,
            "features": len(found.circuit),
            "active_features": found.active,
            "random_size": found.size,
            "coders": found.coders.name,
        },
        views=(
            Bars(
                "value",
                x="component",
                lower="value_lower",
                upper="value_upper",
                title=f"{found.target.name} in the running model; bars of random sets span all draws",
            ),
            Table("sets", title="What is lost without each set, and what is left with it alone"),
            Table("members", title="Members of the circuit", rows=40),
        ),
        finding=_finding(found),
        notes=_notes(model, found, asked),
        checks=_checks(model, found),
    )


def _plain(values: Float[Tensor, " some"]) -> np.ndarray:
    return values.float().numpy()


def _names(found: Found) -> tuple[str, ...]:
    """The sets that were tested by name."""
    return ("the circuit", *(one.label for one in found.groups if len(found.groups) > 1))


def _values(found: Found) -> dict[str, Named]:
    """The target in each of the runs, with the range over random sets."""
    shares, random = found.shares, found.random
    ends = shares.whole, shares.none
    rows = {}
    for name, of_random in (
        ("value", torch.Tensor.mean),
        ("value_lower", torch.Tensor.amin),
        ("value_upper", torch.Tensor.amax),
    ):
        values = [
            *(ends[0], float(shares.without[0]), float(of_random(random.without))),
            *(float(shares.only[0]), float(of_random(random.only)), ends[1]),
        ]
        rows[name] = Named(_plain(torch.tensor(values)), ("component",), "logits", {"component": _RUNS})
    return rows


def _set_rows(found: Found) -> list[dict[str, Any]]:
    """The circuit, its supernodes, and the mean over random sets."""
    sets = [found.circuit, *found.places]
    named = [
        _row(name, len(one), sum(found.direct[place] for place in one), *(part[which] for part in _parts(found.shares)))
        for which, (name, one) in enumerate(zip(_names(found), sets, strict=False))
    ]
    mean = [part.mean() for part in _parts(found.random)]
    return [*named, _row("random sets, mean", len(found.circuit), None, *mean)]


def _parts(shares: Shares) -> tuple[Float[Tensor, " some"], ...]:
    return shares.without, shares.only, shares.necessity, shares.sufficiency


def _row(name: str, count: int, direct: float | None, *parts: Float[Tensor, ""]) -> dict[str, Any]:
    """One set; `direct` is what ablating it does with everything else held: the sum over its features."""
    without, only, necessity, sufficiency = (None if math.isnan(float(part)) else float(part) for part in parts)
    told = {"without": without, "alone": only, "necessity": necessity, "sufficiency": sufficiency}
    return {"set": name, "features": count, "direct": direct, **told}


def _member_rows(found: Found) -> list[dict[str, Any]]:
    """Every feature of the circuit, those of the largest direct effect first."""
    rows = [
        {
            "feature": f"L{layer}.F{number}@{pos}",
            "supernode": group.label,
            "activation": found.activations[layer, number, pos],
            "direct": found.direct[layer, number, pos],
        }
        for group, places in zip(found.groups, found.places, strict=True)
        for layer, number, pos in places
    ]
    return sorted(rows, key=lambda row: -abs(row["direct"]))


def _finding(found: Found) -> str:
    shares, random, count = found.shares, found.random, len(found.circuit)
    text = (
        f"Without the {count} feature{'s' * (count > 1)} of the circuit {found.target.name} is "
        f"{float(shares.without[0]):.2f} instead of {shares.whole:.2f}, with them alone {float(shares.only[0]):.2f}, "
        f"with no feature {shares.none:.2f}"
    )
    if math.isnan(float(shares.necessity[0])):
        return f"{text}: features do nothing for it here."
    return (
        f"{text}: necessity {float(shares.necessity[0]):.2f} and sufficiency {float(shares.sufficiency[0]):.2f}, "
        f"for random sets {float(random.necessity.mean()):.2f} and {float(random.sufficiency.mean()):.2f}."
    )


def _notes(model: Model, found: Found, asked: Asked) -> tuple[str, ...]:
    notes = [
        "Measured in the running model: attention, norms and the features that are left answer; errors are kept.",
        f"Random sets write {found.size:.2f} times as much as the circuit (activation times length of decoder).",
    ]
    if not found.apart:
        notes.append("More than half of the active features are in the circuit, so random sets overlap with it.")
    if math.isnan(float(found.shares.necessity[0])):
        notes.append("All features together do not change the target, so no share can be given (NaN).")
    silent = [row["feature"] for row in _member_rows(found) if row["activation"] == 0]
    if silent:
        notes.append(f"Not active on this prompt: {', '.join(map(str, silent))}.")
    if missing := model.shape.n_layers - len(found.coders):
        notes.append(f"{missing} of {model.shape.n_layers} layers have no transcoder: their MLP is never taken away.")
    if asked.fill == "mean":
        notes.append("A feature that is taken away keeps its mean over the prompt.")
    if caps_logits(model.bridge):
        notes.append("Logits before the soft cap.")
    return tuple(notes)


def _checks(model: Model, found: Found) -> tuple[Check, ...]:
    tolerance = _TOLERANCE[model.dtype]
    size = max(abs(found.target.value), abs(found.shares.whole - found.shares.none), 1e-30)
    checks = [
        Check(
            "the model with nothing taken away gives the target",
            abs(found.shares.whole - found.target.value) / size,
            tolerance,
        )
    ]
    if found.whole_gap is not None:
        checks.append(Check("with every active feature kept nothing changes", found.whole_gap / size, tolerance))
    return tuple(checks)
