"""Redis and PostgreSQL with password and TLS; no secret is ever said."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from dicom_node.broker import redis_server
from dicom_node.config import Settings, load_settings
from dicom_node.dispatch import BrokerDownError, CeleryDispatcher
from dicom_node.domain import Priority
from dicom_node.ledger import LedgerBusyError, open_ledger
from dicom_node.wiring import broker_tls
from tests.certificates import Authority
from tests.postgres import Cluster, binaries

PASSWORD = "c0rrect/horse@battery"  # noqa: S105 - of this test
WRONG = "wr0ng/horse@battery"
PACSIGHT = Path(sys.executable).with_name("pacsight")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return the authority that the node trusts."""
    return Authority.found(tmp_path_factory.mktemp("authority") / "ca")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def written(folder: Path, text: str, password: str) -> Path:
    """Return a settings file; the password lies in a file of its own."""
    secret = folder / "secret"
    secret.write_text(password)
    config = folder / "pacsight.toml"
    config.write_text(text.replace("SECRET", str(secret)))
    return config


# ── Redis ───────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class SecuredRedis:
    """Where a Redis with TLS listens, and the files that it takes."""

    port: int
    settings: str


@pytest.fixture(scope="module")
def redis(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecuredRedis]:
    """Return a Redis with TLS, client certificates and a password, on no plain port."""
    folder = tmp_path_factory.mktemp("redis")
    own, node = authority.certify("redis"), authority.certify("node")
    port = free_port()
    config = folder / "redis.conf"
    config.write_text(
        f"port 0\ntls-port {port}\nbind 127.0.0.1\nrequirepass {PASSWORD}\n"
        f"tls-cert-file {own.path}\ntls-key-file {own.key}\n"
        f"tls-ca-cert-file {authority.own.path}\ntls-auth-clients yes\n"
        f'save ""\ndir {folder}\nlogfile {folder}/log\n'
    )
    process = subprocess.Popen([str(redis_server()), str(config)])
    settings = (
        f'broker_url = "rediss://127.0.0.1:{port}/0"\nbroker_password_file = "SECRET"\n'
        f'[broker_tls]\nca = "{authority.own.path}"\n'
        f'certificate = "{node.path}"\nkey = "{node.key}"\n'
    )
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.05)
    yield SecuredRedis(port=port, settings=settings)
    process.terminate()
    process.wait()


def dispatcher(settings: Settings) -> CeleryDispatcher:
    """Return what sends work over the broker that the settings name."""
    return CeleryDispatcher(settings.broker_address, broker_tls(settings))


def test_work_is_sent_over_tls_with_a_password(
    redis: SecuredRedis, authority: Authority, tmp_path: Path
) -> None:
    """And with our certificate, because this Redis asks for one."""
    settings = load_settings(written(tmp_path, redis.settings, PASSWORD), {})
    sender = dispatcher(settings)
    sender.embed_batch(1, Priority.ROUTINE)
    sender.close()
    tls = settings.broker_tls
    with Redis(
        host="127.0.0.1",
        port=redis.port,
        password=PASSWORD,
        ssl=True,
        ssl_ca_certs=str(authority.own.path),
        ssl_certfile=str(tls.certificate),
        ssl_keyfile=str(tls.key),
    ) as client:
        assert client.llen(Priority.ROUTINE.queue) == 1


def test_a_wrong_password_is_not_said(redis: SecuredRedis, tmp_path: Path) -> None:
    """Neither the wrong one nor the right one: what Redis answers is enough."""
    settings = load_settings(written(tmp_path, redis.settings, WRONG), {})
    sender = dispatcher(settings)
    with pytest.raises(BrokerDownError) as caught:
        sender.embed_batch(1, Priority.ROUTINE)
    sender.close()
    assert_unsaid(str(caught.value))


def test_a_broker_of_another_authority_is_not_trusted(
    redis: SecuredRedis, tmp_path: Path
) -> None:
    """Its certificate is checked as a destination's is."""
    other = Authority.found(tmp_path / "other")
    environ = {
        "PACSIGHT_BROKER_TLS__CA": str(other.own.path),
        "PACSIGHT_BROKER_URL": f"rediss://127.0.0.1:{redis.port}/1",
    }
    settings = load_settings(written(tmp_path, redis.settings, PASSWORD), environ)
    sender = dispatcher(settings)
    with pytest.raises(BrokerDownError, match="certificate verify failed"):
        sender.embed_batch(1, Priority.ROUTINE)
    sender.close()


# ── PostgreSQL ──────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class SecuredLedger:
    """A PostgreSQL with TLS and a password, and the settings that reach it."""

    cluster: Cluster
    settings: str


@pytest.fixture(scope="module")
def postgres(authority: Authority) -> Iterator[SecuredLedger]:
    """Return a PostgreSQL that takes passwords over TLS, and nothing else over TCP."""
    own = authority.certify("postgres", host="DNS:localhost,IP:127.0.0.1")
    port = free_port()
    cluster = Cluster(binaries())
    access = cluster.folder / "hba.conf"
    access.write_text(
        "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
    )
    for name, path in (("server.pem", own.path), ("server.key", own.key)):
        shutil.copy(path, cluster.folder / name)
    for file in cluster.folder.iterdir():
        file.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(file, "postgres", "postgres")
    cluster.settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "ssl": "on",
        "ssl_cert_file": str(cluster.folder / "server.pem"),
        "ssl_key_file": str(cluster.folder / "server.key"),
        "hba_file": str(access),
    }
    with cluster:
        cluster.run(f"ALTER USER pacsight PASSWORD '{PASSWORD}'")
        ca = authority.own.path
        yield SecuredLedger(
            cluster=cluster,
            settings=f'ledger_url = "postgresql+psycopg://pacsight@127.0.0.1:{port}/'
            f'postgres?sslmode=verify-full&sslrootcert={ca}"\n'
            'ledger_password_file = "SECRET"\n',
        )


def test_the_ledger_is_reached_over_tls_with_a_password(
    postgres: SecuredLedger, tmp_path: Path
) -> None:
    """The server's certificate and name are checked: sslmode=verify-full."""
    settings = load_settings(written(tmp_path, postgres.settings, PASSWORD), {})
    ledger = open_ledger(settings.ledger_address, migrate=True)
    with ledger.read() as tx:
        protected = tx.exec_driver_sql(
            "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        ).one()
    ledger.close()
    assert tuple(protected) == (True, "TLSv1.3")


def test_a_wrong_password_of_the_ledger_is_not_said(
    postgres: SecuredLedger, tmp_path: Path
) -> None:
    """Neither by the error nor by the command."""
    config = written(tmp_path, postgres.settings, WRONG)
    settings = load_settings(config, {})
    with pytest.raises(LedgerBusyError) as caught:
        open_ledger(settings.ledger_address, migrate=False)
    assert_unsaid(str(caught.value))
    words = [str(PACSIGHT), "studies", "--config", str(config)]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 75
    assert "password authentication failed" in told.stderr
    assert_unsaid(told.stdout + told.stderr)


def assert_unsaid(text: str) -> None:
    """Assert that no part of a password is in a text."""
    assert text
    for secret in ("c0rrect", "wr0ng", "horse", "battery"):
        assert secret not in text
