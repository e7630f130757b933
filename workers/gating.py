"""A pack gets its gate, and files are held against it: what ``pacsight gate`` does.

The embeddings are those of ``pacsight embed`` with the same pack. Where the images are at
hand, too, strangers are made of them; without them the gate knows distances alone. The
new pack holds embeddings, whitened, and no identifier of anybody.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.cohort import Cohort, EmbeddingFile, Role, check_encoder
from workers.decoding import DecodedInput, DecodePool, FrameInput
from workers.encoder import Encoder
from workers.gate import Gate, encode_gate
from workers.gate.fitting import Validation, fit, validation, without_strangers
from workers.listing import ImageSource, files_in, images
from workers.manifest import MANIFEST
from workers.pack import Pack, seal
from workers.placing import Progress, in_one_piece, link_or_copy
from workers.volumes import Place, Slice, Volume, volumes

FILE = "gate.safetensors"
_BATCH = 64
_VALIDATION = (Role.TUNE, Role.CALIBRATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What reads and embeds images.

    Parameters
    ----------
    paths
        Files and folders that the images lie in.
    """

    encoder: Encoder
    decoders: DecodePool
    paths: tuple[Path, ...]

    def read(self, places: Sequence[tuple[Path, int]]) -> NDArray[np.uint8]:
        """Return model input (N, 3, S, S) of frames.

        Raises
        ------
        Permanent
            If one cannot be read.
        """
        parts = []
        for at in range(0, len(places), _BATCH):
            batch = places[at : at + _BATCH]
            wanted = [FrameInput(path=path, frame=frame) for path, frame in batch]
            found = self.decoders.map(wanted, self.encoder.preprocessing)
            for (path, frame), outcome in zip(batch, found, strict=True):
                if not isinstance(outcome, DecodedInput):
                    raise Permanent(f"{path}, frame {frame + 1}: {outcome.reason}")
                parts.append(outcome.image)
        return np.stack(parts)


# ── fitting ─────────────────────────────────────────────────────────────────


def fit_gate(
    pack: Pack,
    embedded: EmbeddingFile,
    *,
    groups: NDArray[np.int32],
    rate: float,
    seed: int = 0,
    tools: Tools | None = None,
) -> Gate:
    """Return a gate for what `pack` accepts.

    Parameters
    ----------
    groups
        (N,) whose each embedding is; -1 leaves it out.
    tools
        With the images that were embedded: strangers are made of them.

    Raises
    ------
    Permanent
        If images are missing, or too few for the rate.
    """
    check_encoder(embedded, pack.encoder_key, pack.name)
    scopes = _scopes(pack)
    if tools is None and len(scopes) > 1:
        raise Permanent(
            f"pack {pack.name} accepts several kinds of images: name the images, too, "
            "so that each is known for what it is"
        )
    sources = _sources(embedded, tools.paths) if tools else None
    parts = []
    for modalities in scopes:
        of = [
            sources is None or one.modality in modalities for one in sources or groups
        ]
        rows = np.flatnonzero(np.array(of) & (groups >= 0))
        if len(rows):
            shown = _Shown(embedded=embedded, rows=rows, sources=sources, tools=tools)
            parts.append(shown.validation(groups[rows], modalities, seed))
    if not parts:
        raise Permanent(f"{embedded.path}: no image that pack {pack.name} accepts")
    try:
        return fit(parts, rate=rate, seed=seed)
    except ValueError as error:
        raise Permanent(f"{embedded.path}: {error}") from error


def groups_of(embedded: EmbeddingFile, cohort: Cohort | None) -> NDArray[np.int32]:
    """Return whose each embedding is: the patient of its label, else its study.

    -1 where a cohort does not know it, or its patient is there for something else than
    tuning and calibration.
    """
    if cohort is None:
        _, groups = np.unique(embedded.studies, return_inverse=True)
        return groups.astype(np.int32)
    assigned = any(role is not None for role in cohort.roles)
    patients = {
        unit: int(patient)
        for unit, patient in zip(cohort.units, cohort.patient, strict=True)
        if not assigned or cohort.roles[patient] in _VALIDATION
    }
    by_series = cohort.unit_kind == "series_uid"
    names = embedded.series if by_series else embedded.sop_instances
    return np.array([patients.get(name, -1) for name in names], dtype=np.int32)


def with_gate(
    pack: Pack,
    out: Path,
    gate: Gate,
    *,
    evidence: Mapping[str, Any],
    progress: Progress,
) -> Pack:
    """Return the pack that was written to `out`: the same one, with this gate."""
    with in_one_piece(out) as folder:
        manifest = json.loads((pack.folder / MANIFEST).read_bytes())
        for part in pack.manifest.files:
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(pack.folder / part, folder / part, progress)
        if not Path(pack.manifest.encoder.weights).is_absolute():
            weights = folder / pack.manifest.encoder.weights
            link_or_copy(pack.weights.resolve(), weights, progress)
        (folder / FILE).unlink(missing_ok=True)  # it may be a link to the old one
        (folder / FILE).write_bytes(encode_gate(gate))
        manifest["gate"] = {
            "file": FILE,
            "kind": gate.kind,
            "threshold": gate.limit,
            "rate": gate.scopes[0].rate,
            "evidence": dict(evidence),
        }
        sealed = seal(folder, manifest)
    return replace(sealed, folder=out.resolve())


def _scopes(pack: Pack) -> list[tuple[str, ...]]:
    """Modalities that the pack accepts: those that share a rule share a scope."""
    found: list[tuple[str, ...]] = []
    for rule in pack.manifest.accepts:
        new = tuple(m for m in rule.modality if not any(m in one for one in found))
        found += [new] if new else []
    return found


def _sources(embedded: EmbeddingFile, paths: Sequence[Path]) -> list[ImageSource]:
    """Return the file of each row."""
    known = {
        str(one.sop_instance_uid): one
        for one in images(list(files_in(paths)), {})
        if isinstance(one, ImageSource)
    }
    missing = [uid for uid in embedded.sop_instances if uid not in known]
    if missing:
        raise Permanent(
            f"{len(missing)} images of {embedded.path} are not among the files, "
            f"the first of them {missing[0]}"
        )
    return [known[uid] for uid in embedded.sop_instances]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shown:
    """Rows of the embeddings that are validation images of one kind."""

    embedded: EmbeddingFile
    rows: NDArray[np.intp]
    sources: Sequence[ImageSource] | None
    tools: Tools | None

    def validation(
        self, groups: NDArray[np.int32], modalities: tuple[str, ...], seed: int
    ) -> Validation:
        """Return them with strangers, where they can be made."""
        vectors = self.embedded.vectors[self.rows]
        if self.tools is None:
            return without_strangers(vectors, groups, modalities=modalities)
        return validation(
            vectors,
            groups,
            self.read,
            modalities=modalities,
            embed=self.tools.encoder.embed_images,
            seed=seed,
        )

    def read(self, chosen: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return model input of some of the rows."""
        if self.tools is None or self.sources is None:
            raise ValueError("there is nothing to read the images with")
        return self.tools.read(
            [
                (Path(self.sources[row].stamp.path), int(self.embedded.frames[row]))
                for row in self.rows[chosen].tolist()
            ]
        )


# ── checking ────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A file, or the slices of one volume, held against the gate.

    Parameters
    ----------
    distance
        Median of its frames.
    reason
        Why it is outside; empty if it is inside.
    """

    path: Path
    frames: int
    distance: float
    reason: str


def hold(pack: Pack, gate: Gate, tools: Tools) -> list[Held]:
    """Return what the gate of `pack` says of each volume and each other image.

    Raises
    ------
    Permanent
        If there is no image among the files, or one cannot be read.
    """
    found = [
        one
        for one in images(list(files_in(tools.paths)), {})
        if isinstance(one, ImageSource)
    ]
    if not found:
        raise Permanent("there is no DICOM image among the files")
    frames = [
        (one, frame)
        for one in found
        for frame in range(one.frames)
        if pack.preprocessing.uses(frame)
    ]
    vectors: dict[Place, NDArray[np.float32]] = {}
    slices = []
    for at in range(0, len(frames), _BATCH):
        for one, vector in _embedded(frames[at : at + _BATCH], tools):
            vectors[one.place] = vector
            slices.append(one)
    paths = {str(one.sop_instance_uid): Path(one.stamp.path) for one in found}
    return [_held(volume, vectors, gate, paths) for volume in volumes(slices)]


def _embedded(
    frames: Sequence[tuple[ImageSource, int]], tools: Tools
) -> Iterator[tuple[Slice, NDArray[np.float32]]]:
    wanted = [FrameInput(path=Path(o.stamp.path), frame=frame) for o, frame in frames]
    outcomes = tools.decoders.map(wanted, tools.encoder.preprocessing)
    for (one, frame), outcome in zip(frames, outcomes, strict=True):
        if not isinstance(outcome, DecodedInput):
            raise Permanent(f"{one.stamp.path}, frame {frame + 1}: {outcome.reason}")
        place = Slice(
            series_uid=one.series_uid,
            sop_instance_uid=one.sop_instance_uid,
            frame=frame,
            number=one.number,
            modality=one.modality,
            geometry=outcome.geometry,
        )
        yield place, tools.encoder.embed_images(outcome.image[None])[0]


def _held(
    volume: Volume,
    vectors: Mapping[Place, NDArray[np.float32]],
    gate: Gate,
    paths: Mapping[str, Path],
) -> Held:
    rows = np.stack([vectors[one.place] for one in volume.slices])
    first = volume.slices[0]
    path = paths[first.sop_instance_uid]
    files = {one.sop_instance_uid for one in volume.slices}
    return Held(
        path=path.parent if len(files) > 1 else path,
        frames=len(rows),
        distance=float(np.median(gate.distances(rows, first.modality))),
        reason=gate.outside_volume(rows, first.modality),
    )
