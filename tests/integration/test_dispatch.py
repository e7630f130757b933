"""The queue's sending side, and the private Redis behind it."""

import json
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import WorkerShutdown
from celery.worker import state as worker_state
from redis import Redis

from dicom_node.broker import await_broker, broker_command, broker_url
from dicom_node.dispatch import (
    CONCLUDE_STUDY,
    EMBED_BATCH,
    QUEUES,
    BrokerDownError,
    CeleryDispatcher,
    Holding,
    celery_app,
)
from dicom_node.domain import Priority
from dicom_node.errors import Permanent, Transient


class Broker:
    """A private Redis that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self._log = (folder / "redis.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the URL for Celery."""
        return broker_url(self.socket)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            broker_command(self.socket), stdout=self._log, stderr=self._log
        )
        await_broker(self.socket, self._process)

    def stop(self) -> None:
        """Kill it: all that it holds is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        self._log.close()

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """Return what lies on a queue, the oldest first, as Redis has it."""
        with Redis(unix_socket_path=str(self.socket)) as client:
            found = client.lrange(queue, 0, -1)
        assert isinstance(found, list)
        return [json.loads(one) for one in reversed(found)]


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Return a running private Redis."""
    private = Broker(tmp_path_factory.mktemp("b", numbered=True))
    private.start()
    yield private
    private.close()


@pytest.fixture
def dispatcher(broker: Broker) -> Iterator[CeleryDispatcher]:
    """Return a dispatcher to that Redis."""
    sender = CeleryDispatcher(broker.url)
    yield sender
    sender.close()


def test_work_lands_in_the_queue_of_its_priority(
    broker: Broker, dispatcher: CeleryDispatcher
) -> None:
    """In the order in which it was sent; the task says what is to be done."""
    dispatcher.embed_batch(7, Priority.ROUTINE)
    dispatcher.embed_batch(8, Priority.STAT)
    dispatcher.conclude_study(3, Priority.STAT)
    dispatcher.conclude_study(4, Priority.BACKFILL)
    tasks = {q: [m["headers"]["task"] for m in broker.messages(q)] for q in QUEUES}
    assert tasks == {
        "stat": [EMBED_BATCH, CONCLUDE_STUDY],
        "routine": [EMBED_BATCH],
        "backfill": [CONCLUDE_STUDY],
    }


def test_a_message_carries_a_key_of_the_ledger_and_nothing_else(
    broker: Broker, dispatcher: CeleryDispatcher
) -> None:
    """As JSON: no patient data can be in a queue, and no code."""
    dispatcher.embed_batch(4711, Priority.ROUTINE)
    (message,) = broker.messages("routine")
    assert message["content-type"] == "application/json"
    body = json.loads(b64decode(message["body"]))
    arguments, keywords, _callbacks = body
    assert (arguments, keywords) == ([4711], {})
    assert message["headers"]["argsrepr"] == "[4711]"


def test_a_broker_that_lost_its_messages_is_noticed(
    broker: Broker, dispatcher: CeleryDispatcher
) -> None:
    """It is new, or was emptied, until it is marked; and whether a message waits."""
    assert dispatcher.holding() == Holding(forgot=True, waits=False)
    dispatcher.mark()
    dispatcher.embed_batch(1, Priority.STAT)
    assert dispatcher.holding() == Holding(forgot=False, waits=True)
    with Redis(unix_socket_path=str(broker.socket)) as client:
        client.flushall()
    assert dispatcher.holding() == Holding(forgot=True, waits=False)


def test_a_broker_that_is_down_is_told_at_once(
    broker: Broker, dispatcher: CeleryDispatcher
) -> None:
    """Before the first message and after one; the ledger sends it again."""
    dispatcher.embed_batch(1, Priority.ROUTINE)
    broker.stop()
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(BrokerDownError, match="not available"):
            dispatcher.embed_batch(2, Priority.ROUTINE)
    assert time.monotonic() - began < 10
    broker.start()
    dispatcher.embed_batch(3, Priority.ROUTINE)
    assert len(broker.messages("routine")) == 1


@pytest.mark.parametrize(
    "url", ["redis+socket:///nowhere/redis.sock", "redis://127.0.0.1:1/0"]
)
def test_a_broker_that_never_was_is_told_at_once(url: str) -> None:
    """A wrong setting, or a service that is not up yet."""
    dispatcher = CeleryDispatcher(url)
    began = time.monotonic()
    with pytest.raises(BrokerDownError):
        dispatcher.conclude_study(1, Priority.STAT)
    assert time.monotonic() - began < 10
    dispatcher.close()


def test_a_worker_empties_urgent_queues_first(
    broker: Broker, dispatcher: CeleryDispatcher
) -> None:
    """A real Celery worker takes STAT before routine before backfill."""
    for key, priority in (
        (1, Priority.BACKFILL),
        (2, Priority.ROUTINE),
        (3, Priority.ROUTINE),
        (4, Priority.STAT),
        (5, Priority.STAT),
    ):
        dispatcher.conclude_study(key, priority)
    app = celery_app(broker.url)
    done: list[int] = []

    @app.task(name=CONCLUDE_STUDY)  # type: ignore[untyped-decorator]
    def _conclude(job_id: int) -> None:
        done.append(job_id)
        if len(done) == 5:
            worker_state.should_stop = 0

    worker = app.WorkController(
        pool_cls="solo",
        queues=list(QUEUES),
        without_gossip=True,
        without_heartbeat=True,
        without_mingle=True,
        loglevel="ERROR",
    )
    try:
        worker.start()
    except WorkerShutdown:
        worker.stop()
    finally:
        worker_state.should_stop = None
    app.pool.force_close_all()
    app.close()
    assert done == [4, 5, 2, 3, 1]


def test_a_socket_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """The kernel would cut it off; the setting to change is named."""
    with pytest.raises(Permanent, match="data_dir"):
        broker_command(tmp_path / ("x" * 100) / "redis.sock")


def test_a_broker_that_does_not_start_is_told(tmp_path: Path) -> None:
    """Whoever waits for it learns that it ended."""
    process = subprocess.Popen(["false"])
    with pytest.raises(Transient, match="did not start"):
        await_broker(tmp_path / "redis.sock", process)
    process.wait()
