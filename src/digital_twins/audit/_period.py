"""Periods of time as people write them: 2026, 2026-Q1, 2026-03, 2026-03-05, or two of them with '..'."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from digital_twins._errors import InputError

_PERIOD = re.compile(r"(\d{4})(?:-(?:Q([1-4])|(\d\d)(?:-(\d\d))?))?")


def period_bounds(text: str) -> tuple[datetime, datetime]:
    """Return the start (included) and the end (excluded) of a period, in UTC.

    Parameters
    ----------
    text
        A year ``2026``, quarter ``2026-Q1``, month ``2026-03`` or day ``2026-03-05``, or the first and the
        last of these with two dots between them: ``2026-01..2026-03-15``.

    Raises
    ------
    InputError
        The text has another form, names a day that does not exist, or ends before it begins.
    """
    first, dots, last = text.partition("..")
    start, end = _single(first, text)
    if dots:
        end = _single(last, text)[1]
    if end <= start:
        raise _refused(text)
    return start, end


def _single(part: str, whole: str) -> tuple[datetime, datetime]:
    match = _PERIOD.fullmatch(part)
    if match is None:
        raise _refused(whole)
    year, quarter, month, day = (None if each is None else int(each) for each in match.groups())
    first_month = 3 * quarter - 2 if quarter else month or 1
    months = 3 if quarter else 1 if month else 12
    try:
        start = datetime(year or 0, first_month, day or 1, tzinfo=UTC)
        if day:
            return start, start + timedelta(days=1)
        following = start.year * 12 + start.month - 1 + months
        return start, datetime(following // 12, following % 12 + 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise _refused(whole) from error


def _refused(text: str) -> InputError:
    return InputError(
        f"The period '{text}' was not understood.",
        "It is no year, quarter, month or day, or it ends before it begins.",
        "Write 2026, 2026-Q1, 2026-03, 2026-03-05, or two of them as 2026-01..2026-03.",
    )
