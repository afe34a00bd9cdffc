"""Activation patching of one indirect-object pair: through the sweep, by the plain loop, and estimated from gradients.

All heads and all positions of three streams in both directions. The plain loop installs one patch and runs the
whole prompt again; it is run on a sample of the patches, on which the effects are compared, and its time is
scaled up to all of them. The estimates are held against the exact effects of the heads.
"""

import random
import sys
import time

import numpy as np

from workbench.analyses.activation_patching.cases import build_cases
from workbench.analyses.activation_patching.estimating import ESTIMATES, estimate, read_runs
from workbench.analyses.activation_patching.patching import (
    CLEAN,
    CORRUPT,
    DENOISE,
    NOISE,
    STREAMS,
    Donors,
    Plan,
    into_run,
    looped_value,
    patch_pair,
)
from workbench.model import load
from workbench.pairs import Pairs
from workbench.stats import pearson, spearman

SAMPLED = 40
STEPS = 5


def main(name: str) -> None:
    model = load(name)
    (case,), _ = build_cases(model, Pairs.of(Pairs.bundled()[0]), "difference", skip=False)
    plan = Plan("z", model.shape.n_heads, STREAMS, ablate=False)
    start = time.perf_counter()
    runs = read_runs(model, case, plan)
    at_the_ends = time.perf_counter() - start
    estimated = estimate(model, case, runs, plan, STEPS)
    along_the_path = time.perf_counter() - start
    start = time.perf_counter()
    patched = patch_pair(model, case, runs, plan, Donors(), 0, np.random.default_rng(0))
    fast = time.perf_counter() - start
    trials = [(base, trial) for base in (CORRUPT, CLEAN) for trial in into_run(model, case, runs, plan, Donors(), base)]
    slow, worst = 0.0, 0.0
    for base, trial in random.Random(0).sample(trials, SAMPLED):
        tokens = case.aligned.clean if base == CLEAN else case.aligned.corrupt
        start = time.perf_counter()
        value = looped_value(model, case, tokens, trial.row)
        slow += time.perf_counter() - start
        effect = value - patched.corrupt if base == CORRUPT else patched.clean - value
        worst = max(worst, abs(effect - patched.effects[trial.measure, trial.where][trial.layer, trial.place]))
    whole = slow / SAMPLED * len(trials)
    print(
        f"{model.name}: {len(trials)} patches of one pair of {case.length} tokens, {case.first} before the first change"
    )
    print(f"  largest difference on a sample of {SAMPLED}: {worst / abs(patched.gap):.1e} of the whole effect")
    print(f"  plain loop {whole:.1f} s (from the sample), sweep {fast:.1f} s: {whole / fast:.1f} x faster")
    print(f"  gradients at both ends {at_the_ends:.2f} s, with {STEPS} steps of the path {along_the_path:.2f} s")
    for exact in (DENOISE, NOISE):
        real = patched.effects[exact, "z"].ravel()
        for told in ESTIMATES:
            guess = estimated.effects[told, "z"].ravel()
            print(f"  {exact:<8} {told:<22} Pearson {pearson(real, guess):.3f}  Spearman {spearman(real, guess):.3f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "gemma-3-270m")
