"""Sets are written once; what is in force is what the signed log says, or nothing is."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from stat import S_IMODE

import pytest

from dicom_node.errors import Permanent
from tests.operated import bytes_of
from workers.thresholds.sets import Point, ThresholdSet, moved_tolerance, parse
from workers.thresholds.store import Activation, Store

PACK, DIGEST = "chest", "a" * 64


def point(threshold: float = 0.5) -> Point:
    """Return a point that nobody has measured."""
    return Point(
        name="sens>=0.95",
        threshold=threshold,
        rule_out=None,
        tolerance=0.0,
        mode="live",
        calibration_set="",
        demonstrated=None,
        origin="pack",
        evidence=None,
    )


def new_set(
    version: int = 1, digest: str = DIGEST, threshold: float = 0.5
) -> ThresholdSet:
    """Return a set of one finding."""
    return ThresholdSet(
        name="site",
        version=version,
        pack=PACK,
        pack_version="1.0",
        pack_digest=digest,
        profile="float32",
        created="2026-01-15T10:30:00+00:00",
        previous=None,
        points={"effusion": point(threshold)},
    )


def decision(made: ThresholdSet | None, digest: str = DIGEST) -> Activation:
    """Return that a set counts from now on; None: the pack's own."""
    return Activation(
        at="2026-01-16T10:30:00+00:00",
        pack=PACK,
        pack_version="1.0",
        pack_digest=digest,
        set=None if made is None else made.label,
        set_digest=None if made is None else made.digest,
        shadow=(),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store in which site-v1 is in force, and site-v2 waits."""
    made = Store(tmp_path)
    made.add(new_set())
    made.add(new_set(2, threshold=0.6))
    made.decide(decision(new_set()))
    return made


def label_in_force(store: Store) -> str | None:
    """Return which set counts for the pack."""
    found = store.in_force(PACK, "1.0", DIGEST)
    return None if found is None else found.set.label


# ── what is kept ────────────────────────────────────────────────────────────


def test_a_set_is_read_as_it_was_written(store: Store) -> None:
    """The same value, the same digest; the file is read-only, the key the owner's."""
    path = store.path(PACK, "site-v1")
    assert store.read(PACK, "site-v1").set == new_set()
    assert S_IMODE(path.stat().st_mode) == 0o444
    assert S_IMODE((store.folder / "signing-key.pem").stat().st_mode) == 0o600
    assert store.labels(PACK) == ("site-v1", "site-v2")
    assert store.next_version(PACK, "site") == 3


def test_a_set_is_not_in_force_before_it_is_activated(store: Store) -> None:
    """Nor after it was deactivated; going back is a decision like any other."""
    assert label_in_force(store) == "site-v1"
    store.decide(decision(new_set(2, threshold=0.6)))
    assert label_in_force(store) == "site-v2"
    store.decide(decision(None))
    assert label_in_force(store) is None
    store.decide(decision(new_set()))
    assert label_in_force(store) == "site-v1"
    assert store.verify(PACK) == (2, 4)


def test_a_version_is_written_once(store: Store) -> None:
    """Whoever comes second is told so, and the first stays."""
    before = bytes_of(store.folder)
    with pytest.raises(Permanent, match="is there already"):
        store.add(new_set(threshold=0.9))
    assert bytes_of(store.folder) == before


def test_a_folder_without_sets_has_nothing_in_force(tmp_path: Path) -> None:
    """And looking there makes nothing, not even a key."""
    assert Store(tmp_path).in_force(PACK, "1.0", DIGEST) is None
    assert list(tmp_path.iterdir()) == []


def test_another_version_of_the_pack_needs_a_decision_of_its_own(store: Store) -> None:
    """Shipped thresholds do not slip in with a new model; the sentence says what to do."""
    with pytest.raises(Permanent) as caught:
        store.in_force(PACK, "2.0", "b" * 64)
    assert str(caught.value) == (
        "threshold set site-v1 is in force for chest 1.0, and this is another pack, "
        "version 2.0: choose its thresholds with `pacsight threshold set` and activate "
        "them, or take the pack's own with `pacsight threshold deactivate`"
    )
    store.decide(decision(None, digest="b" * 64))
    assert store.in_force(PACK, "2.0", "b" * 64) is None
    assert label_in_force(store) == "site-v1"


def test_decisions_at_once_follow_each_other(store: Store) -> None:
    """None is lost, and the chain holds."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store.decide(decision(new_set())), range(10)))
    assert store.verify(PACK) == (2, 11)


def test_names_of_packs_stay_inside_the_folder(tmp_path: Path) -> None:
    """Whatever a pack calls itself."""
    store = Store(tmp_path)
    for name in ("../../up", "..", ".hidden", "a/b", "My pack"):
        path = store.path(name, "site-v1")
        assert path.resolve().is_relative_to(store.folder.resolve())
        assert path.parent.parent == store.folder
    with pytest.raises(Permanent, match="is no threshold set"):
        store.path(PACK, "../../etc/passwd")


# ── what was tampered with ──────────────────────────────────────────────────


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Change a file that is read-only."""
    text = change(path.read_text())
    path.chmod(0o600)
    path.write_text(text)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"threshold": 0.5', '"threshold": 0.4', "does not verify: its signature"),
        ('"threshold": 0.5', '"threshold": 0.50', "was edited"),
        ('"threshold": 0.5', '"threshold": "low"', "points.effusion.threshold"),
        ('"version": 1', '"version": 2', "does not verify"),
        ('"format": 1', '"format": 2', "no threshold set"),
        ("\n}", ',\n "more": 1\n}', "no threshold set"),
        ("{", "", "no threshold set"),
    ],
)
def test_a_set_that_was_edited_does_not_load(
    store: Store, old: str, new: str, complaint: str
) -> None:
    """Whatever was changed, be it a blank or a digit without meaning."""
    rewrite(store.path(PACK, "site-v1"), lambda text: text.replace(old, new, 1))
    with pytest.raises(Permanent, match=complaint) as caught:
        label_in_force(store)
    assert "\n" not in str(caught.value)


def test_a_set_that_somebody_else_signed_does_not_load(
    store: Store, tmp_path: Path
) -> None:
    """Unless the site trusts that key; then its own counts only if it is named, too."""
    other = Store(tmp_path / "other")
    other.add(new_set(3))
    source, target = other.path(PACK, "site-v3"), store.path(PACK, "site-v3")
    target.write_bytes(source.read_bytes())
    with pytest.raises(Permanent, match=r"not among the keys that this site trusts"):
        store.read(PACK, "site-v3")
    trusting = Store(store.folder.parent, [other.public_key()])
    assert trusting.read(PACK, "site-v3").set == new_set(3)
    with pytest.raises(Permanent, match="not among the keys"):
        trusting.read(PACK, "site-v1")
    with pytest.raises(Permanent, match=r"is not among thresholds\.trusted_keys"):
        trusting.decide(decision(new_set(3)))


def test_a_set_under_another_name_does_not_load(store: Store) -> None:
    """A file that was copied over another is not that one."""
    first, second = store.path(PACK, "site-v1"), store.path(PACK, "site-v2")
    first.chmod(0o600)
    first.write_bytes(second.read_bytes())
    with pytest.raises(Permanent, match="holds another set: site-v2"):
        label_in_force(store)


def test_a_set_that_is_gone_stops_what_needs_it(store: Store) -> None:
    """It is never replaced by the thresholds that the pack ships."""
    store.path(PACK, "site-v1").unlink()
    with pytest.raises(Permanent, match="there is no threshold set site-v1"):
        label_in_force(store)
    with pytest.raises(Permanent, match="is not there as it was activated"):
        store.verify(PACK)


def line_out(lines: list[str]) -> list[str]:
    """Return the log without its second line."""
    return [*lines[:1], *lines[2:]]


def line_twice(lines: list[str]) -> list[str]:
    """Return the log with its first line again at the end: an old decision replayed."""
    return [*lines, lines[0]]


def line_edited(lines: list[str]) -> list[str]:
    """Return the log with another finding in shadow mode."""
    return [lines[0].replace('"shadow":[]', '"shadow":["effusion"]'), *lines[1:]]


def line_spaced(lines: list[str]) -> list[str]:
    """Return the log with a blank that changes no value."""
    return [lines[0].replace('"format":1', '"format": 1'), *lines[1:]]


def line_cut(lines: list[str]) -> list[str]:
    """Return the log with half a line at the end."""
    return [*lines[:-1], lines[-1][:100]]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (line_out, "line 2, does not follow"),
        (line_twice, "line 4, does not follow"),
        (line_edited, "line 1, does not verify"),
        (line_spaced, "line 1, was edited"),
        (line_cut, "line 3, is no decision"),
    ],
)
def test_a_log_that_was_edited_stops_everything(
    store: Store, change: Callable[[list[str]], list[str]], complaint: str
) -> None:
    """One sentence; a new decision is refused as well, so that nothing is covered up."""
    store.decide(decision(new_set(2, threshold=0.6)))
    store.decide(decision(None))
    log = store.folder / PACK / "activations.jsonl"
    rewrite(log, lambda text: "\n".join(change(text.splitlines())) + "\n")
    with pytest.raises(Permanent, match=complaint):
        label_in_force(store)
    with pytest.raises(Permanent, match=complaint):
        store.decide(decision(None))


def test_the_signature_of_a_set_serves_for_nothing_else(store: Store) -> None:
    """A decision that carries the signature of another one is none."""
    log = store.folder / PACK / "activations.jsonl"
    line = json.loads(log.read_text())
    theirs = store.read(PACK, "site-v1").signature
    line["signature"] = {"key": theirs.key, "value": theirs.value}
    text = json.dumps(line, sort_keys=True, separators=(",", ":"))
    log.write_text(text + "\n")
    with pytest.raises(Permanent, match="does not verify"):
        store.activations(PACK)


def test_a_key_that_others_may_read_is_refused(store: Store) -> None:
    """As is one that is no key."""
    key = store.folder / "signing-key.pem"
    key.chmod(0o644)
    with pytest.raises(Permanent, match="is open to others"):
        store.public_key()
    key.chmod(0o600)
    key.write_text("no key")
    with pytest.raises(Permanent, match="is not a private key in PEM"):
        store.public_key()


def test_what_is_no_set_is_said_in_a_sentence() -> None:
    """Bytes of all kinds."""
    for content in (b"", b"[]", b"{}", b"\xff\xfe", b"null", b'{"signature": 1}'):
        with pytest.raises(Permanent, match=r"^x is no threshold set"):
            parse(content, "x")


@pytest.mark.parametrize("name", ["", "a b", "../a", "site-v2", "x" * 49, ".a"])
def test_a_name_that_could_be_mistaken_is_refused(name: str) -> None:
    """For a path, or for a version."""
    with pytest.raises(ValueError, match="is no name for a threshold set"):
        replace(new_set(), name=name)


def test_a_tolerance_moves_with_its_threshold() -> None:
    """The same shift of the logit, on the sigmoid scale; where there is none, none."""
    assert moved_tolerance(0.5, 0.0, 0.9) == 0.0
    assert moved_tolerance(0.5, 0.01, 0.5) == pytest.approx(0.01)
    moved = moved_tolerance(0.5, 0.01, 0.99)
    assert moved == pytest.approx(0.01 * 0.99 * 0.01 / 0.25, rel=0.05)
    assert moved_tolerance(0.5, 0.01, 3.0) == 0.01
