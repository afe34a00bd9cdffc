"""Direct logit attribution: which parts of the model write the answer into the final stream, and how much.

Idea. The logits are read from the residual stream, and the stream is a sum: the embedding, what every head
reads at every token, every neuron. So a logit difference splits into one number for each of them.
Score. Logits, any sign: <what a part wrote, (row of the target - row of the distractor) of the unembedding>,
through the norms behind it. Each of the four ways to split (components, heads, neurons, source tokens) adds up
to the logit difference, and the checks say how exactly.
Differs from the paper. Heads and neurons are taken through the norms that Gemma 2 and 3 or OLMo 2 put behind
attention and MLP; biases are parts of their own; a target by itself is compared with the mean over the
vocabulary, because only differences of logits mean anything; `random` says what the same part adds to a random
pair of tokens, so that large and small have a measure.
Beware. Only the direct way is counted: a head that moves information to a later head gets nothing for it. The
statistic of each norm is frozen, so the number is not what would change if the part were removed. Logits are
taken before any soft cap (Gemma 2).
Reference: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", and Wang et al. 2022,
arXiv 2211.00593; authors' code: not consulted.
"""

from workbench.analyses.direct_logit_attribution.reading import read_prompt
from workbench.analyses.direct_logit_attribution.telling import tell
from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.progress import track
from workbench.prompts import Prompts
from workbench.result import Result

NEEDS = ("resid_pre", "resid_post", "attn_out", "mlp_out", "z")
TOUR = {"top": 8}


@analysis(title="Direct logit attribution", family="lens", reference="arXiv:2211.00593")
def direct_logit_attribution(
    model: Model,
    prompts: Prompts,
    *,
    target: str = "",
    distractor: str = "",
    pos: int = -1,
    top: int = 10,
    draws: int = 100,
    seed: int = 0,
) -> Result:
    """Split a logit difference over layers, heads, neurons and the tokens that the heads read.

    Args:
        model: a loaded model.
        prompts: one prompt, or several of one kind, over which is averaged.
        target: the token whose logit is split, such as " Mary" (exactly one token); empty for each
            prompt's own target, or else for the model's most likely token.
        distractor: the token to compare with; empty for each prompt's own distractor, or else for the
            mean over the vocabulary.
        pos: the position at which the model speaks; negative counts from the end.
        top: how many heads and neurons to list, 1 or more.
        draws: how many random pairs of tokens the baseline takes, 1 or more.
        seed: seed of the random pairs and of the intervals.

    Returns:
        Result with `component` and `component_random` ([component]), `head` and `head_random` ([layer,
        head]), `neuron` ([layer, neuron]), `source` ([layer, key]), `head_source` ([head, key], the
        strongest heads) and `token` ([key]), in logits, and the tables `components`, `heads`, `neurons`
        and `prompts`. Several prompts give means with 95% bootstrap intervals; sources keep an example axis.

    Example:
        >>> direct_logit_attribution(model, prompts).arrays["head"].axes
        ('layer', 'head')
    """
    for name, value in {"top": top, "draws": draws}.items():
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, found {value}")
    readings = [
        read_prompt(model, prompt, target, distractor, pos, draws, seed) for prompt in track(prompts, "prompts")
    ]
    return tell(model, readings, top, draws, seed)


def cost(model: Model, prompts: Prompts, *, pos: int, draws: int, **_others: object) -> Cost:
    """One pass for each prompt; values of every token, and every neuron along every random pair."""
    shape = model.shape
    lengths = model.tokens(prompts).lengths
    logits = shape.d_vocab * (1 if pos == -1 else max(lengths))
    values = shape.n_layers * shape.n_kv_heads * shape.d_head * max(lengths)
    neurons = shape.n_layers * shape.d_mlp * (draws + 1)
    return Cost(passes=len(prompts), tokens=sum(lengths), bytes=4 * (2 * logits + values + neurons))
