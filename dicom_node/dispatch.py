"""Put work on the queue: keys of the ledger, by priority. Celery's sending side.

Task names and arguments are a wire protocol. A message that is lost, doubled or
late does no harm: the ledger decides who may do what (`dicom_node.ledger.leases`).
"""

from typing import Protocol

from celery import Celery
from kombu.exceptions import OperationalError

from dicom_node.domain import Priority
from dicom_node.errors import Transient

EMBED_BATCH = "pacsight.embed_batch"
CONCLUDE_STUDY = "pacsight.conclude_study"
QUEUES = tuple(priority.queue for priority in Priority)
HARD_LIMIT_S = 1800
VISIBILITY_TIMEOUT_S = 2 * HARD_LIMIT_S


class BrokerDownError(Transient):
    """The broker did not take a message; the ledger will dispatch it again."""


class Dispatcher(Protocol):
    """Takes keys of work that a worker should look at soon."""

    def embed_batch(self, batch_id: int, priority: Priority) -> None:
        """Ask for a batch's frames to be embedded."""

    def conclude_study(self, job_id: int, priority: Priority) -> None:
        """Ask for one revision of a study to be concluded with one pack."""


class CeleryDispatcher:
    """Sends work over a broker that Celery speaks."""

    def __init__(self, broker_url: str) -> None:
        self._app = celery_app(broker_url)
        # The ledger dispatches again: whoever sends never waits for a broker.
        self._app.conf.broker_transport_options["max_retries"] = 0

    def embed_batch(self, batch_id: int, priority: Priority) -> None:
        """Send ``pacsight.embed_batch(batch_id)``."""
        self._send(EMBED_BATCH, batch_id, priority)

    def conclude_study(self, job_id: int, priority: Priority) -> None:
        """Send ``pacsight.conclude_study(job_id)``."""
        self._send(CONCLUDE_STUDY, job_id, priority)

    def close(self) -> None:
        """Close the connections to the broker."""
        self._app.pool.force_close_all()
        self._app.close()

    def _send(self, name: str, key: int, priority: Priority) -> None:
        try:
            self._app.send_task(
                name, args=[key], queue=priority.queue, ignore_result=True, retry=False
            )
        except (OperationalError, OSError) as error:
            raise BrokerDownError(f"the broker is not available: {error}") from error


def celery_app(broker_url: str) -> Celery:
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
    return app
