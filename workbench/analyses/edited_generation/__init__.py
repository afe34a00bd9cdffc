"""Edited generation: what the model goes on to say, plain and edited side by side.

Idea. Edits are written in words and put into the model while it speaks. Both continuations are shown, with the
token at which they part. So that the numbers compare like with like, the edited model is also led along the
plain continuation, and its predictions are compared with the plain ones token by token.
Score. KL(plain || edited) of the next token in nats, at each token of the plain continuation, 0 where nothing
changed; and the lead: the logit of the plain token minus the largest other, positive where the model says it.
Control: the same edits at other heads or neurons of the same layer, drawn at random; an edit of a whole site
moves to another layer.
Differs from the paper. There is none. With a temperature both runs draw with the same noise, so that they part
only where the edit changes something.
Beware. After the continuations part they are about different texts: only the numbers along the plain one are
comparable. A control of the same size may change as much; look at how many do. Texts that an edit breaks need
not be what the edited place is for.
Reference: folklore; authors' code: there is none.
"""

from workbench.analyses.edited_generation.comparing import Speaker, speak
from workbench.analyses.edited_generation.controls import draw_controls
from workbench.analyses.edited_generation.telling import tell
from workbench.catalog import Cost, analysis
from workbench.edit_words import read_edits
from workbench.model import Model
from workbench.progress import track
from workbench.prompts import Prompts
from workbench.result import Result

TOUR = {"edits": "zero L2.H1", "new_tokens": 8, "controls": 4}


@analysis(title="Edited generation", family="changes", reference="folklore")
def edited_generation(
    model: Model,
    prompts: Prompts,
    *,
    edits: str = "zero L0.H0",
    new_tokens: int = 20,
    temperature: float = 0.0,
    controls: int = 8,
    seed: int = 0,
) -> Result:
    """Continue prompts plain and with edits, and tell where and by how much they part.

    Args:
        model: a loaded model.
        prompts: texts to be continued.
        edits: in words, with ; between them: zero L5.H1, scale L3.mlp_out 0.5, clamp L4.N123 5, each also with
            "from 12"; skip L7, skip L7.attn, skip L7.mlp; repeat L7 2; cut L5.H1 query 7 key 0.
        new_tokens: length of the continuations at most, 1 or more; they end where the model ends a text.
        temperature: 0 for the most likely token at each step, else how freely to draw.
        controls: how many times to draw other places for the same edits; 0 for none.
        seed: seed of the draws.

    Returns:
        Result with `kl`, `kl_control`, `lead_plain` and `lead_edited` ([example, step], NaN beyond the end), and
        the tables `runs`, `continuations`, `steps` and `controls`.

    Raises:
        ValueError: an edit that cannot be read, or that the model has no place for.

    Example:
        >>> edited_generation(model, prompts, edits="skip L1", new_tokens=2).scalars["parted"]
        0
    """
    if new_tokens < 1 or controls < 0 or temperature < 0:
        raise ValueError(
            "new_tokens is 1 or more, controls and temperature are 0 or more: "
            f"found {new_tokens}, {controls} and {temperature}"
        )
    written = read_edits(edits)
    drawn = draw_controls(model, written, controls, seed)
    speaker = Speaker(model, new_tokens, temperature, seed)
    spoken = [speak(speaker, prompt, written, drawn) for prompt in track(prompts, "prompts")]
    return tell(model, spoken, written, drawn, temperature)


def cost(model: Model, prompts: Prompts, *, new_tokens: int, controls: int, **_others: object) -> Cost:
    """Two continuations of each prompt, and one pass over the plain one for the edit and every control."""
    lengths = model.tokens(prompts).lengths
    whole = sum(lengths) + len(lengths) * new_tokens
    return Cost(
        passes=len(lengths) * (2 * new_tokens + 3 + controls),
        tokens=whole * (5 + controls),
        bytes=8 * 4 * new_tokens * model.shape.d_vocab,
    )
