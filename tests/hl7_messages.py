"""Own HL7 v2 messages of every type that the tests need; the people in them are invented."""

from __future__ import annotations

PID = "PID|1||4711^^^HOSP^MR~99^^^NHS&2.16.840.1.113883.2.1.4.1&ISO^NI||Muster^Eva^Maria^^Dr^^L||19620314|F|||Hauptstr. 1&Hauptstr.&1^^Bern^BE^3000^CHE^H||+41 31 000 00 00^PRN^PH"  # noqa: E501
PV1 = "PV1|1|I|ONK^12^2^HOSP|||ONK^11^1^HOSP|1234^Arzt^Anna^^^Dr|||ONC|||||||||V100^^^HOSP|||||||||||||||||||||||||20260301081500+0100"  # noqa: E501


def header(kind: str, control_id: str = "C1") -> str:
    return (
        f"MSH|^~\\&|KIS|HOSP|TWIN|LAB|20260301120000+0100||{kind}|{control_id}|P|2.5.1|||AL|NE||UNICODE UTF-8"
    )


def message(*lines: str) -> bytes:
    return ("\r".join(lines) + "\r").encode()


def adt(event: str, *, pv1: str = PV1, pid: str = PID, control_id: str = "C1") -> bytes:
    structure = {"A04": "A01", "A08": "A01", "A11": "A09", "A12": "A12", "A13": "A01"}.get(event, event)
    if event == "A31":
        structure = "A05"
    return message(
        header(f"ADT^{event}^ADT_{structure}", control_id), f"EVN|{event}|20260301120000+0100", pid, pv1
    )


def merge() -> bytes:
    return message(
        header("ADT^A40^ADT_A39"), "EVN|A40|20260301120000+0100", PID, "MRG|0815^^^HOSP^MR||||||Muster^Eva"
    )


def oru(observations: int = 10) -> bytes:
    """An ORU^R01 of one report."""
    rows = [
        f"OBX|{n}|NM|{2000 + n}-8^Analyte {n}^LN||{n}.5|mg/dL^mg/dL^UCUM|1.0-8.0|{'H' if n > 8 else 'N'}|||F|||20260301090000+0100"  # noqa: E501
        for n in range(1, observations + 1)
    ]
    return message(
        header("ORU^R01^ORU_R01"),
        PID,
        PV1,
        "ORC|RE|P77^KIS|F88^LAB",
        "OBR|1|P77^KIS|F88^LAB|24323-8^Chemistry^LN|||20260301090000+0100|||||||||||||||20260301100000+0100||CH|F",
        *rows,
    )


def orm(control: str = "NW") -> bytes:
    return message(
        header("ORM^O01^ORM_O01"),
        PID,
        PV1,
        f"ORC|{control}|P1^KIS||G1|SC||||20260301080000+0100|||99^Order^Otto",
        "OBR|1|P1^KIS||24627-2^CT Chest^LN||||||||||||99^Order^Otto||ACC1|RP1|SPS1||||CT|||1^^^20260302100000+0100^^S",  # noqa: E501
        "NTE|1||Contrast\\.br\\if renal function allows",
        "ZDS|1.2.3.4.5^KIS^Application^DICOM",
    )


def omi() -> bytes:
    return message(
        header("OMI^O23^OMI_O23"),
        PID,
        PV1,
        "ORC|NW|P2^KIS|F2^RIS|||||20260301080000+0100||20260301080000+0100|99^Order^Otto",
        "TQ1|1||||||20260303113000+0100||S^Stat^HL70485",
        "OBR|1|P2^KIS|F2^RIS|24627-2^CT Chest^LN",
        "IPC|ACC2|RP2|1.2.3.4.6|SPS2|CT|24627-2^CT Chest^LN|Scanner 2|Room 4|CT2",
    )


TYPES = {
    **{event: adt(event) for event in ("A01", "A02", "A03", "A04", "A08", "A11", "A12", "A13", "A31")},
    "A40": merge(),
    "ORU": oru(),
    "ORM": orm(),
    "OMI": omi(),
}
