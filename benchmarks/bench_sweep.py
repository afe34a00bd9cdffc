"""All pairs of layers patched at the last position: the sweep engine against the plain loop.

The plain loop installs one edit and decodes greedily, pair by pair; it is run on a sample of the pairs,
on which tokens and logits are compared, and its time is scaled up to the whole grid.
"""

import random
import sys
import time

from workbench.edit import edited, patch
from workbench.generate import greedy
from workbench.model import load
from workbench.sweep import sweep
from workbench.tracer import trace

PROMPT = "The mother of the singer of the song Imagine is"
NEW_TOKENS = 10
SAMPLED = 40


def main(name: str) -> None:
    model = load(name)
    tokens = model.tokens(PROMPT)
    layers = range(model.shape.n_layers)
    base = trace(model, tokens, "resid_post")
    pairs = [(source, target) for source in layers for target in layers if source != target]
    rows = [[(f"L{target}.resid_post@-1", patch(base[f"L{source}.resid_post@-1"][0]))] for source, target in pairs]
    start = time.perf_counter()
    found = {outcome.row: outcome for outcome in sweep(model, tokens, rows, new_tokens=NEW_TOKENS)}
    fast = time.perf_counter() - start
    sample = random.Random(0).sample(range(len(rows)), SAMPLED)
    same, worst, slow = 0, 0.0, 0.0
    for row in sample:
        start = time.perf_counter()
        with edited(model, rows[row]):
            ids = greedy(model, tokens.ids[0].tolist(), NEW_TOKENS)
        slow += time.perf_counter() - start
        same += tuple(ids) == found[row].ids
        with edited(model, rows[row]):
            logits = trace(model, tokens, "logits@-1")["logits@-1"][0]
        worst = max(worst, float((logits - found[row].logits).abs().max()))
    whole = slow / SAMPLED * len(rows)
    print(f"{model.name}: {len(rows)} pairs, {NEW_TOKENS} greedy tokens each")
    print(f"  identical continuations on a sample: {same} of {SAMPLED}; largest logit difference {worst:.1e}")
    print(f"  plain loop {whole:.1f} s (from the sample), sweep {fast:.1f} s: {whole / fast:.1f} x faster")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "gemma-3-270m")
