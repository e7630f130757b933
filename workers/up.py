"""Everything on one machine: a private broker, the node, a worker, kept alive."""

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from dicom_node.broker import await_broker, broker_command, broker_url
from dicom_node.config import Settings
from dicom_node.files import make_folder
from dicom_node.ledger import open_ledger
from dicom_node.supervise import Child, Supervisor


def run_all(
    settings: Settings, config: Path | None, *, environ: Mapping[str, str]
) -> None:
    """Run broker, node and worker until SIGINT or SIGTERM.

    Parameters
    ----------
    config
        The settings file that the children are to read.
    environ
        The environment that they are to have.
    """
    os.umask(0o077)  # whatever a child writes is its owner's alone
    make_folder(settings.data_dir)
    open_ledger(settings.ledger_address, migrate=True).close()
    children = [_command("node", config), _command("worker", config)]
    given = dict(environ)
    if settings.broker_url is None:
        socket = settings.data_dir / "redis.sock"
        given["PACSIGHT_BROKER_URL"] = broker_url(socket)
        broker = Child(
            name="broker",
            command=broker_command(socket),
            ready=partial(await_broker, socket),
        )
        children.insert(0, broker)
    Supervisor(children, environ=given).run()


def _command(name: str, config: Path | None) -> Child:
    chosen = [] if config is None else ["--config", str(config)]
    command = [sys.executable, "-m", "workers", name, *chosen]
    return Child(name=name, command=command)
