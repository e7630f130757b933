"""The cases that an atlas could hold: labels, embeddings and headers brought together."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import Sha256
from dicom_node.domain.identity import patient_digest
from dicom_node.errors import Permanent
from workers.atlas.cells import Placed
from workers.atlas.codes import Rows
from workers.atlas.columns import CaseKind
from workers.atlas.deidentify import Anonymous, anonymise, why_refused
from workers.cohort import Cohort, EmbeddingFile, Role, Truth, join
from workers.decode import read_header
from workers.decoding import FrameInput
from workers.listing import ImageSource, files_in, images
from workers.placing import Progress
from workers.volumes import volume_embedding


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draft:
    """A case before it has a name: still linked to whose it is.

    Parameters
    ----------
    unit
        Into the cohort's units.
    vector
        (D,) float32.
    shown
        The frame of the picture: of a volume, its middle.
    """

    unit: int
    vector: Rows
    kind: CaseKind
    about: Anonymous
    patient_digest: Sha256
    shown: FrameInput


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sources:
    """What an atlas is made of.

    Parameters
    ----------
    images
        A folder with the DICOM files.
    """

    cohort: Cohort
    embeddings: EmbeddingFile
    images: Path


def gather(
    sources: Sources, *, method: str, progress: Progress
) -> tuple[list[Draft], Counter[str]]:
    """Return the cases, and why what else is labelled is none: reasons, counted.

    Units of patients with the role ``atlas`` are used; all, where nobody has a role.

    Raises
    ------
    Permanent
        If labels, embeddings and images do not belong together.
    """
    cohort = sources.cohort
    join(cohort, sources.embeddings)  # every label has its embedding
    frames = _frames_of(cohort, sources.embeddings)
    files = _files(sources.images)
    drafts, reasons = list[Draft](), Counter[str]()
    wanted = _wanted(cohort)
    for done, unit in enumerate(wanted):
        made = _draft(sources, unit, frames[unit], files, method)
        if isinstance(made, str):
            reasons[made] += 1
        else:
            drafts.append(made)
        progress("de-identifying", done + 1, len(wanted))
    return drafts, reasons


def placed(draft: Draft, cohort: Cohort) -> Placed:
    """Return which cells a case lies in."""
    truth = cohort.truth[draft.unit]
    present = np.flatnonzero(truth == Truth.PRESENT).tolist()
    return Placed(
        patient=int(cohort.patient[draft.unit]),
        modality=draft.about.modality,
        body_part=draft.about.body_part,
        present=tuple(cohort.findings[finding] for finding in present),
    )


def _wanted(cohort: Cohort) -> list[int]:
    labelled = cohort.said.any(axis=1)
    if cohort.has_roles:
        has = np.array([role is Role.ATLAS for role in cohort.roles])
        if not has.any():
            raise Permanent(f"{cohort.origin} gives no patient the role atlas")
        labelled &= has[cohort.patient]
    found: list[int] = np.flatnonzero(labelled).tolist()
    if not found:
        raise Permanent(f"{cohort.origin} labels nothing of the patients for the atlas")
    return found


def _frames_of(
    cohort: Cohort, embeddings: EmbeddingFile
) -> Mapping[int, NDArray[np.int64]]:
    """Return the rows of each unit; of a series with several volumes, the largest."""
    of_images = cohort.unit_kind == "sop_instance_uid"
    names = embeddings.sop_instances if of_images else embeddings.series
    number = {name: unit for unit, name in enumerate(cohort.units)}
    rows = defaultdict[int, list[int]](list)
    for row, name in enumerate(names):
        if name in number:
            rows[number[name]].append(row)
    return {
        unit: _largest(np.array(found), embeddings.volumes)
        for unit, found in rows.items()
    }


def _largest(rows: NDArray[np.int64], volumes: NDArray[np.int32]) -> NDArray[np.int64]:
    found, sizes = np.unique(volumes[rows], return_counts=True)
    largest: NDArray[np.int64] = rows[volumes[rows] == found[sizes.argmax()]]
    return largest


def _files(folder: Path) -> Mapping[str, ImageSource]:
    found = images(list(files_in([folder])), {})
    return {o.sop_instance_uid: o for o in found if isinstance(o, ImageSource)}


def _draft(
    sources: Sources,
    unit: int,
    rows: NDArray[np.int64],
    files: Mapping[str, ImageSource],
    method: str,
) -> Draft | str:
    """Return a case, or why there is none."""
    file, middle = sources.embeddings, int(rows[len(rows) // 2])
    source = files.get(file.sop_instances[middle])
    if source is None:
        name = file.sop_instances[middle]
        raise Permanent(f"{sources.images} does not hold the labelled image {name}")
    path = Path(source.stamp.path)
    header = read_header(path)
    refused = why_refused(header)
    if refused:
        return refused
    vectors = file.vectors[rows]
    patient = str(header.get("PatientID") or "")
    issuer = str(header.get("IssuerOfPatientID") or "")
    return Draft(
        unit=unit,
        vector=volume_embedding(vectors, method) if len(rows) > 1 else vectors[0],
        kind=CaseKind.VOLUME if len(rows) > 1 else CaseKind.IMAGE,
        about=anonymise(header),
        patient_digest=patient_digest(patient, issuer) if patient else Sha256(""),
        shown=FrameInput(path=path, frame=int(file.frames[middle])),
    )
