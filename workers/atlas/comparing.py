"""What is compared with what: whole volumes with volumes, images with images.

Pure. The encoder sees slices only; a volume is the set of their embeddings, and one
vector stands for it, as in the 3D-MIR protocol (median, mean, or the mean made unit).
Vectors of volumes and of images lie differently, so one is never ranked among the other
unless that is asked for; a text alone is compared with both.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from workers.atlas.codes import Rows
from workers.atlas.columns import CaseKind
from workers.manifest import VolumeMethod
from workers.volumes import volume_embedding

METHOD: VolumeMethod = "unit-mean"
"""For volumes of which nothing says how they are embedded."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """What is searched with, and among what.

    Parameters
    ----------
    vectors
        (Q, D) float32: one of each image, or of each whole volume.
    asked
        What these are.
    among
        What they are compared with.
    unasked
        Images beside the volumes, which nothing is searched with.
    """

    vectors: Rows
    asked: CaseKind
    among: CaseKind
    unasked: int = 0

    def __str__(self) -> str:
        return f"{counted(len(self.vectors), self.asked)} with {of_kind(self.among)}"


def compare(
    runs: Sequence[Rows],
    kinds: Collection[CaseKind],
    *,
    wanted: CaseKind | None = None,
    method: VolumeMethod = METHOD,
) -> Compared:
    """Return what to search with for images and volumes, and among what.

    Parameters
    ----------
    runs
        Of each volume its slices (n, D), of each image one row (1, D).
    kinds
        What there is to compare with.
    wanted
        What to compare with whatever there is; None: volumes with volumes where both
        sides have some, else images with images.
    """
    whole = [run for run in runs if len(run) > 1]
    if wanted is None:
        volumes = bool(whole) and CaseKind.VOLUME in kinds
    else:
        volumes = bool(whole) and wanted is CaseKind.VOLUME
    if not volumes:
        return Compared(
            vectors=np.concatenate(runs),
            asked=CaseKind.IMAGE,
            among=wanted or CaseKind.IMAGE,
        )
    return Compared(
        vectors=np.stack([volume_embedding(run, method) for run in whole]),
        asked=CaseKind.VOLUME,
        among=CaseKind.VOLUME,
        unasked=len(runs) - len(whole),
    )


def of_kind(kind: CaseKind) -> str:
    """Return what several of a kind are called."""
    return f"{kind.name.lower()}s"


def counted(count: int, kind: CaseKind) -> str:
    """Return so many of a kind, as people say it."""
    return f"1 {kind.name.lower()}" if count == 1 else f"{count} {of_kind(kind)}"
