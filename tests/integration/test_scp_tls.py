"""DIMSE over TLS, from the wire: DCMTK and OpenSSL as callers, good and bad ones."""

import hashlib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_node.callers import Identity, certificate_mark, network
from dicom_node.domain.audited import Alarm, AuditEvent, SecurityAlert
from dicom_node.errors import SettingsError
from dicom_node.hearing import Listener
from dicom_node.scp import StorageScp
from dicom_node.tls import ServerTls
from tests.certificates import Authority, Certificate
from tests.receiving import House, house, part10, running

ECHOSCU, STORESCU = "/usr/bin/echoscu", "/usr/bin/storescu"
OPENSSL = "/usr/bin/openssl"

pytestmark = pytest.mark.skipif(
    not Path(ECHOSCU).exists(), reason="DCMTK is not installed"
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return the authority that the node trusts."""
    return Authority.found(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture(scope="module")
def own(authority: Authority) -> Certificate:
    """Return the node's certificate."""
    return authority.certify("node", host="DNS:localhost,IP:127.0.0.1")


@pytest.fixture(scope="module")
def theirs(authority: Authority) -> Certificate:
    """Return a modality's certificate."""
    return authority.certify("ct", host="DNS:ct.example")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Return an empty spool with an intake before it."""
    return house(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def trail() -> list[AuditEvent]:
    """Return what the audit trail is told."""
    return []


@pytest.fixture
def told(trail: list[AuditEvent]) -> list[AuditEvent]:
    """Return what the audit trail is told from now on."""
    trail.clear()
    return trail


@pytest.fixture(scope="module")
def scp(
    home: House, authority: Authority, own: Certificate, trail: list[AuditEvent]
) -> Iterator[StorageScp]:
    """Return an SCP with a plain port and one where callers are identified."""
    tls = ServerTls(certificate=own.path, key=own.key, ca=authority.own.path)
    listener = Listener(tls=tls, acse_timeout_s=1, identities=IDENTITIES)
    with running(StorageScp(listener, home.intake, note=trail.append)) as server:
        yield server


IDENTITIES = {
    "CT": (Identity(certificates=frozenset({certificate_mark("ct.example")})),),
    "FAR": (Identity(networks=(network("10.0.0.0/8"),)),),
}


def call(
    tool: str, port: int, *words: object, certificate: Certificate | None = None
) -> subprocess.CompletedProcess[str]:
    """Return how a call of DCMTK's went: over TLS with `certificate` if there is one."""
    tls = [] if certificate is None else ["+tls", certificate.key, certificate.path]
    return subprocess.run(
        [tool, "-v", *map(str, tls), *map(str, words[:-1]), "127.0.0.1", str(port)]
        + [str(word) for word in words[-1:] if word],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def alerts(told: list[AuditEvent]) -> list[SecurityAlert]:
    """Return the alerts that were told of, once there is one."""
    deadline = time.monotonic() + 5
    while not told and time.monotonic() < deadline:
        time.sleep(0.02)
    return [event for event in told if isinstance(event, SecurityAlert)]


def only_alert(told: list[AuditEvent]) -> str:
    """Return the reason of the one alert about who somebody is."""
    (alert,) = alerts(told)
    assert alert.alarm is Alarm.NODE_AUTHENTICATION
    assert alert.address == "127.0.0.1"
    return alert.reason


# ── who comes in ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_echo_with_certificates_on_both_sides(
    scp: StorageScp, authority: Authority, theirs: Certificate, profile: str
) -> None:
    """DCMTK's BCP 195 profiles: non-downgrading, BCP 195, extended."""
    words = (profile, "+cf", authority.own.path, "")
    done = call(ECHOSCU, scp.tls_port, *words, certificate=theirs)
    assert done.returncode == 0, done.stderr


def test_an_instance_arrives_over_tls(
    scp: StorageScp,
    home: House,
    authority: Authority,
    theirs: Certificate,
    tmp_path: Path,
) -> None:
    """C-STORE by a peer whose certificate has the name that the settings ask for."""
    file = tmp_path / "sent.dcm"
    file.write_bytes(part10())
    words = ("+cf", authority.own.path, "-aet", "CT", file)
    done = call(STORESCU, scp.tls_port, *words, certificate=theirs)
    assert done.returncode == 0, done.stderr
    (received,) = home.books.received
    assert received.origin.calling_aet == "CT"


def test_plain_associations_are_served_beside(scp: StorageScp) -> None:
    """On their own port."""
    assert call(ECHOSCU, scp.port, "").returncode == 0


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_versions_of_tls(
    scp: StorageScp, authority: Authority, theirs: Certificate, version: str
) -> None:
    """1.2 and 1.3, with the ciphers of RFC 9325 4.2."""
    said = s_client(scp, authority, version, certificate=theirs)
    assert "Verification: OK" in said
    cipher = {"-tls1_2": "ECDHE-RSA-AES256-GCM-SHA384", "-tls1_3": "TLS_AES_256_GCM"}
    assert cipher[version] in said


# ── who does not ────────────────────────────────────────────────────────────


def test_an_older_tls_is_refused(
    scp: StorageScp, authority: Authority, theirs: Certificate, told: list[AuditEvent]
) -> None:
    """RFC 8996: 1.0 and 1.1 are not spoken."""
    s_client(scp, authority, "-tls1_1", "-cipher", "ALL@SECLEVEL=0", certificate=theirs)
    assert only_alert(told) == "it offers only TLS older than 1.2"


def test_a_cipher_outside_the_profile_is_refused(
    scp: StorageScp, authority: Authority, theirs: Certificate, told: list[AuditEvent]
) -> None:
    """No forward secrecy, no handshake."""
    s_client(
        scp, authority, "-tls1_2", "-cipher", "AES256-GCM-SHA384", certificate=theirs
    )
    assert only_alert(told) == "it offers no cipher of PS3.15 B.12"


def test_a_caller_without_a_certificate_is_refused(
    scp: StorageScp, authority: Authority, told: list[AuditEvent]
) -> None:
    """DCMTK's anonymous TLS."""
    done = call(ECHOSCU, scp.tls_port, "+tla", "+cf", authority.own.path, "")
    assert done.returncode != 0
    assert only_alert(told) == "it showed no certificate"


def test_a_caller_of_another_authority_is_refused(
    scp: StorageScp, authority: Authority, told: list[AuditEvent], tmp_path: Path
) -> None:
    """The reason says which setting holds the authorities."""
    stranger = Authority.found(tmp_path / "other").certify("ct")
    words = ("+cf", authority.own.path, "")
    assert call(ECHOSCU, scp.tls_port, *words, certificate=stranger).returncode != 0
    assert only_alert(told) == (
        "its TLS certificate is not signed by an authority that we know:"
        " see dicom.tls.ca"
    )


def test_an_expired_certificate_is_refused(
    scp: StorageScp, authority: Authority, told: list[AuditEvent]
) -> None:
    """A caller's is checked as a destination's is."""
    old = authority.certify("old", expired=True)
    words = ("+cf", authority.own.path, "")
    assert call(ECHOSCU, scp.tls_port, *words, certificate=old).returncode != 0
    assert only_alert(told).startswith("its TLS certificate has expired")


def test_a_title_needs_its_certificate(
    scp: StorageScp, authority: Authority, told: list[AuditEvent]
) -> None:
    """Signed by the right authority, and another system's: PS3.8 Table 9-21, 1-1-3."""
    other = authority.certify("mr", host="DNS:mr.example")
    words = ("+cf", authority.own.path, "-aet", "CT", "")
    done = call(ECHOSCU, scp.tls_port, *words, certificate=other)
    assert "Calling AE Title Not Recognized" in done.stderr
    assert only_alert(told) == ("its certificate is not among this peer's certificates")


def test_a_title_with_certificates_cannot_call_without_tls(
    scp: StorageScp, told: list[AuditEvent]
) -> None:
    """The plain port is no way around it."""
    done = call(ECHOSCU, scp.port, "-aet", "CT", "")
    assert "Calling AE Title Not Recognized" in done.stderr
    assert only_alert(told) == "this peer has to show a certificate, over TLS"


def test_a_title_calls_from_its_addresses(
    scp: StorageScp, told: list[AuditEvent]
) -> None:
    """Anybody can say a title; the address counts, too, and the log says so."""
    with capture_logs() as logs:
        done = call(ECHOSCU, scp.port, "-aet", "FAR", "")
    assert "Calling AE Title Not Recognized" in done.stderr
    reason = "it calls from an address that is not among this peer's addresses"
    assert only_alert(told) == reason
    (line,) = [line for line in logs if line["event"] == "association_rejected"]
    titles = {"calling_aet": "FAR", "called_aet": "ANY-SCP"}
    assert line == {
        "event": "association_rejected",
        "log_level": "warning",
        "address": "127.0.0.1",
        "reason": reason,
        **titles,
    }


def test_a_fingerprint_is_what_openssl_prints(theirs: Certificate) -> None:
    """So an operator can copy it into the settings."""
    words = ["x509", "-in", str(theirs.path), "-noout", "-fingerprint", "-sha256"]
    printed = subprocess.run([OPENSSL, *words], capture_output=True, check=True)
    encoded = ssl.PEM_cert_to_DER_cert(theirs.path.read_text())
    mark = certificate_mark(printed.stdout.decode().partition("=")[2])
    assert mark == hashlib.sha256(encoded).hexdigest()


# ── who speaks something else, or nothing ───────────────────────────────────


def test_a_plain_association_on_the_tls_port(
    scp: StorageScp, told: list[AuditEvent]
) -> None:
    """One sentence, no traceback."""
    with capture_logs() as logs:
        assert call(ECHOSCU, scp.tls_port, "").returncode != 0
        reason = only_alert(told)
    assert reason == "it speaks no TLS to the port for TLS"
    assert [line["event"] for line in logs] == ["association_rejected"]


def test_tls_on_the_plain_port(
    scp: StorageScp, authority: Authority, theirs: Certificate, told: list[AuditEvent]
) -> None:
    """Likewise."""
    with capture_logs() as logs:
        words = ("+cf", authority.own.path, "")
        assert call(ECHOSCU, scp.port, *words, certificate=theirs).returncode != 0
        reason = only_alert(told)
    assert reason == "it speaks TLS to the port for plain associations"
    assert [line["event"] for line in logs] == ["association_rejected"]


def test_a_caller_that_stalls_keeps_nobody_out(
    scp: StorageScp, authority: Authority, theirs: Certificate, told: list[AuditEvent]
) -> None:
    """Half a hello, then silence: others are served meanwhile, and it is closed."""
    with socket.create_connection(("127.0.0.1", scp.tls_port)) as stalled:
        stalled.sendall(b"\x16\x03\x01")
        began = time.monotonic()
        words = ("+cf", authority.own.path, "")
        assert call(ECHOSCU, scp.tls_port, *words, certificate=theirs).returncode == 0
        assert time.monotonic() - began < 1
        stalled.settimeout(5)
        assert stalled.recv(1) == b""
    assert only_alert(told) == "it did not finish the TLS handshake in time"


@pytest.mark.parametrize("door", ["port", "tls_port"])
def test_a_probe_is_no_alert(
    scp: StorageScp, told: list[AuditEvent], door: str
) -> None:
    """A load balancer connects and closes: nothing is said of it."""
    with capture_logs() as logs:
        socket.create_connection(("127.0.0.1", getattr(scp, door))).close()
        time.sleep(0.1)
    assert (told, logs) == ([], [])


def test_so_many_may_wait(home: House) -> None:
    """Silent connections beyond that are closed, and are given up after a while."""
    listener = Listener(max_associations=1, acse_timeout_s=0.5)
    with running(StorageScp(listener, home.intake)) as server:
        silent = [
            socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)
        ]
        silent[2].settimeout(0.4)
        assert silent[2].recv(1) == b""
        silent[0].settimeout(5)
        assert silent[0].recv(1) == b""
        assert call(ECHOSCU, server.port, "").returncode == 0
        for one in silent:
            one.close()


# ── settings that cannot be used ────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"certificate": Path("/none.pem")}, "dicom.tls.certificate: there is no file"),
        ({"ca": Path("/none.pem")}, "dicom.tls.ca: there is no file"),
        ({"key": Path(__file__)}, "dicom.tls.certificate and tls.key are no PEM"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    home: House, own: Certificate, changes: dict[str, Any], message: str
) -> None:
    """The node does not start, and listens nowhere."""
    given: dict[str, Any] = {"certificate": own.path, "key": own.key, **changes}
    server = StorageScp(Listener(tls=ServerTls(**given)), home.intake)
    with pytest.raises(SettingsError, match=message):
        server.start()
    assert (server.port, server.tls_port) == (0, 0)


def test_a_node_that_anybody_could_call_does_not_start(tmp_path: Path) -> None:
    """In a sentence, before it opens anything."""
    config = tmp_path / "pacsight.toml"
    config.write_text(
        f'data_dir = "{tmp_path}/data"\nbroker_url = "redis://127.0.0.1:1/0"\n'
        '[dicom]\nhost = "0.0.0.0"\n'
    )
    command = [sys.executable, "-m", "workers", "node", "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "dicom.host = '0.0.0.0' lets the network in without TLS" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "data" / "ledger.sqlite").exists()


def s_client(
    scp: StorageScp, authority: Authority, *words: str, certificate: Certificate
) -> str:
    """Return what OpenSSL says of the TLS port."""
    where = f"127.0.0.1:{scp.tls_port}"
    files = ("-CAfile", str(authority.own.path))
    mine = ("-cert", str(certificate.path), "-key", str(certificate.key))
    done = subprocess.run(
        [OPENSSL, "s_client", "-connect", where, *words, *files, *mine],
        input="",
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.stdout + done.stderr
