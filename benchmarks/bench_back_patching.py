"""Back-patching: all pairs of layers, also the same twice, at both positions of one prompt, against the plain loop.

The plain loop traces nothing anew: it installs one patch and decodes greedily, pair by pair. It is run on
a sample of the pairs, on which the tokens are compared, and its time is scaled up to the whole grid.
"""

import random
import sys
import time

import numpy as np

from workbench.analyses.back_patching.patching import layer_pairs, looped_ids, patch_prompt
from workbench.analyses.back_patching.scoring import score_all
from workbench.edit import patch
from workbench.hops import TwoHop, TwoHops
from workbench.model import load
from workbench.questions import ask_all, build_cases, read_streams
from workbench.words import Site

HOPS = TwoHops.of(
    TwoHop(
        name="imagine",
        prompt="The mother of the singer of the song Imagine is",
        entity="Imagine",
        first="the singer of the song Imagine",
        bridge=("John Lennon",),
        answer=("Julia Lennon", "Julia"),
        first_hop="The singer of the song Imagine is",
        second_hop="The mother of John Lennon is",
    )
)
NEW_TOKENS = 10
SAMPLED = 40
DRAWS = 1


def main(name: str) -> None:
    model = load(name)
    positions = ("entity", "last")
    (asked,) = ask_all(model, build_cases(model, HOPS, positions), NEW_TOKENS, "words")
    pairs = layer_pairs(model, later_only=False)
    start = time.perf_counter()
    own = read_streams(model, asked.case)
    found = patch_prompt(model, asked, own, [], pairs, 0, NEW_TOKENS, 0, np.random.default_rng(0))
    fast = time.perf_counter() - start
    answers = found.answers
    same, slow = 0, 0.0
    for answer in random.Random(0).sample(answers, SAMPLED):
        trial = answer.trial
        site = Site("resid_post", trial.target, pos=asked.case.places[trial.position])
        start = time.perf_counter()
        ids = looped_ids(model, asked.case, [(site, patch(own[trial.position][trial.source]))], NEW_TOKENS)
        slow += time.perf_counter() - start
        same += ids == answer.ids
    whole = slow / SAMPLED * len(answers)
    print(f"{model.name}: {len(answers)} patches of one prompt, {NEW_TOKENS} greedy tokens each")
    print(f"  identical continuations on a sample: {same} of {SAMPLED}")
    print(f"  plain loop {whole:.1f} s (from the sample), sweep {fast:.1f} s: {whole / fast:.1f} x faster")
    identities = [answer for position in positions for answer in found.of_kind(position, "same layer")]
    kept = sum(answer.ids == asked.plain for answer in identities)
    print(f"  a layer patched with itself says what the plain prompt says: {kept} of {len(identities)}")
    others = TwoHops.bundled()
    donors = [read_streams(model, case) for case in build_cases(model, TwoHops.of(*others[:DRAWS]), positions)]
    control = patch_prompt(model, asked, own, donors, pairs, DRAWS, NEW_TOKENS, 0, np.random.default_rng(0))
    scores = score_all([control], others, positions, model.shape.n_layers, "words", np.random.default_rng(0))
    for (position, what), rate in scores.rates.items():
        if len(rate):
            print(f"  {position}: {what} {100 * rate.mean():.0f}%")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "gemma-3-270m")
