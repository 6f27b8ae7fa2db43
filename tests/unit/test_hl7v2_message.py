"""HL7 v2 parser and builder: byte-exact, in agreement with hl7apy, and bounded on bad input."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings, strategies as st

from digital_twins.hl7v2 import Delimiters, Header, HL7Error, acknowledge, build_message, parse, parse_batch
from hl7_messages import TYPES, header, message, oru

ESCAPED = r"a\F\b\S\c\T\d\R\e\E\f\X41C3A4\g\.br\h\Zloc\i\H\j\N\k\open"


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_hl7apy_reads_the_same_from_every_type(kind: str) -> None:
    parser = pytest.importorskip("hl7apy.parser")
    theirs = parser.parse_message(TYPES[kind].decode(), find_groups=False)
    ours = parse(TYPES[kind])
    assert [each.name for each in theirs.children] == [each.name for each in ours.lines]
    compared = 0
    for their, our in zip(theirs.children, ours.lines, strict=True):
        for field in their.children:
            if field.name is None or our.name in {"MSH", "ZDS"}:
                continue
            number = int(field.name.split("_")[1])
            same = [f for f in their.children if f.name == field.name]
            assert len(same) == len(our.repetitions(number))
            for place, each in enumerate(same):
                for component in each.children:
                    position = int(component.name.rsplit("_", 1)[1]) if "_" in component.name else 1
                    parts = our.repetitions(number)[place][position - 1]
                    # hl7apy escapes the formatting command of a text again
                    theirs_wire = component.to_er7().replace("\\E\\.br\\E\\", "\\.br\\")
                    assert theirs_wire == "&".join(_wire(part) for part in parts)
                    compared += 1
    assert compared >= 10


def _wire(value: str) -> str:
    return value.replace("\n", "\\.br\\")


@pytest.mark.parametrize("kind", sorted(TYPES))
@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize("tail", ["", "x", "xx"])
def test_every_type_comes_back_byte_for_byte(kind: str, end: str, tail: str) -> None:
    data = TYPES[kind].decode().rstrip("\r").replace("\r", end) + tail.replace("x", end)
    assert parse(data.encode()).to_bytes() == data.encode()


def test_paths() -> None:
    found = parse(oru())
    assert found.kind == ("ORU", "R01")
    assert (found["MSH-1"], found["MSH-2"], found["MSH-12"]) == ("|", "^~\\&", "2.5.1")
    assert found["PID-3"] == found["PID-3.1"] == "4711"
    assert found["PID-3[2].4.2"] == "2.16.840.1.113883.2.1.4.1"
    assert found["PID-11.1.2"] == "Hauptstr."
    assert found["OBX[10]-5"] == "10.5"
    assert found["OBX[11]-5"] == found["PID-3[3]"] == found["PID-99.2"] == found["ZZZ-1"] == ""
    assert len(found.segments("OBX")) == 10
    assert found.segment("PID")["5.2"] == "Eva"
    for path in ("PID", "PID-0", "PID-3.1.1.1", "pid-3", "PID-³"):
        with pytest.raises(HL7Error):
            _ = found[path]


def test_escape_sequences() -> None:
    data = message(header("ORU^R01"), f"OBX|1|FT|||{ESCAPED}")
    assert parse(data)["OBX-5"] == "a|b^c&d~e\\fAäg\nh\\Zloc\\ijk\\open"


def test_other_delimiters_and_a_truncation_mark() -> None:
    data = b"MSH$%*!@#$A$B$C$D$20260301$$ADT%A01$1$P$2.7\rPID$1$$1%2*3@4!S!!P!\r"
    found = parse(data)
    assert (found["PID-3.2"], found["PID-3[2]"], found["PID-3[2].1.2"]) == ("2", "3", "4%#")
    assert found.to_bytes() == data


@pytest.mark.parametrize(
    ("named", "encoding"),
    [("UNICODE UTF-8", "utf-8"), ("8859/1", "latin-1"), ("", "ascii"), ("ASCII", "ascii")],
)
def test_character_sets(named: str, encoding: str) -> None:
    text = "Müller" if encoding != "ascii" else "Muller"
    data = f"MSH|^~\\&|A|B|C|D|20260301||ADT^A31|1|P|2.5.1||||||{named}\rPID|1||1||{text}\r".encode(encoding)
    assert parse(data)["PID-5.1"] == text
    assert parse(data).to_bytes() == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MSH",
        b"MSH|^~\\&",
        b"PID|1||SECRET\r",
        b"MSH|^^\\&|SECRET\r",
        b"MSH|^~|SECRET|\r",
        b"MSHaBCDEaSECRET\r",
        b"MSH|^~\\&|SECRET\rSECRET|1\r",
        b"MSH|^~\\&|A\r\rPID|SECRET\r",
        b"MSH|^~\\&|A\rPID|SECRET\r\nPV1|1\r",
        b"MSH|^~\\&|A|B|C|D|||ADT^A01|1|P|2.5|||||||SECRET\xff\r",
        b"MSH|^~\\&|A|B|C|D|||ADT^A01|1|P|2.5||||||ISO IR87\rPID|SECRET\r",
        b"MSH|^~\\&|A|B|C|D|||ADT^A01|1|P|2.5||||||ASCII\rPID|SECRET\xfc\r",
        b"MSH|^~\\&|A|B|C|D|||ADT^A01|1|P|2.5||||||UNICODE UTF-8\rPID|SECRET\xfc\r",
    ],
)
def test_what_is_no_message_is_refused_without_its_content(data: bytes) -> None:
    with pytest.raises(HL7Error) as refusal:
        parse(data)
    assert "SECRET" not in str(refusal.value)


def test_sizes_are_bounded() -> None:
    with pytest.raises(HL7Error, match="more than 100 bytes"):
        parse(oru(), max_bytes=100)
    with pytest.raises(HL7Error, match="segments"):
        parse(b"MSH|^~\\&|A\r" + b"NTE\r" * 100_001)


def test_batches() -> None:
    data = b"FHS|^~\\&|A\rBHS|^~\\&|A\r" + oru() + TYPES["A01"] + b"BTS|2\rFTS|1\r"
    batch = parse_batch(data)
    assert [each.kind[0] for each in batch.messages] == ["ORU", "ADT"]
    assert [each.name for each in batch.headers] == ["FHS", "BHS", "BTS", "FTS"]
    assert batch.to_bytes() == data
    assert parse_batch(oru()).messages[0].to_bytes() == oru()
    with pytest.raises(HL7Error, match="BTS-1"):
        parse_batch(data.replace(b"BTS|2", b"BTS|3"))
    with pytest.raises(HL7Error, match="belongs to no message"):
        parse_batch(b"FHS|^~\\&|A\rPID|1\r")


VALUES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=30)
MARKS = st.permutations([c for c in string.punctuation if c not in "\r\n"]).map(lambda p: Delimiters(*p[:5]))


@given(values=st.lists(VALUES, min_size=1, max_size=6), marks=MARKS)
@settings(max_examples=100, deadline=None)
def test_every_value_that_is_built_is_read_back(values: list[str], marks: Delimiters) -> None:
    paths = ["3", "5.2", "5[2].1.3", "7", "8[3]", "11.4"][: len(values)]
    built = build_message(
        Header("ADT^A31"), [("PID", dict(zip(paths, values, strict=True)))], delimiters=marks
    )
    read = parse(built.to_bytes())
    assert [read[f"PID-{path}"] for path in paths] == values
    assert read.to_bytes() == built.to_bytes()


@given(start=st.sampled_from(sorted(TYPES.values())), cut=st.integers(0, 2000), junk=st.binary(max_size=20))
@settings(max_examples=200, deadline=None)
def test_damaged_messages_are_read_byte_for_byte_or_refused(start: bytes, cut: int, junk: bytes) -> None:
    data = start[:cut] + junk + start[cut + len(junk) :]
    try:
        found = parse(data)
    except HL7Error:
        return
    assert found.to_bytes() == data
    for each in found.lines:
        for number in range(len(each.fields)):
            each.repetitions(number)


def test_hl7apy_reads_our_acknowledgement() -> None:
    parser = pytest.importorskip("hl7apy.parser")
    error = HL7Error("What.", "Why.", "Fix.", code="101", location="PID^1^3")
    ours = acknowledge(parse(oru()), "AE", error=error)
    theirs = parser.parse_message(ours.to_bytes().decode())
    assert theirs.validate()
    assert theirs.msa.msa_1.to_er7() == "AE"
    assert theirs.msa.msa_2.to_er7() == "C1"
    assert theirs.err.err_3.to_er7() == "101^^HL70357"
    assert theirs.err.err_2.to_er7() == "PID^1^3"
    assert ours["MSH-3"] == "TWIN"
    assert ours["MSH-5"] == "KIS"
