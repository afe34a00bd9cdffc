"""What the examples in docstrings may use: `model`, a small planted one, and `prompts`."""

import functools
from typing import Any

import pytest


@functools.cache
def _examples() -> dict[str, Any]:
    from workbench.model import load
    from workbench.prompts import Prompts

    return {"model": load("planted:tour"), "prompts": Prompts.of("the bread was baked in the oven")}


@pytest.fixture(autouse=True)
def example_names(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    """Only for doctests, and only when one runs: no other test waits for the model."""
    if isinstance(request.node, pytest.DoctestItem):
        doctest_namespace.update(_examples())
