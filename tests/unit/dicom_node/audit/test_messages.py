"""Audit messages, judged by the schema of PS3.15 A.5.1.1 and by its tables."""

import base64
import hmac
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from dicom_node.audit.parts import LONGEST, clean
from dicom_node.domain import (
    Activity,
    Alarm,
    ApplicationActivity,
    AtlasSearched,
    AuditEvent,
    FrontDoor,
    InstancesReceived,
    Origin,
    Queried,
    ResultsSent,
    SecurityAlert,
    SopClassCount,
    StudyForgotten,
    TrailRead,
    UserAuthenticated,
)
from tests.audits import KEY, STUDY, one_of_each, valid, xml_of

HOSTILE = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=64),  # surrogates, too
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            "]]>&amp;&#0;",
            '"><AuditMessage/>',
            "\x00\x1b\x7f\ufffe\uffff\udc80",
            "a\r\nb\tc\u2028d\x85e",
            "A^B" * 21_000,  # 63 kB
            " ",
            "",
        ]
    ),
)
COUNTS = st.lists(
    st.builds(SopClassCount, sop_class_uid=HOSTILE, instances=st.integers(0, 10**9)),
    max_size=3,
).map(tuple)
ORIGINS = st.builds(
    Origin,
    door=st.sampled_from(FrontDoor),
    calling_aet=HOSTILE,
    called_aet=HOSTILE,
    address=HOSTILE,
)
EVENTS = st.one_of(
    st.builds(
        ApplicationActivity,
        application=HOSTILE,
        activity=st.sampled_from(Activity),
        failure=HOSTILE,
    ),
    st.builds(
        InstancesReceived,
        origin=ORIGINS,
        study_uid=HOSTILE,
        sop_classes=COUNTS,
        patient_id=HOSTILE,
        user=HOSTILE,
    ),
    st.builds(
        ResultsSent,
        destination=HOSTILE,
        address=HOSTILE,
        study_uid=HOSTILE,
        sop_classes=COUNTS,
        aet=HOSTILE,
        patient_id=HOSTILE,
        failure=HOSTILE,
        given_up=st.booleans(),
    ),
    st.builds(
        Queried,
        by=HOSTILE,
        of=HOSTILE,
        address=HOSTILE,
        sop_class_uid=HOSTILE,
        study_uid=st.none() | HOSTILE,
    ),
    st.builds(AtlasSearched, atlas=HOSTILE, pack=HOSTILE, study_uid=HOSTILE),
    st.builds(
        SecurityAlert,
        alarm=st.sampled_from(Alarm),
        reason=HOSTILE,
        who=HOSTILE,
        address=HOSTILE,
    ),
    st.builds(UserAuthenticated, user=HOSTILE, address=HOSTILE, accepted=st.booleans()),
    st.builds(TrailRead, by=HOSTILE, where=HOSTILE),
    st.builds(
        StudyForgotten,
        study_uid=HOSTILE,
        instances=st.integers(0, 10**6),
        by=HOSTILE,
        patient_id=HOSTILE,
    ),
)


@pytest.mark.parametrize("event", one_of_each(), ids=lambda e: type(e).__name__)
def test_every_event_is_valid(event: AuditEvent) -> None:
    """Against the schema of the Standard, with and without pseudonyms."""
    valid(event)
    valid(event, plain=True)


@settings(deadline=None)
@given(event=EVENTS, plain=st.booleans())
def test_hostile_text_does_no_harm(event: AuditEvent, *, plain: bool) -> None:
    """Whatever a peer calls itself, the message is well formed, valid and one line."""
    valid(event, plain=plain)
    xml = xml_of(event, plain=plain)

    assert b"\n" not in xml
    assert b"<script" not in xml


@given(text=HOSTILE)
def test_text_is_cut_and_cleaned(text: str) -> None:
    """No text is longer than a message can bear; what is harmless stays as it is."""
    assert len(clean(text)) <= LONGEST
    harmless = "".join(c for c in text if " " <= c <= "~")[:LONGEST]
    assert clean(harmless) == harmless


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ApplicationActivity, ("110100", "E", "110120")),
        (InstancesReceived, ("110104", "C", None)),
        (ResultsSent, ("110104", "C", None)),
        (Queried, ("110112", "E", None)),
        (AtlasSearched, ("110112", "E", "atlas-search")),
        (SecurityAlert, ("110113", "E", "110126")),
        (UserAuthenticated, ("110114", "E", "110122")),
        (StudyForgotten, ("110105", "D", None)),
        (TrailRead, ("110101", "R", None)),
    ],
)
def test_events_have_the_codes_of_the_standard(
    kind: type, expected: tuple[str, str, str | None]
) -> None:
    """EventID, EventActionCode and EventTypeCode of PS3.15 A.5.3."""
    event = next(one for one in one_of_each() if isinstance(one, kind))
    happening = valid(event).find("EventIdentification")
    typed = happening.find("EventTypeCode")
    found = (
        happening.find("EventID").get("csd-code"),
        happening.get("EventActionCode"),
        None if typed is None else typed.get("csd-code"),
    )

    assert expected == found


def test_time_is_utc() -> None:
    """EventDateTime says its zone (PS3.15 A.5.2.5)."""
    tree = valid(one_of_each()[0])

    assert tree.find("EventIdentification").get("EventDateTime") == (
        "2026-05-04T09:30:00.120Z"
    )


def test_received_instances_name_both_ends() -> None:
    """The peer is the source, and asks; we are the destination (A.5.3.7)."""
    tree = valid(_first(InstancesReceived))
    peer, us = tree.findall("ActiveParticipant")

    assert _role(peer) == "110153"
    assert peer.get("UserID") == "CT1"
    assert peer.get("AlternativeUserID") == "AETITLES=CT1"
    assert peer.get("NetworkAccessPointID") == "10.1.2.3"
    assert peer.get("NetworkAccessPointTypeCode") == "2"
    assert peer.get("UserIsRequestor") == "true"
    assert _role(us) == "110152"
    assert us.get("UserID") == "4711"
    assert us.get("NetworkAccessPointID") == "reading-room"
    assert us.get("NetworkAccessPointTypeCode") == "1"
    assert us.get("UserIsRequestor") == "false"


def test_instances_are_counted_by_class() -> None:
    """The study's participant object has a count for each SOP class."""
    study, _patient = valid(_first(InstancesReceived)).findall(
        "ParticipantObjectIdentification"
    )
    counted = study.find("ParticipantObjectDescription/SOPClass")

    assert study.get("ParticipantObjectID") == STUDY
    assert study.find("ParticipantObjectIDTypeCode").get("csd-code") == "110180"
    assert counted.get("UID") == "1.2.840.10008.5.1.4.1.1.1"
    assert counted.get("NumberOfInstances") == "2"


def test_a_patient_has_a_pseudonym() -> None:
    """HMAC-SHA-256 of the Patient ID, and the message says that it is one."""
    _study, patient = valid(_first(InstancesReceived)).findall(
        "ParticipantObjectIdentification"
    )
    detail = patient.find("ParticipantObjectDetail")

    assert (
        patient.get("ParticipantObjectID") == hmac.digest(KEY, b"P-17", "sha256").hex()
    )
    assert patient.get("ParticipantObjectTypeCodeRole") == "1"
    assert patient.find("ParticipantObjectName").text is None
    assert _text(detail.get("value")) == "HMAC-SHA-256 of the Patient ID"


def test_a_site_may_want_the_patient_id() -> None:
    """As the Standard has it; never a name."""
    _study, patient = valid(_first(InstancesReceived), plain=True).findall(
        "ParticipantObjectIdentification"
    )

    assert patient.get("ParticipantObjectID") == "P-17"
    assert patient.find("ParticipantObjectName").text is None
    assert patient.find("ParticipantObjectDetail") is None


def test_no_event_shows_its_patient() -> None:
    """Where an event is printed, e.g. in a traceback, its patient is not."""
    shown = [repr(event) for event in one_of_each()]

    assert not [text for text in shown if "P-17" in text]


def test_a_user_is_who_asked() -> None:
    """Where somebody authenticated, he is the requestor, and the only one."""
    received = _first(InstancesReceived)
    assert isinstance(received, InstancesReceived)
    tree = valid(replace(received, user="anna"))
    asking = [
        one.get("UserID")
        for one in tree.findall("ActiveParticipant")
        if one.get("UserIsRequestor") == "true"
    ]

    assert asking == ["anna"]


def test_failures_say_how_bad_and_why() -> None:
    """Minor while another attempt follows, serious where none does."""
    sent = _first(ResultsSent)
    assert isinstance(sent, ResultsSent)
    failing = replace(sent, failure="it refused", given_up=False)
    outcomes = [
        valid(event).find("EventIdentification").get("EventOutcomeIndicator")
        for event in (sent, failing, replace(failing, given_up=True))
    ]
    why = valid(failing).findtext("EventIdentification/EventOutcomeDescription")

    assert outcomes == ["0", "4", "8"]
    assert why == "it refused"


def test_a_query_holds_its_data_set() -> None:
    """Another reader of DICOM finds level and study in it (A.5.3.10)."""
    subject = valid(_first(Queried)).find("ParticipantObjectIdentification")
    detail = subject.find("ParticipantObjectDetail")
    raw = base64.b64decode(subject.findtext("ParticipantObjectQuery"))
    identifier = dcmread(DicomBytesIO(raw), force=True)

    assert identifier.QueryRetrieveLevel == "STUDY"
    assert identifier.StudyInstanceUID == STUDY
    assert detail.get("type") == "TransferSyntax"
    assert _text(detail.get("value")) == "1.2.840.10008.1.2"


def test_an_alert_says_what_it_is_about() -> None:
    """Node ID and "Alert Description" of its subject (A.5.3.11)."""
    subject = valid(_first(SecurityAlert)).find("ParticipantObjectIdentification")
    detail = subject.find("ParticipantObjectDetail")

    assert subject.find("ParticipantObjectIDTypeCode").get("csd-code") == "110182"
    assert subject.get("ParticipantObjectID") == "reading-room"
    assert (detail.get("type"), _text(detail.get("value"))) == (
        "Alert Description",
        "why",
    )


def _first(kind: type) -> AuditEvent:
    return next(one for one in one_of_each() if isinstance(one, kind))


def _role(participant: Any) -> str:
    found: str = participant.find("RoleIDCode").get("csd-code")
    return found


def _text(value: str) -> str:
    return base64.b64decode(value).decode()
