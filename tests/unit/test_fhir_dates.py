"""Dates of FHIR: spans by precision, and the prefixes of search against brute force."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from digital_twins import InputError
from digital_twins.fhir._dates import date_range, to_instant
from digital_twins.fhir._predicates import date_condition, number_range

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
moments = st.datetimes(min_value=datetime(1800, 1, 1), max_value=datetime(9000, 1, 1))  # noqa: DTZ001  (made aware below)
FORMATS = ("%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ")


def micro(moment: datetime) -> int:
    return (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


@given(moments, st.integers(0, len(FORMATS) - 1))
def test_a_moment_lies_in_the_span_of_its_own_text_at_every_precision(
    moment: datetime, precision: int
) -> None:
    texts = [moment.strftime(f).replace(moment.strftime("%Y"), f"{moment.year:04d}", 1) for f in FORMATS]
    low, high = date_range(texts[precision])
    assert low <= micro(moment) < high
    for finer in texts[precision:]:
        inner = date_range(finer)
        assert low <= inner[0] < inner[1] <= high


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_a_zone_shifts_the_span_and_keeps_its_length(moment: datetime, minutes: int) -> None:
    sign = "-" if minutes < 0 else "+"
    zone = f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    text = f"{moment.year:04d}-" + moment.strftime("%m-%dT%H:%M:%S")
    plain, zoned = date_range(text + "Z"), date_range(text + zone)
    assert plain[0] - zoned[0] == minutes * 60_000_000
    assert zoned[1] - zoned[0] == 1_000_000


@given(moments, moments, st.integers(0, 3), st.integers(0, 3))
def test_prefixes_mean_what_the_standard_says(a: datetime, b: datetime, fine_a: int, fine_b: int) -> None:
    search, target = (f"{m.year:04d}" + m.strftime(FORMATS[f])[4:] for m, f in ((a, fine_a), (b, fine_b)))
    s, t = date_range(search), date_range(target)
    truth = {
        "eq": s[0] <= t[0] and t[1] <= s[1],
        "ne": not (s[0] <= t[0] and t[1] <= s[1]),
        "gt": t[1] > s[1],
        "lt": t[0] < s[0],
        "ge": t[1] > s[0],
        "le": t[0] < s[1],
        "sa": t[0] >= s[1],
        "eb": t[1] <= s[0],
    }
    import sqlite3

    with sqlite3.connect(":memory:") as connection:
        for prefix, expected in truth.items():
            sql, arguments = date_condition(prefix + search)
            row = connection.execute(
                f"SELECT {sql} FROM (SELECT ? AS low, ? AS high)", (*arguments, *t)
            ).fetchone()
            assert bool(row[0]) is expected, prefix
    connection.close()


@pytest.mark.parametrize(
    ("text", "length_days"),
    [("2024", 366), ("2023", 365), ("2024-02", 29), ("2024-12", 31), ("2024-02-29", 1)],
)
def test_calendar_spans(text: str, length_days: int) -> None:
    low, high = date_range(text)
    assert high - low == length_days * 86_400_000_000


@pytest.mark.parametrize(
    "text", ["", "24", "2024-13", "2023-02-29", "2024-1-1", "2024-01-01T25:00:00Z", "yesterday"]
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        date_range(text)


def test_instants_show_milliseconds() -> None:
    assert to_instant(date_range("2024-03-01T08:30:00.125Z")[0]) == "2024-03-01T08:30:00.125Z"


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("100", 99.5, 100.5), ("5.40", 5.395, 5.405), ("1e2", 50.0, 150.0), ("0", -0.5, 0.5)],
)
def test_numbers_stand_for_a_span_by_their_digits(text: str, low: float, high: float) -> None:
    assert number_range(text)[1:] == pytest.approx((low, high))


@given(moments)
def test_an_instant_is_the_moment_cut_to_milliseconds(moment: datetime) -> None:
    assert to_instant(micro(moment)) == moment.isoformat(timespec="milliseconds") + "Z"
