"""Names and values of a query text, against the standard library."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest

from digital_twins.fhir._http import query_pairs


@pytest.mark.parametrize(
    "text",
    [
        "patient=p1&code=http%3A%2F%2Floinc.org%7Ccode-3",
        "name=a+b&name=a%2Bb&flag&=x&&empty=",
        f"_filter=name+eq+%22{'%C3%A4' * 200}%22",
        "code=%7C" + "x" * 500,
    ],
)
def test_pairs_are_those_of_the_standard_library(text: str) -> None:
    for _ in range(2):  # the second time short texts come from the cache
        assert query_pairs(text) == parse_qsl(text, keep_blank_values=True)
