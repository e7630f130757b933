"""What is searched with, as vectors: a text, a picture, a study.

Pictures are DICOM images, or plain ones (PNG, JPEG and what else Pillow reads), which
are treated like DICOM images of eight bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dicom_node.domain import Sha256
from dicom_node.domain.identity import patient_digest
from dicom_node.errors import Permanent
from workers.atlas.codes import Rows
from workers.atlas.link import Asker
from workers.cohort import EmbeddingFile
from workers.decode import Decoded, read_header
from workers.decoding import DecodedInput, DecodePool, FrameInput
from workers.encoder import Encoder
from workers.facts import Rescale
from workers.listing import ImageSource, files_in, images
from workers.policy import Preprocessing
from workers.preprocess import channels, prepare

_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """What is searched with.

    Parameters
    ----------
    words
        What it is, for people.
    vectors
        (Q, D) float32: one row, or one for each frame of a study.
    modality
        Of a study; empty where it is unknown.
    asker
        Whose it is; None for a text, which is nobody's.
    pictures
        (3, S, S) uint8, one for each of the first frames; what was searched with.
    """

    words: str
    vectors: Rows
    modality: str = ""
    asker: Asker | None = None
    pictures: tuple[NDArray[np.uint8], ...] = ()


def ask_text(text: str, encoder: Encoder) -> Question:
    """Return the question that a text is."""
    if not text.strip():
        raise Permanent("there is nothing to search with: the text is empty")
    return Question(words=text, vectors=encoder.embed_texts([text]))


def ask_files(path: Path, encoder: Encoder, decoders: DecodePool) -> Question:
    """Return the question that an image file is, or a folder with a study.

    Raises
    ------
    Permanent
        If it holds no image that can be read, or images of several studies.
    """
    if path.is_file() and not _is_dicom(path):
        picture = _plain(path, encoder.preprocessing)
        return Question(
            words=path.name,
            vectors=encoder.embed_images(picture[None]),
            asker=Asker(),
            pictures=(picture,),
        )
    found = [
        i for i in images(list(files_in([path])), {}) if isinstance(i, ImageSource)
    ]
    if len({source.study_uid for source in found}) != 1:
        count = len({source.study_uid for source in found})
        raise Permanent(f"{path} holds images of {count} studies, not of one")
    frames = [
        FrameInput(path=Path(source.stamp.path), frame=frame)
        for source in found
        for frame in range(source.frames)
        if encoder.preprocessing.uses(frame)
    ]
    pictures = _decoded(frames, encoder.preprocessing, decoders)
    parts = [
        encoder.embed_images(np.stack(pictures[start : start + _BATCH]))
        for start in range(0, len(pictures), _BATCH)
    ]
    return Question(
        words=path.name,
        vectors=np.concatenate(parts),
        modality=found[0].modality,
        asker=_asker(found),
        pictures=tuple(pictures[:1]),
    )


def ask_study(uid: str, file: EmbeddingFile) -> Question:
    """Return the question that a study of a file of embeddings is.

    Raises
    ------
    Permanent
        If the file holds nothing of it.
    """
    rows = [row for row, study in enumerate(file.studies) if study == uid]
    if not rows:
        raise Permanent(f"{file.path} holds no image of study {uid}")
    units = frozenset(file.sop_instances[row] for row in rows)
    return Question(
        words=uid,
        vectors=file.vectors[rows],
        asker=Asker(studies=frozenset([uid]), units=units),
    )


def _decoded(
    frames: Sequence[FrameInput], policy: Preprocessing, decoders: DecodePool
) -> list[NDArray[np.uint8]]:
    outcomes = decoders.map(frames, policy)
    found = [np.array(o.image) for o in outcomes if isinstance(o, DecodedInput)]
    if not found:
        reasons = [o.reason for o in outcomes if not isinstance(o, DecodedInput)]
        why = reasons[0] if reasons else "it has no frames"
        raise Permanent(f"there is no image that can be read: {why}")
    return found


def _asker(found: Sequence[ImageSource]) -> Asker:
    header = read_header(Path(found[0].stamp.path))
    patient = str(header.get("PatientID") or "")
    issuer = str(header.get("IssuerOfPatientID") or "")
    digest = patient_digest(patient, issuer)
    return Asker(
        units=frozenset(s.sop_instance_uid for s in found)
        | frozenset(s.series_uid for s in found),
        studies=frozenset(s.study_uid for s in found),
        patients=frozenset([digest, patient]) if patient else frozenset(),
    )


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _plain(path: Path, policy: Preprocessing) -> NDArray[np.uint8]:
    """Return model input (3, S, S) uint8 of a plain picture."""
    try:
        with Image.open(path) as opened:
            grey = opened.mode in ("1", "L", "LA", "I;16", "I", "F")
            pixels = np.asarray(opened.convert("L" if grey else "RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise Permanent(f"{path} is no image that can be read") from error
    decoded = Decoded(
        pixels=pixels,
        photometric="MONOCHROME2" if grey else "RGB",
        bits=8,
        modality="",
        rescale=Rescale(),
        modality_lut=None,
        voi_lut=None,
        windows=(),
        padding=None,
        palette=None,
        aspect=1.0,
        digest=Sha256(""),
    )
    return np.ascontiguousarray(channels(prepare(decoded, policy)))
