"""ZIP codes as the Safe Harbor method of HIPAA allows them."""

from __future__ import annotations

import re

_ZIP = re.compile(r"(\d{3})\d{2}(?:-?\d{4})?")
# Three-digit areas of 20 000 people or fewer (Census 2000), as the guidance of HHS to
# 45 CFR 164.514(b)(2)(i)(B) lists them [verify].
_SMALL = frozenset(
    "036 059 063 102 203 556 692 790 821 823 830 831 878 879 884 890 893".split()  # noqa: SIM905  (a list to read)
)


def zip3(code: str) -> str:
    """Return the first three digits of a ZIP code, ``000`` for an area of few people, empty for no ZIP code.

    45 CFR 164.514(b)(2)(i)(B).
    """
    match = _ZIP.fullmatch(code.strip())
    if match is None:
        return ""
    return "000" if match[1] in _SMALL else match[1]
