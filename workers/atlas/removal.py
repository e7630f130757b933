"""Cases taken out of an atlas: a new version with a tombstone for each.

Files that do not change are linked, not copied. A tombstone hides a case from every
search, its picture is not taken over, and the link file forgets it; the vector itself
goes with the next build. Where a cell falls under the floor by it, its other cases go,
too.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dicom_node.errors import Permanent
from workers.atlas.cells import Placed, counted, over_the_floor
from workers.atlas.checking import describe_files, stamp_files
from workers.atlas.columns import write_columns
from workers.atlas.link import beside, forget
from workers.atlas.manifest import (
    APPROXIMATE,
    CODES,
    COLUMNS,
    THUMBNAILS,
    TOMBSTONES,
    VECTORS,
    AtlasManifest,
    write_atlas,
)
from workers.atlas.opened import OpenAtlas
from workers.cohort import Truth
from workers.placing import Progress, in_one_piece, link_or_copy

_FLOOR = "its cell fell under the floor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What is taken out, and why; the new version's name."""

    cases: tuple[str, ...]
    reason: str
    version: str


def remove_cases(
    atlas: OpenAtlas, removal: Removal, out: Path, *, progress: Progress
) -> AtlasManifest:
    """Write the next version of `atlas` to `out`; return what it is.

    Raises
    ------
    Permanent
        If a case is not there, no reason is given, or no case is left.
    """
    if not removal.reason.strip():
        raise Permanent("a removal needs a reason: it stays with the atlas")
    if removal.version == atlas.manifest.version:
        raise Permanent(f"version {removal.version} is the one that it is taken out of")
    rows = [atlas.row_of(case) for case in removal.cases]
    stay, fallen = _left(atlas, rows)
    if not stay:
        raise Permanent("no case would be left: remove the atlas itself")
    stones = _stones(atlas) + [
        {"case": atlas.identifier(row), "reason": reason}
        for reason, gone in ((removal.reason, rows), (_FLOOR, fallen))
        for row in gone
    ]
    link, target = beside(atlas.folder), beside(out)
    if link.exists() and target.exists():
        raise Permanent(f"{target} is there already: name another folder")
    with in_one_piece(out) as folder:
        _link_files(atlas, folder, progress)
        _write_pictures(atlas, folder, [*rows, *fallen])
        text = json.dumps(stones, indent=2, ensure_ascii=False)
        (folder / TOMBSTONES).write_text(text + "\n", encoding="utf-8")
        manifest = replace(
            atlas.manifest,
            version=removal.version,
            previous=atlas.digest,
            removed=len(stones),
            cells=counted([_placed(atlas, row) for row in stay]),
            files=describe_files(folder),
        )
        write_atlas(folder, manifest)
        if link.exists():
            forget(link, target, [stone["case"] for stone in stones])
    stamp_files(out.resolve(), manifest)
    return manifest


def _left(atlas: OpenAtlas, rows: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the rows that stay, and those that go with `rows` for their cells."""
    alive = atlas.alive.copy()
    alive[list(rows)] = False
    others: list[int] = np.flatnonzero(alive).tolist()
    kept = over_the_floor([_placed(atlas, r) for r in others], atlas.manifest.floor)
    stay = [others[place] for place in kept]
    return stay, sorted(set(others) - set(stay))


def _placed(atlas: OpenAtlas, row: int) -> Placed:
    manifest, columns = atlas.manifest, atlas.columns
    present = np.flatnonzero(columns.truth[row] == Truth.PRESENT).tolist()
    return Placed(
        patient=int(columns.group[row]),
        modality=manifest.modalities[columns.modality[row]],
        body_part=manifest.body_parts[columns.body_part[row]],
        present=tuple(manifest.labels[label].key for label in present),
    )


def _stones(atlas: OpenAtlas) -> list[dict[str, str]]:
    if TOMBSTONES not in atlas.manifest.files:
        return []
    found: list[dict[str, str]] = json.loads((atlas.folder / TOMBSTONES).read_bytes())
    return found


def _link_files(atlas: OpenAtlas, folder: Path, progress: Progress) -> None:
    for name in (VECTORS, CODES, APPROXIMATE):
        if name in atlas.manifest.files:
            link_or_copy(atlas.folder / name, folder / name, progress)


def _write_pictures(atlas: OpenAtlas, folder: Path, gone: Sequence[int]) -> None:
    """Write the pictures anew, and where each is, without those of some cases."""
    spans, at = atlas.columns.thumbnail.copy(), 0
    dropped = set(gone)
    with (folder / THUMBNAILS).open("wb") as file:
        for row in range(len(spans)):
            picture = b"" if row in dropped else atlas.thumbnail(row)
            spans[row] = at, at + len(picture)
            at += file.write(picture)
    write_columns(replace(atlas.columns, thumbnail=spans), folder / COLUMNS)
