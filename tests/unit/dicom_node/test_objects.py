"""The outbox's folder: what is in it is whole, and a full disk is no fault of the work."""

import resource
from pathlib import Path

import pytest

from dicom_node.domain import (
    EncodedObject,
    ObjectKind,
    SeriesUid,
    SopClassUid,
    SopInstanceUid,
)
from dicom_node.objects import ObjectStore, OutboxFullError

ENCODED = EncodedObject(
    kind=ObjectKind.REPORT,
    series_uid=SeriesUid("2.25.1"),
    sop_class_uid=SopClassUid("1.2.840.10008.5.1.4.1.1.88.34"),
    sop_instance_uid=SopInstanceUid("2.25.2"),
    content=bytes(1000),
)


def test_a_full_disk_may_have_room_later(tmp_path: Path) -> None:
    """The work is tried again; nothing half written is left."""
    store = ObjectStore(tmp_path / "outbox")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        with pytest.raises(OutboxFullError, match="no room"):
            store.keep(ENCODED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [p for p in (tmp_path / "outbox").rglob("*") if p.is_file()]
