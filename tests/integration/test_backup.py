"""A backup is made while the node works, verified before it is put back, and works on."""

import json
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import select
from typer.testing import CliRunner

from dicom_node.backup import BackupError
from dicom_node.ledger.tables import job
from dicom_node.lifecycle import State
from tests.integration.conftest import database_of, on_server
from tests.postgres import Cluster
from tests.sites import Site, another_of, chest
from workers.cli import app


def command(site: Site, *words: str) -> dict[str, object]:
    """Return what a command says as JSON; what it raises is raised."""
    done = CliRunner().invoke(app, [*words, "--json", "--config", str(site.config)])
    if done.exception is not None:
        raise done.exception
    said: dict[str, object] = json.loads(done.stdout)
    return said


@pytest.fixture
def elsewhere(site: Site, tmp_path: Path) -> Site:
    """Return an empty site in another place, with the same archive."""
    other = replace(site, folder=tmp_path / "elsewhere")
    (other.folder / "archive").symlink_to(site.folder / "archive")
    return other


def predecessor(report: Dataset) -> str:
    """Return the SOP Instance UID of the one report that it supersedes."""
    (named,) = report.PredecessorDocumentsSequence
    (series,) = named.ReferencedSeriesSequence
    (reference,) = series.ReferencedSOPSequence
    return str(reference.ReferencedSOPInstanceUID)


def reports(site: Site) -> list[Dataset]:
    """Return the reports that the archive has, the oldest first."""
    files = (site.folder / "archive").glob("*/SR-*.dcm")
    found = [dcmread(path) for path in files]
    return sorted(found, key=lambda one: (one.ContentDate, one.ContentTime))


def test_a_restored_node_goes_on_where_the_backup_was(
    site: Site, elsewhere: Site, tmp_path: Path
) -> None:
    """Nothing is composed twice; a late image's report supersedes the former one."""
    first = chest(1)
    site.take(first)
    out = tmp_path / "backups" / "monday"
    said = command(site, "backup", str(out))
    assert (said["instances"], said["objects"], said["ledger"]) == (1, 2, True)
    before = site.delivered()

    command(elsewhere, "restore", str(out))
    elsewhere.work()
    assert [line.state for line in elsewhere.studies()] == [State.DONE]
    assert site.delivered() == before

    elsewhere.take(another_of(first))
    former, now = reports(site)
    assert predecessor(now) == former.SOPInstanceUID


@pytest.mark.slow
def test_what_a_backup_does_not_know_gets_other_uids(
    site: Site, elsewhere: Site, tmp_path: Path
) -> None:
    """A study concluded after the backup, and again after the restore: two UIDs."""
    site.take(chest(2))
    out = tmp_path / "backup"
    command(site, "backup", str(out))
    site.take(chest(1))
    written = site.delivered()

    command(elsewhere, "restore", str(out))
    elsewhere.take(chest(1))

    after = site.delivered()
    assert {uid: after[uid] for uid in written} == written
    assert len(after) == len(written) + 2
    with elsewhere.ledger() as ledger, ledger.read() as tx:
        outcomes = tx.execute(select(job.c.outcome).order_by(job.c.id)).scalars().all()
    assert outcomes[0] == 0 < outcomes[1]


@pytest.mark.slow
def test_what_came_after_the_ledger_was_copied_is_taken_in(
    site: Site, elsewhere: Site, tmp_path: Path
) -> None:
    """A file in the spool that the ledger does not know waits for the next start."""
    site.take(chest(1))
    out = tmp_path / "backup"
    command(site, "backup", str(out))
    first = out / "ledger.sqlite"
    ledger = first.read_bytes()
    site.take(chest(2))
    later = tmp_path / "later"
    command(site, "backup", str(later), "--since", str(out))
    shared = next((out / "spool").glob("??/*.dcm")).relative_to(out)
    assert (later / shared).stat().st_ino == (out / shared).stat().st_ino

    (later / "ledger.sqlite").write_bytes(ledger)
    manifest = json.loads((later / "manifest.json").read_text())
    old = json.loads((out / "manifest.json").read_text())
    manifest["files"]["ledger.sqlite"] = old["files"]["ledger.sqlite"]
    (later / "manifest.json").write_text(json.dumps(manifest))
    command(elsewhere, "restore", str(later))

    spooled = list(elsewhere.settings.spool_dir.glob("??/*.dcm"))
    assert (len(spooled), len(elsewhere.studies())) == (2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ledger.sqlite", "spool", "outbox"])
def test_a_damaged_backup_is_not_put_back(
    site: Site, elsewhere: Site, tmp_path: Path, name: str
) -> None:
    """Every byte is looked at before the first file is written."""
    site.take(chest(1))
    out = tmp_path / "backup"
    command(site, "backup", str(out))
    copied = tmp_path / "copied"
    shutil.copytree(out, copied)
    (victim,) = list((copied / name).glob("??/*.dcm"))[:1] or [copied / name]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)

    with pytest.raises(BackupError, match="is damaged: nothing was restored"):
        command(elsewhere, "restore", str(copied))
    assert not elsewhere.data.exists()


def test_nothing_is_overwritten(site: Site, tmp_path: Path) -> None:
    """Neither a backup by another, nor a node by a backup."""
    site.take(chest(1))
    out = tmp_path / "backup"
    command(site, "backup", str(out))
    with pytest.raises(BackupError, match="is there already"):
        command(site, "backup", str(out))
    with pytest.raises(BackupError, match="is not empty"):
        command(site, "restore", str(out))


@pytest.mark.slow
def test_a_manifest_that_leads_outside_is_refused(
    site: Site, elsewhere: Site, tmp_path: Path
) -> None:
    """A backup that somebody made up writes nowhere else."""
    site.take(chest(1))
    out = tmp_path / "backup"
    command(site, "backup", str(out))
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["files"]["spool/../../evil"] = manifest["files"]["ledger.sqlite"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BackupError, match="outside itself"):
        command(elsewhere, "restore", str(out))


def test_a_ledger_on_postgresql_is_left_to_pg_dump(site: Site, tmp_path: Path) -> None:
    """It says what to do; nothing is made."""
    elsewhere = replace(site, general='ledger_url = "postgresql+psycopg:///x"')
    with pytest.raises(BackupError, match="pg_dump first"):
        command(elsewhere, "backup", str(tmp_path / "backup"))


def test_a_node_on_postgresql_goes_on_from_dump_and_files(
    server_site: Site, postgres: Cluster, tmp_path: Path
) -> None:
    """As the page says: dump, files, both put back; a late report supersedes."""
    first = chest(1)
    server_site.take(first)
    before = server_site.delivered()
    dump, out = tmp_path / "monday.dump", tmp_path / "monday"
    dump.write_bytes(postgres.dump(database_of(server_site), "--format=custom"))
    command(server_site, "backup", "--files-only", str(out))

    elsewhere = replace(
        server_site, folder=tmp_path / "elsewhere", general=on_server(postgres)
    )
    (elsewhere.folder / "archive").symlink_to(server_site.folder / "archive")
    postgres.restore(database_of(elsewhere), dump)
    command(elsewhere, "restore", "--files-only", str(out))
    elsewhere.work()
    assert [line.state for line in elsewhere.studies()] == [State.DONE]
    assert elsewhere.delivered() == before

    elsewhere.take(another_of(first))
    former, now = reports(elsewhere)
    assert predecessor(now) == former.SOPInstanceUID


def test_nobody_else_reads_a_node_or_its_backup(site: Site, tmp_path: Path) -> None:
    """Whatever the umask: of data folder and backup, others than the owner get nothing."""
    former = os.umask(0)
    try:
        site.take(chest(1))
        command(site, "backup", str(tmp_path / "backup"))
        with site.ledger():  # its -wal and -shm are there while it is open
            assert open_to_others(site.data) == {}
        assert open_to_others(tmp_path / "backup") == {}
    finally:
        os.umask(former)


def open_to_others(folder: Path) -> dict[str, str]:
    """Return what under the folder others than its owner may touch."""
    return {
        str(path.relative_to(folder)): stat.filemode(path.lstat().st_mode)
        for path in [folder, *folder.rglob("*")]
        if path.lstat().st_mode & 0o077
    }
