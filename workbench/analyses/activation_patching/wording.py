"""The finding and the caveats of a study, in words."""

from typing import Any

from workbench.analyses.activation_patching.collecting import Places, Studied
from workbench.analyses.activation_patching.estimating import INTEGRATED
from workbench.analyses.activation_patching.patching import DENOISE, NOISE, NULL, Plan

_METRICS = {
    "difference": "logit difference",
    "logit": "logit of the target",
    "probability": "probability of the target",
}

_ALIKE = 0.995
"""A rank correlation that is written as 1.00: such measures do not disagree."""

_SMALL = 0.05
"""A smaller share of the difference is not worth a word."""

Row = dict[str, Any]


def finding(studied: list[Studied], scalars: Row, rows: list[Row]) -> str:
    """The outcome in one sentence."""
    count, metric = len(studied), _METRICS[studied[0].case.reading.metric]
    said = [
        f"Over {count} {'pair' if count == 1 else 'pairs'} the {metric} is {scalars['clean']:.2f} for clean and "
        f"{scalars['corrupt']:.2f} for corrupt"
    ]
    if "top_denoise" in scalars:
        one, two = scalars["top_denoise"], scalars["top_noise"]
        said.append(
            f"of this difference {one} brings most back when put into the corrupt run "
            f"({scalars['top_denoise_share']:+.2f}), and {'the same head' if one == two else two} costs most when "
            f"replaced in the clean one ({scalars['top_noise_share']:+.2f})"
        )
        if scalars["least_denoise_share"] < -_SMALL:
            said.append(f"{scalars['least_denoise']} works against it ({scalars['least_denoise_share']:+.2f})")
    elif scalars.get("arrived_at_layer") is not None:
        said.append(f"half of it has arrived at the last token before layer {scalars['arrived_at_layer']}")
    return "; ".join([*said, *_agreements(rows)]) + "."


def _agreements(rows: list[Row]) -> list[str]:
    """How the two directions and the estimate agree, and the two measures that agree least."""
    ranked = [
        row for row in rows if row["where"] == rows[0]["where"] and row["spearman"] is not None and row["other"] != NULL
    ]
    found = {(row["measure"], row["other"]): row["spearman"] for row in ranked}
    said = [
        f"{one} and {two} rank alike to {found[one, two]:.2f} (Spearman)"
        for one, two in ((DENOISE, NOISE), (DENOISE, INTEGRATED))
        if (one, two) in found
    ]
    least = min(ranked, key=lambda row: row["spearman"], default=None)
    if least is not None and least["spearman"] < _ALIKE:
        said.append(
            f"{least['measure']} and {least['other']} agree least ({least['spearman']:.2f}) and are widest apart at "
            f"{least['widest apart at']} ({least['measure there']:+.2f} against {least['other there']:+.2f})"
        )
    return said


def notes(studied: list[Studied], plan: Plan, places: Places, left_out: list[str], holes: bool) -> tuple[str, ...]:
    """What limits the numbers of this study; `holes` says whether some are NaN."""
    said = [*_about_pairs(studied, left_out), *_about_places(studied, plan, places)]
    if holes:
        said.append(
            "NaN: a pair has no such position or no other pair beside it, or a measure that is the same everywhere "
            "correlates with nothing."
        )
    return tuple(said)


def _about_pairs(studied: list[Studied], left_out: list[str]) -> list[str]:
    count = len(studied)
    metric = studied[0].case.reading.metric
    wrong = sum(one.patched.clean <= 0 for one in studied) if metric == "difference" else 0
    backward = sum(one.patched.gap <= 0 for one in studied)
    said = [
        "Effects are shares of the mean difference between clean and corrupt: 1 is all of it, 0 nothing, a negative "
        "one speaks against the answer."
    ]
    led = sum(one.case.aligned.led for one in studied)
    if led:
        said.append(
            f"In {led} of {count} pairs target and distractor begin with the same tokens (often a space): these were "
            "put behind both prompts."
        )
    shortened = sum(one.case.aligned.shortened for one in studied)
    if shortened:
        said.append(
            f"In {shortened} of {count} pairs the answers are numbers of which each digit is a token: the first digits "
            "that differ are compared, not the whole numbers."
        )
    if wrong:
        said.append(f"In {wrong} of {count} pairs the clean prompt does not favour the target over the distractor.")
    if backward:
        said.append(f"In {backward} of {count} pairs the corrupt run is not below the clean one.")
    if left_out:
        said.append(f"{len(left_out)} pairs were skipped, the first because: {left_out[0]}.")
    if count == 1:
        said.append("A single pair has no interval, no resampling and no random pair beside it.")
    return said


def _about_places(studied: list[Studied], plan: Plan, places: Places) -> list[str]:
    said = []
    if plan.head_kind:
        said.append(
            "Heads are patched at all tokens from the first changed one on, and ablated at all tokens but <bos>."
        )
        lonely = sum((NULL, plan.head_kind) not in one.effects for one in studied)
        if lonely and len(studied) > 1:
            said.append(f"{lonely} of {len(studied)} pairs have no other pair of their length to resample from.")
        if lonely < len(studied):
            said.append(f"{NULL}: what a head does in the corrupt run that comes from the corrupt run of another pair.")
    if plan.head_kind in ("k", "v"):
        said.append("A key-value head is shared by a group of heads: what is patched there reaches all of them.")
    if plan.tracks and places.aligned:
        said.append("Positions before the first changed token are left out: both runs are the same there.")
    if plan.tracks and not places.aligned:
        said.append(
            "The pairs differ in their positions, so these are put together by role: a role's effect is the mean over "
            "its positions, each patched alone."
        )
    totals = [one.total for one in studied if one.total is not None]
    if totals:
        share = sum(totals) / sum(one.patched.gap for one in studied)
        said.append(
            f"{INTEGRATED.capitalize()} add up to {share:.3f} of the difference over the tokens that enter; with "
            "ever more steps that becomes 1."
        )
    return said
