"""How many instances of a study a peer has: what the node waits for.

The number shortens the quiet period and never replaces it, so that a wrong answer
costs seconds at most, and no answer costs nothing.

A peer counts everything that it has, also the reports that the node sent it: those
series are left out. The sum is taken over series (NumberOfSeriesRelatedInstances
(0020,1209)); where a peer does not count by series, the study's own number
(NumberOfStudyRelatedInstances (0020,1208)) is taken, unless a series is ours.
"""

from collections.abc import Collection
from dataclasses import replace

import structlog
from pydicom import Dataset

from dicom_node.domain import Queried, SeriesUid, StudyUid
from dicom_node.errors import PacsightError
from dicom_node.peers import Caller, Inquiry, Peer
from dicom_node.query import Archive, Level, archive

TIMEOUT_S = 5.0
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
OWN_SERIES_FROM = 9000
OWN_DESCRIPTION = "RESEARCH, NOT FOR DIAGNOSIS"
"""How the description of every series that pacsight writes ends."""

log = structlog.get_logger(__name__)


def expected_instances(
    peer: Peer,
    study_uid: StudyUid,
    *,
    caller: Caller,
    own_series: Collection[SeriesUid] = (),
    timeout_s: float = TIMEOUT_S,
) -> int | None:
    """Return how many instances of others the peer has of a study, or None.

    None if the peer does not have the study, cannot or may not be asked, does not
    answer in time, or does not count.

    Parameters
    ----------
    own_series
        The series that the node knows to have written. Those of another node are
        recognised by number and description.
    """
    if peer.expected is None:
        return None
    brief = replace(
        caller,
        connect_timeout_s=timeout_s,
        acse_timeout_s=timeout_s,
        dimse_timeout_s=timeout_s,
        http_timeout_s=timeout_s,
    )
    try:
        with archive(peer, peer.expected, brief) as asked:
            return _count(asked, study_uid, own_series)
    except PacsightError as error:
        log.info(
            "expected_unknown", peer=peer.name, study_uid=study_uid, detail=str(error)
        )
        return None


def queried(peer: Peer, study_uid: StudyUid) -> Queried:
    """Return what the audit trail is told of the question."""
    by_cfind = peer.expected is Inquiry.CFIND
    return Queried(
        by="",
        of=peer.name,
        address=peer.host if by_cfind else peer.dicomweb,
        sop_class_uid=STUDY_ROOT_FIND if by_cfind else "",
        study_uid=study_uid,
    )


def _count(
    asked: Archive, study_uid: StudyUid, own_series: Collection[SeriesUid]
) -> int | None:
    keys = {"StudyInstanceUID": str(study_uid)}
    fields = [
        "SeriesInstanceUID",
        "SeriesNumber",
        "SeriesDescription",
        "NumberOfSeriesRelatedInstances",
    ]
    every = asked.find(Level.SERIES, keys, fields)
    others = [series for series in every if not _is_own(series, own_series)]
    counts = [_number(series, "NumberOfSeriesRelatedInstances") for series in others]
    known = [count for count in counts if count is not None]
    if len(known) == len(counts):
        return sum(known) or None
    if len(others) < len(every):
        return None
    studies = asked.find(Level.STUDY, keys, ["NumberOfStudyRelatedInstances"])
    if len(studies) != 1:
        return None
    return _number(studies[0], "NumberOfStudyRelatedInstances") or None


def _is_own(series: Dataset, own_series: Collection[SeriesUid]) -> bool:
    if series.get("SeriesInstanceUID") in own_series:
        return True
    number = _number(series, "SeriesNumber")
    described = str(series.get("SeriesDescription") or "").strip()
    last = number is not None and number >= OWN_SERIES_FROM
    return last and described.endswith(OWN_DESCRIPTION)


def _number(found: Dataset, keyword: str) -> int | None:
    """Return an integer that a peer answered, or None where there is no such."""
    try:
        return int(found.get(keyword))
    except (TypeError, ValueError):
        return None
