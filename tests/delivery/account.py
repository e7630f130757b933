"""What became of every object: the outbox, the ledger and the archives compared."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median

from pydicom import dcmread
from sqlalchemy import func, select

from dicom_node.domain import ObjectKind
from dicom_node.ledger import Ledger
from dicom_node.ledger.tables import (
    DELIVERED,
    artefact,
    delivery,
    event,
    job,
    revision,
    study,
)
from dicom_node.lifecycle import State
from tests.delivery.archives import Held
from tests.delivery.plan import Target
from tests.peers import data_set_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a storm came to.

    Parameters
    ----------
    archives
        What each holds, by the way in which it was sent to.
    faults
        What went wrong on purpose, and how often.
    """

    seed: int
    results: int
    archives: "Mapping[Target, Holdings]"
    ledger: "Ledgers"
    faults: Mapping[str, int]
    delivering_s: float

    @property
    def is_right(self) -> bool:
        """Return whether every result is stored once, everywhere, as it was sent."""
        return self.ledger.is_right and all(h.is_right for h in self.archives.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """How what one archive holds compares with the outbox; counted in objects.

    Parameters
    ----------
    stored
        Objects that are there once, under their study and patient.
    doubled
        Objects that are there more than once.
    lost
        Objects that are not there.
    astray
        Objects that are there under another study or patient alone.
    different
        Objects whose data set is not, byte for byte, that of the outbox.
    strange
        Instances that are none of the outbox's.
    """

    objects: int
    stored: int
    doubled: int
    lost: int
    astray: int
    different: int
    strange: int

    @property
    def is_right(self) -> bool:
        """Return whether every object is there once, and nothing else."""
        faults = (self.doubled, self.lost, self.astray, self.different, self.strange)
        return self.stored == self.objects and not any(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Own(Held):
    """An object as it lies in the outbox."""

    kind: ObjectKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledgers:
    """What the ledger says in the end.

    Parameters
    ----------
    studies, deliveries
        How many are in each state.
    verified
        How many deliveries were confirmed in each way.
    lost
        How often an archive did not have what it had called stored.
    """

    studies: Mapping[str, int]
    deliveries: Mapping[str, int]
    verified: Mapping[str, int]
    lost: int
    attempts_median: float
    attempts_most: int

    @property
    def is_right(self) -> bool:
        """Return whether all is delivered and verified, and every study is done."""
        settled = set(self.studies), set(self.deliveries)
        unseen = [way for way in self.verified if way.endswith(": not")]
        return settled == ({State.DONE}, {DELIVERED}) and not unseen


def compared(outbox: Sequence[Held], held: Iterable[Held]) -> Holdings:
    """Return how an archive's instances compare with those of the outbox."""
    by_uid: dict[str, list[Held]] = {one.sop_instance_uid: [] for one in outbox}
    strange = 0
    for one in held:
        if one.sop_instance_uid in by_uid:
            by_uid[one.sop_instance_uid].append(one)
        else:
            strange += 1
    verdicts = Counter(_verdict(one, by_uid[one.sop_instance_uid]) for one in outbox)
    return Holdings(
        objects=len(outbox),
        stored=verdicts["stored"],
        doubled=verdicts["doubled"],
        lost=verdicts["lost"],
        astray=verdicts["astray"],
        different=verdicts["different"],
        strange=strange,
    )


def _verdict(own: Held, found: list[Held]) -> str:
    if not found:
        return "lost"
    if len(found) > 1:
        return "doubled"
    (one,) = found
    if (one.study_uid, one.patient_id) != (own.study_uid, own.patient_id):
        return "astray"
    return "stored" if one.data_set == own.data_set else "different"


def outbox_of(ledger: Ledger, folder: Path) -> Iterator[Own]:
    """Yield every object that the ledger knows, read from the outbox's folder."""
    query = select(artefact, study.c.study_uid).select_from(
        artefact.join(job).join(revision).join(study)
    )
    with ledger.read() as tx:
        rows = tx.execute(query).all()
    for row in rows:
        content = (folder / row.path).read_bytes()
        header = dcmread(folder / row.path, specific_tags=["PatientID"])
        assert sha256(content).hexdigest() == row.sha256, "the outbox was changed"
        yield Own(
            kind=ObjectKind(row.kind),
            sop_instance_uid=row.sop_instance_uid,
            study_uid=row.study_uid,
            patient_id=str(header.PatientID),
            data_set=sha256(data_set_bytes(content)).hexdigest(),
        )


def ledger_says(ledger: Ledger) -> Ledgers:
    """Return what the ledger says of studies and deliveries."""
    with ledger.read() as tx:
        attempts = tx.execute(select(delivery.c.attempts)).scalars().all()
        ways = tx.execute(select(delivery.c.destination, delivery.c.verified))
        verified = Counter(f"{where}: {how or 'not'}" for where, how in ways)
        return Ledgers(
            studies=Counter(tx.execute(select(study.c.state)).scalars()),
            deliveries=Counter(tx.execute(select(delivery.c.state)).scalars()),
            verified=dict(sorted(verified.items())),
            lost=tx.execute(
                select(func.count()).where(event.c.kind == "lost")
            ).scalar_one(),
            attempts_median=median(attempts),
            attempts_most=max(attempts),
        )


def progress(ledger: Ledger) -> tuple[int, int]:
    """Return how many studies are done, and how many deliveries are made."""
    with ledger.read() as tx:
        done = tx.execute(
            select(func.count()).select_from(study).where(study.c.state == State.DONE)
        ).scalar_one()
        made = tx.execute(
            select(func.count())
            .select_from(delivery)
            .where(delivery.c.state == DELIVERED)
        ).scalar_one()
    return done, made
