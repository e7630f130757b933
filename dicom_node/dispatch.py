"""Put work on the queue: keys of the ledger, by priority. Celery's sending side.

Task names and arguments are a wire protocol. A message that is lost, doubled or
late does no harm: the ledger decides who may do what (`dicom_node.ledger.leases`).
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from dicom_node.domain import Priority
from dicom_node.errors import Transient

EMBED_BATCH = "pacsight.embed_batch"
CONCLUDE_STUDY = "pacsight.conclude_study"
QUEUES = tuple(priority.queue for priority in Priority)
HARD_LIMIT_S = 1800
VISIBILITY_TIMEOUT_S = 2 * HARD_LIMIT_S
MARK = "pacsight.given"
"""A key in Redis: where it misses, Redis has lost what it was given."""


class BrokerDownError(Transient):
    """The broker did not take a message; the ledger will dispatch it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFiles:
    """The files of TLS towards Redis, PEM; `ca` None for what the system trusts.

    Its certificate and host name are always checked.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Return them as redis-py's connection takes them."""
        files = {
            "ssl_ca_certs": self.ca,
            "ssl_certfile": self.certificate,
            "ssl_keyfile": self.key,
        }
        named = {key: str(path) for key, path in files.items() if path is not None}
        minimum = ssl.TLSVersion.TLSv1_2
        checked = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
        return {**named, **checked, "ssl_min_version": minimum}


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What the queue holds of what was put there, as far as the broker tells.

    Parameters
    ----------
    forgot
        Whether all of it was lost: the broker is new, or was emptied.
    waits
        Whether any message waits to be taken.
    """

    forgot: bool
    waits: bool


class Dispatcher(Protocol):
    """Takes keys of work that a worker should look at soon."""

    def holding(self) -> Holding:
        """Return what became of the messages."""

    def mark(self) -> None:
        """Let the broker be known again, until it loses what it holds."""

    def embed_batch(self, batch_id: int, priority: Priority) -> None:
        """Ask for a batch's frames to be embedded."""

    def conclude_study(self, job_id: int, priority: Priority) -> None:
        """Ask for one revision of a study to be concluded with one pack."""


class CeleryDispatcher:
    """Sends work over a broker that Celery speaks."""

    def __init__(self, broker_url: str, tls: BrokerFiles | None = None) -> None:
        self._app = celery_app(broker_url, tls)
        # The ledger dispatches again: whoever sends never waits for a broker.
        self._app.conf.broker_transport_options["max_retries"] = 0
        self.is_redis = broker_url.startswith("redis")

    def embed_batch(self, batch_id: int, priority: Priority) -> None:
        """Send ``pacsight.embed_batch(batch_id)``."""
        self._send(EMBED_BATCH, batch_id, priority)

    def conclude_study(self, job_id: int, priority: Priority) -> None:
        """Send ``pacsight.conclude_study(job_id)``."""
        self._send(CONCLUDE_STUDY, job_id, priority)

    def holding(self) -> Holding:
        """Return whether Redis lost the messages, and whether any waits there.

        Of another broker nothing is known: it may hold all that it was given.
        """
        if not self.is_redis:
            return Holding(forgot=False, waits=True)
        marked, *lengths = self._ask([("EXISTS", MARK), *(("LLEN", q) for q in QUEUES)])
        return Holding(forgot=not marked, waits=any(lengths))

    def mark(self) -> None:
        """Put the mark into Redis."""
        if self.is_redis:
            self._ask([("SET", MARK, "1")])

    def close(self) -> None:
        """Close the connections to the broker."""
        self._app.pool.force_close_all()
        self._app.close()

    def _ask(self, commands: Sequence[Sequence[str]]) -> list[Any]:
        """Return what Redis answers, over the connection that messages are sent on."""
        try:
            with self._app.pool.acquire() as connection:
                redis = connection.default_channel.client
                asking = redis.pipeline(transaction=False)
                for command in commands:
                    asking.execute_command(*command)
                answers: list[Any] = asking.execute()
                return answers
        except (OperationalError, RedisError, OSError) as error:
            raise BrokerDownError(f"the broker is not available: {error}") from error

    def _send(self, name: str, key: int, priority: Priority) -> None:
        try:
            self._app.send_task(
                name, args=[key], queue=priority.queue, ignore_result=True, retry=False
            )
        except (OperationalError, OSError) as error:
            raise BrokerDownError(f"the broker is not available: {error}") from error


def ask_broker(url: str, tls: BrokerFiles | None, *, timeout_s: float) -> str:
    """Return where the broker is, without its password, if it answers.

    Raises
    ------
    BrokerDownError
        If it does not, or wants another password or certificate.
    """
    waiting = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    with Connection(  # type: ignore[no-untyped-call]
        url, ssl=tls.options if tls else None, transport_options=waiting
    ) as connection:
        place = str(connection.as_uri())
        try:
            connection.ensure_connection(
                max_retries=1, interval_start=0, interval_step=0, interval_max=0
            )
        except (OSError, OperationalError, *connection.connection_errors) as error:
            raise BrokerDownError(f"nobody answers at {place}: {error}") from error
    return place


def celery_app(broker_url: str, tls: BrokerFiles | None = None) -> Celery:
    """Return Celery as pacsight uses it, on both sides of the queue.

    Late acknowledgement and a prefetch of one keep work visible; the queue order
    strategy empties ``stat`` before ``routine`` before ``backfill``; no result
    backend, because results live in the ledger.
    """
    app = Celery("pacsight", broker=broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "queue_order_strategy": "priority",
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
        },
        task_acks_late=True,
        task_ignore_result=True,
        task_reject_on_worker_lost=True,
        task_serializer="json",
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
    )
    if tls is not None:
        app.conf.broker_use_ssl = tls.options
    return app
