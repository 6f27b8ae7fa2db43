"""From tokens to a tree (FHIRPath N1, grammar and section 6.8, operator precedence)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath._errors import FhirPathError
from digital_twins.fhir.fhirpath._quantity import CALENDAR_UNITS, Quantity
from digital_twins.fhir.fhirpath._temporal import Temporal
from digital_twins.fhir.fhirpath._tokens import tokens

if TYPE_CHECKING:
    from collections.abc import Callable

_BINDING = {
    "implies": 1,
    **dict.fromkeys(("or", "xor"), 2),
    "and": 3,
    **dict.fromkeys(("in", "contains"), 4),
    **dict.fromkeys(("=", "~", "!=", "!~"), 5),
    **dict.fromkeys(("<=", "<", ">", ">="), 6),
    "|": 7,
    **dict.fromkeys(("is", "as"), 8),
    **dict.fromkeys(("+", "-", "&"), 9),
    **dict.fromkeys(("*", "/", "div", "mod"), 10),
}
_UNARY = 11
_DEEPEST = 200
_LONGEST = 20_000


@dataclass(frozen=True, slots=True)
class Ast:
    """A node of the tree.

    ``kind`` is ``literal`` (value), ``name``, ``call``, ``constant`` or ``special`` (value is the name),
    ``dot``, ``index``, ``negate``, ``binary`` (value is the operator), ``type`` (value is ``(operator, type
    name)``) or ``empty``; ``parts`` are operands or arguments.
    """

    kind: str
    value: Any = None
    parts: tuple[Ast, ...] = ()


class _Parser:
    """A Pratt parser over the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self._tokens = tokens(text)
        self._at = 0
        self._depth = 0

    def whole(self) -> Ast:
        tree = self.expression(0)
        if self._tokens[self._at].kind != "end":
            raise self._unexpected()
        return tree

    def expression(self, floor: int) -> Ast:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise FhirPathError(f"It is nested more than {_DEEPEST} levels deep.")
        left = self._unary()
        while True:
            token = self._tokens[self._at]
            binding = _BINDING.get(token.text, 0) if token.kind in {"symbol", "name"} else 0
            if binding <= floor:
                break
            self._at += 1
            if token.text in {"is", "as"}:
                left = Ast("type", (token.text, self._type_name()), (left,))
            else:
                left = Ast("binary", token.text, (left, self.expression(binding)))
        self._depth -= 1
        return left

    def _unary(self) -> Ast:
        if self._take("-"):
            return Ast("negate", None, (self.expression(_UNARY),))
        if self._take("+"):
            return self.expression(_UNARY)
        return self._postfix(self._term())

    def _postfix(self, left: Ast) -> Ast:
        while True:
            if self._take("."):
                left = Ast("dot", None, (left, self._invocation()))
            elif self._take("["):
                inner = self.expression(0)
                self._expect("]")
                left = Ast("index", None, (left, inner))
            else:
                return left

    def _term(self) -> Ast:
        token = self._tokens[self._at]
        if token.kind in _LITERALS:
            self._at += 1
            return self._literal(token.kind, token.text)
        if token.kind == "constant":
            self._at += 1
            return Ast("constant", token.text)
        if self._take("("):
            inner = self.expression(0)
            self._expect(")")
            return inner
        if self._take("{"):
            self._expect("}")
            return Ast("empty")
        if token.kind == "name" and token.text in {"true", "false"}:
            self._at += 1
            return Ast("literal", token.text == "true")
        return self._invocation()

    def _literal(self, kind: str, text: str) -> Ast:
        value = _LITERALS[kind](text)
        if kind != "number":
            return Ast("literal", value)
        unit = self._tokens[self._at]
        if unit.kind == "string" or (unit.kind == "name" and unit.text in CALENDAR_UNITS):
            self._at += 1
            calendar = unit.kind == "name"
            name = CALENDAR_UNITS[unit.text] if calendar else unit.text
            return Ast("literal", Quantity(Decimal(text), name, calendar=calendar))
        return Ast("literal", value)

    def _invocation(self) -> Ast:
        token = self._tokens[self._at]
        if token.kind == "special":
            self._at += 1
            return Ast("special", token.text)
        if token.kind not in {"name", "name`"}:
            raise self._unexpected()
        self._at += 1
        if not self._take("("):
            return Ast("name", token.text)
        arguments = []
        if not self._take(")"):
            arguments.append(self.expression(0))
            while self._take(","):
                arguments.append(self.expression(0))
            self._expect(")")
        return Ast("call", token.text, tuple(arguments))

    def _type_name(self) -> str:
        parts = [self._identifier()]
        while self._take("."):
            parts.append(self._identifier())
        return ".".join(parts)

    def _identifier(self) -> str:
        token = self._tokens[self._at]
        if token.kind not in {"name", "name`"}:
            raise self._unexpected()
        self._at += 1
        return token.text

    def _take(self, symbol: str) -> bool:
        token = self._tokens[self._at]
        if token.kind == "symbol" and token.text == symbol:
            self._at += 1
            return True
        return False

    def _expect(self, symbol: str) -> None:
        if not self._take(symbol):
            raise self._unexpected()

    def _unexpected(self) -> FhirPathError:
        token = self._tokens[self._at]
        if token.kind == "end":
            return FhirPathError("It ends too early.")
        return FhirPathError(
            f"A {token.kind.rstrip('`')} at character {token.position + 1} does not belong there."
        )


def _number(text: str) -> int | Decimal:
    return Decimal(text) if "." in text else int(text)


_LITERALS: dict[str, Callable[[str], Any]] = {
    "number": _number,
    "string": str,
    "date": lambda text: Temporal.parse("date", text[1:]),
    "datetime": lambda text: Temporal.parse("dateTime", text[1:]),
    "time": lambda text: Temporal.parse("time", text[2:]),
}


def parse(text: str) -> Ast:
    """Parse an expression.

    Raises
    ------
    FhirPathError
        When it is not FHIRPath, is nested deeper than 200 levels or longer than 20,000 characters.
    """
    if len(text) > _LONGEST:
        raise FhirPathError(f"It is longer than {_LONGEST} characters.")
    return _Parser(text).whole()
