"""Arithmetic on `n_jobs`, as in `pre_dispatch="3 * n_jobs + 1"`.

Text from users is read by the grammar below and by nothing else: no `eval`, no `ast`, one name. Length,
nesting and values are bounded, so that no text costs more than microseconds. Pure functions, any thread.

    sum     = product {("+" | "-") product}
    product = atom {("*" | "/" | "//" | "%") atom}
    atom    = number | "n_jobs" | ("+" | "-") atom | "(" sum ")"
"""

from __future__ import annotations

import operator
from functools import lru_cache

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable

    Number = int | float
    Operators = dict[str, Callable[[Number, Number], Number]]

MAX_LENGTH = 200  # characters; real expressions have fewer than 20
MAX_NESTING = 20  # parentheses and signs; bounds the recursion
MAX_VALUE = 2**53  # beyond it floats skip integers, and nobody dispatches that many tasks

SUM: Operators = {"+": operator.add, "-": operator.sub}
PRODUCT: Operators = {
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}


@lru_cache(maxsize=128)  # a program has one or two expressions, and should pay for them once
def evaluate(text: str, n_jobs: int) -> Number:
    """Return the value of `text`, a float when it divides or holds a decimal point.

    Parameters
    ----------
    text : str
        Numbers, `n_jobs`, + - * / // % and parentheses.
    n_jobs : int
        The value of the only name.

    Raises
    ------
    ValueError
        For anything else; the message says what was not understood.
    """
    if len(text) > MAX_LENGTH:
        raise _error(text[:40] + "...", f"it has more than {MAX_LENGTH} characters")
    return _Reader(text, n_jobs).read()


def _error(text: str, reason: str) -> ValueError:
    return ValueError(
        f"pre_dispatch={text!r} cannot be read: {reason}; it may hold numbers, n_jobs, + - * / // % and "
        "parentheses, as in '2*n_jobs'"
    )


def _token_length(text: str) -> int:
    """Return the length of the token that `text` starts with, 0 for none."""
    if text[:2] == "//":
        return 2
    if text[0] in "+-*/%()":
        return 1
    length = 0
    while length < len(text) and text[length].isascii() and (text[length].isalnum() or text[length] in "._"):
        length += 1
    return length


class _Reader:
    """Reads one text by recursive descent: a method per rule of the grammar, consuming what it recognises."""

    def __init__(self, text: str, n_jobs: int) -> None:
        self._text = text
        self._n_jobs = n_jobs
        self._tokens = self._split()[::-1]  # the next token is the last: pop() takes it
        self._depth = 0

    def read(self) -> Number:
        value = self._sum()
        if self._tokens:
            raise self._unexpected(self._tokens[-1])
        return value

    def _split(self) -> list[str]:
        tokens: list[str] = []
        rest = self._text.strip()
        while rest:
            length = _token_length(rest)
            if length == 0:
                raise self._unexpected(rest[0])
            tokens.append(rest[:length])
            rest = rest[length:].lstrip()
        return tokens

    def _sum(self) -> Number:
        return self._chain(SUM, self._product)

    def _product(self) -> Number:
        return self._chain(PRODUCT, self._atom)

    def _chain(self, operators: Operators, operand: Callable[[], Number]) -> Number:
        value = operand()
        while self._tokens and self._tokens[-1] in operators:
            operation = operators[self._tokens.pop()]
            value = self._apply(operation, value, operand())
        return value

    def _apply(self, operation: Callable[[Number, Number], Number], left: Number, right: Number) -> Number:
        try:
            return self._bounded(operation(left, right))
        except ZeroDivisionError:
            raise _error(self._text, "it divides by zero") from None

    def _atom(self) -> Number:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise _error(self._text, f"it nests deeper than {MAX_NESTING}")
        token = self._tokens.pop() if self._tokens else ""
        if token == "(":
            value = self._parenthesised()
        elif token == "-":
            value = -self._atom()
        elif token == "+":
            value = self._atom()
        else:
            value = self._n_jobs if token == "n_jobs" else self._literal(token)
        self._depth -= 1
        return value

    def _parenthesised(self) -> Number:
        value = self._sum()
        if not self._tokens or self._tokens.pop() != ")":
            raise _error(self._text, "a ')' is missing")
        return value

    def _literal(self, token: str) -> Number:
        if not token[:1].isdigit() and token[:1] != ".":
            raise self._unexpected(token)
        try:
            value = float(token) if "." in token else int(token)
        except ValueError:
            raise _error(self._text, f"{token!r} is not a number") from None
        return self._bounded(value)

    def _bounded(self, value: Number) -> Number:
        if abs(value) > MAX_VALUE:
            raise _error(self._text, f"{MAX_VALUE} is the largest number")
        return value

    def _unexpected(self, token: str) -> ValueError:
        return _error(self._text, f"{token!r} is not expected there" if token else "it ends too early")
