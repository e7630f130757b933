"""What is searched with, as vectors: a text, a picture, a study.

A study is its volumes, each of them its slices in order, and its other images. Pictures
are DICOM images, or plain ones (PNG, JPEG and what else Pillow reads), which are treated
like DICOM images of eight bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

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
from workers.harvest import Embedded
from workers.listing import ImageSource, files_in, images
from workers.policy import Preprocessing
from workers.preprocess import channels, prepare
from workers.vectors import in_order
from workers.volumes import Kind

_BATCH = 64
_Run = TypeVar("_Run", bound=Sequence[Any])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """What is searched with.

    Parameters
    ----------
    words
        What it is, for people.
    runs
        (n, D) float32 each: the slices of a volume, or one row for an image or a text.
    asker
        Whose it is; None for a text, which is nobody's.
    picture
        (3, S, S) uint8, of what was searched with: of a volume, its middle.
    remarks
        What of a study nothing is searched with.
    """

    words: str
    runs: tuple[Rows, ...]
    asker: Asker | None = None
    picture: NDArray[np.uint8] | None = None
    remarks: tuple[str, ...] = ()

    @property
    def vectors(self) -> Rows:
        """Return all rows (Q, D)."""
        return np.concatenate(self.runs)


def ask_text(text: str, encoder: Encoder) -> Question:
    """Return the question that a text is."""
    if not text.strip():
        raise Permanent("there is nothing to search with: the text is empty")
    return Question(words=text, runs=(encoder.embed_texts([text]),))


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
            runs=(encoder.embed_images(picture[None]),),
            asker=Asker(),
            picture=picture,
        )
    found = [
        i for i in images(list(files_in([path])), {}) if isinstance(i, ImageSource)
    ]
    if len({source.study_uid for source in found}) != 1:
        count = len({source.study_uid for source in found})
        raise Permanent(f"{path} holds images of {count} studies, not of one")
    frames, unread = _embedded(found, encoder, decoders)
    places = {(one.source.sop_instance_uid, one.frame): one for one in frames}
    volumes = in_order(frames).volumes
    asking, remarks = _without_localisers([(v.kind, v.slices) for v in volumes])
    longest = max(asking, key=len)
    middle = places[longest[len(longest) // 2].place]
    if unread:
        remarks = (*remarks, f"not read: {_images(unread)}")
    return Question(
        words=path.name,
        runs=tuple(np.stack([places[s.place].vector for s in run]) for run in asking),
        asker=_asker(found),
        picture=_picture(middle, encoder.preprocessing, decoders),
        remarks=remarks,
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
    by_volume: dict[int, list[int]] = {}
    for row in rows:
        by_volume.setdefault(int(file.volumes[row]), []).append(row)
    asking, remarks = _without_localisers(
        [(file.kind_of(volume), run) for volume, run in by_volume.items()]
    )
    units = {file.sop_instances[row] for row in rows}
    units |= {file.series[row] for row in rows}
    return Question(
        words=uid,
        runs=tuple(file.vectors[run] for run in asking),
        asker=Asker(studies=frozenset([uid]), units=frozenset(units)),
        remarks=remarks,
    )


def _without_localisers(
    volumes: Sequence[tuple[str, _Run]],
) -> tuple[list[_Run], tuple[str, ...]]:
    """Return the runs that ask, and a remark on those that do not."""
    asking = [run for kind, run in volumes if kind != Kind.LOCALISER]
    if not asking:
        return [run for _, run in volumes], ()
    left = sum(len(run) for kind, run in volumes if kind == Kind.LOCALISER)
    return asking, (f"left out: {_images(left)} of localisers",) if left else ()


def _embedded(
    found: Sequence[ImageSource], encoder: Encoder, decoders: DecodePool
) -> tuple[list[Embedded], int]:
    """Return the frames that can be read, embedded, and how many cannot."""
    policy = encoder.preprocessing
    frames = [(s, n) for s in found for n in range(s.frames) if policy.uses(n)]
    embedded, reasons = list[Embedded](), list[str]()
    for start in range(0, len(frames), _BATCH):
        part = frames[start : start + _BATCH]
        outcomes = decoders.map([_input(s, frame) for s, frame in part], policy)
        read = [o for o in outcomes if isinstance(o, DecodedInput)]
        reasons += [o.reason for o in outcomes if not isinstance(o, DecodedInput)]
        vectors = iter(
            encoder.embed_images(np.stack([o.image for o in read])) if read else ()
        )
        embedded += [
            Embedded(source=s, frame=frame, geometry=o.geometry, vector=next(vectors))
            for (s, frame), o in zip(part, outcomes, strict=True)
            if isinstance(o, DecodedInput)
        ]
    if not embedded:
        why = reasons[0] if reasons else "it has no frames"
        raise Permanent(f"there is no image that can be read: {why}")
    return embedded, len(reasons)


def _picture(
    one: Embedded, policy: Preprocessing, decoders: DecodePool
) -> NDArray[np.uint8] | None:
    (outcome,) = decoders.map([_input(one.source, one.frame)], policy)
    return np.array(outcome.image) if isinstance(outcome, DecodedInput) else None


def _input(source: ImageSource, frame: int) -> FrameInput:
    return FrameInput(path=Path(source.stamp.path), frame=frame)


def _images(count: int) -> str:
    return f"{count} image{'s'[: count != 1]}"


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
