"""Log lines: JSON, from an allow-list, and never with the words of an exception."""

from __future__ import annotations

import ast
import io
import json
import logging
import warnings
from pathlib import Path

import pytest

import digital_twins
from digital_twins import InputError
from digital_twins._logging import FIELDS, get_logger, setup_logging

log = get_logger("digital_twins.test")


@pytest.fixture
def lines():
    stream = io.StringIO()
    setup_logging("DEBUG", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.getLogger().handlers.clear()


def test_a_line_is_json_with_time_level_event_and_fields(lines):
    log.info("dicom.stored", instances=3, seconds=0.25, peer="STORESCU")
    (line,) = lines()
    assert line["at_utc"].endswith("+00:00")
    del line["at_utc"]
    assert line == {
        "level": "info",
        "logger": "digital_twins.test",
        "event": "dicom.stored",
        "instances": 3,
        "seconds": 0.25,
        "peer": "STORESCU",
    }


@pytest.mark.parametrize(
    "field", ["patient_id", "patient_name", "message", "payload", "study_uid", "birth_date"]
)
def test_a_field_that_is_not_listed_is_refused_even_when_nothing_is_written(field):
    assert field not in FIELDS
    with pytest.raises(TypeError, match=field):
        log.debug("x", **{field: "Doe"})


def test_a_value_that_is_no_plain_value_is_refused():
    with pytest.raises(TypeError, match="string"):
        log.info("x", count=[1, 2])


def test_levels(lines):
    setup_logging("WARNING", stream=io.StringIO())
    log.info("quiet")
    assert lines() == []


def test_an_exception_is_logged_by_type_and_place(lines):
    def fails():
        raise ValueError("Jane Doe, born 1950-01-01")

    try:
        fails()
    except ValueError as error:
        log.exception("dicom.refused", error=error, peer="SCU")
    (line,) = lines()
    assert (line["error"], line["peer"]) == ("ValueError", "SCU")
    assert line["where"].count("unit/test_logging.py:") == 2
    assert "Doe" not in json.dumps(line)


def test_our_own_errors_keep_their_words(lines):
    log.exception("build.failed", error=InputError("The mask is empty.", "No voxel is set.", "Send another."))
    (line,) = lines()
    assert (line["what"], line["why"], line["fix"]) == (
        "The mask is empty.",
        "No voxel is set.",
        "Send another.",
    )


def test_the_words_of_other_libraries_are_dropped(lines):
    logging.getLogger("pydicom").warning("Invalid value for VR PN: 'Doe^Jane'")
    try:
        raise KeyError("Doe")
    except KeyError:
        logging.getLogger("uvicorn.error").exception("Doe failed")
    logging.getLogger("uvicorn.access").info("GET /patient/Doe")
    first, second = lines()
    assert (first["event"], first["logger"]) == ("library.message", "pydicom")
    assert second["error"] == "KeyError"
    assert "Doe" not in json.dumps([first, second])


def test_a_second_setup_replaces_the_first(lines):
    stream = io.StringIO()
    setup_logging(stream=stream)
    log.info("once")
    assert lines() == []
    assert len(stream.getvalue().splitlines()) == 1


def test_python_warnings_are_left_alone():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("shown", stacklevel=1)
    assert len(caught) == 1


def test_every_line_that_the_package_writes_uses_listed_fields():
    wrong, seen = [], 0
    for path in Path(digital_twins.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "_log"
            ):
                seen += 1
                names = {each.arg for each in node.keywords} - FIELDS
                wrong += [f"{path.name}:{node.lineno} {name}" for name in names]
    assert seen > 30
    assert wrong == []
