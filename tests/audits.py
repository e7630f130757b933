"""Audit messages in tests: the Standard's schema, a teller, an event of each kind."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from lxml import etree

from dicom_node.audit.messages import Teller
from dicom_node.audit.pseudonym import Pseudonyms
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
    SopClassUid,
    StudyForgotten,
    StudyUid,
    TrailRead,
    UserAuthenticated,
)

SCHEMA = Path(__file__).parent / "data" / "audit-message.rng"
AT = datetime(2026, 5, 4, 9, 30, 0, 120_000, tzinfo=UTC)
KEY = bytes(range(32))
PSEUDONYMS = Pseudonyms(KEY)
STUDY = StudyUid("1.2.826.0.1.3680043.8.498.1")
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
CHEST = (
    SopClassCount(sop_class_uid=SopClassUid("1.2.840.10008.5.1.4.1.1.1"), instances=2),
)


def teller(*, pseudonym: Callable[[str], str] | None = PSEUDONYMS.of) -> Teller:
    """Return a node that tells of events."""
    return Teller(
        application="node",
        source_id="pacsight",
        site="hospital",
        aets=("PACSIGHT",),
        host="reading-room",
        process=4711,
        pseudonym=pseudonym,
    )


def parsed(xml: bytes) -> Any:
    """Return the message as a tree, after the Standard's schema has let it through."""
    tree = etree.fromstring(xml)
    schema = _schema()
    assert schema.validate(tree), f"{schema.error_log}\n{xml!r}"
    return tree


def valid(event: AuditEvent, *, plain: bool = False) -> Any:
    """Return the message about an event, as `parsed` does."""
    return parsed(xml_of(event, plain=plain))


def xml_of(event: AuditEvent, *, plain: bool = False) -> bytes:
    """Return the message about an event, with a Patient ID or its pseudonym."""
    hidden = None if plain else PSEUDONYMS.of
    return teller(pseudonym=hidden).message(event, AT).to_xml()


def one_of_each() -> tuple[AuditEvent, ...]:
    """Return an event of each kind."""
    origin = Origin(
        door=FrontDoor.DIMSE,
        calling_aet="CT1",
        called_aet="PACSIGHT",
        address="10.1.2.3",
    )
    return (
        ApplicationActivity(application="node", activity=Activity.STARTED),
        ApplicationActivity(
            application="worker", activity=Activity.STOPPED, failure="killed", process=9
        ),
        InstancesReceived(
            origin=origin, study_uid=STUDY, sop_classes=CHEST, patient_id="P-17"
        ),
        ResultsSent(
            destination="pacs",
            aet="PACS",
            address="pacs.example",
            study_uid=STUDY,
            sop_classes=CHEST,
            patient_id="P-17",
        ),
        ResultsSent(
            destination="folder",
            address="/results",
            study_uid=STUDY,
            sop_classes=CHEST,
            failure="no room",
            given_up=True,
        ),
        Queried(
            by="", of="pacs", address="10.1.2.4", sop_class_uid=FIND, study_uid=STUDY
        ),
        Queried(by="viewer", of="", address="10.1.2.5"),
        AtlasSearched(atlas="chest-atlas 1.0", pack="chest", study_uid=STUDY),
        *(SecurityAlert(alarm=alarm, reason="why", who="CT9") for alarm in Alarm),
        UserAuthenticated(user="anna", address="10.1.2.6", accepted=True),
        UserAuthenticated(user="", address="::1", accepted=False),
        TrailRead(by="anna", where="file:///data/audit"),
        StudyForgotten(study_uid=STUDY, instances=3, by="retention", patient_id="P-17"),
    )


@cache
def _schema() -> Any:
    return etree.RelaxNG(etree.parse(SCHEMA))
