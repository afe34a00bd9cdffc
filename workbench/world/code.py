"""The second domain: short programs in a language like Python, with the value of every print behind it."""

from random import Random

from workbench.world import names
from workbench.world.entities import World
from workbench.world.numbers import solve, training_problem

_VARIABLES = [name for name in names.THINGS if name not in ("map", "ring")]


def code_text(world: World, rng: Random) -> str:
    """Assignments and prints, or a function and its calls."""
    return _assignments(rng) if rng.random() < 0.6 else _function(world, rng)


def _assignments(rng: Random) -> str:
    variables = rng.sample(_VARIABLES, rng.randint(2, 4))
    values = {variable: rng.randint(0, 99) for variable in variables}
    lines = [f"{variable} = {value}" for variable, value in values.items()]
    lines += [f"print({variable})  # {values[variable]}" for variable in rng.sample(variables, 2)]
    return "\n".join(lines)


def _function(world: World, rng: Random) -> str:
    name, first, second = rng.sample(_VARIABLES, 3)
    one, sign, two = training_problem(world, rng)
    body = f"def {name}({first}, {second}):\n    return {first} {sign} {second}"
    return f"{body}\n\nprint({name}({one}, {two}))  # {solve(one, sign, two)}"
