"""The planted copying model and needle prompts for it, shared by the tests of retrieval heads."""

import functools

import torch

from workbench.analyses.retrieval_heads.cases import Case, build_cases
from workbench.model import Model, load
from workbench.planted import plant
from workbench.prompts import Needles

GRID = {"lengths": (120, 260), "depths": (0, 50, 100), "needles_used": 3, "new_tokens": 20}


@functools.cache
def copier() -> Model:
    """The planted model, loaded once."""
    torch.set_num_threads(1)
    return load("planted:copy")


@functools.cache
def truth() -> dict:
    """What is planted in it."""
    return plant("copy").truth


def planted_cases(**changes: object) -> tuple[list[Case], list[int]]:
    """The prompts of the grid with some changes, and the tokens of the haystack."""
    grid = {**GRID, **changes}
    needles = Needles.bundled()
    used = Needles.of(needles[: grid.pop("needles_used")], needles.haystack)
    return build_cases(copier(), used, prefixed=True, **grid)
