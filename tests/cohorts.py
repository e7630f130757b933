"""Labelled data sets for tests: tables of labels, and embeddings that belong to them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from dicom_node.domain import EncoderKey, Sha256
from workers.cohort import Cohort, EmbeddingFile, Role

KEY = EncoderKey(encoder=Sha256("e"), preprocessing=Sha256("p"), profile="float32")
HEADER = "patient,study,sop_instance_uid,finding,label,value,source,role"


def labelled(path: Path, *lines: str, header: str = HEADER) -> Path:
    """Write a table of labels."""
    path.write_text("\n".join((header, *lines)) + "\n", "utf-8")
    return path


def embedded(
    path: Path,
    vectors: NDArray[np.float32],
    *,
    studies: Sequence[str],
    sop_instances: Sequence[str],
    key: EncoderKey = KEY,
) -> Path:
    """Write what ``pacsight embed`` writes: one frame an image, series named after it."""
    rows = {
        "study": list(studies),
        "series": [f"{uid}.9" for uid in sop_instances],
        "sop_instance": list(sop_instances),
        "frame": [0] * len(vectors),
        "volume": list(range(len(vectors))),
    }
    about = {
        "encoder": key.encoder,
        "preprocessing": key.preprocessing,
        "profile": key.profile,
        "rows": json.dumps(rows),
    }
    save_file({"embeddings": np.ascontiguousarray(vectors)}, path, about)
    return path


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """A cohort that was made up, and the embeddings of its images."""

    cohort: Cohort
    embeddings: EmbeddingFile


def drawn(  # noqa: PLR0913 - what varies between tests
    *,
    patients: int = 60,
    dimension: int = 16,
    findings: Sequence[str] = ("finding",),
    strength: float = 1.5,
    key: EncoderKey = KEY,
    seed: int = 0,
    roles: Sequence[Role | None] = (None,),
) -> Drawn:
    """Return patients with 1 to 3 studies of 1 or 2 images, in whose vectors findings are.

    Parameters
    ----------
    strength
        How far a finding moves an image along a direction of its own.
    roles
        Dealt to the patients in turn.
    """
    rng = np.random.default_rng(seed)
    studies = rng.integers(1, 4, patients)
    patient_of_study = np.repeat(np.arange(patients), studies)
    images = rng.integers(1, 3, len(patient_of_study))
    study = np.repeat(np.arange(len(patient_of_study)), images)
    truth = rng.integers(0, 2, (len(patient_of_study), len(findings)))[study]
    vectors = rng.normal(size=(len(study), dimension))
    vectors[:, : len(findings)] += strength * (2 * truth - 1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    units = tuple(f"1.3.{i:06}" for i in range(len(study)))
    names = tuple(f"1.2.{i:06}" for i in range(len(patient_of_study)))
    shape = (len(study), len(findings))
    cohort = Cohort(
        patients=tuple(f"P{i:05}" for i in range(patients)),
        studies=names,
        units=units,
        patient=patient_of_study[study].astype(np.int32),
        study=study.astype(np.int32),
        findings=tuple(sorted(findings)),
        truth=truth.astype(np.int8),
        values=np.full(shape, np.nan),
        sources=("drawn",),
        source=np.zeros(shape, np.int16),
        roles=tuple(roles[i % len(roles)] for i in range(patients)),
    )
    embeddings = EmbeddingFile(
        vectors=vectors.astype(np.float32),
        studies=tuple(names[i] for i in study),
        series=tuple(f"{uid}.9" for uid in units),
        sop_instances=units,
        frames=np.zeros(len(study), np.int32),
        volumes=np.arange(len(study), dtype=np.int32),
        encoder_key=key,
        path=Path("drawn.safetensors"),
    )
    return Drawn(cohort=cohort, embeddings=embeddings)
