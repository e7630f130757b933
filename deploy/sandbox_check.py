"""What came back: for each study and pack one current SR and one secondary capture.

Read from where the reports were sent to, never from the node's own ledger. And the
viewer: whether it has what it needs to show them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path

import httpx
from orthanc_api_client import OrthancApiClient
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage
from sandbox_studies import Study

from dicom_node.domain.identity import INSTANCE_CREATOR_UID

Fetch = Callable[[str], list[Dataset]]
"""Returns the objects of pacsight that a destination has of a study."""


def faults(studies: Sequence[Study], fetch: Fetch, *, packs: int) -> list[str]:
    """Return what is missing or too much, one sentence each; none if all is right."""
    found = []
    for study in studies:
        by_pack = _by_pack(fetch(study.study_uid))
        if len(by_pack) != packs:
            found.append(f"{study.name}: reports of {len(by_pack)} packs, not {packs}")
        for objects in by_pack.values():
            found += [f"{study.name}: {fault}" for fault in _faults(objects)]
    return found


def in_orthanc(client: OrthancApiClient) -> Fetch:
    """Return how to fetch from Orthanc."""

    def fetch(study_uid: str) -> list[Dataset]:
        study = client.studies.lookup(study_uid)
        if study is None:
            return []
        instances = client.studies.get_instances_ids(study)
        files = (BytesIO(client.instances.get_file(one)) for one in instances)
        return _own(dcmread(file, stop_before_pixels=True) for file in files)

    return fetch


def in_folder(folder: Path) -> Fetch:
    """Return how to fetch from a folder that is the destination."""

    def fetch(study_uid: str) -> list[Dataset]:
        files = (folder / study_uid).glob("*.dcm")
        return _own(dcmread(file, stop_before_pixels=True) for file in files)

    return fetch


def viewer_faults(viewer_url: str, study_uid: str) -> list[str]:
    """Return what the viewer lacks of page, configuration and PACS; none if all is right."""
    query = f"/dicom-web/studies?StudyInstanceUID={study_uid}&includefield=00201206,00201208"
    parts = {
        "/viewer": "OHIF",
        "/app-config.js": "orthanc",
        query: '"00201208"',  # what Orthanc leaves out where it is not asked as it likes
    }
    found = []
    with httpx.Client(base_url=viewer_url) as client:
        for path, expected in parts.items():
            answer = client.get(path)
            if answer.status_code != httpx.codes.OK or expected not in answer.text:
                found.append(
                    f"viewer: {path} answers {answer.status_code} without {expected}"
                )
    return found


def _own(instances: Iterable[Dataset]) -> list[Dataset]:
    return [i for i in instances if i.get("InstanceCreatorUID") == INSTANCE_CREATOR_UID]


def _by_pack(objects: Iterable[Dataset]) -> dict[str, list[Dataset]]:
    """Return the objects by the Device UID of the pack that made them."""
    found = defaultdict(list)
    for one in objects:
        equipment = one.get("ContributingEquipmentSequence") or [Dataset()]
        found[str(equipment[0].get("DeviceUID", ""))].append(one)
    return found


def _faults(objects: Sequence[Dataset]) -> list[str]:
    reports = [o for o in objects if o.SOPClassUID == Comprehensive3DSRStorage]
    captures = [o for o in objects if o.SOPClassUID == SecondaryCaptureImageStorage]
    superseded = {uid for report in reports for uid in _predecessors(report)}
    current = [r for r in reports if r.SOPInstanceUID not in superseded]
    counts = {"current SR": len(current), "secondary capture": len(captures)}
    return [f"{n} x {what}, not 1" for what, n in counts.items() if n != 1]


def _predecessors(report: Dataset) -> set[str]:
    return {
        str(instance.ReferencedSOPInstanceUID)
        for study in report.get("PredecessorDocumentsSequence") or ()
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
