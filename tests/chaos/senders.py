"""Modalities that send without a pause, and remember what was acknowledged to them.

Half of them speak C-STORE, half STOW-RS. What is not acknowledged is sent again, to
whichever node comes next, until it is; now and then a study is sent twice, as
modalities do.
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from uuid import uuid4

import httpx
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE

from tests.chaos.studies import Instance, Study

TWICE = 0.02
"""So many studies are sent again, although all was acknowledged."""
PAUSE_S = (0.05, 0.5)
"""Before a sender tries again: shortest, longest."""
TIMEOUT_S = 8.0
SUCCESS = 0x0000
REFERENCED, INSTANCE_UID = "00081199", "00081155"
LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Door:
    """Where a node is reached."""

    dicom_port: int
    http_port: int

    @property
    def stow(self) -> str:
        """Return the address of its STOW-RS service."""
        return f"http://127.0.0.1:{self.http_port}/dicom-web/studies"


Front = Callable[[Sequence[Instance], Door], set[str]]
"""Sends instances, and returns the UIDs of those that were acknowledged."""


@dataclass
class Ward:
    """What is to be sent, what was sent, and what was acknowledged.

    Parameters
    ----------
    count
        How many studies there are at least: more are sent while faults are to come.
    ahead
        How many studies may be acknowledged and not yet done, before senders wait.
    pressing
        Whether senders wait for no room: a node that starts shall be asked at once.
    acknowledged
        SHA-256 of the data set, by SOP Instance UID.
    resent
        Instances that were sent again, because they had not been acknowledged.
    twice
        Instances that were sent again, although they had been.
    """

    make: Callable[[int], Study]
    count: int
    ahead: int
    done: int = 0
    studies: int = 0
    resent: int = 0
    twice: int = 0
    acknowledged: dict[str, str] = field(default_factory=dict)
    of_study: dict[str, list[str]] = field(default_factory=dict)
    last_at: float = 0.0
    more: bool = True
    stopping: bool = False
    pressing: bool = False
    begun: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self) -> Study | None:
        """Return the next study, once there is room for it; None after the last."""
        while not self.stopping:
            with self._lock:
                if self.begun >= self.count and not self.more:
                    return None
                if self.pressing or self.begun < self.done + self.ahead:
                    self.begun += 1
                    number = self.begun
                    break
            time.sleep(LOOK_S)
        else:
            return None
        return self.make(number)

    def acknowledge(self, study: Study, taken: Sequence[Instance]) -> None:
        """Remember what a node said it has."""
        with self._lock:
            if taken:
                self.last_at = time.monotonic()
            for one in taken:
                self.acknowledged[one.uid] = one.digest
                self.of_study.setdefault(study.uid, []).append(one.uid)

    def complete(self) -> None:
        """Count a study of which all is acknowledged."""
        with self._lock:
            self.studies += 1

    def again(self, *, resent: int = 0, twice: int = 0) -> None:
        """Count instances that are sent once more."""
        with self._lock:
            self.resent += resent
            self.twice += twice

    @property
    def share(self) -> float:
        """Return how large a share of the studies is acknowledged."""
        return self.studies / self.count


class Sender(threading.Thread):
    """Sends one study after another, each until all of it is acknowledged."""

    def __init__(
        self, ward: Ward, doors: Sequence[Door], front: Front, random: Random
    ) -> None:
        super().__init__(daemon=True)
        self._ward, self._doors = ward, doors
        self._front, self._random = front, random

    def run(self) -> None:
        """Send until there is nothing left, or the ward says stop."""
        while (study := self._ward.next()) is not None:
            self._send(study)
            if self._random.random() < TWICE:
                self._ward.again(twice=len(study.instances))
                self._front(study.instances, self._random.choice(self._doors))

    def _send(self, study: Study) -> None:
        left = list(study.instances)
        while left and not self._ward.stopping:
            acknowledged = self._front(left, self._random.choice(self._doors))
            self._ward.acknowledge(study, [i for i in left if i.uid in acknowledged])
            left = [i for i in left if i.uid not in acknowledged]
            if left:
                self._ward.again(resent=len(left))
                time.sleep(self._random.uniform(*PAUSE_S))
        if not left:
            self._ward.complete()


def by_cstore(instances: Sequence[Instance], door: Door) -> set[str]:
    """Send by C-STORE, over an association of its own."""
    scu = AE(ae_title="MODALITY")
    scu.connection_timeout = scu.acse_timeout = TIMEOUT_S / 2
    scu.dimse_timeout = scu.network_timeout = TIMEOUT_S
    scu.add_requested_context(
        DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
    )
    association = scu.associate("127.0.0.1", door.dicom_port, ae_title="PACSIGHT")
    acknowledged = set()
    for one in instances if association.is_established else ():
        try:
            answer = association.send_c_store(one.dataset)
        except (RuntimeError, ValueError):
            break  # the association is gone
        if "Status" in answer and answer.Status == SUCCESS:
            acknowledged.add(one.uid)
        if not association.is_established:
            break
    if association.is_established:
        association.release()
    return acknowledged


def by_stow(instances: Sequence[Instance], door: Door) -> set[str]:
    """Send by STOW-RS, in one request."""
    boundary = uuid4().hex
    parts = [
        f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        + one.file()
        + b"\r\n"
        for one in instances
    ]
    kind = f'multipart/related; type="application/dicom"; boundary="{boundary}"'
    headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    try:
        answer = httpx.post(door.stow, content=body, headers=headers, timeout=TIMEOUT_S)
        said = answer.json()
    except (httpx.HTTPError, json.JSONDecodeError):
        return set()
    items = said.get(REFERENCED, {}).get("Value", ()) if isinstance(said, dict) else ()
    return {item[INSTANCE_UID]["Value"][0] for item in items}
