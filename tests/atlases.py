"""Reference atlases for tests: chests and heads, of patients with one or two images."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import DigitalXRayImageStorageForPresentation

from tests.cohorts import embedded, labelled
from tests.images import PIXELS, image, save
from workers.atlas.building import Plan, build_atlas
from workers.atlas.gathering import Sources
from workers.atlas.manifest import AtlasManifest
from workers.atlas.opened import OpenAtlas, open_atlas
from workers.cohort import read_cohort, read_embeddings
from workers.decoding import DecodePool
from workers.pack import Pack

PATIENTS = 12
"""Of them, the even ones have a pneumothorax, and every third has two images."""


def quiet(*_: object) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Files that an atlas is built of, and what is in them.

    Parameters
    ----------
    vectors
        (N, D) float32, one row an image.
    """

    labels: Path
    embeddings: Path
    images: Path
    vectors: NDArray[np.float32]
    units: tuple[str, ...]
    patients: tuple[str, ...]

    @property
    def sources(self) -> Sources:
        """Return the files, read."""
        return Sources(
            cohort=read_cohort(self.labels),
            embeddings=read_embeddings(self.embeddings),
            images=self.images,
        )


def material(folder: Path, pack: Pack, *, seed: int = 0, **changes: Any) -> Material:
    """Write chests of `PATIENTS` patients; `changes` are of the last image's header."""
    owners = [p for p in range(PATIENTS) for _ in range(2 if p % 3 == 0 else 1)]
    patients = tuple(f"Patient^Nr{owner:02}" for owner in owners)
    units = tuple(f"1.2.840.77.{seed}.{place}" for place in range(len(owners)))
    studies = tuple(f"1.2.840.66.{seed}.{place}" for place in range(len(owners)))
    lines = [
        f"{patient},{study},{unit},pneumothorax,{int(owner % 2 == 0)},,two readers,atlas"
        for patient, study, unit, owner in zip(
            patients, studies, units, owners, strict=True
        )
    ]
    dimension = pack.manifest.encoder.embedding_dim
    vectors = np.random.default_rng(seed).normal(size=(len(units), dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    images = folder / "images"
    images.mkdir(parents=True)
    for place, unit in enumerate(units):
        header = _header(patients[place], studies[place], unit)
        last = changes if place == len(units) - 1 else {}
        save(image(PIXELS + 40 * place, **header | last), images / f"{place}.dcm")
    return Material(
        labels=labelled(folder / "labels.csv", *lines),
        embeddings=embedded(
            folder / "e.safetensors",
            vectors.astype(np.float32),
            studies=studies,
            sop_instances=units,
            key=pack.encoder_key,
        ),
        images=images,
        vectors=vectors.astype(np.float32),
        units=units,
        patients=patients,
    )


def _header(patient: str, study: str, unit: str) -> dict[str, Any]:
    return {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": unit,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{unit}.9",
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "PatientName": f"{patient}^Given",
        "PatientID": f"ID-{patient}",
        "PatientBirthDate": "19610203",
        "AccessionNumber": "ACC4711",
        "InstitutionName": "St. Nowhere",
        "StudyDescription": "chest of a person",
        "BurnedInAnnotation": "NO",
    }


def plan(**changes: Any) -> Plan:
    """Return what the atlas of tests is to be."""
    values: dict[str, Any] = {
        "name": "chests",
        "version": "1",
        "created": date(2026, 1, 2),
        "floor": 2,
        "concepts": {},
    }
    return Plan(**values | changes)


def built(
    out: Path, made_of: Material, pack: Pack, pool: DecodePool, **changes: Any
) -> AtlasManifest:
    """Return what the atlas that was written to `out` is."""
    return build_atlas(
        plan(**changes),
        out,
        sources=made_of.sources,
        pack=pack,
        decoders=pool,
        progress=quiet,
    )


def opened(folder: Path, **changes: Any) -> OpenAtlas:
    """Return an atlas, open, on one thread."""
    return open_atlas(folder, threads=1, **changes)
