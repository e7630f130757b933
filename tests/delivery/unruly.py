"""Runs inside Orthanc (plugin orthanc-python): it refuses at random, and loses.

Orthanc itself then answers C-STORE with a failure, or says that it has stored what it
drops. How often stands in the table ``Storm`` of its settings; each fault is a line in
its log.
"""

import importlib
import json
from random import Random
from typing import Any

orthanc: Any = importlib.import_module("orthanc")  # Orthanc's own, there alone
STORM = json.loads(orthanc.GetConfiguration())["Storm"]
REFUSALS = (0xA700, 0xC000, 0x0110)
ACCEPTED = 0x0000
chance = Random(STORM["Seed"])  # noqa: S311 - a test's own dice


def refuse(_instance: object) -> int:
    """Return the status with which C-STORE is answered."""
    if chance.random() >= STORM["Refused"]:
        return ACCEPTED
    status = chance.choice(REFUSALS)
    orthanc.LogWarning(f"storm: refused 0x{status:04X}")
    return status


def lose(_dicom: bytes, _origin: object) -> tuple[object, None]:
    """Return what becomes of an instance of which the sender will hear success."""
    if chance.random() >= STORM["Lost"]:
        return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None
    orthanc.LogWarning("storm: lost")
    return orthanc.ReceivedInstanceAction.DISCARD, None


orthanc.RegisterIncomingCStoreInstanceFilter(refuse)
if STORM["Lost"]:
    orthanc.RegisterReceivedInstanceCallback(lose)
