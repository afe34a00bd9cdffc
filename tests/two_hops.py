"""The planted two-hop model and its questions, with their single hops and shortcuts."""

from functools import cache

import torch
from planting import planted

from workbench.hops import TwoHop, TwoHops
from workbench.model import Model, load


@cache
def late_hop() -> Model:
    """The planted model `late_hop`, loaded once for all tests that only read it."""
    torch.set_num_threads(1)  # the model is so small that more threads only wait for each other
    return load("planted:late_hop")


def planted_hops() -> TwoHops:
    """The questions of the planted model `late_hop`."""
    truth = planted("late_hop").truth
    facts = zip(truth["questions"], truth["first_hop"], truth["second_hop"], strict=True)
    return TwoHops.of(
        *(
            TwoHop(
                name=question["entity"],
                prompt=question["prompt"],
                entity=question["entity"],
                first=f"the home of {question['entity']}",
                bridge=(question["bridge"],),
                answer=(question["answer"],),
                first_hop=first["prompt"],
                second_hop=second["prompt"],
                entity_shortcut=f"the capital of {question['entity']} is",
                relation_shortcut="the capital of the home of is",
                relations=("home", "capital"),
            )
            for question, first, second in facts
        )
    )
