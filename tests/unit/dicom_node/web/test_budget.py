"""How often somebody may ask."""

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.web.budget import MOST_CALLERS, Budget, caller_at


class Clock:
    """Seconds that only a test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_minute_has_so_many_and_then_one_at_a_time() -> None:
    """All of it at once, then at the steady rate; the wait that is told is enough."""
    clock = Clock()
    budget = Budget(6, clock=clock)
    assert [budget.take("a") for _ in range(7)] == [0, 0, 0, 0, 0, 0, 10]
    clock.now += 9
    assert budget.take("a") == 1
    clock.now += 1
    assert [budget.take("a"), budget.take("a")] == [0, 10]


def test_each_caller_has_its_own() -> None:
    """One that asks too much takes nothing from another."""
    budget = Budget(1, clock=Clock())
    assert [budget.take("a"), budget.take("a"), budget.take("b")] == [0, 60, 0]


def test_no_more_callers_are_kept_than_fit() -> None:
    """A million addresses take no more room than ten thousand."""
    budget = Budget(5, clock=Clock())
    for number in range(MOST_CALLERS + 500):
        budget.take(str(number))
    assert len(budget._left) == MOST_CALLERS


@given(
    st.lists(st.floats(min_value=0, max_value=40), max_size=60),
    st.integers(min_value=1, max_value=30),
)
def test_never_more_than_a_minute_and_its_burst(
    pauses: list[float], per_minute: int
) -> None:
    """In any time t at most one minute's worth, and t at the rate."""
    clock = Clock()
    budget = Budget(per_minute, clock=clock)
    allowed = 0
    for pause in pauses:
        clock.now += pause
        allowed += budget.take("a") == 0
    assert allowed <= per_minute + clock.now * per_minute / 60 + 1e-6


def test_a_network_of_ipv6_counts_as_one() -> None:
    """Who has 2^64 addresses has one budget; an IPv4 address in IPv6 is itself."""
    one, other = caller_at("2001:db8::1"), caller_at("2001:db8::ffff:2")
    assert one == other == "2001:db8::/64"
    assert caller_at("::ffff:10.0.0.1") == "10.0.0.1"
    assert [caller_at(a) for a in ("10.0.0.1", "", "fe80::1%eth0")] == [
        "10.0.0.1",
        "",
        "fe80::/64",
    ]
