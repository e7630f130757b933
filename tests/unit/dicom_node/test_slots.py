"""Places for so many at once, and a few more for the urgent."""

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.slots import Slots
from dicom_node.slowness import Slowness

STEPS = st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.booleans()))


@given(STEPS, st.integers(1, 4), st.integers(0, 3))
def test_there_are_never_more_than_places(
    steps: list[tuple[int, bool, bool]], most: int, reserve: int
) -> None:
    """Whoever comes and goes: the routine ones find `most`, the urgent the reserve, too."""
    slots: Slots[int] = Slots(most, reserve)
    inside: set[int] = set()
    for key, urgent, leaves in steps:
        if leaves:
            slots.leave(key)
            inside.discard(key)
        elif key not in inside:
            entered = slots.enter(key, urgent=urgent)
            assert entered == (len(inside) < most + reserve * urgent)
            inside |= {key} if entered else set()
    assert len(slots) == len(inside)


def test_whoever_is_gone_has_no_place() -> None:
    """Also if it was never said that it left."""
    slots: Slots[str] = Slots(1, gone=lambda key: key == "dead")
    assert slots.enter("dead")
    assert slots.enter("living")
    assert not slots.enter("late")


@given(st.floats(0, 1e4), st.integers(0, 10**7))
def test_whoever_sends_fast_enough_is_never_too_slow(
    seconds: float, received: int
) -> None:
    """Neither while there is patience, nor at the least rate."""
    least = Slowness(patience_s=30, bytes_per_s=1000)
    if seconds <= 30 or received >= seconds * 1000:
        assert not least.is_reached(seconds, received)
