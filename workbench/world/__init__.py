"""A small world in plain English: invented people, towns and countries, the facts about them, and text about both.

Everything follows from a seed. `entities` makes the world, `phrasings` says its facts in many ways, the modules
beside them write one genre of text each, `stream` mixes the genres into training rows, and `questions` holds what
is kept for evaluation. The model that ships with the workbench was trained on this text and nothing else.

Example:
    >>> world = make_world()
    >>> world.facts["capital"]["Belmora"] in world.towns
    True
"""

from workbench.world.entities import RELATIONS, Person, World, make_world

__all__ = ["RELATIONS", "Person", "World", "make_world"]
