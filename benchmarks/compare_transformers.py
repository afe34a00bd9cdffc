"""Whether a bundled model is the same model in transformers 4 as in the version that is installed here.

    python benchmarks/compare_transformers.py world [FOLDER]

makes an environment with transformers 4.57 in FOLDER (some 300 MB; a temporary one without it), reads the model
there and here, and compares token ids, texts, logits and a greedy continuation. Any difference ends it with code 1.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TEXTS = (
    "Anna gave the lamp to Tom. Then Tom gave it to",
    "The war lasted from the year 1739 to the year 17",
    "47 + 38 = 85 and 7+8=15",
    "def add(a, b):\n    return a + b\n",
    "  two spaces , don't  clean .  Up , naïve 東京 \N{SLIGHTLY SMILING FACE}",
    "<s>a start inside</s>",
)
NEW_TOKENS = 24
TOLERANCE = 1e-4


def read(folder: str) -> dict:
    """What transformers makes of the folder: it runs in both environments, so it needs nothing else."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).float().eval()
    batch = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    first = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    with torch.no_grad():
        logits = model(**batch).logits
        told = model.generate(first, attention_mask=torch.ones_like(first), max_new_tokens=NEW_TOKENS, do_sample=False)
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    return {
        "version": transformers.__version__,
        "tokenizer": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, len(tokenizer)],
        "ids": rows,
        "pair": tokenizer(TEXTS[0], TEXTS[2])["input_ids"],
        "padded": batch["input_ids"].tolist(),
        "decoded": [tokenizer.decode(row) for row in rows],
        "without special tokens": [tokenizer.decode(row, skip_special_tokens=True) for row in rows],
        "pieces": [tokenizer.convert_ids_to_tokens(row) for row in rows],
        "greedy": told[0].tolist(),
        "context": [tokenizer.model_max_length, model.config.max_position_embeddings],
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "logits": [row[: len(ids)].tolist() for row, ids in zip(logits, rows, strict=True)],
    }


def make_environment(folder: Path) -> Path:
    """An environment with transformers 4.57, and torch of the same version as here; it is kept as it is if there."""
    from importlib.metadata import version

    python = folder / "bin" / "python"
    if not python.is_file():
        venv.create(folder, with_pip=True)
        # torch first and alone: the exact pin takes a CPU build where there is one
        for wanted in (["torch==" + version("torch").partition("+")[0]], ["transformers==4.57.*", "numpy"]):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python


def read_there(python: Path, folder: str) -> dict:
    """What the environment of this Python makes of the folder."""
    command = [str(python), __file__, "--read", folder]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def compare(there: dict, here: dict) -> list[str]:
    """The names of what differs."""
    gap = max(
        abs(one - other)
        for rows in zip(there.pop("logits"), here.pop("logits"), strict=True)
        for pair in zip(*rows, strict=True)
        for one, other in zip(*pair, strict=True)
    )
    print(f"transformers {there.pop('version')} against {here.pop('version')}: largest gap of a logit {gap:.1e}")
    return [name for name in here if there[name] != here[name]] + ["logits"] * (gap > TOLERANCE)


def main(name: str, environment: str | None = None) -> int:
    from workbench.sources import find_source

    folder = find_source(name).place
    with tempfile.TemporaryDirectory() as scratch:
        python = make_environment(Path(environment or scratch))
        there, here = read_there(python, folder), read(folder)
    different = compare(there, here)
    for what in different:
        print(f"  {what} differ: {there.get(what)} against {here.get(what)}")
    print(f"{name}: " + (f"{len(different)} differences" if different else "the same model in both"))
    return int(bool(different))


if __name__ == "__main__":
    if sys.argv[1] == "--read":
        print(json.dumps(read(sys.argv[2])))
    else:
        sys.exit(main(*sys.argv[1:]))
