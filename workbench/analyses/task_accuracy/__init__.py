"""Task accuracy: which prompts of a set the model can do, and which fit its tokenizer.

Idea. Before a mechanism is looked for, the model must have the skill. Every prompt of a set is run; its target
is said, or at least preferred to its distractor, or not.
Score. `says`: share of prompts whose greedy continuation begins with all tokens of the target. `prefers`: share
in which the target is more probable than the distractor. Both from 0 to 1, with a 95% bootstrap interval over
the prompts. Per prompt: probability of the whole target, rank of its first token (0 is the most likely), and
the log probability of the target minus that of the distractor in nats, which for single tokens is the logit
difference. Baseline: the same shares with the targets (and distractors) of other rows, permuted 1000 times.
Differs from the paper. There is none: these are the usual numbers, with answers of several tokens scored by
the chain rule instead of refused.
Beware. A target that is not said may have a synonym that is: read `said`. Where many targets are right (a
larger year), look at `prefers`. Rows with a problem are scored all the same; an analysis that needs single
tokens or pairs of one length will leave them out. Numbers are scored whole here, also where such an analysis
compares their first differing digits.
Reference: folklore; authors' code: there is none.
"""

from workbench.analyses.task_accuracy.answering import answer
from workbench.analyses.task_accuracy.questions import ask
from workbench.analyses.task_accuracy.telling import tell
from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.result import Result

TOUR = {"target": " smoked", "distractor": " green"}


@analysis(title="Task accuracy", family="lens", reference="folklore")
def task_accuracy(
    model: Model,
    prompts: Prompts,
    *,
    target: str = "",
    distractor: str = "",
    new_tokens: int = 5,
    seed: int = 0,
) -> Result:
    """Tell which prompts of a set the model answers right, and which its tokenizer cuts badly.

    Args:
        model: a loaded model.
        prompts: prompts with targets, such as the sets capitals, opposites, plurals; of a set of pairs
            (indirect_objects, greater_than, sums) the clean prompts are asked.
        target: the answer to prompts that name none, with its leading space.
        distractor: what to compare it with, for prompts that name none.
        new_tokens: length of the greedy continuation, 1 or more; a longer target makes it longer.
        seed: seed of the intervals and of the permutations.

    Returns:
        Result with `accuracy`, `lower`, `upper`, `permuted` ([component]), `probability`, `rank` and
        `difference` ([example], NaN where there is none), and the tables `prompts`,
        `problems`, `details` and `groups`.

    Example:
        >>> task_accuracy(model, prompts, target=" and").tables["prompts"][0]["says"]
        False
    """
    if new_tokens < 1:
        raise ValueError(f"new_tokens must be 1 or more, found {new_tokens}")
    questions = [ask(model, prompt, target, distractor) for prompt in prompts]
    longest = max(len(one.target) for one in questions)
    if longest == 0:
        raise ValueError("no prompt names a target: give the knob target, or a set such as capitals")
    return tell(model, questions, answer(model, questions, max(new_tokens, longest)), seed)


def cost(model: Model, prompts: Prompts, *, new_tokens: int, **_others: object) -> Cost:
    """One pass a prompt and its continuation."""
    lengths = model.tokens(prompts).lengths
    return Cost(
        passes=len(set(lengths)) * new_tokens,
        tokens=sum(lengths) + len(lengths) * new_tokens,
        bytes=3 * 4 * min(len(lengths) * model.shape.d_vocab, 64_000_000),
    )
