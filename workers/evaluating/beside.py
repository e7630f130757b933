"""What is known of studies beside their anatomy: from the image files behind each row.

A row is a study (or an image); what its images show is averaged, what their headers say
is joined. Of a series of many files, the middle one stands for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from dicom_node.errors import Permanent
from workers.evaluating.asked import Groups
from workers.evaluating.attributes import MOST_GROUPS
from workers.evaluating.sources import Source
from workers.listing import ImageSource, files_in, images
from workers.placing import Progress
from workers.shortcuts.attributes import Attributes, averaged, read_attributes
from workers.shortcuts.describing import describe_images, textures
from workers.shortcuts.nested import Features

MOST_OF_A_SERIES: Final = 8
"""Files; of a series that has more of them, only the middle one is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Beside:
    """What is known of S rows.

    Parameters
    ----------
    texture
        (S, D) float32: means over the row's images.
    """

    attributes: Attributes
    texture: Features


def seen_beside(
    source: Source, paths: Sequence[Path], table: Path | None, *, progress: Progress
) -> Beside:
    """Return what the image files of each row of `source` give away.

    Parameters
    ----------
    paths
        DICOM files, or folders that hold them.
    table
        Attributes of images or studies, in the place of what headers say.

    Raises
    ------
    Permanent
        If an image of `source` is not among the files, or a row has none that can be
        read.
    """
    rows = _files(source, paths, progress)
    files = [Path(one.stamp.path) for one, _ in rows]
    into = np.array([row for _, row in rows])
    described = describe_images(files, progress=progress)
    stated = None if table is None else read_attributes(table)
    if stated is not None and source.of_row is not None:
        # names are those of images: a table of studies names none of them
        described = described.overlaid(stated.reordered(described.names))
    merged = described.merged(into, source.units)
    if stated is not None:
        merged = merged.overlaid(stated.reordered(source.units))
    texture = averaged(textures(files, progress=progress), into, len(source.units))
    _check_readable(source, texture, described.unreadable)
    return Beside(attributes=merged, texture=texture.astype(np.float32))


def with_headers(groups: Groups, attributes: Attributes) -> Groups:
    """Return the groups, and those that headers tell where `groups` do not.

    An attribute that is the same in every row is left out, and one of very many values.
    """
    given = {name.replace("_", " ").removesuffix(" years") for name in groups}
    told = {
        name: of_rows
        for name, of_rows in attributes.groups().items()
        if name not in given and 1 < len({*of_rows} - {""}) <= MOST_GROUPS
    }
    return {**groups, **told}


def _files(
    source: Source, paths: Sequence[Path], progress: Progress
) -> list[tuple[ImageSource, int]]:
    """Return the files to be looked at, and which row each is of."""
    wanted, kind = _wanted(source)
    listed = list(files_in(paths))
    found: dict[tuple[int, str], list[ImageSource]] = {}
    known = set()
    for done, one in enumerate(images(listed, {}), 1):
        progress("reading headers", done, len(listed))
        if not isinstance(one, ImageSource):
            continue
        names = (one.study_uid, one.series_uid, one.sop_instance_uid)
        for name in wanted.keys() & set(map(str, names)):
            known.add(name)
            found.setdefault((wanted[name], str(one.series_uid)), []).append(one)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise Permanent(
            f"{len(missing)} of {len(wanted)} {kind} have no image among the files of "
            f"--images, the first is {missing[0]}"
        )
    return [
        (one, row) for (row, _), series in found.items() for one in _standing(series)
    ]


def _wanted(source: Source) -> tuple[Mapping[str, int], str]:
    """Return the row of each name that files are looked for, and what names are of."""
    if source.of_row is not None:
        rows = source.of_row.tolist()
        return dict(zip(source.images, rows, strict=True)), "labelled images"
    kind = "studies" if source.cases.level == "study" else "scored images"
    return {name: row for row, name in enumerate(source.units)}, kind


def _standing(series: Sequence[ImageSource]) -> Iterable[ImageSource]:
    """Return the files of a series that are looked at."""
    if len(series) <= MOST_OF_A_SERIES:
        return series
    ordered = sorted(series, key=lambda one: (one.number or 0, one.sop_instance_uid))
    return [ordered[len(ordered) // 2]]


def _check_readable(
    source: Source, texture: np.ndarray, unreadable: Sequence[tuple[str, str]]
) -> None:
    dark = np.flatnonzero(np.isnan(texture).all(axis=1))
    if dark.size:
        why = unreadable[0][1] if unreadable else "it cannot be decoded"
        raise Permanent(
            f"{dark.size} of {len(source.units)} rows have no image that can be read, "
            f"the first is {source.units[dark[0]]}: {why}"
        )
