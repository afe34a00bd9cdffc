"""Retrieval scores: rows of one verified pass against step-by-step decoding with full attention outputs.

The slow road is the reference algorithm re-expressed: prefill the prompt without its last token, then
decode greedily one token at a time with `output_attentions`, and look at the last row of every head.
"""

import sys
import time

import torch
from transformers import DynamicCache

from workbench.analyses.retrieval_heads.cases import Case, build_cases
from workbench.analyses.retrieval_heads.scoring import read_cases, score_heads, stop_rule
from workbench.bridge import share_weights
from workbench.model import Model, load
from workbench.prompts import Needles

LENGTH = 1000
DEPTHS = (0, 25, 50, 75, 100)
NEW_TOKENS = 30


def reference(model: Model, plain: torch.nn.Module, case: Case) -> tuple[list[int], torch.Tensor]:
    """Greedy tokens, and for every head the share of the answer's positions that it copied."""
    ids = case.tokens.ids
    cache, stops = DynamicCache(), stop_rule(model)
    with torch.no_grad():
        plain(ids[:, :-1], past_key_values=cache, use_cache=True)
        entering, made, copied = ids[:, -1:], [], {}
        for _ in range(NEW_TOKENS):
            output = plain(entering, past_key_values=cache, use_cache=True, output_attentions=True)
            entering = output.logits[:, -1:].argmax(-1)
            made.append(int(entering))
            for layer, weights in enumerate(output.attentions):
                for head in range(weights.shape[1]):
                    key = int(weights[0, head, -1].argmax())
                    if key in case.span and int(ids[0, key]) == made[-1]:
                        copied.setdefault((layer, head), set()).add(key)
            if stops(made[-1]):
                break
    scores = torch.zeros(model.shape.n_layers, model.shape.n_heads)
    for head, places in copied.items():
        scores[head] = len(places) / len(case.span)
    return made, scores


def main(name: str) -> None:
    model = load(name)
    eager = share_weights(model.plain)
    eager.set_attn_implementation("eager")
    needles = Needles.bundled()
    cases, hay = build_cases(model, Needles.of(needles[:2], needles.haystack), (LENGTH,), DEPTHS, True, NEW_TOKENS)
    start = time.perf_counter()
    readings = read_cases(model, cases, hay, NEW_TOKENS, 0.5)
    fast = time.perf_counter() - start
    start = time.perf_counter()
    slow_results = [reference(model, eager, case) for case in cases]
    slow = time.perf_counter() - start
    same = sum(tuple(made) == reading.decoded.ids for (made, _), reading in zip(slow_results, readings, strict=True))
    gap = max(
        float((scores - score_heads(reading, "positions")).abs().max())
        for (_, scores), reading in zip(slow_results, readings, strict=True)
    )
    print(
        f"{model.name}: {len(cases)} needle prompts of about {LENGTH} tokens, "
        f"{sum(reading.answered for reading in readings)} answered"
    )
    print(f"  identical answers {same} of {len(cases)}; largest difference of a score {gap:.1e}")
    print(f"  step by step {slow:.1f} s, verified passes {fast:.1f} s: {slow / fast:.1f} x faster")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "gemma-3-270m")
