"""The part of UCUM that clinical data use: prefixes, products, quotients and powers of common units.

UCUM, version 2.1, sections 2 and 4 (the unified code for units of measure). Units with an offset (degree
Celsius) are of a dimension of their own, so that they are never compared with kelvin.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

_PREFIX = {
    "Y": 24,
    "Z": 21,
    "E": 18,
    "P": 15,
    "T": 12,
    "G": 9,
    "M": 6,
    "k": 3,
    "h": 2,
    "da": 1,
    "d": -1,
    "c": -2,
    "m": -3,
    "u": -6,
    "n": -9,
    "p": -12,
    "f": -15,
    "a": -18,
    "z": -21,
    "y": -24,
}
_METRIC = {
    "m": ("1", "m"),
    "g": ("1", "g"),
    "s": ("1", "s"),
    "L": ("0.001", "m3"),
    "l": ("0.001", "m3"),
    "mol": ("6.02214076e23", "1"),
    "eq": ("6.02214076e23", "1"),
    "osm": ("6.02214076e23", "1"),
    "Hz": ("1", "s-1"),
    "N": ("1000", "g.m.s-2"),
    "Pa": ("1000", "g.m-1.s-2"),
    "bar": ("1e8", "g.m-1.s-2"),
    "J": ("1000", "g.m2.s-2"),
    "W": ("1000", "g.m2.s-3"),
    "cal": ("4184", "g.m2.s-2"),
    "K": ("1", "K"),
    "A": ("1", "C.s-1"),
    "C": ("1", "C"),
    "V": ("1000", "g.m2.s-2.C-1"),
    "Ohm": ("1000", "g.m2.s-1.C-2"),
    "Gy": ("1", "m2.s-2"),
    "Sv": ("1", "m2.s-2"),
    "Bq": ("1", "s-1"),
    "Ci": ("3.7e10", "s-1"),
    "cd": ("1", "cd"),
    "t": ("1e6", "g"),
    "u": ("1.66053906660e-24", "g"),
    "eV": ("1.602176634e-16", "g.m2.s-2"),
    "m[H2O]": ("9806650", "g.m-1.s-2"),
    "m[Hg]": ("133322387.415", "g.m-1.s-2"),
    "kat": ("6.02214076e23", "s-1"),
    "U": ("1.00369012667e16", "s-1"),
    "[iU]": ("1", "[iU]"),
    "[IU]": ("1", "[iU]"),
    "rad": ("1", "rad"),
}
_PLAIN = {
    "1": ("1", "1"),
    "%": ("0.01", "1"),
    "[ppth]": ("0.001", "1"),
    "[ppm]": ("1e-6", "1"),
    "[pH]": ("1", "[pH]"),
    "min": ("60", "s"),
    "h": ("3600", "s"),
    "d": ("86400", "s"),
    "wk": ("604800", "s"),
    "mo": ("2629800", "s"),
    "a": ("31557600", "s"),
    "[in_i]": ("0.0254", "m"),
    "[ft_i]": ("0.3048", "m"),
    "[yd_i]": ("0.9144", "m"),
    "[mi_i]": ("1609.344", "m"),
    "[lb_av]": ("453.59237", "g"),
    "[oz_av]": ("28.349523125", "g"),
    "[gr]": ("0.06479891", "g"),
    "[foz_us]": ("2.95735295625e-5", "m3"),
    "[cup_us]": ("2.365882365e-4", "m3"),
    "[tsp_us]": ("4.92892159375e-6", "m3"),
    "[tbs_us]": ("1.478676478125e-5", "m3"),
    "Cel": ("1", "Cel"),
    "[degF]": ("1", "[degF]"),
    "deg": ("0.017453292519943295", "rad"),
    "[psi]": ("6894757.29316836", "g.m-1.s-2"),
    "atm": ("101325000", "g.m-1.s-2"),
    "[drp]": ("5e-8", "m3"),
    "10*": ("10", "1"),
    "10^": ("10", "1"),
}
_ATOMS = {**_PLAIN, **_METRIC}
_TERM = re.compile(
    r"(?P<atom>(?:10[*^]|(?:[^\[\]{}().\/\d+-]|\[[^\]]*\])+|\d+))(?P<power>[+-]?\d+)?(?:\{[^}]*\})?|\{[^}]*\}"
)
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as a factor times powers of base units."""

    factor: Decimal
    dimension: tuple[tuple[str, int], ...]

    def times(self, other: Unit, power: int) -> Unit:
        """Return this unit times ``other`` to a power."""
        powers = dict(self.dimension)
        for name, exponent in other.dimension:
            powers[name] = powers.get(name, 0) + power * exponent
        kept = tuple(sorted((name, exponent) for name, exponent in powers.items() if exponent))
        return Unit(self.factor * other.factor**power, kept)

    @property
    def base_symbol(self) -> str:
        """UCUM code of the dimension in base units, ``1`` without one."""
        return ".".join(f"{n}{e if e != 1 else ''}" for n, e in self.dimension) or "1"


_ONE = Unit(Decimal(1), ())


@lru_cache(maxsize=1024)
def unit_of(code: str) -> Unit | None:
    """Return the unit of a UCUM code, or None where it is not known here."""
    if not code or len(code) > _LONGEST:
        return None
    at, result = _product(code, 0)
    return result if at == len(code) else None


def _product(code: str, at: int) -> tuple[int, Unit | None]:
    """Read terms joined by ``.`` and ``/`` up to the end or a closing bracket."""
    result, power = _ONE, 1
    if code[at : at + 1] == "/":
        at, power = at + 1, -1
    while True:
        if code[at : at + 1] == "(":
            at, inner = _product(code, at + 1)
            if inner is None or code[at : at + 1] != ")":
                return at, None
            at, unit = at + 1, inner
        else:
            match = _TERM.match(code, at)
            found = _term(match) if match else None
            if match is None or found is None:
                return at, None
            at, unit = match.end(), found
        result = result.times(unit, power)
        if code[at : at + 1] not in {".", "/"}:
            return at, result
        power = 1 if code[at] == "." else -1
        at += 1


def _term(match: re.Match[str]) -> Unit | None:
    atom = match["atom"]
    if atom is None:  # an annotation alone, as {beats}, counts as 1
        return _ONE
    unit = _atom(atom)
    return None if unit is None else _ONE.times(unit, int(match["power"] or 1))


def _atom(text: str) -> Unit | None:
    if text.isdecimal():
        return Unit(Decimal(text), ())
    if text in _ATOMS:
        return _built(*_ATOMS[text], 0)
    for size in (1, 2):
        if text[:size] in _PREFIX and text[size:] in _METRIC:
            return _built(*_METRIC[text[size:]], _PREFIX[text[:size]])
    return None


def _built(factor: str, base: str, exponent: int) -> Unit:
    powers: dict[str, int] = {}
    for part in base.split("."):
        match = re.fullmatch(r"(.*?)(-?\d+)?", part)
        if match and match[1]:
            powers[match[1]] = powers.get(match[1], 0) + int(match[2] or 1)
    return Unit(Decimal(factor).scaleb(exponent), tuple(sorted(powers.items())))
