"""Where a site keeps its threshold sets, and the log that says which are in force.

::

    thresholds/signing-key.pem                0600
    thresholds/<pack>/<name>-v<version>.json  written once, read-only, signed
    thresholds/<pack>/activations.jsonl       a line for each decision, signed, chained

Every line of the log names the sha256 of the one before it, so that none can be taken
out or put in; it is replaced as a whole, so that after a crash it is the old one or the
new. What is in force for a pack is what its last line says.
"""

import fcntl
import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote, unquote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import TypeAdapter, ValidationError

from dicom_node.errors import Permanent
from dicom_node.files import create_durably, make_folder, write_durably
from workers.thresholds.sets import (
    Signature,
    SignedSet,
    ThresholdSet,
    canonical,
    parse,
)
from workers.thresholds.signing import check, own_key, own_public_key, public, sign

FOLDER = "thresholds"
LOG = "activations.jsonl"
SET, ACTIVATION = "threshold set", "activation"
"""What signatures are of."""

_FILE = re.compile(r"(?P<name>.+)-v(?P<version>[1-9][0-9]*)\.json")
_NOBODY = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A decision: from now on, this set for this pack; or the pack's own thresholds.

    Parameters
    ----------
    at
        UTC, ISO 8601.
    set, set_digest
        Label and digest of the set; None: the thresholds that the pack ships.
    shadow
        Findings that are computed and stored, and flag nothing.
    before
        sha256 of the line before; zeros in the first.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    format: Literal[1] = 1
    at: str
    pack: str
    pack_version: str
    pack_digest: str
    set: str | None
    set_digest: str | None
    shadow: tuple[str, ...]
    before: str = _NOBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A set that counts, and the findings that run in shadow mode beside its own."""

    set: ThresholdSet
    shadow: tuple[str, ...]


_activations = TypeAdapter(Activation)
_signatures = TypeAdapter(Signature)


class Store:
    """The threshold sets of one data folder.

    Parameters
    ----------
    data_dir
        The site's data folder.
    trusted
        Public keys whose signatures count; empty: this site's own alone.
    """

    def __init__(self, data_dir: Path, trusted: Collection[str] = ()) -> None:
        self.folder = data_dir / FOLDER
        self._trusted = frozenset(trusted)

    # ── the key ─────────────────────────────────────────────────────────────

    def public_key(self) -> str:
        """Return this site's public key; the key is made at the first time."""
        return public(own_key(self.folder))

    @property
    def trusted(self) -> frozenset[str]:
        """Return the keys whose signatures count."""
        if self._trusted:
            return self._trusted
        own = own_public_key(self.folder)
        return frozenset() if own is None else frozenset({own})

    def _signing_key(self) -> Ed25519PrivateKey:
        key = own_key(self.folder)
        if public(key) not in self.trusted:
            raise Permanent(
                f"this site's key {public(key)[:16]}... is not among "
                "thresholds.trusted_keys: what it signs would not load"
            )
        return key

    # ── sets ────────────────────────────────────────────────────────────────

    def labels(self, pack: str) -> tuple[str, ...]:
        """Return what the sets of a pack are called, by name and version."""
        folder = self._of(pack)
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        found = sorted(
            (match["name"], int(match["version"]))
            for name in names
            if (match := _FILE.fullmatch(name))
        )
        return tuple(f"{name}-v{version}" for name, version in found)

    def packs(self) -> tuple[str, ...]:
        """Return the packs that have sets, or a log."""
        if not self.folder.is_dir():
            return ()
        folders = [path for path in self.folder.iterdir() if path.is_dir()]
        return tuple(sorted(unquote(path.name) for path in folders))

    def path(self, pack: str, label: str) -> Path:
        """Return where a set lies, or would."""
        if "/" in label:
            raise Permanent(f"{label!r} is no threshold set: name one as NAME-vN")
        return self._of(pack) / f"{label}.json"

    def read(self, pack: str, label: str) -> SignedSet:
        """Return a set of a pack, its signature checked.

        Raises
        ------
        Permanent
            If there is none, or it does not verify.
        """
        path = self.path(pack, label)
        found = parse(_bytes(path, pack, label), str(path))
        what = found.set
        check(
            found.signature, SET, what.canonical, trusted=self.trusted, where=str(path)
        )
        if (what.pack, what.label) != (pack, label):
            raise Permanent(f"{path} holds another set: {what.label} of {what.pack}")
        return found

    def latest(self, pack: str, name: str) -> ThresholdSet | None:
        """Return the highest version of a set with this name, or None."""
        versions = self._versions(pack, name)
        if not versions:
            return None
        return self.read(pack, f"{name}-v{max(versions)}").set

    def next_version(self, pack: str, name: str) -> int:
        """Return the version that a new set of this name has."""
        return max(self._versions(pack, name), default=0) + 1

    def add(self, new: ThresholdSet) -> SignedSet:
        """Return a set, signed and written. It is not in force.

        Raises
        ------
        Permanent
            If its version is there already, or the disk does not take it.
        """
        signed = SignedSet(
            set=new, signature=sign(self._signing_key(), SET, new.canonical)
        )
        path = self.path(new.pack, new.label)
        try:
            create_durably(path, signed.content, mode=0o444)
        except FileExistsError:
            raise Permanent(
                f"{path} is there already: a threshold set is never changed"
            ) from None
        except OSError as error:
            raise Permanent(f"{path}: {error.strerror}") from error
        return signed

    def verify(self, pack: str) -> tuple[int, int]:
        """Return how many sets and decisions of a pack there are: they all verify.

        Raises
        ------
        Permanent
            If one does not, or a set is gone that was once in force.
        """
        labels = self.labels(pack)
        digests = {label: self.read(pack, label).set.digest for label in labels}
        decisions = self.activations(pack)
        for one in decisions:
            if one.set is not None and digests.get(one.set) != one.set_digest:
                path = self.path(pack, one.set)
                raise Permanent(f"{path} is not there as it was activated on {one.at}")
        return len(labels), len(decisions)

    # ── what is in force ────────────────────────────────────────────────────

    def activations(self, pack: str) -> tuple[Activation, ...]:
        """Return the decisions about a pack, in their order, every one checked.

        Raises
        ------
        Permanent
            If a line was changed, taken out or put in.
        """
        return tuple(self._checked(pack))

    def in_force(self, pack: str, version: str, digest: str) -> InForce | None:
        """Return the set in force for a pack, None for its own thresholds.

        Raises
        ------
        Permanent
            If it does not verify, or was decided for another version of the pack.
        """
        told = self.activations(pack)
        if not any(one.pack_digest == digest for one in told):
            self._check_siblings(told, version)
        return self.current(pack, digest)

    def current(self, pack: str, digest: str) -> InForce | None:
        """Return the set in force, and None where nothing was decided for this pack."""
        mine = [one for one in self.activations(pack) if one.pack_digest == digest]
        if not mine or mine[-1].set is None:
            return None
        last = mine[-1]
        label = str(last.set)
        found = self.read(pack, label).set
        if found.digest != last.set_digest:
            raise Permanent(
                f"{self.path(pack, label)} is not the set that was activated"
            )
        return InForce(set=found, shadow=last.shadow)

    def decide(self, decision: Activation) -> Activation:
        """Return a decision as it stands in the log from now on.

        `before` is filled in here.

        Raises
        ------
        Permanent
            If the log does not verify, or the disk does not take it.
        """
        key = self._signing_key()
        path = self._of(decision.pack) / LOG
        try:
            with self._alone(decision.pack):
                self.activations(decision.pack)
                lines = _lines(path)
                before = _digest(lines[-1]) if lines else _NOBODY
                values = asdict(decision) | {"before": before}
                signature = sign(key, ACTIVATION, canonical(values))
                line = canonical(values | {"signature": asdict(signature)})
                write_durably(path, b"".join(one + b"\n" for one in [*lines, line]))
        except OSError as error:
            raise Permanent(f"{path}: {error.strerror}") from error
        return self.activations(decision.pack)[-1]

    def _checked(self, pack: str) -> Iterator[Activation]:
        path = self._of(pack) / LOG
        before = _NOBODY
        for number, line in enumerate(_lines(path), 1):
            where = f"{path}, line {number},"
            found, signature = _decision(line, where)
            check(
                signature,
                ACTIVATION,
                canonical(asdict(found)),
                trusted=self.trusted,
                where=where,
            )
            if found.before != before or found.pack != pack:
                raise Permanent(f"{where} does not follow the line before it")
            before = _digest(line)
            yield found

    def _check_siblings(self, told: tuple[Activation, ...], version: str) -> None:
        """Raise where another version of the pack has thresholds of the site's own."""
        last = {one.pack_digest: one for one in told}
        others = [one for one in last.values() if one.set is not None]
        if not others:
            return
        other = others[-1]
        raise Permanent(
            f"threshold set {other.set} is in force for {other.pack} "
            f"{other.pack_version}, and this is another pack, version {version}: choose "
            "its thresholds with `pacsight threshold set` and activate them, or take the "
            "pack's own with `pacsight threshold deactivate`"
        )

    def _versions(self, pack: str, name: str) -> list[int]:
        found = (_FILE.fullmatch(f"{label}.json") for label in self.labels(pack))
        return [
            int(match["version"]) for match in found if match and match["name"] == name
        ]

    def _of(self, pack: str) -> Path:
        name = quote(pack, safe=" ")  # no folder above, no hidden one
        return self.folder / (f"%2E{name[1:]}" if name.startswith(".") else name)

    @contextmanager
    def _alone(self, pack: str) -> Iterator[None]:
        """Hold the log of a pack: two commands at once follow each other."""
        folder = self._of(pack)
        make_folder(folder)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _decision(line: bytes, where: str) -> tuple[Activation, Signature]:
    try:
        values: dict[str, Any] = json.loads(line)
        signature = _signatures.validate_json(
            json.dumps(values.pop("signature")), strict=True
        )
        found = _activations.validate_json(json.dumps(values), strict=True)
        whole = canonical(values | {"signature": asdict(signature)}) == line
    except (ValidationError, ValueError, LookupError, TypeError, AttributeError):
        raise Permanent(f"{where} is no decision about thresholds") from None
    if not whole:
        raise Permanent(f"{where} was edited: the log is only ever added to")
    return found, signature


def _lines(path: Path) -> list[bytes]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error
    return content.removesuffix(b"\n").split(b"\n")


def _bytes(path: Path, pack: str, label: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Permanent(f"there is no threshold set {label} of pack {pack}") from None
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error


def _digest(line: bytes) -> str:
    return sha256(line).hexdigest()


def stamp(now: datetime) -> str:
    """Return a time as sets and decisions hold it."""
    return now.isoformat(timespec="seconds")
