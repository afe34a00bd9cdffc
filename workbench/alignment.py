"""Alignment: a pair of prompts as one model sees it, token for token, or a sentence that says why not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix

from workbench.model import Model
from workbench.pairs import Pair
from workbench.tokens import Tokens

ROLES = ("first changed", "between", "last changed", "next", "further", "last")
"""What a position can be in a pair, from the first changed token on; before it both runs are the same."""


@dataclass(frozen=True)
class Aligned:
    """A pair whose prompts have the same number of tokens.

    Attributes:
        pair: the texts; what target and distractor begin with alike, as whole tokens, stands behind the prompts.
        tokens: two rows, clean and corrupt.
        target: the token that should follow the clean prompt.
        distractor: the token to compare it with, None when the pair names none.
        changed: the positions at which the two rows differ.
        led: whether a beginning of the answers was put behind the prompts.
        shortened: whether the answers are numbers of which only the first digit that differs is compared.
    """

    pair: Pair
    tokens: Tokens
    target: int
    distractor: int | None
    changed: tuple[int, ...]
    led: bool = False
    shortened: bool = False

    @property
    def clean(self) -> Tokens:
        """The clean prompt by itself."""
        return _row(self.tokens, 0)

    @property
    def corrupt(self) -> Tokens:
        """The corrupt prompt by itself."""
        return _row(self.tokens, 1)

    @property
    def length(self) -> int:
        """How many tokens each prompt has."""
        return self.tokens.lengths[0]

    @property
    def first(self) -> int:
        """The first changed position; what comes before is the same in both runs."""
        return self.changed[0]

    def role(self, pos: int) -> str:
        """What a position from the first changed token on is in this pair, one of `ROLES`."""
        last = self.changed[-1]
        if pos == self.length - 1:
            return "last"
        if pos in (self.first, last):
            return "first changed" if pos == self.first else "last changed"
        if pos < last:
            return "between"
        return "next" if pos == last + 1 else "further"


def align(model: Model, pair: Pair) -> Aligned:
    """The tokens of a pair.

    Where target and distractor are several tokens and begin with the same ones (" 8" and " 7" are a space and a
    digit for some tokenizers), these are put behind both prompts, and what follows is target and distractor. Of
    two numbers of equally many digits, for a tokenizer that cuts every digit off, the first digits that differ are
    compared: they decide which is the larger.

    Raises:
        ValueError: the prompts differ in how many tokens they have or in none of them, or the target or
            the distractor is not one token.
    """
    given, pair = pair, fitted(model, pair)
    clean, corrupt = model.tokens(pair.clean), model.tokens(pair.corrupt)
    if clean.lengths != corrupt.lengths:
        raise ValueError(
            f"pair {pair.clean!r}: clean has {clean.lengths[0]} tokens for {model.name} and corrupt has "
            f"{corrupt.lengths[0]}, but a patch goes from token to token: {list(clean.text[0])} and "
            f"{list(corrupt.text[0])}"
        )
    changed = tuple((clean.ids[0] != corrupt.ids[0]).nonzero()[:, 0].tolist())
    if not changed:
        raise ValueError(
            f"pair {pair.clean!r}: for {model.name} both prompts are the same tokens {list(clean.text[0])}"
        )
    try:
        target = model.token(pair.target)
        distractor = model.token(pair.distractor) if pair.distractor else None
    except ValueError as error:
        raise ValueError(f"pair {pair.clean!r}: {error}") from error
    if target == distractor:
        raise ValueError(
            f"pair {pair.clean!r}: target {pair.target!r} and distractor {pair.distractor!r} are the same token "
            f"{model.tokenizer.decode([target])!r} for {model.name}"
        )
    led = pair.clean != given.clean
    shortened = len(pair.clean + pair.target) < len(given.clean + given.target)
    return Aligned(pair, model.tokens([pair.clean, pair.corrupt]), target, distractor, changed, led, shortened)


def fitted(model: Model, pair: Pair) -> Pair:
    """The pair as `align` compares it; for most tokenizers and answers the pair itself."""
    lead = shared_lead(model, (pair.clean, pair.corrupt), pair.target, pair.distractor)
    target, distractor = deciding_digits(model, pair.target[len(lead) :], pair.distractor[len(lead) :])
    return replace(pair, clean=pair.clean + lead, corrupt=pair.corrupt + lead, target=target, distractor=distractor)


def shared_lead(model: Model, prompts: Sequence[str], target: str, distractor: str) -> str:
    """What two answers begin with alike: whole tokens, which are the same behind the prompts; often nothing.

    (" 8" and " 7" are a space and a digit for some tokenizers.)
    """
    answers = [_ids(model, text) for text in (target, distractor)]
    shared = answers[0][: len(commonprefix(answers))]
    if not shared or min(map(len, answers)) == len(shared) or not model.tokenizer.is_fast:
        return ""
    told = model.tokenizer(target, add_special_tokens=False, return_offsets_mapping=True)
    lead = target[: told["offset_mapping"][len(shared) - 1][1]]
    same = all(_ids(model, text + lead) == _ids(model, text) + shared for text in prompts)
    return lead if same and distractor.startswith(lead) else ""


def deciding_digits(model: Model, target: str, distractor: str) -> tuple[str, str]:
    """Two numbers of equally many digits as their first digits, where each digit is a token of its own.

    When those differ, they decide which number is the larger, whatever follows. All other answers stay as they are.
    """
    digits = [text.lstrip() for text in (target, distractor)]
    long = len(digits[0]) == len(digits[1]) > 1 and digits[0][0] != digits[1][0]
    apart = long and all(
        number.isascii() and number.isdigit() and len(_ids(model, text)) == len(number)
        for text, number in zip((target, distractor), digits, strict=True)
    )
    return (target[: 1 - len(digits[0])], distractor[: 1 - len(digits[1])]) if apart else (target, distractor)


def _ids(model: Model, text: str) -> list[int]:
    return model.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []


def _row(tokens: Tokens, row: int) -> Tokens:
    part = slice(row, row + 1)
    return Tokens(tokens.ids[part], tokens.lengths[part], tokens.text[part], tokens.spans[part])
