"""The compliance report as a PDF: a typst template filled with data (strings are never markup)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import orjson

from digital_twins.plotting import font_folder
from digital_twins.reports._pdf import breakable, fonts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class ReportSection:
    """A heading, paragraphs, and a table.

    Attributes
    ----------
    title
        Heading.
    text
        Paragraphs.
    head, rows
        Table; without rows there is none.
    widths
        Relative width of each column.
    """

    title: str
    text: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    widths: Sequence[int] = ()


def render_compliance_pdf(
    *,
    title: str,
    subtitle: str,
    verdict: tuple[bool, str, str],
    sections: Sequence[ReportSection],
    software: str,
    made: datetime,
) -> bytes:
    """Return the report as A4 pages, PDF/A-2a and PDF/UA-1; the same data give the same bytes.

    Parameters
    ----------
    title, subtitle
        First lines.
    verdict
        Whether the trail is whole, the sentence that says so, and details.
    sections
        What follows.
    software
        Who made it.
    made
        When, in UTC.
    """
    import typst

    data = {
        "title": title,
        "subtitle": subtitle,
        "software": software,
        "made": f"Made by {software}, {made:%Y-%m-%d %H:%M:%S} UTC",
        "footer": f"{title}, {subtitle}. Made from the audit trail; no part was written by hand.",
        "intact": verdict[0],
        "verdict": verdict[1],
        "verdict_detail": verdict[2],
        "sections": [
            {**asdict(each), "rows": [[breakable(cell, 24) for cell in row] for row in each.rows]}
            for each in sections
        ],
    }
    return bytes(
        typst.compile(
            files("digital_twins.reports").joinpath("compliance_report.typ").read_bytes(),
            format="pdf",
            sys_inputs={"report": orjson.dumps(data).decode()},
            timestamp=int(made.timestamp()),
            font_paths=fonts(system=False),
            ignore_system_fonts=True,
            pdf_standards=["a-2a", "ua-1"],
            root=str(font_folder()),
        )
    )
