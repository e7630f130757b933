"""A ledger whose outbox holds real files, and a drain that a test moves on."""

from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from sqlalchemy import select

from dicom_node.deliver import DimseDestination, destination
from dicom_node.domain import (
    EncodedObject,
    ObjectKind,
    SeriesUid,
    SopClassUid,
    SopInstanceUid,
)
from dicom_node.drain import Drain
from dicom_node.ledger import Ledger, motion, outbox, results
from dicom_node.ledger.deliveries import DeliveryLine, deliveries
from dicom_node.ledger.leases import JOBS
from dicom_node.ledger.outbox import Address
from dicom_node.ledger.results import StoredObject
from dicom_node.ledger.studies import happen
from dicom_node.ledger.tables import artefact
from dicom_node.lifecycle import Event
from dicom_node.objects import ObjectStore
from dicom_node.peers import Peer
from dicom_node.verification import Patience
from tests import builders
from tests.arrivals import received, study_uid
from tests.ledgers import (
    Clock,
    complete,
    embed,
    jobs,
    leased,
    open_revision,
    record,
    standing,
    state,
)
from tests.peers import CLASSES, QUICK, object_bytes

PATIENT = "PAT-0001"


@dataclass
class Outbox:
    """Studies that were concluded, each with a report and a capture to be sent."""

    ledger: Ledger
    folder: Path
    clock: Clock = field(default_factory=Clock)
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        self.objects = ObjectStore(self.folder / "outbox")

    def fill(self, *names: str, studies: int = 1) -> None:
        """Put objects of so many studies into the outbox of these destinations."""
        to = [Address(destination=n, objects=frozenset(CLASSES)) for n in names]
        for number in range(1, studies + 1):
            record(self.ledger, received(number))
            embed(self.ledger)
            complete(self.ledger, number)
            open_revision(self.ledger, number)
            (job,) = jobs(self.ledger, number)
            lease = leased(self.ledger, JOBS, job.id, now=self.clock())
            made = [self._made(number, kind) for kind in CLASSES]
            key = standing(self.ledger, number).key
            now = self.clock()
            with self.ledger.write() as tx:
                assert results.settle_job(tx, lease, builders.result(), made, now=now)
                outbox.address(tx, key, to, now=now)
                happen(tx, key, Event.CONCLUDED, detail="", at=now)

    def drain(self, peer: Peer) -> Drain:
        """Return what sends to the peer, under our clock; it is not started."""
        to = destination(peer, QUICK)
        if isinstance(to, DimseDestination):
            to = replace(to, report_wait_s=0.3)
        return Drain(
            peer,
            to,
            ledger=self.ledger,
            objects=self.objects,
            batch_size=64,
            clock=self.clock,
            patience=self.patience,
        )

    def lines(self) -> list[DeliveryLine]:
        """Return how every delivery stands, the oldest object first."""
        with self.ledger.read() as tx:
            return deliveries(tx)[::-1]

    def line(self, kind: ObjectKind = ObjectKind.REPORT) -> DeliveryLine:
        """Return how the one object of a kind stands."""
        (line,) = (line for line in self.lines() if line.kind is kind)
        return line

    def states(self) -> set[tuple[str, str]]:
        """Return state and proof of every delivery."""
        return {(line.state, line.verified) for line in self.lines()}

    def settled(self, number: int = 1) -> str:
        """Return the study's state after the handover looked at its deliveries."""
        key = standing(self.ledger, number).key
        with self.ledger.write() as tx:
            if motion.delivered(tx, key=key):
                refused = outbox.refusal(tx, key)
                event = Event.UNDELIVERED if refused else Event.DELIVERED
                happen(tx, key, event, detail=refused, at=self.clock())
        return state(self.ledger, number)

    def files(self) -> dict[str, bytes]:
        """Return what lies in the outbox, by SOP Instance UID."""
        with self.ledger.read() as tx:
            rows = tx.execute(select(artefact)).all()
        return {
            row.sop_instance_uid: self.objects.path(row.path).read_bytes()
            for row in rows
        }

    def _made(self, number: int, kind: ObjectKind) -> StoredObject:
        content = object_bytes(
            list(CLASSES).index(kind) + 1,
            kind=kind,
            study_uid=study_uid(number),
            patient=PATIENT,
        )
        encoded = EncodedObject(
            kind=kind,
            series_uid=SeriesUid(f"{study_uid(number)}.9"),
            sop_class_uid=SopClassUid(str(CLASSES[kind])),
            sop_instance_uid=SopInstanceUid(
                str(dcmread(BytesIO(content)).SOPInstanceUID)
            ),
            content=content,
        )
        return StoredObject(
            kind=kind,
            series_uid=encoded.series_uid,
            sop_class_uid=encoded.sop_class_uid,
            sop_instance_uid=encoded.sop_instance_uid,
            sha256=encoded.sha256,
            path=self.objects.keep(encoded),
            size=len(content),
        )
