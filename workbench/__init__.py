"""A mechanistic interpretability workbench: trace, edit and explain any Hugging Face decoder.

The public words are loaded on first use, so that `import workbench` needs no torch.

Example:
    >>> from workbench import Site
    >>> Site("resid_post", 9).axes
    ('batch', 'pos', 'd_model')
"""

from importlib import import_module

_HOME = {
    "load": "model",
    "Model": "model",
    "trace": "tracer",
    "Trace": "tracer",
    "edited": "edit",
    "edits": "edit_words",
    "greedy": "generate",
    "load_coders": "coders",
    "load_transcoders": "coders",
    "train_sae": "coders.training",
    "train_transcoders": "coders.training",
    "run": "catalog",
    "analysis": "catalog",
    "CATALOG": "catalog",
    "Result": "result",
    "Named": "result",
    "Check": "result",
    "Site": "words",
    "Prompt": "prompts",
    "Prompts": "prompts",
    "Needles": "prompts",
    "Pair": "pairs",
    "Pairs": "pairs",
    "TwoHop": "hops",
    "TwoHops": "hops",
    "Store": "store",
    "report": "reports",
    "compare": "comparison",
    "series": "series",
    "head_card": "head_card",
    "neuron_card": "head_card",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"workbench has no {name!r}: the public names are {', '.join(__all__)}")
    return getattr(import_module(f"workbench.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
