"""``pacsight doctor`` names the broken hop: each is really broken here."""

import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from pydicom.uid import ExplicitVRBigEndian
from starlette.responses import Response
from typer.testing import CliRunner

from dicom_node.broker import await_broker, broker_command, broker_url
from dicom_node.doctor import ADVICE, Ailment, Check, Hop, examine
from dicom_node.ledger import open_ledger
from dicom_node.ledger.workers import WorkerLine, appear, workers
from tests.certificates import Authority, Certificate
from tests.integration.conftest import Orthanc, free_port
from tests.outboxes import Outbox
from tests.peers import StorePeer, StowPeer
from workers.cli import app
from workers.pack import locate
from workers.presence import present

REPOSITORY = Path(__file__).parents[2]
Answers = list[dict[str, Any]]


def ask(folder: Path, text: str, *words: str) -> tuple[int, Answers]:
    """Return the exit code and what the doctor says, under these settings."""
    config = folder / "pacsight.toml"
    general, _, tables = text.partition("\n[")
    config.write_text(
        f'data_dir = "{folder}"\n{general}\n[{tables}'
        if tables
        else f'data_dir = "{folder}"\n{general}\n'
    )
    given = ["doctor", "--json", "--config", str(config), *words]
    done = CliRunner().invoke(app, given, catch_exceptions=False)
    answers: Answers = json.loads(done.output)
    return done.exit_code, answers


def peer(entry: str, *, name: str = "pacs") -> str:
    """Return settings with one destination."""
    return f'\n[[peers]]\nname = "{name}"\nrights = ["destination"]\n{entry}'


def dimse(port: int, more: str = "") -> str:
    """Return settings with a destination that is sent reports and captures."""
    entry = f'aet = "FAKEPACS"\nhost = "127.0.0.1"\nport = {port}\n'
    return peer(f'{entry}objects = ["SR", "SC"]\n{more}')


def stow(url: str, more: str = "") -> str:
    """Return settings with a destination that is sent reports by STOW-RS."""
    return peer(f'dicomweb = "{url}"\nvia = "stow"\n{more}')


def of_peer(folder: Path, text: str, *words: str) -> tuple[str | None, str]:
    """Return the ailment of the one peer, and what is said of it."""
    code, answers = ask(folder, text, "--peer", "pacs", *words)
    first, *rest = [one for one in answers if one["hop"] == "peers"]
    told = next((one for one in rest if one["ailment"]), first)
    assert code == (0 if told["ailment"] is None else 1)
    return told["ailment"], told["said"]


def at(answers: Answers, hop: str) -> tuple[str | None, str]:
    """Return the ailment of a hop, and what is said of it first."""
    found = next(one for one in answers if one["hop"] == hop)
    return found["ailment"], found["said"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority of its own."""
    return Authority.found(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    """Return a certificate for this machine."""
    return authority.certify("pacs")


# ── what the node leans on ──────────────────────────────────────────────────


def test_settings_that_cannot_be_used(tmp_path: Path) -> None:
    """The sentence that every command would end with; nothing else is asked."""
    code, answers = ask(tmp_path, "\n[dicom]\nprot = 1\n")
    assert code == 1
    said = "dicom.prot is no setting; did you mean dicom.port?"
    assert [(one["hop"], one["said"]) for one in answers] == [("settings", said)]


@contextmanager
def redis(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Redis on a socket in the folder."""
    where = folder / "redis.sock"
    process = subprocess.Popen(broker_command(where))
    try:
        await_broker(where, process)
        yield process
    finally:
        process.terminate()
        process.wait()


def test_own_hops_without_a_node(tmp_path: Path) -> None:
    """One run, all that a stopped node lacks, and what does work is said to work."""
    with redis(tmp_path):
        code, answers = ask(tmp_path, doors())
    assert code == 1
    assert at(answers, "settings")[0] is None
    said = "there is none at"
    assert at(answers, "ledger")[0] == "ledger-missing"
    assert at(answers, "ledger")[1].startswith(said)
    assert at(answers, "broker") == (
        None,
        f"it answers at {broker_url(tmp_path / 'redis.sock')}",
    )
    assert at(answers, "workers")[0] == "unasked"
    assert at(answers, "packs") == (None, "1.1.0 verifies")
    assert at(answers, "doors")[0] == "node-down"
    assert [one["mark"] for one in answers if one["hop"] == "doors"] == ["broken"] * 2
    advice = next(one for one in answers if one["hop"] == "broker")["advice"]
    assert advice is None


def doors() -> str:
    """Return settings with doors that nobody else has."""
    return f"\n[dicom]\nport = {free_port()}\n[http]\nport = {free_port()}\n"


def test_redis_gone(tmp_path: Path) -> None:
    """It answered, and was stopped."""
    with redis(tmp_path) as process:
        process.kill()
        process.wait()
        _, answers = ask(tmp_path, doors())
    ailment, said = at(answers, "broker")
    assert ailment == "broker-gone"
    assert said.startswith("nobody answers at redis+socket://")


def test_a_password_of_redis_is_not_said(tmp_path: Path) -> None:
    """Its URL is shown without it."""
    url = f"redis://user:hunter2@127.0.0.1:{free_port()}/0"
    _, answers = ask(tmp_path, f'broker_url = "{url}"\n{doors()}')
    assert at(answers, "broker")[0] == "broker-gone"
    assert "hunter2" not in json.dumps(answers)


def test_something_else_on_the_nodes_own_ports(
    tmp_path: Path, orthanc: Orthanc, certificate: Certificate
) -> None:
    """Another web server, and a port for TLS where none is spoken."""
    with StorePeer().running() as pacs:
        _, answers = ask(
            tmp_path,
            f"\n[dicom]\nplain = false\n[dicom.tls]\nport = {pacs.port}\n"
            f'certificate = "{certificate.path}"\nkey = "{certificate.key}"\n'
            f"[http]\nport = {orthanc.http_port}\n",
        )
    said = [(one["ailment"], one["said"]) for one in answers if one["hop"] == "doors"]
    assert said == [
        ("tls-mismatch", f"port {pacs.port} is open, and speaks no TLS"),
        (
            "node-down",
            (
                f"port {orthanc.http_port} answers HTTP 404: something else listens"
                " there"
            ),
        ),
    ]


@pytest.fixture
def ledger_file(tmp_path: Path, migrated_sqlite: Path) -> Path:
    """Return the ledger in the data folder, without any row."""
    path = tmp_path / "ledger.sqlite"
    shutil.copyfile(migrated_sqlite, path)
    return path


def test_a_ledger_that_is_locked(tmp_path: Path, ledger_file: Path) -> None:
    """Somebody began to write, and does not end."""
    with closing(sqlite3.connect(ledger_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        _, answers = ask(tmp_path, doors())
    assert at(answers, "ledger") == (
        "ledger-locked",
        "somebody kept it locked for longer than 2 s",
    )


def test_a_look_changes_nothing(tmp_path: Path, ledger_file: Path) -> None:
    """The ledger's bytes are the same, and no folder is made."""
    before = ledger_file.read_bytes()
    there = set(tmp_path.iterdir())
    ask(tmp_path, doors())
    assert ledger_file.read_bytes() == before
    new = {path.name for path in set(tmp_path.iterdir()) - there}
    assert new <= {"pacsight.toml", "ledger.sqlite-wal", "ledger.sqlite-shm"}


def test_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    """There is less room than has to be left."""
    _, answers = ask(tmp_path, f"{doors()}[spool]\nmin_free_bytes = {10**15}\n")
    ailment, said = at(answers, "folders")
    assert ailment == "disk-nearly-full"
    assert said.startswith("only ")
    assert said.endswith("931322.6 GiB have to be")


def test_a_pack_that_does_not_verify(tmp_path: Path) -> None:
    """One byte of its weights is another one."""
    pack = tmp_path / "pack"
    shutil.copytree(locate("phantoms"), pack)
    weights = pack / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    _, answers = ask(tmp_path, f'packs = ["{pack}"]\n{doors()}')
    ailment, said = at(answers, "packs")
    assert ailment == "pack-does-not-verify"
    assert "weights.safetensors" in said


def entered(ledger_file: Path, *, seen_s_ago: float, device: str = "cpu") -> None:
    """Enter a worker that was seen so long ago."""
    seen = datetime.now(UTC) - timedelta(seconds=seen_s_ago)
    line = WorkerLine(
        name="gpu1:7:x",
        device=device,
        packs=("phantoms 1.1.0",),
        started_at=seen,
        seen_at=seen,
    )
    ledger = open_ledger(f"sqlite:///{ledger_file}", migrate=False)
    with ledger.write() as tx:
        appear(tx, line)
    ledger.close()


def test_no_worker(tmp_path: Path, ledger_file: Path) -> None:
    """None has said for a while that it lives; when the last one did is told."""
    entered(ledger_file, seen_s_ago=300)
    _, answers = ask(tmp_path, doors())
    assert at(answers, "workers") == (
        "no-worker",
        (
            "no worker lives: studies are received, and not concluded; the last one was"
            " seen 5 min ago"
        ),
    )


def test_a_worker_that_lives(tmp_path: Path, ledger_file: Path) -> None:
    """Where it computes, and with which packs."""
    entered(ledger_file, seen_s_ago=3)
    _, answers = ask(tmp_path, doors())
    assert at(answers, "workers") == (None, "it lives, on cpu, with phantoms 1.1.0")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_worker_without_a_gpu(tmp_path: Path, ledger_file: Path) -> None:
    """The settings want one: this machine has none, and neither has the worker."""
    entered(ledger_file, seen_s_ago=3)
    _, answers = ask(tmp_path, f'{doors()}[worker]\ndevice = "cuda"\n')
    told = [one for one in answers if one["hop"] == "workers"]
    assert [(one["who"], one["ailment"]) for one in told] == [
        ("gpu1", "no-gpu"),
        ("GPU", "no-gpu"),
    ]
    assert told[0]["said"] == 'it computes on cpu, worker.device = "cuda" wants a GPU'
    assert told[1]["said"].startswith("there is no GPU that torch can use")


def test_a_worker_is_present_while_it_lives(ledger_file: Path) -> None:
    """Its row is renewed, made anew if it is gone, and taken away at the end."""
    ledger = open_ledger(f"sqlite:///{ledger_file}", migrate=False)

    def rows() -> list[WorkerLine]:
        with ledger.read() as tx:
            return workers(tx)

    def settled() -> WorkerLine:
        deadline = time.monotonic() + 5
        while not rows() and time.monotonic() < deadline:
            time.sleep(0.01)
        return rows()[0]

    def clock() -> datetime:
        return datetime.now(UTC)

    with present(ledger, device="cpu", packs=("a 1",), clock=clock, every_s=0.05):
        first = settled()
        assert (first.device, first.packs) == ("cpu", ("a 1",))
        time.sleep(0.3)
        assert rows()[0].seen_at > first.seen_at
        with ledger.write() as tx:
            tx.exec_driver_sql("DELETE FROM worker")
        assert settled().name == first.name
    assert rows() == []
    ledger.close()


# ── the peers ───────────────────────────────────────────────────────────────


def test_a_port_that_is_closed(tmp_path: Path) -> None:
    """Nobody listens there."""
    port = free_port()
    assert of_peer(tmp_path, dimse(port)) == (
        "port-closed",
        f"nobody listens at 127.0.0.1:{port}: the port is closed",
    )


def test_an_ae_title_that_is_rejected(tmp_path: Path, orthanc: Orthanc) -> None:
    """Orthanc does not know us under this title."""
    entry = f'aet = "{orthanc.aet}"\nhost = "127.0.0.1"\nport = {orthanc.dicom_port}\n'
    assert of_peer(tmp_path, peer(f'{entry}calling_aet = "STRANGER"\n')) == (
        "title-rejected",
        (
            "association rejected, Calling AE title not recognised: we call ORTHANC as"
            " STRANGER"
        ),
    )


def test_a_called_title_that_is_rejected(tmp_path: Path) -> None:
    """A real SCP that has another title."""
    with StorePeer(aet="ANOTHER").running() as pacs:
        assert of_peer(tmp_path, dimse(pacs.port)) == (
            "title-rejected",
            (
                "association rejected, Called AE title not recognised: we call FAKEPACS"
                " as PACSIGHT"
            ),
        )


def test_no_common_transfer_syntax(tmp_path: Path) -> None:
    """It takes what we send only in big endian."""
    with StorePeer(syntaxes=(ExplicitVRBigEndian,)).running() as pacs:
        assert of_peer(tmp_path, dimse(pacs.port)) == (
            "no-common-syntax",
            (
                "no common transfer syntax: it takes no Secondary Capture Image Storage,"
                " Comprehensive 3D SR Storage in Explicit VR Little Endian or Implicit VR"
                " Little Endian"
            ),
        )


def test_a_pacs_that_takes_all(tmp_path: Path) -> None:
    """Nothing is sent to it."""
    with StorePeer().running() as pacs:
        said = "it takes all that we send, as FAKEPACS"
        assert of_peer(tmp_path, dimse(pacs.port)) == (None, said)
    assert pacs.received == []


def test_tls_where_none_is_spoken(tmp_path: Path, authority: Authority) -> None:
    """Our settings want TLS, the PACS speaks none."""
    tls = f'tls = {{ ca = "{authority.own.path}" }}'
    with StorePeer().running() as pacs:
        ailment, said = of_peer(tmp_path, dimse(pacs.port, tls))
    assert ailment == "tls-mismatch"
    assert "TLS" in said


def test_no_tls_where_it_is_spoken(tmp_path: Path, certificate: Certificate) -> None:
    """The PACS wants TLS, our settings have none."""
    with StorePeer(context=certificate.server).running() as pacs:
        assert of_peer(tmp_path, dimse(pacs.port)) == (
            "tls-mismatch",
            "it speaks TLS on that port, and our settings do not: add [peers.tls]",
        )


def test_tls_of_another_authority(
    tmp_path: Path, authority: Authority, certificate: Certificate
) -> None:
    """And of the right one."""
    other = Authority.found(tmp_path / "other")
    with StorePeer(context=certificate.server).running() as pacs:
        tls = f'tls = {{ ca = "{other.own.path}" }}'
        ailment, said = of_peer(tmp_path, dimse(pacs.port, tls))
        assert ailment == "tls-mismatch"
        assert said.startswith("its TLS certificate is not signed by an authority")
        tls = f'tls = {{ ca = "{authority.own.path}" }}'
        assert of_peer(tmp_path, dimse(pacs.port, tls))[0] is None


@pytest.mark.parametrize(
    ("status", "ailment", "said"),
    [
        (204, None, "it answers, and accepts us"),
        (401, "wrong-token", "it does not accept our credentials (HTTP 401)"),
        (404, "not-a-service", "it answers HTTP 404: is the address right?"),
        (503, "no-answer", "it answers HTTP 503"),
    ],
)
def test_a_token_that_is_wrong(
    tmp_path: Path, status: int, ailment: str | None, said: str
) -> None:
    """What a DICOMweb service answers to our credentials, which are never said."""
    web = StowPeer(query=lambda _: Response(status_code=status))
    with web.running():
        settings = stow(web.url, 'credentials = { token = "hunter2" }')
        assert of_peer(tmp_path, settings) == (ailment, f"DICOMweb: {said}")
    assert web.headers[-1]["authorization"] == "Bearer hunter2"


@pytest.mark.slow
def test_a_destination_that_loses_objects_is_found_by_storing(tmp_path: Path) -> None:
    """It answers that the test object is stored, and never finds it."""
    with StowPeer().running() as web:
        ailment, said = of_peer(tmp_path, stow(web.url), "--store-test")
    assert ailment == "loses-objects"
    assert said.startswith("it loses objects: it said that it stored a test object")
    assert len(web.posted) == 1


def test_a_destination_that_keeps_what_it_stores(
    tmp_path: Path, orthanc: Orthanc
) -> None:
    """The test object is found again in Orthanc, under its study and patient."""
    (tmp_path / "results").mkdir()
    settings = stow(orthanc.dicomweb) + peer(
        f'folder = "{tmp_path}/results"\nvia = "folder"\n', name="shelf"
    )
    code, answers = ask(tmp_path, settings, "--store-test")
    kept = [one for one in answers if "test object" in one["said"]]
    assert [(one["who"], one["ailment"]) for one in kept] == [
        ("pacs", None),
        ("shelf", None),
    ]
    assert code == 1  # no node runs here


def test_a_destination_that_loses_objects_is_known_to_the_ledger(
    tmp_path: Path, ledger_file: Path
) -> None:
    """It said that it stored a report, and did not have it."""
    ledger = open_ledger(f"sqlite:///{ledger_file}", migrate=False)
    box = Outbox(ledger=ledger, folder=tmp_path)
    box.fill("pacs")
    with StorePeer().running() as pacs:
        drain = box.drain(pacs.peer())
        drain.drain()
        for _ in range(6):
            box.clock.pass_s(300)
            drain.verify()
        said = of_peer(tmp_path, dimse(pacs.port))
    ledger.close()
    assert said == (
        "loses-objects",
        (
            "it loses objects: it said that it stored 2, and did not have them when it"
            " was asked"
        ),
    )


# ── how it asks ─────────────────────────────────────────────────────────────


def test_a_question_that_takes_too_long_or_breaks_costs_no_other() -> None:
    """Each has its time, and they run at once."""

    def slow() -> list[Any]:
        time.sleep(5)
        return []

    def broken() -> list[Any]:
        raise ZeroDivisionError

    checks = [
        Check(hop=Hop.BROKER, ask=slow, limit_s=0.1),
        Check(hop=Hop.LEDGER, ask=broken),
    ]
    assert [one.ailment for one in examine(checks)] == [Ailment.SLOW, Ailment.CHECK]


@pytest.mark.parametrize("ailment", Ailment)
def test_every_ailment_has_advice_and_a_page(ailment: Ailment) -> None:
    """And stands in the table of the doctor's page."""
    assert (REPOSITORY / ADVICE[ailment].page).is_file()
    page = (REPOSITORY / "docs" / "operate" / "doctor.md").read_text()
    assert f"\n| `{ailment}` |" in page


def test_for_people_it_fits_eighty_columns(tmp_path: Path) -> None:
    """With what to do, and how much is broken."""
    config = tmp_path / "pacsight.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n{doors()}')
    done = CliRunner().invoke(
        app, ["doctor", "--config", str(config)], env={"COLUMNS": "80"}
    )
    assert max(map(len, done.output.splitlines())) <= 80
    assert "→ start `pacsight up`, or `pacsight node`" in done.output
    assert "answers name something broken." in done.output
