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


PID2 = "PID|1||4712^^^HOSP^MR||Beispiel^Max^^^^^L||19550101|M"


def pv1(bed: str, visit: str) -> str:
    """A PV1 of an inpatient in ONK, room 12."""
    return f"PV1|1|I|ONK^12^{bed}^HOSP||||||||||||||||{visit}^^^HOSP"


def swap() -> bytes:
    """An A17: Eva to bed 1, Max to bed 2."""
    return message(
        header("ADT^A17^ADT_A17"),
        "EVN|A17|20260301123000+0100",
        PID,
        pv1("1", "V100"),
        PID2,
        pv1("2", "V200"),
    )


def oml() -> bytes:
    return message(
        header("OML^O21^OML_O21"),
        PID,
        PV1,
        "ORC|NW|L1^KIS|||||||20260301080000+0100|||99^Order^Otto",
        "OBR|1|L1^KIS||58410-2^CBC panel^LN",
        "SPM|1|S1&KIS||BLD^Blood^HL70487|||||||||||||20260301074500+0100|20260301081500+0100",
        "ORC|NW|L2^KIS|||||||20260301080000+0100",
        "OBR|2|L2^KIS||2951-2^Sodium^LN",
    )


def rde() -> bytes:
    return message(
        header("RDE^O11^RDE_O11"),
        PID,
        PV1,
        "ORC|NW|M1^KIS|||||||20260301080000+0100|||99^Order^Otto",
        "RXE||2555^cisplatin^RXNORM|75||mg/m2^mg/m2^UCUM||^over 2 hours|||1|VIAL^vial^L",
        "TQ1|1||Q21D||||20260302080000+0100|20260504080000+0100",
        "RXR|IV^Intravenous^HL70162",
    )


def rds() -> bytes:
    return message(
        header("RDS^O13^RDS_O13"),
        PID,
        PV1,
        "ORC|RE|M1^KIS|D9^APO",
        "RXD|1|2555^cisplatin^RXNORM|20260302071500+0100|2|VIAL^vial^L||||In the fridge",
    )


def nurse_call(phase: str = "start") -> bytes:
    return message(
        header("ORU^R40^ORU_R40"),
        PID,
        PV1,
        "OBR|1||CALL7^NC|196616^MDC_EVT_ALARM^MDC|||20260301090000+0100",
        "OBX|1|ST|196616^MDC_EVT_ALARM^MDC|1|Bathroom pull cord||||PM||||R".replace("||||PM", "|||PM"),
        f"OBX|2|ST|68481^MDC_ATTR_EVENT_PHASE^MDC|1|{phase}||||||R",
    )


TYPES = {
    "A17": swap(),
    "OML": oml(),
    "RDE": rde(),
    "RDS": rds(),
    "R40": nurse_call(),
    **{event: adt(event) for event in ("A01", "A02", "A03", "A04", "A08", "A11", "A12", "A13", "A31")},
    "A40": merge(),
    "ORU": oru(),
    "ORM": orm(),
    "OMI": omi(),
}


PCIM_BEGIN = "198332^MDC_EVT_ASSOCIATION_PATIENT_DEVICE^MDC"
PCIM_END = "198334^MDC_EVT_DISASSOCIATION_PATIENT_DEVICE^MDC"


def pcim(condition: str, status: str, *, begin: str = "", end: str = "", device: str = "TELE5") -> bytes:
    """A report as in appendix A.3 of the supplement, with own people and devices."""
    return message(
        "MSH|^~\\&|AssocMgr||TWIN||20260301120000+0000||ORU^R01^ORU_R01|c1|P|2.6|||AL|NE|||||"
        "IHE_DEV_052^IHE PCD^1.3.6.1.4.1.19376.1.6.1.52.1^ISO",
        PID,
        pv1("1", "V1"),
        "OBR|1||77^^020000FFFE000000^EUI-64|69136^MDC_OBS_ASSOCIATION_PATIENT_DEVICE^MDC|||20260301100000",
        f"OBX|1|CWE|68487^MDC_ATTR_EVT_COND^MDC|0.0.0.0|{condition}||||||{status}",
        f"PRT|1|UC||EQUIP^EQUIP^HL70912|||||ONK^12^1|{device}^^231A8456B1CB2366^EUI-64|{begin}|{end}",
        "PRT|2|UC||AUT^AUT^HL70912|58793^Nurse^N||||ONK^12^1||20260301123000",
    )
