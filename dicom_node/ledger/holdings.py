"""What the node holds, as somebody asks for it: by UIDs and modalities, level by level."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Select, func, select

from dicom_node.ledger.tables import study, version


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is looked for; an empty key fits everything, several values are a choice."""

    study_uids: Sequence[str] = ()
    series_uids: Sequence[str] = ()
    sop_instance_uids: Sequence[str] = ()
    sop_class_uids: Sequence[str] = ()
    modality: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStudy:
    """A study, and how much of it is here."""

    study_uid: str
    modalities: tuple[str, ...]
    series: int
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSeries:
    """A series, and how much of it is here."""

    study_uid: str
    series_uid: str
    modality: str
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldInstance:
    """An instance: its version that counts."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    instance_number: int | None
    frames: int


def held_studies(tx: Connection, wanted: Wanted, *, limit: int) -> list[HeldStudy]:
    """Return studies, the ones that came first at the beginning.

    A modality fits a study of which any series has it (PS3.4 C.3.4).
    """
    query = _wanted(
        select(
            study.c.id,
            study.c.study_uid,
            func.count(version.c.series_uid.distinct()).label("series"),
            func.count().label("instances"),
        ).group_by(study.c.id, study.c.study_uid),
        wanted,
    )
    if wanted.modality:
        having = select(version.c.study_id).where(version.c.modality == wanted.modality)
        query = query.where(study.c.id.in_(having.where(version.c.current)))
    rows = tx.execute(query.order_by(study.c.id).limit(limit)).all()
    modalities = _modalities(tx, [row.id for row in rows])
    return [
        HeldStudy(
            study_uid=row.study_uid,
            modalities=modalities.get(row.id, ()),
            series=row.series,
            instances=row.instances,
        )
        for row in rows
    ]


def held_series(tx: Connection, wanted: Wanted, *, limit: int) -> list[HeldSeries]:
    """Return series, in the order of their UIDs."""
    columns = (study.c.study_uid, version.c.series_uid, version.c.modality)
    query = _wanted(select(*columns, func.count().label("instances")), wanted)
    if wanted.modality:
        query = query.where(version.c.modality == wanted.modality)
    query = query.group_by(*columns).order_by(*columns).limit(limit)
    return [HeldSeries(**row._mapping) for row in tx.execute(query)]  # noqa: SLF001 - its public name


def held_instances(tx: Connection, wanted: Wanted, *, limit: int) -> list[HeldInstance]:
    """Return instances, in the order in which they came."""
    query = _wanted(
        select(
            study.c.study_uid,
            version.c.series_uid,
            version.c.sop_instance_uid,
            version.c.sop_class_uid,
            version.c.instance_number,
            version.c.frames,
        ),
        wanted,
    )
    query = query.order_by(version.c.id).limit(limit)
    return [HeldInstance(**row._mapping) for row in tx.execute(query)]  # noqa: SLF001 - its public name


def _wanted(query: Select[Any], wanted: Wanted) -> Select[Any]:
    """Return the query for what counts and fits."""
    query = query.join_from(study, version, version.c.study_id == study.c.id)
    keys: tuple[tuple[Column[Any], Sequence[str]], ...] = (
        (study.c.study_uid, wanted.study_uids),
        (version.c.series_uid, wanted.series_uids),
        (version.c.sop_instance_uid, wanted.sop_instance_uids),
        (version.c.sop_class_uid, wanted.sop_class_uids),
    )
    fitting = [column.in_(values) for column, values in keys if values]
    return query.where(version.c.current, *fitting)


def _modalities(tx: Connection, keys: Sequence[int]) -> dict[int, tuple[str, ...]]:
    query = (
        select(version.c.study_id, version.c.modality)
        .where(
            version.c.study_id.in_(keys), version.c.current, version.c.modality != ""
        )
        .distinct()
        .order_by(version.c.study_id, version.c.modality)
    )
    found: dict[int, tuple[str, ...]] = {}
    for key, modality in tx.execute(query):
        found[key] = (*found.get(key, ()), modality)
    return found
