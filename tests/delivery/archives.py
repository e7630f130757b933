"""Orthancs that refuse and lose at random, and what they hold in the end."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.integration.conftest import PLUGINS, Orthanc
from tests.peers import data_set_bytes

UNRULY = Path(__file__).with_name("unruly.py")
PYTHON_PLUGIN = "libOrthancPython.so"
FAULT = re.compile(r"storm: (refused 0x\w{4}|lost)")


def orthanc_binary() -> str | None:
    """Return Orthanc's path, or None where it is not installed."""
    return shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")


def python_plugin() -> Path | None:
    """Return Orthanc's plugin that runs Python, or None where it is not installed."""
    return next(
        (p / PYTHON_PLUGIN for p in PLUGINS if (p / PYTHON_PLUGIN).exists()), None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An instance as an archive holds it.

    Parameters
    ----------
    data_set
        SHA-256 of the data set. The File Meta Information before it is the
        archive's own where the object came by C-STORE, which does not carry it.
    """

    sop_instance_uid: str
    study_uid: str
    patient_id: str
    data_set: str


@dataclass
class UnrulyOrthanc(Orthanc):
    """An Orthanc in a storm; `calm` ends it, from the next start on.

    Parameters
    ----------
    seed
        Of its own dice; other ones after each start.
    refused, lost
        How many instances it refuses (C-STORE alone), or drops and calls stored.
    """

    seed: int = 0
    refused: float = 0.0
    lost: float = 0.0
    starts: int = 0

    def start(self) -> None:
        """Start it, with other dice than before."""
        self.starts += 1
        super().start()

    def calm(self) -> None:
        """Let it behave from its next start on."""
        self.refused = self.lost = 0.0

    def faults(self) -> Counter[str]:
        """Return what it did to instances, by its own log."""
        log = self.folder / "orthanc.log"
        return Counter(FAULT.findall(log.read_text(errors="replace")))

    def holdings(self) -> Iterator[Held]:
        """Yield every instance that it holds, read back."""
        series = {s["ID"]: s["ParentStudy"] for s in self._all("series")}
        studies = {s["ID"]: s for s in self._all("studies")}
        for instance in self._all("instances"):
            study = studies[series[instance["ParentSeries"]]]
            yield Held(
                sop_instance_uid=instance["MainDicomTags"]["SOPInstanceUID"],
                study_uid=study["MainDicomTags"]["StudyInstanceUID"],
                patient_id=study["PatientMainDicomTags"]["PatientID"],
                data_set=self._digest(instance["ID"]),
            )

    def _all(self, level: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._get(f"{level}?expand"))
        return found

    def _digest(self, instance: str) -> str:
        file = self._get(f"instances/{instance}/file")
        return sha256(data_set_bytes(file)).hexdigest()

    def _get(self, path: str) -> bytes:
        with urlopen(f"{self.url}/{path}", timeout=60) as answer:  # noqa: S310
            content: bytes = answer.read()
            return content

    def _configuration(self) -> dict[str, Any]:
        settings = super()._configuration()
        plugin = python_plugin()
        assert plugin is not None, "Orthanc's Python plugin is missing: orthanc-python"
        return settings | {
            "Plugins": [*settings["Plugins"], str(plugin)],
            "PythonScript": str(UNRULY),
            "Storm": {
                "Seed": 1000 * self.seed + self.starts,
                "Refused": self.refused,
                "Lost": self.lost,
            },
        }
