"""What a node holds of a patient is removed, and nothing else."""

import json
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import func, select, text
from typer.testing import CliRunner

from dicom_node.audit.folder import AuditFolder
from dicom_node.audit.reading import Entry
from dicom_node.domain.audited import AuditEvent, StudyForgotten
from dicom_node.domain.identity import patient_digest
from dicom_node.forgetting import Holdings, StillMovingError, forget
from dicom_node.ledger import Ledger, forgetting
from dicom_node.ledger.leases import BATCHES
from dicom_node.ledger.tables import metadata
from dicom_node.lifecycle import State
from tests.arrivals import T0, digest, received
from tests.integration.conftest import database_of
from tests.ledgers import (
    batch,
    concluded_study,
    embed,
    leased,
    pending,
    record,
    settle_batch,
    state,
)
from tests.postgres import Cluster
from tests.sites import Site, chest, holding
from workers.cli import app

SHE, HE = "Zauberfrau^Xenia", "Quantor^Uwe"
HER_ID, HIS_ID = "XQ-77123", "UV-99881"
ISSUER = "Klinik"


def hers() -> Dataset:
    """Return a study of hers."""
    return chest(1, PatientName=SHE, PatientID=HER_ID, IssuerOfPatientID=ISSUER)


def his() -> Dataset:
    """Return a study of his."""
    return chest(2, PatientName=HE, PatientID=HIS_ID)


def command(site: Site, *words: str, typed: str = "") -> str:
    """Return what ``pacsight forget`` says; it has to succeed."""
    done = CliRunner().invoke(
        app, ["forget", *words, "--config", str(site.config)], input=typed
    )
    assert done.exception is None, done.output
    return done.output


def marks() -> list[bytes]:
    """Return by what she could be found: name, ID, digest, UIDs of her study."""
    uid = str(hers().StudyInstanceUID)
    sha = patient_digest(HER_ID, ISSUER)
    return [m.encode() for m in ("Zauberfrau", HER_ID, sha, uid)]


def kept_of_her(site: Site) -> list[Path]:
    """Return the files that hold something of her.

    The audit trail goes on to say what was done to which study: it names her study, and
    nothing else of her.
    """
    trail = site.data / "audit"
    assert holding(trail, *marks()[:-1]) == []
    return [path for path in holding(site.data, *marks()) if path.parent != trail]


def test_a_patient_is_forgotten_and_another_is_not(site: Site) -> None:
    """Nothing of hers is left in a file; his study is as it was; hers may come again."""
    site.take(hers(), his())
    before = kept_of_her(site)
    sent = site.delivered(str(hers().StudyInstanceUID))
    assert len(before) >= 3  # spool, two objects, the ledger: the marks can be found

    looked = command(
        site, "--patient", "--dry-run", "--json", typed=f"{HER_ID}\n{ISSUER}\n"
    )
    assert json.loads(looked) == {
        "forgotten": False,
        "studies": 1,
        "instances": 1,
        "embeddings": 1,
        "results": 1,
        "objects": 2,
        "deliveries": 2,
        "deliveries_in_motion": 0,
        "stray_files": 0,
        "destinations": ["archive"],
    }
    assert kept_of_her(site) == before

    said = command(site, "--patient", "--yes", typed=f"{HER_ID}\n{ISSUER}\n")
    assert "forgotten" in said
    assert kept_of_her(site) == []
    (left,) = site.studies()
    assert (left.study_uid, left.state) == (his().StudyInstanceUID, State.DONE)
    assert site.delivered(str(hers().StudyInstanceUID)) == sent
    (told,) = AuditFolder(path=site.data / "audit").messages()
    assert Entry.of(told).event == "DICOM Study Deleted"
    assert Entry.of(told).studies == (hers().StudyInstanceUID,)

    site.take(hers())
    assert {line.state for line in site.studies()} == {State.DONE}


def test_nothing_of_hers_is_left_in_postgresql(
    server_site: Site, postgres: Cluster
) -> None:
    """The server's own dump says so; his study is in it."""
    server_site.take(hers(), his())
    database = database_of(server_site)
    assert [m for m in marks()[2:] if m not in postgres.dump(database)] == []

    command(server_site, "--patient", "--yes", typed=f"{HER_ID}\n{ISSUER}\n")

    left = postgres.dump(database)
    assert [m for m in marks() if m in left] == []
    assert str(his().StudyInstanceUID).encode() in left
    assert kept_of_her(server_site) == []


@pytest.mark.slow
def test_what_a_crash_left_is_found_and_forgotten(site: Site) -> None:
    """A file of hers that the ledger does not know goes, too; a stranger's stays."""
    site.take(hers(), his())
    spool = site.settings.spool_dir
    (first, _) = sorted(spool.glob("??/*.dcm"), key=lambda p: SHE not in name_in(p))
    stray = site.settings.outbox_dir / "ab" / f"{'ab' * 32}.dcm"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(first.read_bytes())

    said = json.loads(
        command(site, "--study", str(hers().StudyInstanceUID), "--yes", "--json")
    )

    assert said["stray_files"] == 1
    assert not stray.exists()
    assert kept_of_her(site) == []


def name_in(path: Path) -> str:
    """Return the patient's name in a file."""
    return str(dcmread(BytesIO(path.read_bytes())).PatientName)


def test_a_run_that_died_is_finished_by_the_next(site: Site) -> None:
    """Files gone and rows there: the rows are found again, and go."""
    site.take(hers())
    with site.ledger() as ledger:
        with ledger.write() as tx:
            held = forgetting.held_of_patient(tx, patient_digest(HER_ID, ISSUER))
            forgetting.stop(tx, held)
        for path in held.spooled:
            (site.settings.spool_dir / path).unlink()

    command(site, "--patient", "--yes", typed=f"{HER_ID}\n{ISSUER}\n")

    assert kept_of_her(site) == []
    assert site.studies() == []


def test_an_unknown_patient_leaves_everything(site: Site) -> None:
    """Who is not there is said not to be there."""
    site.take(his())

    assert "nothing" in command(site, "--patient", "--yes", typed="nobody\n\n")
    assert len(site.studies()) == 1


@pytest.mark.parametrize(
    ("words", "typed", "why"),
    [
        (["--patient"], f"{HER_ID}\n{ISSUER}\n", "nobody can be asked"),
        (["--patient", "--yes"], "\n", "no Patient ID was given"),
        (["--study", "1.2.3", "--yes"], "", "no study 1.2.3"),
    ],
)
def test_what_cannot_be_done_is_said(
    site: Site, words: list[str], typed: str, why: str
) -> None:
    """One sentence, and nothing is removed."""
    site.take(hers())

    done = CliRunner().invoke(
        app, ["forget", *words, "--config", str(site.config)], input=typed
    )

    assert why in str(done.exception)
    assert len(site.studies()) == 1


def holdings(ledger: Ledger, folder: Path) -> Holdings:
    """Return a ledger's holdings, without files."""
    return Holdings(ledger=ledger, spool=folder / "spool", outbox=folder / "outbox")


def test_what_is_being_delivered_stays_unless_forced(
    ledger: Ledger, tmp_path: Path
) -> None:
    """A report on its way may already be there: forgetting it wants a word more."""
    concluded_study(ledger, received(1))
    own = holdings(ledger, tmp_path)
    found = own.of_patient(digest("patient of 1"))
    heard: list[AuditEvent] = []

    with pytest.raises(StillMovingError, match="2 deliveries"):
        forget(own, found, force=False, now=T0, by="test")
    assert state(ledger) == "delivering"
    assert forget(own, found, force=True, now=T0, by="test", note=heard.append)

    counted = dict.fromkeys(metadata.tables, 0) | {"event": 2, "batch": 1, "era": 1}
    assert rows(ledger) == counted
    assert heard == [
        StudyForgotten(study_uid=received(1).header.study_uid, instances=1, by="test")
    ]


def rows(ledger: Ledger) -> dict[str, int]:
    """Return how many rows each table has."""
    with ledger.read() as tx:
        return {
            name: tx.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
        }


def test_of_a_study_of_two_patients_the_other_ones_stays(
    ledger: Ledger, tmp_path: Path
) -> None:
    """It was held; with the instances of one patient left it goes on."""
    another = digest("another")
    record(ledger, received(1, 1), received(1, 2, patient=another))
    assert state(ledger) == "held"
    own = holdings(ledger, tmp_path)

    forget(own, own.of_patient(another), force=False, now=T0, by="test")

    assert state(ledger) == "receiving"
    assert rows(ledger)["version"] == 1
    assert embed(ledger) == 1


def test_a_worker_in_the_middle_of_it_writes_nothing(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Its frames are gone when it comes back; what comes then gets other keys."""
    record(ledger, received(1))
    lease = leased(ledger, BATCHES, batch(ledger, pending(ledger)))
    own = holdings(ledger, tmp_path)
    forget(own, own.of_patient(digest("patient of 1")), force=False, now=T0, by="test")
    record(ledger, received(2))

    settle_batch(ledger, lease)

    with ledger.read() as tx:
        states = tx.execute(text("SELECT state FROM embedding")).scalars().all()
    assert states == ["pending"]
