"""Entry: what the workbench knows of an analysis before importing it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, get_args

from workbench.knobs import Knob, Value, parse_knobs

Family = Literal["lens", "attention", "neurons", "features", "circuits", "depth", "causes", "changes", "learning"]
"""The tag that groups analyses in the dashboard and the documentation."""

FAMILIES: tuple[str, ...] = get_args(Family)

INPUTS = ("Prompts", "Pairs", "Needles", "TwoHops", "Coder", "Model")
"""The types that an analysis may take beside its model; a `Model` input is a second model."""


PLACES = ("coders", "other", "index", "corpus")
"""The knobs that name files or folders: coders, another model, a feature index, a text."""


@dataclass(frozen=True)
class Cost:
    """What a run will take.

    Attributes:
        passes: forward passes.
        tokens: tokens through the model, over all passes.
        bytes: the largest amount of memory held at once, beside the weights.
    """

    passes: int = 0
    tokens: int = 0
    bytes: int = 0

    def seconds(self, model: Any) -> float:
        """A guess from the speed that the model showed when it was loaded."""
        return self.passes * model.seconds_per_pass + self.tokens * model.seconds_per_token


@dataclass(frozen=True)
class Input:
    """One input of an analysis beside its model: its name, its type from `INPUTS`, its docstring line."""

    name: str
    type: str
    doc: str = ""


@dataclass(frozen=True)
class Entry:
    """One analysis of the catalogue, as its source file declares it.

    Attributes:
        name: file, function, command and page all carry it.
        title: plain English.
        family: one of `FAMILIES`.
        reference: arXiv or DOI of the source, or "folklore".
        summary: the first line of the function's docstring.
        doc: the function's docstring up to its first section.
        about: the module's docstring: idea, score, differences from the paper, caveats.
        returns: what the docstring says of the result.
        inputs: what it takes beside the model.
        knobs: its settings.
        needs: kinds of site without which it cannot run (`NEEDS` of its file).
        tour: the knobs with which the tour runs it (`TOUR` of its file), None if the tour leaves it out.
        home: the package that holds its module.
    """

    name: str
    title: str
    family: str
    reference: str
    summary: str = ""
    doc: str = ""
    about: str = ""
    returns: str = ""
    inputs: tuple[Input, ...] = ()
    knobs: tuple[Knob, ...] = ()
    needs: tuple[str, ...] = ()
    tour: Mapping[str, Value] | None = field(default=None, hash=False)
    home: str = "workbench.analyses"

    @property
    def function(self) -> Callable[..., Any]:
        """The analysis itself; reading this property imports it, and torch with it."""
        return getattr(import_module(f"{self.home}.{self.name}"), self.name)

    def parse_knobs(self, given: Mapping[str, object]) -> dict[str, Value]:
        """The typed value of every knob, given texts or values for some of them.

        Raises:
            ValueError: lists everything that is wrong at once.
        """
        return parse_knobs(self.name, self.knobs, given)

    def check_inputs(self, inputs: tuple[object, ...]) -> None:
        """Raise TypeError unless the inputs are as many and of the types that the analysis takes."""
        wanted = ", ".join(f"{one.name} ({one.type})" for one in self.inputs) or "no input beside the model"
        found = [{base.__name__ for base in type(given).__mro__} for given in inputs]
        if len(found) != len(self.inputs) or any(
            one.type not in names for one, names in zip(self.inputs, found, strict=True)
        ):
            given = ", ".join(type(given).__name__ for given in inputs) or "nothing"
            raise TypeError(f"{self.name} takes {wanted}, found {given}")

    def refusal(self, model: Any) -> str | None:
        """Why this model cannot serve the analysis, in a sentence, or None when it can."""
        for kind in self.needs:
            if (reason := model.capabilities.reason(kind)) is not None:
                return f"{self.title} needs {kind} on {model.name}: {reason}"
        return None

    def cost(self, model: Any, *inputs: object, **knobs: object) -> Cost | None:
        """What a run would take, or None when the analysis does not say (`cost` of its file)."""
        estimate = getattr(import_module(f"{self.home}.{self.name}"), "cost", None)
        return None if estimate is None else estimate(model, *inputs, **self.parse_knobs(knobs))
