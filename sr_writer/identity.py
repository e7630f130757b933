"""Derived UIDs: the same work gives the same object, on every machine, every time.

A UID is ``2.25.`` and the decimal of a UUIDv5 (PS3.5 B.2) over what the object
describes, never over when or where it was made.
"""

import json
from hashlib import sha256
from uuid import uuid5

from dicom_node.domain import (
    Category,
    Estimate,
    Finding,
    ObjectKind,
    Result,
    SeriesUid,
    Sha256,
    SopInstanceUid,
)
from dicom_node.domain.identity import NAMESPACE

ENCODING_VERSION = 2
"""Rises when a change in this package changes the bytes of an existing object."""


def instance_uid(
    result: Result, kind: ObjectKind, *, profile: str, ordinal: int = 0
) -> SopInstanceUid:
    """Return the SOP Instance UID of an object of a result.

    Parameters
    ----------
    profile
        What else decides the bytes: the writer's options.
    ordinal
        Counts several objects of one kind.
    """
    return SopInstanceUid(
        _derived_uid(_parts(result, kind, profile, "instance"), ordinal)
    )


def series_uid(result: Result, kind: ObjectKind, *, profile: str) -> SeriesUid:
    """Return the Series Instance UID of a result's objects of one kind.

    Each result has series of its own: a later revision may carry corrected
    patient data or a newer software version, and all objects of a series agree.
    """
    return SeriesUid(_derived_uid(_parts(result, kind, profile, "series"), 0))


def tracking_uid(result: Result, asked: Finding | Category | Estimate) -> str:
    """Return the UID that follows what is asked through every run over one study.

    It does not change with new images, thresholds or versions of the pack, and
    differs from study to study.
    """
    parts = ["tracking", result.site, result.study_uid, result.algorithm.name]
    return _derived_uid([*parts, asked.key], 0)


def inputs_digest(result: Result) -> Sha256:
    """Return the digest of the image instances, whatever order they came in."""
    pairs = sorted((i.sop_instance_uid, i.sha256) for i in result.images)
    return Sha256(sha256(json.dumps(pairs).encode()).hexdigest())


def _parts(result: Result, kind: ObjectKind, profile: str, role: str) -> list[str]:
    return [
        role,
        result.site,
        result.study_uid,
        inputs_digest(result),
        result.attributes,
        result.algorithm.device_uid,
        str(result.outcome),
        kind.value,
        f"{ENCODING_VERSION}:{profile}",
    ]


def _derived_uid(parts: list[str], ordinal: int) -> str:
    text = json.dumps([*parts, ordinal], ensure_ascii=True, separators=(",", ":"))
    return f"2.25.{uuid5(NAMESPACE, text).int}"


IMPLEMENTATION_CLASS_UID = _derived_uid(["implementation"], 0)
"""Implementation Class UID (0002,0012) of the files that we write."""
