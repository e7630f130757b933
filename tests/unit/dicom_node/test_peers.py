"""The table of peers: what is refused, and what is never shown."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from dicom_node.domain import ObjectKind
from dicom_node.errors import SettingsError
from dicom_node.peers import (
    Credentials,
    Inquiry,
    Peer,
    RetryPolicy,
    Right,
    Syntax,
    Tls,
    Verify,
    Via,
    check_peers,
    destinations,
    sender,
)

DESTINATION = frozenset({Right.DESTINATION})
PACS: dict[str, Any] = {
    "name": "pacs",
    "aet": "PACS",
    "host": "pacs.example",
    "port": 104,
    "rights": DESTINATION,
}


def test_a_sender_needs_only_a_name_and_a_title() -> None:
    """A modality: it may send, it is no destination, nothing is asked of it."""
    peer = Peer(name="ct", aet="CT1")
    assert peer.rights == {Right.SEND}
    assert not peer.is_destination
    assert not peer.wants(ObjectKind.REPORT)
    assert peer.expected is None


def test_a_destination_gets_the_objects_that_it_wants() -> None:
    """Report, capture and what withdraws them, unless it says otherwise."""
    wanted = {kind for kind in ObjectKind if Peer(**PACS).wants(kind)}
    assert wanted == {ObjectKind.REPORT, ObjectKind.CAPTURE, ObjectKind.REJECTION}
    reports = Peer(**PACS, objects=frozenset({ObjectKind.REPORT}))
    assert reports.wants(ObjectKind.REPORT)
    assert not reports.wants(ObjectKind.CAPTURE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": " "}, "a peer needs a name"),
        ({"aet": ""}, "peer 'pacs': via = \"dimse\" needs aet"),
        ({"host": ""}, "peer 'pacs': via = \"dimse\" needs host"),
        ({"port": None}, "peer 'pacs': via = \"dimse\" needs port"),
        ({"port": 70000}, "peer 'pacs': port has to lie in 1 to 65535"),
        ({"port": 0}, "peer 'pacs': port has to lie in 1 to 65535"),
        ({"via": Via.STOW}, "peer 'pacs': via = \"stow\" needs dicomweb"),
        ({"via": Via.FOLDER}, "peer 'pacs': via = \"folder\" needs folder"),
        ({"via": Via.ORTHANC}, "peer 'pacs': via = \"orthanc\" needs orthanc"),
        ({"orthanc": "pacs:8042"}, "orthanc has to be an http or https URL"),
        ({"orthanc": "http://u:p@pacs/"}, "secrets belong into credentials"),
        ({"transfer_syntaxes": ()}, "transfer_syntaxes needs one or more, each once"),
        (
            {"transfer_syntaxes": (Syntax.RLE, Syntax.RLE)},
            "transfer_syntaxes needs one or more, each once",
        ),
        (
            {"via": Via.STOW, "dicomweb": "https://p/", "verify": Verify.COMMITMENT},
            'verify = "commitment" needs via = "dimse"',
        ),
        (
            {"via": Via.STOW, "dicomweb": "http://p/", "tls": Tls()},
            "tls needs an https address in dicomweb",
        ),
        (
            {"via": Via.ORTHANC, "orthanc": "http://p/", "tls": Tls()},
            "tls needs an https address in orthanc",
        ),
        ({"objects": frozenset()}, "a destination has to want some objects"),
        ({"expected": Inquiry.QIDO}, 'expected = "qido" needs dicomweb'),
        (
            {"rights": frozenset({Right.SEND}), "aet": ""},
            "the right to send needs aet",
        ),
        (
            {"via": Via.FOLDER, "folder": Path("/x"), "port": None}
            | {"expected": Inquiry.CFIND},
            'expected = "cfind" needs port',
        ),
        ({"aet": "SEVENTEEN_LETTERS"}, "is not one to 16 plain ASCII characters"),
        ({"aet": "BACK\\SLASH"}, "is not one to 16 plain ASCII characters"),
        ({"aet": " PACS"}, "is not one to 16 plain ASCII characters"),
        ({"calling_aet": "ÄRZTE"}, "is not one to 16 plain ASCII characters"),
        ({"called_aets": frozenset({"A\nB"})}, "is not one to 16 plain ASCII"),
        ({"dicomweb": "pacs:8042"}, "dicomweb has to be an http or https URL"),
        ({"dicomweb": "file:///etc"}, "dicomweb has to be an http or https URL"),
        ({"dicomweb": "http://u:p@pacs/"}, "secrets belong into credentials"),
        ({"dicomweb": "http://pacs/?token=1"}, "secrets belong into credentials"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(
    changes: dict[str, Any], message: str
) -> None:
    """The error says which peer and which key."""
    with pytest.raises(SettingsError) as caught:
        Peer(**(PACS | changes))
    assert message in str(caught.value)


def test_a_key_alone_is_refused() -> None:
    """A private key says nothing without its certificate."""
    with pytest.raises(SettingsError, match=r"tls\.key is of no use"):
        Tls(key=Path("node.key"))


def test_who_may_report_on_commitment() -> None:
    """A destination by C-STORE, unless commitment is not asked for."""
    assert Peer(**PACS).may_commit
    assert not Peer(**PACS, verify=Verify.QUERY).may_commit
    assert not Peer(**(PACS | {"rights": frozenset({Right.SEND})})).may_commit


@pytest.mark.parametrize(
    "changes",
    [
        {"first_s": 0},
        {"factor": 0.5},
        {"cap_s": 1.0},
        {"jitter": 1.0},
        {"jitter": -0.1},
        {"max_attempts": 0},
        {"max_age_s": 0},
        {"max_age_s": None},
    ],
)
def test_a_retry_policy_that_cannot_work_is_refused(changes: dict[str, Any]) -> None:
    """The error names the key of the policy; one that never ends is no policy."""
    with pytest.raises(SettingsError, match="retry"):
        RetryPolicy(**changes)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"username": "u"},
        {"password": SecretStr("p")},
        {"username": "u", "password": SecretStr("p"), "token": SecretStr("t")},
        {"username": "u", "token": SecretStr("t")},
    ],
)
def test_credentials_are_a_password_or_a_token(given: dict[str, Any]) -> None:
    """Half a password, both, or nothing cannot be meant."""
    with pytest.raises(SettingsError, match="credentials need"):
        Credentials(**given)


def test_secrets_never_show() -> None:
    """Neither repr nor str of a peer holds its password or token."""
    basic = Credentials(username="node", password=SecretStr("hunter2"))
    bearer = Credentials(token=SecretStr("hunter2"))
    for credentials in (basic, bearer):
        peer = Peer(**PACS, credentials=credentials)
        assert "hunter2" not in f"{peer!r} {peer} {credentials!r}"


def test_names_and_senders_are_unique() -> None:
    """Who sent something has to be clear; two destinations may share a title."""
    check_peers([Peer(**PACS), Peer(**(PACS | {"name": "other"}))])
    with pytest.raises(SettingsError, match="two peers are called 'pacs'"):
        check_peers([Peer(**PACS), Peer(**PACS)])
    with pytest.raises(SettingsError, match="both send as 'CT'"):
        check_peers([Peer(name="a", aet="CT"), Peer(name="b", aet="CT")])


def test_the_table_is_asked_for_senders_and_destinations() -> None:
    """A title finds its sender, and only one that may send."""
    ct, pacs = Peer(name="ct", aet="CT"), Peer(**PACS)
    assert sender([ct, pacs], "CT") is ct
    assert sender([ct, pacs], "PACS") is None
    assert destinations([ct, pacs]) == (pacs,)
