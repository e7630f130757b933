"""Real neighbours to talk to: Debian's Orthanc with DICOMweb, and a PostgreSQL."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from orthanc_api_client import OrthancApiClient
from sqlalchemy import make_url

from dicom_node.config import Settings
from dicom_node.config.tables import Worker
from dicom_node.ledger import Ledger, open_ledger
from dicom_node.ledger.tables import metadata
from tests.postgres import Cluster, binaries
from tests.sites import Site
from workers.app import bench
from workers.inforce import packs_in_force
from workers.pipeline import Bench

PLUGINS = (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc"))
START_TIMEOUT_S = 20.0


def free_port() -> int:
    """Return a TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Orthanc:
    """An Orthanc of our own: own folder, own ports, loopback alone.

    It checks called AE titles and the hosts of the modalities that it knows, and
    refuses remote HTTP; it listens on every address, because 1.10 cannot do
    otherwise.

    Parameters
    ----------
    modalities
        AE title to port on loopback: who may send, ask and be sent to.
    overwrite
        Whether an instance that it has already is replaced or kept.
    """

    binary: str
    folder: Path
    aet: str = "ORTHANC"
    modalities: dict[str, int] = field(default_factory=dict)
    overwrite: bool = False
    dicom_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the address of its REST API, without a slash at the end."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb(self) -> str:
        """Return the base URL of its DICOMweb service."""
        return f"{self.url}/dicom-web"

    @property
    def host(self) -> str:
        """Return where it is reached."""
        return "127.0.0.1"

    def start(self) -> None:
        """Start it, with the storage that it has, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "orthanc.json"
        config.write_text(json.dumps(self._configuration(), indent=1))
        with (self.folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, str(config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "orthanc.log").read_text(errors="replace")
                pytest.fail(f"Orthanc did not start:\n{said[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it as an operator would."""
        self.end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.end(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal that does not end it."""
        if self._process is not None:
            self._process.send_signal(number)

    def clear(self) -> None:
        """Forget every patient that it holds."""
        OrthancApiClient(self.url).delete_all_content()

    def know(self, aet: str, port: int) -> None:
        """Let this AE title on loopback send to it and ask it, from now on."""
        self.modalities[aet] = port
        if self._process is not None:
            entry = json.dumps([aet, "127.0.0.1", port]).encode()
            put = Request(f"{self.url}/modalities/{aet}", data=entry, method="PUT")  # noqa: S310
            with urlopen(put, timeout=5):  # noqa: S310
                pass

    def _configuration(self) -> dict[str, Any]:
        plugin = "libOrthancDicomWeb.so"
        found = next((p / plugin for p in PLUGINS if (p / plugin).exists()), None)
        if found is None:
            pytest.fail("Orthanc's DICOMweb plugin is missing: orthanc-dicomweb")
        return {
            "Name": "pacsight tests",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "Plugins": [str(found)],
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": self.aet,
            "DicomCheckCalledAet": True,
            "DicomCheckModalityHost": True,
            "DicomAlwaysAllowEcho": False,
            "DicomAlwaysAllowStore": False,
            "DicomModalities": {
                aet: [aet, "127.0.0.1", port] for aet, port in self.modalities.items()
            },
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "OverwriteInstances": self.overwrite,
            "StableAge": 1,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/system", timeout=1) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def end(self, with_signal: signal.Signals) -> None:
        """End it by a signal."""
        if self._process is None:
            return
        self._process.send_signal(with_signal)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@pytest.fixture(scope="session")
def orthanc_binary() -> str:
    """Return Orthanc's path; skipped where it is absent, failed where CI=true."""
    binary = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if binary is None:
        reason = "Orthanc is not installed: apt install orthanc orthanc-dicomweb"
        if os.environ.get("CI") == "true":  # noqa: TID251 - CI is no setting
            pytest.fail(reason)
        pytest.skip(reason)
    return binary


@pytest.fixture(scope="session")
def orthanc(
    orthanc_binary: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """Return a running Orthanc that knows the AE titles PACSIGHT and MODALITY.

    One for the session: a test looks for its own study, or calls ``clear``. It
    leaves it running.
    """
    pacs = Orthanc(
        binary=orthanc_binary,
        folder=tmp_path_factory.mktemp("orthanc"),
        modalities={"PACSIGHT": 11112, "MODALITY": 11113},
    )
    pacs.start()
    yield pacs
    pacs.kill()


@pytest.fixture
def own_orthanc(orthanc_binary: str, tmp_path: Path) -> Iterator[Orthanc]:
    """Return an Orthanc for one test, not yet started: it may stop and kill it."""
    pacs = Orthanc(
        binary=orthanc_binary,
        folder=tmp_path / "orthanc",
        modalities={"PACSIGHT": 11112, "MODALITY": 11113},
    )
    yield pacs
    pacs.kill()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """Return a running PostgreSQL; skipped where it is absent, failed where CI=true."""
    with Cluster(binaries()) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Cluster) -> str:
    """Return the name of a database that holds an empty ledger, to be copied."""
    name = postgres.database()
    open_ledger(postgres.url(name), migrate=True).close()
    return name


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file that holds an empty ledger, to be copied."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    open_ledger(f"sqlite:///{path}", migrate=True).close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database without any table: SQLite, then PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.sqlite"
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    name = cluster.database()
    yield cluster.url(name)
    cluster.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of an empty ledger: on SQLite, then on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "ledger.sqlite"
        shutil.copyfile(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    name = cluster.database(template=request.getfixturevalue("migrated_postgres"))
    yield cluster.url(name)
    cluster.drop(name)


@pytest.fixture(scope="session")
def sqlite_ledger(migrated_sqlite: Path) -> Iterator[Ledger]:
    """Return a ledger on SQLite that tests share; ask for ``ledger`` instead."""
    path = migrated_sqlite.with_name("shared.sqlite")
    shutil.copyfile(migrated_sqlite, path)
    opened = open_ledger(f"sqlite:///{path}", migrate=False)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def postgres_ledger(postgres: Cluster, migrated_postgres: str) -> Iterator[Ledger]:
    """Return a ledger on PostgreSQL that tests share; ask for ``ledger`` instead."""
    name = postgres.database(template=migrated_postgres)
    opened = open_ledger(postgres.url(name), migrate=False)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """Return an open ledger with nothing in it: on SQLite, then on PostgreSQL."""
    kept = "sqlite_ledger" if request.param == "sqlite" else "postgres_ledger"
    opened: Ledger = request.getfixturevalue(kept)
    with opened.write() as tx:
        if tx.dialect.name == "postgresql":
            names = ", ".join(metadata.tables)
            tx.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY")
            return opened
        tx.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        for table in metadata.tables:
            tx.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - our own names
    return opened


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Return a worker's bench with the demonstration pack, for `tests.sites.Site`."""
    folder = tmp_path_factory.mktemp("bench")
    settings = Settings(data_dir=folder, worker=Worker(device="cpu"))
    open_ledger(settings.ledger_address, migrate=True).close()
    with bench(settings, packs_in_force(settings)) as made:
        yield made


@pytest.fixture
def site(tmp_path: Path, ready: Bench) -> Site:
    """Return an empty site in its own folder."""
    return Site(folder=tmp_path / "site", ready=ready)


@pytest.fixture
def server_site(tmp_path: Path, ready: Bench, postgres: Cluster) -> Site:
    """Return an empty site in its own folder, with its ledger on PostgreSQL."""
    return Site(folder=tmp_path / "site", ready=ready, general=on_server(postgres))


def on_server(postgres: Cluster) -> str:
    """Return the setting that names a new and empty database."""
    return f'ledger_url = "{postgres.url(postgres.database())}"'


def database_of(site: Site) -> str:
    """Return the name of the database that a site's ledger is in."""
    name = make_url(site.settings.ledger_address).database
    assert name is not None
    return name
