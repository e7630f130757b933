"""A pack: what is evaluated, and how. Read strictly, verified, or not loaded at all.

A pack is a folder with ``pack.json`` (the `Manifest`), the encoder's weights, the
heads, and the tokenizer. The manifest names every file with its sha256, so its own
digest stands for all of them; the DICOM Device UID that reports carry derives from it.

Without torch: the weights are checked as bytes here and loaded by `workers.encoder`.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import file_digest
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import (
    Algorithm,
    EncoderKey,
    OperatingPoint,
    PackCard,
    Sha256,
)
from dicom_node.errors import Permanent
from workers.asked import FindingSpec, PointSpec
from workers.gate import Gate, read_gate
from workers.headspecs import GateHead, file_of, file_of_fitted, fitted_part
from workers.labels import FittedLabels
from workers.manifest import (
    MANIFEST,
    Manifest,
    digest_of,
    parse_manifest,
    read_manifest,
)
from workers.neighbours import References
from workers.policy import Preprocessing
from workers.repointing import repointed
from workers.thresholds.sets import ThresholdSet
from workers.trained import Fitted, fitted, fitted_labels, load_tensors

ENTRY_POINTS = "pacsight.packs"

_DEVICES = UUID("6f0e43f8-2b83-4c57-9a3e-5f1b9f0c7d21")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pack:
    """A pack whose files are what its manifest says.

    Parameters
    ----------
    digest
        Of the whole manifest, and so of every file, and of a site's own thresholds:
        what is reported changes with it, and only with it.
    heads
        The heads that were fitted, by finding.
    references
        The labelled images, by estimate; those that nobody supplied are left out.
    thresholds
        A site's own, in the place of those that the pack ships; see `with_thresholds`.
    gate
        Tells images from those that the pack was validated on; None lets all through.
    labels
        The heads that were fitted, by category.
    """

    folder: Path
    manifest: Manifest
    digest: Sha256
    heads: Mapping[str, Fitted]
    references: Mapping[str, References]
    thresholds: ThresholdSet | None = None
    gate: Gate | None = None
    labels: Mapping[str, FittedLabels] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the pack's name."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """Return the pack's version."""
        return self.manifest.version

    @property
    def findings(self) -> tuple[FindingSpec, ...]:
        """Return the findings, in the manifest's order."""
        return self.manifest.findings

    @property
    def preprocessing(self) -> Preprocessing:
        """Return the policy from DICOM to model input."""
        return self.manifest.preprocessing

    @property
    def weights(self) -> Path:
        """Return where the encoder's weights lie."""
        return self.folder / self.manifest.encoder.weights

    @property
    def tokenizer(self) -> Path:
        """Return the tokenizer's folder."""
        return self.folder / self.manifest.encoder.tokenizer

    @property
    def encoder_key(self) -> EncoderKey:
        """Return what makes embeddings of this pack comparable with others."""
        return EncoderKey(
            encoder=self.manifest.encoder.digest,
            preprocessing=self.preprocessing.digest,
            profile=self.manifest.encoder.numeric_profile,
        )

    @property
    def device_uid(self) -> str:
        """Return the DICOM Device UID of this pack, thresholds and all."""
        return f"2.25.{uuid5(_DEVICES, self.digest).int}"

    @property
    def card(self) -> PackCard:
        """Return what the node has to know."""
        return PackCard(
            name=self.name,
            version=self.version,
            device_uid=self.device_uid,
            encoder=self.encoder_key,
        )

    @property
    def algorithm(self) -> Algorithm:
        """Return what reports say of the pack."""
        return Algorithm(
            name=self.name,
            version=self.version,
            title=self.manifest.title,
            statement=self.manifest.statement,
            device_uid=self.device_uid,
            encoder=self.encoder_key.encoder,
            preprocessing=self.preprocessing.name,
            profile=self.encoder_key.profile,
        )

    @property
    def threshold_set_digest(self) -> Sha256:
        """Return the identity of the thresholds in force, and of what they are for.

        Scores in another precision are other scores.
        """
        if self.thresholds is not None:
            return self.thresholds.digest
        return digest_of(
            {
                "set": asdict(self.manifest.threshold_set),
                "points": {f.key: _stated(f.operating_point) for f in self.findings},
                "profile": self.manifest.encoder.numeric_profile,
            }
        )

    def in_shadow(self, finding: str) -> bool:
        """Return whether a finding, by its key, is computed and not reported."""
        return any(f.key == finding and f.mode == "shadow" for f in self.findings)

    def with_thresholds(
        self, thresholds: ThresholdSet, *, shadow: Collection[str] = ()
    ) -> "Pack":
        """Return the pack at other thresholds: another digest, another Device UID.

        Parameters
        ----------
        shadow
            Findings that flag nothing, besides those that the set names so.

        Raises
        ------
        Permanent
            If the set is for another pack, another version or another precision.
        """
        manifest = repointed(self.manifest, self.digest, thresholds, shadow)
        own = {"pack": self.digest, "thresholds": thresholds.digest}
        return replace(
            self,
            manifest=manifest,
            digest=digest_of({**own, "shadow": sorted(set(shadow))}),
            thresholds=thresholds,
        )

    def operating_point(self, finding: FindingSpec) -> OperatingPoint:
        """Return the threshold of a finding, and the set that it belongs to."""
        return OperatingPoint(
            name=finding.operating_point.name,
            threshold=finding.operating_point.threshold,
            tolerance=finding.operating_point.tolerance,
            rule_out=finding.operating_point.rule_out,
            threshold_set=self.manifest.threshold_set.name,
            threshold_set_digest=self.threshold_set_digest,
        )


def _stated(point: PointSpec) -> dict[str, Any]:
    """Return a threshold as it was always digested: without what it does not use."""
    values = asdict(point)
    if point.rule_out is None:
        del values["rule_out"]
    return values


def locate(name_or_path: str) -> Path:
    """Return the folder of an installed pack, by its name, or of any, by its path.

    Raises
    ------
    Permanent
        If there is neither.
    """
    installed = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name_or_path in installed:
        return _package_folder(installed[name_or_path].value)
    folder = Path(name_or_path)
    if not folder.is_dir():
        names = ", ".join(sorted(installed)) or "none"
        raise Permanent(
            f"there is no pack {name_or_path!r}: it is neither a folder "
            f"nor one of the installed packs ({names})"
        )
    return folder


def open_pack(folder: Path) -> Pack:
    """Return the pack in `folder`, every file of it verified.

    Raises
    ------
    Permanent
        If the manifest is not understood, or a file is missing or another one.
    """
    manifest = read_manifest(folder)
    _verify(folder / manifest.encoder.weights, manifest.encoder.sha256)
    _verify_files(folder, manifest)
    return _opened(folder, manifest)


def seal(folder: Path, manifest: Mapping[str, Any]) -> Pack:
    """Return the pack that `folder` becomes: the manifest written, digests filled in.

    `manifest` may leave out ``files`` and ``encoder.sha256``; weights, heads and
    tokenizer lie in the folder already. The last step of everything that makes packs.

    Raises
    ------
    Permanent
        If the manifest is not one, or a file is missing.
    """
    path = folder / MANIFEST
    encoder = {**manifest["encoder"], "sha256": ""}
    draft = parse_manifest(_text({**manifest, "encoder": encoder, "files": {}}), path)
    parts = draft.parts | set(_files_in(folder, draft.encoder.tokenizer))
    encoder["sha256"] = _sha256(folder / draft.encoder.weights)
    files = {part: _sha256(folder / part) for part in sorted(parts)}
    text = _text({**manifest, "encoder": encoder, "files": files})
    parsed = parse_manifest(text, path)
    (folder / MANIFEST).write_bytes(text)
    return _opened(folder, parsed)  # its digests were made a moment ago


def _text(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()


def _opened(folder: Path, manifest: Manifest) -> Pack:
    return Pack(
        folder=folder,
        manifest=manifest,
        digest=manifest.digest,
        heads=_read_heads(folder, manifest),
        references=_read_references(folder, manifest),
        gate=_read_gate(folder, manifest),
        labels=_read_labels(folder, manifest),
    )


def _package_folder(package: str) -> Path:
    """Return the folder of an installed package, without running its code."""
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise Permanent(f"the pack in {package} is no longer installed")
    return Path(next(iter(spec.submodule_search_locations)))


def _verify_files(folder: Path, manifest: Manifest) -> None:
    needed = manifest.parts | set(_files_in(folder, manifest.encoder.tokenizer))
    unlisted = sorted(needed - manifest.files.keys())
    if unlisted:
        raise Permanent(f"{folder / unlisted[0]} is not among the manifest's files")
    for name, digest in manifest.files.items():
        _inside(folder, name)
        _verify(folder / name, digest)


def _verify(path: Path, digest: str) -> None:
    if not _SHA256.fullmatch(digest):
        raise Permanent(f"the manifest's sha256 of {path.name} is not one")
    actual = _sha256(path)
    if actual != digest:
        raise Permanent(
            f"{path} is not the file that the manifest names: "
            f"its sha256 is {actual[:12]}..., not {digest[:12]}..."
        )


def _sha256(path: Path) -> Sha256:
    try:
        with path.open("rb") as file:
            return Sha256(file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error


def _files_in(folder: Path, name: str) -> list[str]:
    _inside(folder, name)
    if not (folder / name).is_dir():
        raise Permanent(f"{folder / name} is not a folder")
    found = [path for path in (folder / name).rglob("*") if path.is_file()]
    return [path.relative_to(folder).as_posix() for path in found]


def _inside(folder: Path, name: str) -> None:
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise Permanent(f"{name} lies outside the pack {folder}")


def _read_heads(folder: Path, manifest: Manifest) -> dict[str, Fitted]:
    tensors: dict[str, dict[str, NDArray[Any]]] = {}
    heads = {}
    for finding in manifest.findings:
        head, name = fitted_part(finding.head), file_of(finding.head)
        if head is None or name is None:
            continue
        if name not in tensors:
            tensors[name] = load_tensors(folder / name)
        heads[finding.key] = fitted(head, tensors[name], manifest.encoder.embedding_dim)
    return heads


def _read_labels(folder: Path, manifest: Manifest) -> dict[str, FittedLabels]:
    found = {}
    dimension = manifest.encoder.embedding_dim
    for category in manifest.categories:
        head, count = category.head, len(category.labels)
        if head is not None:
            tensors = load_tensors(folder / file_of_fitted(head))
            found[category.key] = fitted_labels(head, tensors, dimension, count)
    return found


def _read_gate(folder: Path, manifest: Manifest) -> Gate | None:
    spec = manifest.gate
    asking = [f.key for f in manifest.findings if isinstance(f.head, GateHead)]
    if spec is None:
        if asking:
            raise Permanent(f"finding {asking[0]} asks the gate, and there is none")
        return None
    path = folder / spec.file
    dimension = manifest.encoder.embedding_dim
    gate = read_gate(path, dimension=dimension, limit=spec.threshold)
    if gate.kind != spec.kind:
        raise Permanent(f"{path} is a gate of kind {gate.kind}, not {spec.kind}")
    if asking and len(gate.scopes) != 1:
        raise Permanent(
            f"finding {asking[0]} asks the gate, which has {len(gate.scopes)} scopes: "
            "only of one is it known which images it is of"
        )
    return gate


def _read_references(folder: Path, manifest: Manifest) -> dict[str, References]:
    found = {}
    dimension = manifest.encoder.embedding_dim
    for estimate in manifest.estimates:
        if estimate.head.references is None:
            continue
        path = folder / estimate.head.references
        tensors = load_tensors(path)
        if tensors.keys() != {"embeddings", "values"}:
            raise Permanent(f"{path} does not hold embeddings and values")
        embeddings = tensors["embeddings"].astype(np.float32)
        if embeddings.shape[1:] != (dimension,):
            raise Permanent(f"{path} does not hold embeddings of {dimension} numbers")
        found[estimate.key] = References(
            embeddings=embeddings, values=tensors["values"].astype(np.float32)
        )
    return found
