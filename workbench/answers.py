"""How the command line shows results, models and entries: as lines and tables, or as JSON."""

import sys
from typing import Any

from workbench.entry import Entry
from workbench.knobs import plain
from workbench.result import Result
from workbench.strict_json import dumps
from workbench.terminal import print_line, print_table
from workbench.words import KINDS

_FEW = 1000
"""Arrays of at most this many numbers are part of the JSON answer."""

_ROWS = 20


def print_json(value: object) -> None:
    """Write strict JSON to standard output and nothing else."""
    sys.stdout.write(dumps(value, indent=2) + "\n")


def entry_json(entry: Entry) -> dict[str, object]:
    """An analysis as plain JSON."""
    return {
        "name": entry.name,
        "title": entry.title,
        "family": entry.family,
        "reference": entry.reference,
        "summary": entry.summary,
        "about": entry.about,
        "inputs": [{"name": one.name, "type": one.type, "doc": one.doc} for one in entry.inputs],
        "knobs": [
            {
                "name": knob.name,
                "type": knob.type,
                "default": plain(knob.default),
                "choices": list(knob.choices),
                "doc": knob.doc,
            }
            for knob in entry.knobs
        ],
        "needs": list(entry.needs),
    }


def result_json(result: Result) -> dict[str, Any]:
    """The content of `result.json`; small arrays carry their values too."""
    answer: dict[str, Any] = result.to_json()
    for name, array in result.arrays.items():
        if array.values.size <= _FEW:
            answer["arrays"][name]["values"] = array.values.tolist()
    return answer


def print_result(result: Result) -> None:
    """Print what was found, the first table, the checks and the caveats."""
    print_line(result.title, "bold")
    if result.finding:
        print_line(result.finding)
    for name, rows in list(result.tables.items())[:1]:
        _print_rows(name, rows)
    if result.scalars:
        print_table(["number", "value"], [(name, _short(value)) for name, value in result.scalars.items()])
    for check in result.checks:
        numbers = f"{check.value:.3g} (allowed {check.tolerance:.3g})"
        print_line(f"check {_verdict(check.passed)}: {check.name} {numbers}")
    for note in result.notes:
        print_line(f"note: {note}")


def print_model(about: dict[str, Any]) -> None:
    """Print who a model is, its sizes, its self-checks and which sites it serves."""
    sizes, checks = about["shape"], about["checks"]
    print_line(
        f"{about['name']}: {about['architecture']}, {about['parameters'] / 1e6:,.1f} million parameters",
        "bold",
    )
    plainly = ("revision", "fingerprint", "dtype", "device", "prepend_bos")
    rows = [(name, about[name]) for name in plainly if about[name] is not None]
    rows.append(("milliseconds per pass", f"{about['seconds_per_pass'] * 1e3:.3g}"))
    rows.append(("milliseconds per token besides", f"{about['seconds_per_token'] * 1e3:.3g}"))
    print_table(["model", about["name"]], rows + list(sizes.items()))
    checked = [(_verdict(c["passed"]), _short(c["value"]), _short(c["tolerance"]), c["name"]) for c in checks]
    print_table(["check", "value", "allowed", "what"], checked)
    print_table(["site", "layers", "can be edited on", "why not"], _site_rows(about["capabilities"]))


def _site_rows(capabilities: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """For each kind of site: on which layers it is read, on which it can be edited, why it is missing."""
    served, writable, reasons = (capabilities[name] for name in ("served", "writable", "reasons"))
    kinds = [kind for kind in KINDS if kind in served or kind in reasons]
    return [
        (kind, _ranges(served.get(kind, [])), _ranges(writable.get(kind, [])), reasons.get(kind, "")) for kind in kinds
    ]


def _ranges(layers: list[int]) -> str:
    """Layers in short, such as 0-5,7."""
    parts: list[list[int]] = []
    for layer in layers:
        if parts and parts[-1][-1] == layer - 1:
            parts[-1].append(layer)
        else:
            parts.append([layer])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts) or "none"


def _verdict(passed: bool) -> str:
    return "passed" if passed else "FAILED"


def _print_rows(name: str, rows: list[dict[str, object]]) -> None:
    if not rows:
        print_line(f"{name}: no rows")
        return
    print_table(list(rows[0]), [map(_short, row.values()) for row in rows[:_ROWS]], title=name)
    if len(rows) > _ROWS:
        print_line(f"... and {len(rows) - _ROWS} rows more")


def _short(value: object) -> object:
    """Numbers to four digits; everything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else value
