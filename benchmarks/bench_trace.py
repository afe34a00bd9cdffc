"""What watching costs: traces of the residual stream against a plain forward pass.

A model of the shape of GPT-2 small with random weights, 16 tokens; then the real 270M model, 64 tokens.
"""

import sys
import tempfile
from pathlib import Path

import torch
from timing import compare, show
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from workbench.analyses.logit_lens import logit_lens
from workbench.lens import read_out
from workbench.model import Model, load
from workbench.prompts import Prompts
from workbench.tracer import trace


def gpt2_small() -> Model:
    torch.manual_seed(0)
    vocabulary = {f"w{index}": index for index in range(50257)}
    words = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="w0")),
        unk_token="w0",
        bos_token="w1",
        eos_token="w1",
        pad_token="w1",
    )
    with tempfile.TemporaryDirectory() as folder:
        words.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    model = GPT2LMHeadModel(GPT2Config())
    model.requires_grad_(False)
    return load(model, tokenizer=tokenizer)


def against_plain(model: Model, length: int, rounds: int) -> None:
    ids = torch.randint(10, 50000, (1, length), generator=torch.Generator().manual_seed(1))
    tokens = model.tokens_of([ids[0].tolist()])

    def plain() -> object:
        with torch.no_grad():
            return model.plain(ids, use_cache=False)

    def lens_cache(names: object) -> object:
        with torch.no_grad():
            return model.bridge.run_with_cache(ids, names_filter=names)

    works = {
        "plain Hugging Face forward": plain,
        "trace all three residual kinds": lambda: trace(model, tokens, ["resid_pre", "resid_mid", "resid_post"]),
        "trace resid_post and logits": lambda: trace(model, tokens, ["resid_post", "logits"]),
        "trace all three residual kinds and logits": lambda: trace(
            model, tokens, ["resid_pre", "resid_mid", "resid_post", "logits"]
        ),
        "TransformerLens run_with_cache, resid_post": lambda: lens_cache(lambda name: name.endswith("resid_post")),
        "TransformerLens run_with_cache, everything": lambda: lens_cache(None),
    }
    seconds = compare(works, rounds)
    show(f"{model.name}, {length} tokens", seconds, "plain Hugging Face forward")


def lens_against_plain(model: Model, text: str, rounds: int) -> None:
    prompts = Prompts.of(text)
    tokens = model.tokens(prompts)
    layers = model.shape.n_layers

    def plain() -> object:
        with torch.no_grad():
            return model.plain(tokens.ids, use_cache=False)

    resid = trace(model, tokens, f"L{layers - 1}.resid_post")[f"L{layers - 1}.resid_post"]

    def unembed_all_layers() -> object:
        with torch.no_grad():
            return [read_out(model.bridge, resid).float().log_softmax(-1) for _ in range(layers)]

    def both() -> None:
        plain()
        unembed_all_layers()

    works = {
        "plain forward + unembedding of every layer": both,
        "logit_lens": lambda: logit_lens(model, prompts),
        "plain Hugging Face forward": plain,
    }
    seconds = compare(works, rounds)
    show(
        f"logit lens, {model.name}, {tokens.lengths[0]} tokens",
        seconds,
        "plain forward + unembedding of every layer",
    )


if __name__ == "__main__":
    against_plain(gpt2_small(), 16, 30)
    real = load(sys.argv[1] if len(sys.argv) > 1 else "gemma-3-270m")
    against_plain(real, 64, 8)
    essay = Path(__file__).with_name("timing.py").read_text()[:300]
    lens_against_plain(real, essay, 5)
