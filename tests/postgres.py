"""A private PostgreSQL cluster for tests: own folder, own socket, no port."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
import pytest
from psycopg import sql

from tests.running import descendants

BINARIES = tuple(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
START_TIMEOUT_S = 30.0
HASTE = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
}
"""Nothing in it outlives the tests, so nothing has to survive a crash."""


def binaries() -> Path:
    """Return the folder of initdb and postgres; skips without, fails where CI=true."""
    found = shutil.which("postgres")
    on_path = [Path(found).parent] if found else []
    for folder in [*BINARIES, *on_path]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    reason = "PostgreSQL is not installed: apt install postgresql"
    if os.environ.get("CI") == "true":  # noqa: TID251 - CI is no setting
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass
class Cluster:
    """A running PostgreSQL; a context manager that leaves nothing behind.

    Parameters
    ----------
    settings
        Its settings, by name, besides those that make haste.
    """

    binaries: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="pg")))
    _names: "count[int]" = field(default_factory=count)
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        words = ("--auth=trust", "--username=pacsight", "--no-sync", "--no-locale")
        made = self._start("initdb", *words, "--encoding=UTF8", "-D", str(self._data))
        if made.wait() != 0:
            pytest.fail(f"initdb failed:\n{self._said()}")
        self.start()
        self.await_start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, with the data that it has; it does not wait until it answers."""
        settings = {
            **HASTE,
            **self.settings,
            "unix_socket_directories": str(self.folder),
        }
        options = [f"-c{name}={value}" for name, value in settings.items()]
        self._process = self._start("postgres", "-D", str(self._data), *options)

    def end(self, how: signal.Signals) -> None:
        """End it: by SIGINT in order, its clients cut off; by SIGKILL all of it at once."""
        assert self._process is not None
        children = descendants(self._process.pid) if how is signal.SIGKILL else set()
        self._process.send_signal(how)
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        self._process.wait()
        _await_end(children)

    def database(self, template: str = "template1") -> str:
        """Return the name of a new database, a copy of `template`."""
        name = f"test_{next(self._names)}"
        words = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with self._connected() as connection:
            connection.execute(
                words.format(sql.Identifier(name), sql.Identifier(template))
            )
        return name

    def run(self, statement: str) -> None:
        """Run a statement as the superuser."""
        with self._connected() as connection:
            connection.execute(sql.SQL(statement))

    def drop(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        words = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
        with self._connected() as connection:
            connection.execute(words)

    def dump(self, name: str, *options: str) -> bytes:
        """Return a database as pg_dump writes it."""
        return self._client("pg_dump", *options, name)

    def restore(self, name: str, dump: Path) -> None:
        """Put what pg_dump wrote into an empty database."""
        self._client("pg_restore", "--exit-on-error", "-d", name, str(dump))

    def url(self, name: str) -> str:
        """Return the database's URL for SQLAlchemy."""
        return f"postgresql+psycopg://pacsight@/{name}?host={self.folder}"

    def _client(self, program: str, *words: str) -> bytes:
        server = ("--host", str(self.folder), "--username", "pacsight")
        command = [str(self.binaries / program), *server, *words]
        return subprocess.run(command, check=True, capture_output=True).stdout

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _user(self) -> str | None:
        """Return who runs it: not root, PostgreSQL refuses that."""
        if os.geteuid() != 0:
            return None
        names = {account.pw_name for account in pwd.getpwall()}
        return "postgres" if "postgres" in names else "nobody"

    def _start(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        account = pwd.getpwnam(self._user) if self._user else None
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self.binaries / program), *words],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )

    def _connected(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host=str(self.folder),
            port=self.settings.get("port", "5432"),
            user="pacsight",
            dbname="postgres",
            autocommit=True,
        )

    def await_start(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self._connected().close()
            except psycopg.OperationalError:
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    pytest.fail(f"PostgreSQL did not start:\n{self._said()}")
                time.sleep(0.05)
            else:
                return

    def _said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]


def _await_end(pids: Iterable[int]) -> None:
    """Wait until the kernel has ended them: their shared memory bars a new start."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() >= deadline:
            raise TimeoutError("killed processes of PostgreSQL do not end")
        time.sleep(0.01)
