"""Questions: prompts with their answers as one tokenizer cuts them, and what is wrong with that, row by row."""

from dataclasses import dataclass

from workbench.alignment import deciding_digits, shared_lead
from workbench.model import Model
from workbench.prompts import Prompt
from workbench.tokens import token_text

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """A prompt and the answers to compare, as token ids.

    Attributes:
        prompt: the texts.
        ids: the prompt's tokens; a space that begins both answers as a token of its own stands behind them.
        target: the tokens that should follow; empty when the prompt names no target.
        distractor: the tokens to compare them with; empty when there is none.
        corrupt: the tokens of the corrupt prompt of a pair; empty for a prompt by itself.
        problems: what an analysis that needs single tokens, or a pair of one length, would stumble over.
    """

    prompt: Prompt
    ids: Ids
    target: Ids
    distractor: Ids
    corrupt: Ids
    problems: tuple[str, ...]

    @property
    def compares(self) -> bool:
        """Whether there are two different answers."""
        return bool(self.target and self.distractor) and self.target != self.distractor


def ask(model: Model, prompt: Prompt, target: str, distractor: str) -> Question:
    """One prompt with its answers; `target` and `distractor` stand in where the prompt names none.

    A space that is a token of its own and begins both answers is put behind the prompt: it is no part of an answer.
    """
    answers = (prompt.target or target, prompt.distractor or distractor)
    texts = [prompt.text, *([str(prompt.meta["corrupt"])] if prompt.meta.get("corrupt") else [])]
    lead = shared_lead(model, texts, *answers) if all(answers) else ""
    if lead.isspace():
        texts, answers = [text + lead for text in texts], (answers[0][len(lead) :], answers[1][len(lead) :])
    ids, *corrupt = (_ids(model, text) for text in texts)
    problems: list[str] = []
    long = not _decided_by_one_token(model, texts, answers)
    found = [
        _answer(model, texts[0], ids, text, name, problems, long) if text else ()
        for name, text in zip(("target", "distractor"), answers, strict=True)
    ]
    if not found[0]:
        problems.append("no target is named")
    elif long and found[0][:1] == found[1][:1]:
        problems.append(f"target and distractor begin with the same token {_shown(model, found[0][:1])}")
    if corrupt and len(corrupt[0]) != len(ids):
        problems.append(f"clean has {len(ids)} tokens, corrupt {len(corrupt[0])}")
    elif corrupt and corrupt[0] == ids:
        problems.append("clean and corrupt are the same tokens")
    return Question(prompt, ids, found[0], found[1], corrupt[0] if corrupt else (), tuple(problems))


def _decided_by_one_token(model: Model, texts: list[str], answers: tuple[str, str]) -> bool:
    """Whether the answers, as pairs are compared (`workbench.alignment.align`), come down to a token each."""
    lead = shared_lead(model, texts, *answers)
    rest = deciding_digits(model, *(text[len(lead) :] for text in answers))
    tokens = [tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in rest]
    return all(len(ids) == 1 for ids in tokens) and tokens[0] != tokens[1]


def _answer(model: Model, text: str, ids: Ids, answer: str, name: str, problems: list[str], long: bool) -> Ids:
    """The tokens of an answer behind its prompt; what is unusual about them goes to the problems."""
    joined = _ids(model, text + answer)
    found = joined[len(ids) :]
    if joined[: len(ids)] != ids or not found:
        found = tuple(model.tokenizer(answer, add_special_tokens=False)["input_ids"])
        problems.append(f"read together, prompt and {name} are cut otherwise: {_shown(model, joined[len(ids) - 1 :])}")
    if long and len(found) > 1:
        apart = not model.tokenizer.decode([found[0]]).strip()
        hint = " (the space is a token of its own: end the prompt with it)" if apart else ""
        problems.append(f"{name} is {len(found)} tokens: {_shown(model, found)}{hint}")
    if model.tokenizer.unk_token_id in found:
        problems.append(f"{name} {answer!r} is unknown to the tokenizer")
    return found


def _ids(model: Model, text: str) -> Ids:
    return tuple(model.tokens(text).ids[0].tolist())


def _shown(model: Model, ids: Ids) -> str:
    return ", ".join(map(repr, token_text(model.tokenizer, ids)))
