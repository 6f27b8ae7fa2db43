"""The five delimiters of a message, and escape sequences (HL7 v2.5.1 sections 2.5.4 and 2.7)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from digital_twins.hl7v2._errors import malformed

if TYPE_CHECKING:
    from collections.abc import Callable

_HEX = re.compile(r"X((?:[0-9A-Fa-f]{2})+)")
_SPACES = re.compile(r"\.sp(?:\+?(\d{1,2}))?")


@dataclass(frozen=True, slots=True)
class Delimiters:
    """The characters that part a message, as MSH-1 and MSH-2 name them.

    Raises
    ------
    HL7Error
        Two of them are the same, or one is a letter, a digit, a space or no printable ASCII.
    """

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    truncation: str = ""

    def __post_init__(self) -> None:
        every = (self.field, self.component, self.repetition, self.escape, self.subcomponent)
        text = "".join(every) + self.truncation
        if any(len(each) != 1 for each in every) or len(set(text)) != len(text):
            raise malformed("MSH-1 and MSH-2 do not name five different delimiters.")
        if any(not "!" <= each <= "~" or each.isalnum() for each in text):
            raise malformed("A delimiter in MSH-1 or MSH-2 is no printable ASCII mark.")

    @property
    def encoding(self) -> str:
        """MSH-2: component, repetition, escape, subcomponent and, from v2.7 on, truncation."""
        return self.component + self.repetition + self.escape + self.subcomponent + self.truncation


@cache
def delimiters_of(start: str) -> Delimiters:
    r"""Return the delimiters that the header ``MSH|^~\&`` (without what follows) names."""
    encoding = start[4:]
    if len(encoding) not in {4, 5}:
        raise malformed("MSH-2 has not the four or five encoding characters.")
    component, repetition, escape, subcomponent, *truncation = list(encoding)
    return Delimiters(start[3], component, repetition, escape, subcomponent, "".join(truncation))


def unescape(text: str, marks: Delimiters, encoding: str = "utf-8") -> str:
    r"""Return a value with its escape sequences resolved.

    ``\F\ \S\ \T\ \R\ \E\ \P\`` give the delimiters, ``\X..\`` bytes in the character set of
    the message, ``\.br\`` and ``\.sp\`` line breaks, ``\H\`` and ``\N\`` (highlighting) nothing. Any
    other sequence, and an escape character that begins none, stays as it is.
    """
    if marks.escape not in text:
        return text
    pattern, known = _sequences(marks)

    def one(match: re.Match[str]) -> str:
        body = match[1]
        plain = known.get(body)
        if plain is not None:
            return plain
        if found := _HEX.fullmatch(body):
            try:
                return bytes.fromhex(found[1]).decode(encoding)
            except UnicodeDecodeError:
                return match[0]
        if found := _SPACES.fullmatch(body):
            return "\n" * int(found[1] or 1)
        return match[0]

    return pattern.sub(one, text)


def escape(value: str, marks: Delimiters) -> str:
    """Return a value as it may stand in a message: ``unescape`` gives it back."""
    pattern, replace = _escaper(marks)
    return pattern.sub(replace, value)


@cache
def _sequences(marks: Delimiters) -> tuple[re.Pattern[str], dict[str, str]]:
    mark = re.escape(marks.escape)
    known = {
        "F": marks.field,
        "S": marks.component,
        "R": marks.repetition,
        "T": marks.subcomponent,
        "E": marks.escape,
        ".br": "\n",
        "H": "",
        "N": "",
    }
    if marks.truncation:
        known["P"] = marks.truncation
    return re.compile(f"{mark}([^{mark}]*){mark}"), known


@cache
def _escaper(marks: Delimiters) -> tuple[re.Pattern[str], Callable[[re.Match[str]], str]]:
    mark = marks.escape
    names = {
        marks.field: "F",
        marks.component: "S",
        marks.repetition: "R",
        marks.subcomponent: "T",
        marks.escape: "E",
        "\n": ".br" if "." not in marks.field + marks.encoding else "X0A",
        "\r": "X0D",
        "\x0b": "X0B",
        "\x1c": "X1C",
    }
    if marks.truncation:
        names[marks.truncation] = "P"
    pattern = re.compile("[" + "".join(re.escape(each) for each in names) + "]")
    return pattern, lambda match: f"{mark}{names[match[0]]}{mark}"
