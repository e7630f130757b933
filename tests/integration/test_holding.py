"""Holding work while it is done: the heartbeat renews, a stopped one lets go."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from dicom_node.errors import Permanent, Transient
from dicom_node.ledger import Ledger, leases
from dicom_node.ledger.leases import BATCHES
from tests.arrivals import received
from tests.ledgers import batch, pending, record
from workers.holding import hold

LEASE_S = 1.0


def now() -> datetime:
    """Return the time: a heartbeat lives by the clock on the wall."""
    return datetime.now(UTC)


@pytest.fixture
def key(ledger: Ledger) -> int:
    """Return the key of a batch that nobody has leased."""
    record(ledger, received())
    return batch(ledger, pending(ledger))


def is_free(ledger: Ledger, key: int) -> bool:
    """Return whether somebody else could begin the work now."""
    with ledger.write() as tx:
        lease = leases.claim(tx, BATCHES, key, now=now(), lease_s=0)
        if lease is not None:
            leases.give_back(tx, BATCHES, lease)
    return lease is not None


def eventually(condition: Callable[[], bool], *, within_s: float = 10) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)


def test_a_heartbeat_keeps_the_work(ledger: Ledger, key: int) -> None:
    """Much longer than one lease, as long as it beats."""
    with hold(ledger, BATCHES, key, clock=now, lease_s=LEASE_S, limit_s=60) as lease:
        assert lease is not None
        time.sleep(2 * LEASE_S)
        assert not is_free(ledger, key)
        with ledger.write() as tx:
            assert leases.finish(tx, BATCHES, lease)
    assert not is_free(ledger, key)


def test_a_heartbeat_that_stopped_lets_the_work_go(ledger: Ledger, key: int) -> None:
    """Work that hangs loses its lease, and may write nothing when it wakes."""
    with hold(ledger, BATCHES, key, clock=now, lease_s=LEASE_S, limit_s=0.3) as lease:
        assert lease is not None
        eventually(lambda: is_free(ledger, key))
        with ledger.write() as tx:
            assert not leases.finish(tx, BATCHES, lease)


def test_work_that_may_succeed_later_is_given_back(ledger: Ledger, key: int) -> None:
    """At once, and the error goes on to whoever called."""
    with (
        pytest.raises(Transient, match="no network"),
        hold(ledger, BATCHES, key, clock=now, lease_s=60, limit_s=60),
    ):
        raise Transient("no network")
    assert is_free(ledger, key)


def test_work_that_failed_is_free_when_its_lease_runs_out(
    ledger: Ledger, key: int
) -> None:
    """Not before: it would be tried again and again without a pause."""
    with (
        pytest.raises(Permanent),
        hold(ledger, BATCHES, key, clock=now, lease_s=LEASE_S, limit_s=60),
    ):
        raise Permanent("a fault of ours")
    assert not is_free(ledger, key)
    eventually(lambda: is_free(ledger, key))


def test_where_there_is_nothing_to_do_there_is_no_lease(
    ledger: Ledger, key: int
) -> None:
    """A message that comes twice finds the work taken."""
    with hold(ledger, BATCHES, key, clock=now, lease_s=60, limit_s=60) as first:
        assert first is not None
        with hold(ledger, BATCHES, key, clock=now, lease_s=60, limit_s=60) as second:
            assert second is None
