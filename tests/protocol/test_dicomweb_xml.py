"""DICOMweb answers as Native DICOM Model, judged by dcmtk's, and matching inside the Request Attributes."""

from __future__ import annotations

import subprocess
from email import message_from_bytes
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from dicom_support import ct_slice, file_bytes, http_serving, open_store
from digital_twins import dicom
from foreign import program

NAMESPACE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
XML = 'multipart/related; type="application/dicom+xml"'
Flat = dict[str, tuple[str, tuple[str, ...]]]


def parts(answer: httpx.Response) -> list[ET.Element]:
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    found = message_from_bytes(head + answer.content).get_payload()
    assert isinstance(found, list)
    assert {each.get_content_type() for each in found} == {"application/dicom+xml"}
    return [ET.fromstring(each.get_payload(decode=True)) for each in found]


def flat(node: ET.Element, place: str = "") -> Flat:
    """Path of tags to VR and values, without namespaces; binary values are left out."""
    found: Flat = {}
    for each in node:
        tag = f"{place}/{each.get('privateCreator') or ''}{each.get('tag')}"
        values = []
        for child in each:
            kind = child.tag.removeprefix(NAMESPACE)
            if kind == "Item":
                found |= flat(child, f"{tag}[{child.get('number')}]")
            elif kind == "Value":
                values.append((child.text or "").strip())
            elif kind == "PersonName":
                values.append(
                    "^".join(part.text or "" for part in child.iter() if part.text and part.text.strip())
                )
        if each.get("vr") not in {"OB", "OW", "UN", "SQ", "OF", "OD"}:
            found[tag] = (str(each.get("vr")), tuple(values))
    return found


@pytest.mark.peers
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "reportsi.dcm"])
def test_metadata_equals_what_dcmtk_writes(tmp_path: Path, name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    theirs_file = tmp_path / "theirs.xml"
    tool = program("dcm2xml")
    subprocess.run([tool, "-nat", "+Xn", str(path), str(theirs_file)], check=True, capture_output=True)
    theirs = flat(ET.parse(theirs_file).getroot())
    with open_store(tmp_path) as store:
        stored = store.ingest(path.read_bytes())
        with http_serving(dicom.dicomweb_routes(store)) as web:
            answer = httpx.get(f"{web}/studies/{stored.study_uid}/metadata", headers={"Accept": XML})
            assert answer.status_code == 200
            (root,) = parts(answer)
            assert root.tag == f"{NAMESPACE}NativeDicomModel"
            ours = flat(root)
    meta = {tag for tag in ours if tag.startswith(("/0002", "/00083002", "/00020"))}
    for tag, (vr, values) in theirs.items():
        if tag.startswith("/0002") or tag.endswith("0000"):
            continue
        assert tag in ours, tag
        assert ours[tag][0] == vr
        assert [_plain(each) for each in ours[tag][1]] == [_plain(each) for each in values], tag
    assert {tag for tag in ours if tag not in theirs} <= meta


def _plain(text: str) -> str:
    try:
        return f"{float(text):.6g}"
    except ValueError:
        return text


def test_searches_as_xml_and_what_is_preferred(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        ds = ct_slice(1)
        ds.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
        ds.SpecificCharacterSet = "ISO_IR 192"
        store.ingest(file_bytes(ds))
        with http_serving(dicom.dicomweb_routes(store)) as web:
            (study,) = parts(httpx.get(f"{web}/studies", headers={"Accept": XML}))
            (name,) = study.findall(f".//{NAMESPACE}PersonName/{NAMESPACE}Ideographic")
            assert [(part.tag.removeprefix(NAMESPACE), part.text) for part in name] == [
                ("FamilyName", "山田"),
                ("GivenName", "太郎"),
            ]
            url = study.find(f"*[@tag='00081190']/{NAMESPACE}Value")
            assert url is not None
            assert str(url.text).startswith(web)
            both = {"Accept": f"application/dicom+json;q=0.5, {XML}"}
            assert "xml" in httpx.get(f"{web}/studies", headers=both).headers["content-type"]
            both = {"Accept": f"application/dicom+json, {XML};q=0.5"}
            assert (
                httpx.get(f"{web}/studies", headers=both).headers["content-type"] == "application/dicom+json"
            )
            assert httpx.get(f"{web}/studies", headers={"Accept": "text/html"}).status_code == 406


def test_matching_inside_the_request_attributes_sequence(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for series, steps in (("1.1", ("S1", "S2")), ("1.2", ("S3",)), ("1.3", ())):
            ds = ct_slice(1, series=series)
            if steps:
                ds.RequestAttributesSequence = []
            for step in steps:
                item = Dataset()
                item.ScheduledProcedureStepID, item.RequestedProcedureID = step, f"R{step}"
                ds.RequestAttributesSequence.append(item)
            store.ingest(file_bytes(ds))
        with http_serving(dicom.dicomweb_routes(store)) as web:

            def found(**parameters: str) -> list[str]:
                names = {name.replace("__", "."): value for name, value in parameters.items()}
                answer = httpx.get(f"{web}/studies/1.2.3.1/series", params=names)
                assert "Warning" not in answer.headers
                return [each["0020000E"]["Value"][0] for each in answer.json()] if answer.content else []

            step = "RequestAttributesSequence__ScheduledProcedureStepID"
            assert found(**{step: "S2"}) == ["1.2.3.1.1"]
            assert found(**{step: "S*"}) == ["1.2.3.1.1", "1.2.3.1.2"]
            assert found(**{"00400275__00401001": "RS3"}) == ["1.2.3.1.2"]
            assert found(**{step: "nothing"}) == []
            late = ct_slice(1, series="1.4")
            late.RequestAttributesSequence = [Dataset()]
            late.RequestAttributesSequence[0].ScheduledProcedureStepID = "S2"
            store.ingest(file_bytes(late))
            assert found(**{step: "S2"}) == ["1.2.3.1.1", "1.2.3.1.4"]
            instances = httpx.get(f"{web}/instances", params={step.replace("__", "."): "S3"}).json()
            assert [each["00080018"]["Value"][0] for each in instances] == ["1.2.3.1.2.1"]
