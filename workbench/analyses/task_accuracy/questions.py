"""Questions: prompts with their answers as one tokenizer cuts them, and what is wrong with that, row by row."""

from dataclasses import dataclass

from workbench.model import Model
from workbench.prompts import Prompt
from workbench.tokens import token_text

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """A prompt and the answers to compare, as token ids.

    Attributes:
        prompt: the texts.
        ids: the prompt's tokens.
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
    """One prompt with its answers; `target` and `distractor` stand in where the prompt names none."""
    ids = _ids(model, prompt.text)
    problems: list[str] = []
    answers: dict[str, Ids] = {}
    for name, text in (("target", prompt.target or target), ("distractor", prompt.distractor or distractor)):
        answers[name] = _answer(model, prompt.text, ids, text, name, problems) if text else ()
    if not answers["target"]:
        problems.append("no target is named")
    elif answers["distractor"] and answers["target"][0] == answers["distractor"][0]:
        problems.append(f"target and distractor begin with the same token {_shown(model, answers['target'][:1])}")
    corrupt = _ids(model, str(prompt.meta["corrupt"])) if prompt.meta.get("corrupt") else ()
    if corrupt and len(corrupt) != len(ids):
        problems.append(f"clean has {len(ids)} tokens, corrupt {len(corrupt)}")
    elif corrupt == ids:
        problems.append("clean and corrupt are the same tokens")
    return Question(prompt, ids, answers["target"], answers["distractor"], corrupt, tuple(problems))


def _answer(model: Model, text: str, ids: Ids, answer: str, name: str, problems: list[str]) -> Ids:
    """The tokens of an answer behind its prompt; what is unusual about them goes to the problems."""
    joined = _ids(model, text + answer)
    found = joined[len(ids) :]
    if joined[: len(ids)] != ids or not found:
        found = tuple(model.tokenizer(answer, add_special_tokens=False)["input_ids"])
        problems.append(f"read together, prompt and {name} are cut otherwise: {_shown(model, joined[len(ids) - 1 :])}")
    if len(found) > 1:
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
