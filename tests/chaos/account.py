"""What became of every instance and study: senders, ledger, outbox and PACS compared."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from statistics import median
from urllib.request import urlopen

from pydicom import Dataset, dcmread
from sqlalchemy import func, select

from dicom_node.domain import ObjectKind
from dicom_node.ledger import Ledger
from dicom_node.ledger.tables import (
    artefact,
    batch,
    delivery,
    embedding,
    event,
    job,
    revision,
    study,
    version,
)
from dicom_node.lifecycle import State
from tests.bars import Show
from tests.chaos.recovery import Recovery
from tests.delivery.archives import UnrulyOrthanc
from tests.peers import data_set_bytes

MUST_NOT_BE = (
    "acknowledged instances lost",
    "instances with other contents",
    "studies not done",
    "jobs neither done nor dropped",
    "batches neither done nor dropped",
    "deliveries not made",
    "frames not embedded",
    "reports damaged in the outbox",
    "reports missing in the PACS",
    "reports doubled in the PACS",
    "reports with other contents",
    "reports about other images",
    "reports of unknown studies",
    "studies without a report",
    "studies with several current reports",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a run came to; all but `counts` has to be nothing.

    Parameters
    ----------
    counts
        What there was, by name.
    wrong
        What must not be, by name, and how much of it there was.
    examples
        The first of each thing that must not be.
    faults
        What went wrong on purpose, and how often.
    recoveries
        Seconds after everything was killed, see `times`.
    """

    seed: int
    counts: Mapping[str, int]
    wrong: Mapping[str, int]
    examples: Mapping[str, Sequence[str]]
    faults: Mapping[str, int]
    recoveries: Mapping[str, Sequence[float | None]]
    full_by: str
    lasted_s: float

    @property
    def is_right(self) -> bool:
        """Return whether nothing was lost, doubled, changed or forgotten."""
        return not any(self.wrong.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A structured report as the PACS holds it.

    Parameters
    ----------
    predecessors
        SOP Instance UIDs of the reports that it supersedes.
    evidence
        SOP Instance UIDs of the images that it is about.
    """

    uid: str
    study_uid: str
    patient_id: str
    digest: str
    predecessors: frozenset[str]
    evidence: frozenset[str]


def account(
    acknowledged: Mapping[str, str],
    of_study: Mapping[str, Sequence[str]],
    ledger: Ledger,
    outbox: Path,
    pacs: UnrulyOrthanc,
    show: Show,
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Return what there is, and the names of all that must not be."""
    wrong: dict[str, list[str]] = {name: [] for name in MUST_NOT_BE}
    counts = _of_ledger(ledger, acknowledged, wrong)
    kept = _outbox(ledger, outbox, wrong)
    held = list(_reports(pacs, show))
    counts["reports in the PACS"] = len(held)
    _compare(held, kept, of_study, wrong)
    return counts, wrong


def times(recoveries: Iterable[Recovery]) -> dict[str, list[float | None]]:
    """Return the seconds of each recovery, by what there was again."""
    found = list(recoveries)
    return {
        "a node answers C-ECHO": [r.first_receiving_s for r in found],
        "every node answers C-ECHO": [r.receiving_s for r in found],
        "an instance is acknowledged": [r.accepted_s for r in found],
        "all work goes on": [r.working_s for r in found],
    }


def said(seconds: Sequence[float | None]) -> str:
    """Return median and most, for people."""
    known = [one for one in seconds if one is not None]
    missing = len(seconds) - len(known)
    if not known:
        return "not measured"
    more = f", {missing} not seen" if missing else ""
    return f"{median(known):.1f} s median, {max(known):.1f} s at most{more}"


def _of_ledger(
    ledger: Ledger, acknowledged: Mapping[str, str], wrong: dict[str, list[str]]
) -> dict[str, int]:
    with ledger.read() as tx:
        versions: dict[str, list[tuple[str, bool]]] = defaultdict(list)
        rows = tx.execute(
            select(version.c.sop_instance_uid, version.c.sha256, version.c.current)
        )
        for uid, digest, current in rows:
            versions[uid].append((digest, current))
        states = Counter(tx.execute(select(study.c.state)).scalars())
        stuck = select(study.c.study_uid, study.c.state, study.c.detail)
        for uid, state, detail in tx.execute(stuck.where(study.c.state != State.DONE)):
            wrong["studies not done"].append(f"{uid} {state}: {detail}")
        for table, fine, name in (
            (job, "done", "jobs neither done nor dropped"),
            (batch, "done", "batches neither done nor dropped"),
            (delivery, "delivered", "deliveries not made"),
        ):
            bad = tx.execute(
                select(table.c.id, table.c.state).where(
                    table.c.state.not_in([fine, "dropped"])
                )
            )
            wrong[name] += [f"{key} {state}" for key, state in bad]
        unreadable = tx.execute(
            select(embedding.c.id, embedding.c.reason).where(
                embedding.c.state != "done"
            )
        )
        wrong["frames not embedded"] += [f"{key} {why}" for key, why in unreadable]
        lost = tx.execute(
            select(func.count()).where(event.c.kind == "lost")
        ).scalar_one()
        revisions = tx.execute(select(func.count(revision.c.id))).scalar_one()
    for uid, digest in acknowledged.items():
        found = versions.get(uid, [])
        if not any(current for _, current in found):
            wrong["acknowledged instances lost"].append(uid)
        elif {d for d, _ in found} != {digest}:
            wrong["instances with other contents"].append(uid)
    return {
        "studies in the ledger": sum(states.values()),
        "instances in the ledger": len(versions),
        "revisions": revisions,
        "found lost at the PACS": lost,
    }


def _outbox(
    ledger: Ledger, folder: Path, wrong: dict[str, list[str]]
) -> dict[str, tuple[str, str]]:
    """Return digest of the data set and study of each report, by SOP Instance UID."""
    query = (
        select(artefact, study.c.study_uid)
        .select_from(artefact.join(job).join(revision).join(study))
        .where(artefact.c.kind == ObjectKind.REPORT)
    )
    with ledger.read() as tx:
        rows = tx.execute(query).all()
    kept = {}
    for row in rows:
        path = folder / row.path
        content = path.read_bytes() if path.exists() else b""
        if sha256(content).hexdigest() != row.sha256:
            wrong["reports damaged in the outbox"].append(row.path)
            continue
        digest = sha256(data_set_bytes(content)).hexdigest()
        kept[row.sop_instance_uid] = digest, row.study_uid
    return kept


def _compare(
    held: Sequence[Report],
    kept: Mapping[str, tuple[str, str]],
    of_study: Mapping[str, Sequence[str]],
    wrong: dict[str, list[str]],
) -> None:
    by_study: dict[str, list[Report]] = defaultdict(list)
    seen: set[str] = set()
    for one in held:
        if one.uid in seen:
            wrong["reports doubled in the PACS"].append(one.uid)
        seen.add(one.uid)
        by_study[one.study_uid].append(one)
        if kept.get(one.uid, ("", ""))[0] != one.digest:
            wrong["reports with other contents"].append(one.uid)
    wrong["reports missing in the PACS"] += sorted(set(kept) - seen)
    for uid, images in of_study.items():
        replaced = {p for one in by_study[uid] for p in one.predecessors}
        current = [one for one in by_study[uid] if one.uid not in replaced]
        if not current:
            wrong["studies without a report"].append(uid)
        elif len(current) > 1:
            wrong["studies with several current reports"].append(uid)
        elif current[0].evidence != frozenset(images):
            wrong["reports about other images"].append(uid)
    wrong["reports of unknown studies"] += sorted(set(by_study) - set(of_study))


def _reports(pacs: UnrulyOrthanc, show: Show) -> Iterable[Report]:
    """Yield every report that the PACS holds, read back."""
    with urlopen(f"{pacs.url}/instances", timeout=120) as answer:  # noqa: S310
        content = answer.read().decode()
    names = [name.strip(' "\n') for name in content.strip("[] \n").split(",")]
    names = [name for name in names if name]
    for number, name in enumerate(names, start=1):
        with urlopen(f"{pacs.url}/instances/{name}/file", timeout=60) as answer:  # noqa: S310
            yield _report(answer.read())
        show("read back", number, len(names))


def _report(content: bytes) -> Report:
    wanted = (
        "PredecessorDocumentsSequence",
        "CurrentRequestedProcedureEvidenceSequence",
    )
    names = ["SOPInstanceUID", "StudyInstanceUID", "PatientID", *wanted]
    found = dcmread(BytesIO(content), specific_tags=names)
    former, evidence = (frozenset(_references(found.get(name, ()))) for name in wanted)
    return Report(
        uid=str(found.SOPInstanceUID),
        study_uid=str(found.StudyInstanceUID),
        patient_id=str(found.PatientID),
        digest=sha256(data_set_bytes(content)).hexdigest(),
        predecessors=former,
        evidence=evidence,
    )


def _references(studies: Iterable[Dataset]) -> Iterable[str]:
    for one in studies:
        for series in one.ReferencedSeriesSequence:
            for reference in series.ReferencedSOPSequence:
                yield str(reference.ReferencedSOPInstanceUID)
