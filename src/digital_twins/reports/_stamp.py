"""The readable part of an electronic signature, as a small PDF that becomes the appearance of its field."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import orjson

from digital_twins.plotting import font_folder
from digital_twins.reports._pdf import fonts

if TYPE_CHECKING:
    from collections.abc import Sequence

STAMP_MM = (180.0, 30.0)
"""Width and height of a stamp, mm."""


def render_stamp(*, title: str, name: str, time: str, lines: Sequence[str]) -> bytes:
    """Return one page of 180 x 30 mm with what 21 CFR 11.50 wants readable, its fonts embedded.

    Parameters
    ----------
    title
        First line, e.g. ``"Electronic signature: approval"``.
    name
        Printed name of the signer.
    time
        Time of the signature, with its zone.
    lines
        Further lines in small print.

    Returns
    -------
    bytes
        A PDF without tags: it is drawn into another file, whose structure names it.
    """
    import typst

    data = {"title": title, "name": name, "time": time, "lines": list(lines)}
    return bytes(
        typst.compile(
            files("digital_twins.reports").joinpath("signature_stamp.typ").read_bytes(),
            format="pdf",
            sys_inputs={"stamp": orjson.dumps(data).decode()},
            font_paths=fonts(system=False),
            ignore_system_fonts=True,
            root=str(font_folder()),
            pdf_tags=False,
        )
    )
