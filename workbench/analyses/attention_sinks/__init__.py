"""Attention sinks: which heads rest on the first token, on which kind of text, and what is lost without them.

Idea. A row of attention must add up to one, so a head that has nothing to look for puts it somewhere harmless: on
the first token, whose value writes next to nothing and whose residual stream grows huge. A head may rest on one kind
of text and work on another (active-dormant).
Score. `sink`: mean attention to the sink token over the queries that see it, from the second behind it on, 0 to 1.
`dormancy`: the share of queries that put more than half there. `drain`: the length of what the head would write of
the sink token over the median of the others; 0 is a token that is safe to rest on. `norm`: length of the stream.
`loss_change`: nats by which the loss rises when the head writes nothing (zero), beside as many random heads.
Baselines: `even`, attention spread over all that is seen; the same texts with random tokens behind the first; and one
token over and over, where sinks often disperse.
Differs from the paper. Queries that cannot see the sink token, as in sliding windows, do not count. Lengths of values
are taken before any norm behind attention.
Beware. On short texts even attention scores high: look at `even`. Without a token that begins a sequence the sink is
the first word, or a delimiter: look at `received`. A head that rests may still be needed on other text.
Reference: Guo et al. 2024, arXiv 2410.13835 (active-dormant heads); Xiao et al. 2023, arXiv 2309.17453; Gu et al.
2024, arXiv 2410.10781; authors' code: its metrics were read, none is used.
"""

from workbench.analyses.attention_sinks.heads import Found
from workbench.analyses.attention_sinks.reading import Reading, attending_layers, read_text
from workbench.analyses.attention_sinks.resting import loss_changes
from workbench.analyses.attention_sinks.telling import tell
from workbench.analyses.attention_sinks.texts import Texts, choose
from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.progress import track
from workbench.prompts import Prompts
from workbench.result import Result

NEEDS = ("pattern", "scores", "v", "z", "resid_post")
TOUR = {"ablated": 2}


@analysis(title="Attention sinks", family="attention", reference="arXiv:2410.13835")
def attention_sinks(
    model: Model,
    prompts: Prompts,
    *,
    domain: str = "",
    texts: int = 20,
    position: int = 0,
    ablated: int = 4,
    seed: int = 0,
) -> Result:
    """Find the heads that rest on one token, and the kinds of text on which they do.

    Args:
        model: a loaded model.
        prompts: texts of four tokens or more; longer ones tell more.
        domain: the field of the prompts' meta that sorts them into kinds of text; empty for one kind.
        texts: up to how many prompts of each kind, 1 or more.
        position: which token is taken for the sink, counted from 0.
        ablated: how many heads are set to zero one at a time, those whose rest differs most between the kinds (with
            one kind, those that rest most), and as many random others; 0 for none.
        seed: seed of the random tokens and heads.

    Returns:
        Result with `sink`, `dormancy` and `even` ([component, layer, head], `even` without head; a component for
        each kind of text and each control), `drain` ([layer, head]), `norm` ([component, layer]), `received`
        ([layer, pos], for the first prompt), `loss_change` ([component, layer, head], NaN where nothing was done)
        and the table `heads`.

    Example:
        >>> attention_sinks(model, prompts, ablated=0).arrays["drain"].axes
        ('layer', 'head')
    """
    for name, given, least in (("texts", texts, 1), ("position", position, 0), ("ablated", ablated, 0)):
        if given < least:
            raise ValueError(f"{name} must be {least} or more, found {given}")
    chosen = Texts.of(model, prompts, domain, texts, position, seed)
    readings: dict[str, list[Reading]] = {}
    for kind, ids in track(chosen.rows, "texts"):
        readings.setdefault(kind, []).append(read_text(model, ids, position))
    found = Found(attending_layers(model), chosen, readings)
    notable, others = found.notable(ablated), found.others(ablated, seed)
    return tell(model, found, loss_changes(model, chosen, notable), loss_changes(model, chosen, others))


def cost(model: Model, prompts: Prompts, *, domain: str, texts: int, ablated: int, **_others: object) -> Cost:
    """A pass for each text and each of its controls, and one for each head that is set to zero."""
    chosen = choose(prompts, domain, max(texts, 1))
    kept = model.tokens(Prompts([prompt for some in chosen.values() for prompt in some])).lengths
    passes = 3 + (2 + 2 * ablated if ablated else 0)
    widest = max(kept)
    held = 4 * (3 * model.shape.n_heads * widest**2 + widest * model.shape.d_vocab)
    return Cost(passes=passes * len(kept), tokens=passes * sum(kept), bytes=held + 50_000_000)
