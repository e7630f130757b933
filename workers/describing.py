"""What a pack is, once every file of it was checked: for a person, or as JSON.

Checked is more than the digests: the model is built from the weights, so that a file
with other tensors than the manifest's sizes ask for does not pass.
"""

import math
from dataclasses import dataclass

from safetensors import safe_open

from workers.encoder import open_encoder
from workers.manifest import Manifest, NumericSpec
from workers.medimageinsight import parse_config
from workers.medimageinsight.release import RELEASE, Release
from workers.pack import Pack

UNOFFICIAL = "unofficial weights"
OTHER_MODEL = "weights of its own, of other sizes than the released model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a pack is.

    Parameters
    ----------
    weights
        Whether they are the official ones.
    dtype, numeric_profile
        What is stored, and what is computed in.
    measured
        What that choice rests on; empty where nothing was measured.
    temperature
        Between images and texts.
    findings, categories, estimates
        What is asked: of findings with their thresholds, of categories with the
        number of labels, of estimates with that of references.
    """

    name: str
    version: str
    title: str
    statement: str
    device_uid: str
    digest: str
    weights: str
    official: bool
    encoder: str
    parameters: int
    dimension: int
    dtype: str
    numeric_profile: str
    measured: str
    temperature: float
    preprocessing: str
    training_data: tuple[str, ...]
    prompts: int
    findings: tuple[str, ...]
    categories: tuple[str, ...]
    estimates: tuple[str, ...]

    def __str__(self) -> str:
        sizes = f"{self.parameters:,} parameters, {self.dtype}"
        scale = f"temperature {self.temperature:.4g}, {self.prompts} prompts"
        lines = [
            f"{self.name} {self.version}: {self.title}",
            f"  {self.statement}",
            f"  weights     {self.weights}: {sizes}, computed in {self.numeric_profile}",
            *([f"  measured    {self.measured}"] if self.measured else []),
            f"  embeddings  {self.dimension} dimensions, {scale}",
            f"  images      {self.preprocessing}",
            f"  trained on  {', '.join(self.training_data) or 'nothing that is named'}",
            f"  encoder     sha256:{self.encoder}",
            f"  device UID  {self.device_uid}",
        ]
        asked = (*self.findings, *self.categories, *self.estimates)
        return "\n".join([*lines, *(f"  {one}" for one in asked)])


def describe(pack: Pack, release: Release = RELEASE) -> Description:
    """Return what an opened pack is, and whether its weights are those of `release`.

    Raises
    ------
    Permanent
        If its model cannot be made of its files.
    """
    encoder = open_encoder(pack, device="cpu")
    manifest = pack.manifest
    return Description(
        name=pack.name,
        version=pack.version,
        title=manifest.title,
        statement=manifest.statement,
        device_uid=pack.device_uid,
        digest=pack.digest,
        weights=_whose(manifest, release),
        official=manifest.encoder.sha256 == release.sha256,
        encoder=pack.encoder_key.encoder,
        parameters=_parameters(pack),
        dimension=encoder.dimension,
        dtype=manifest.encoder.dtype,
        numeric_profile=pack.encoder_key.profile,
        measured=_measured(manifest.encoder.numeric),
        temperature=math.exp(encoder.logit_scale),
        preprocessing=pack.preprocessing.name,
        training_data=manifest.encoder.training_data,
        prompts=_prompts(manifest),
        findings=tuple(
            f"{f.meaning}: {f.operating_point.name}, "
            f"threshold {f.operating_point.threshold:g}"
            for f in manifest.findings
        ),
        categories=tuple(
            f"{c.meaning}: one of {len(c.labels)} labels" for c in manifest.categories
        ),
        estimates=tuple(
            f"{e.meaning} in {e.measured_in.meaning}: {_references(pack, e.key)}, "
            f"{'validated' if e.validated else 'not validated'}"
            for e in manifest.estimates
        ),
    )


def _measured(numeric: NumericSpec | None) -> str:
    if numeric is None:
        return ""
    return (
        f"{numeric.profile} on {numeric.device}: {numeric.speedup:.1f} times as fast "
        f"as float32, cosine {numeric.cosine_mean:.5f}, at worst "
        f"{numeric.cosine_worst:.5f} ({numeric.images} images)"
    )


def _whose(manifest: Manifest, release: Release) -> str:
    if manifest.encoder.sha256 == release.sha256:
        return f"official weights, release {release.name}"
    same_sizes = parse_config(manifest.encoder.config) == release.config
    return UNOFFICIAL if same_sizes else OTHER_MODEL


def _parameters(pack: Pack) -> int:
    with safe_open(pack.weights, framework="numpy") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - no mapping
    return sum(math.prod(shape) for shape in shapes)


def _prompts(manifest: Manifest) -> int:
    """Return how many texts the encoder is asked for."""
    sides = [f.prompts for f in manifest.findings if f.head.kind == "zero-shot"]
    labels = [label for c in manifest.categories for label in c.labels]
    return sum(len(p.positive) + len(p.negative) for p in sides if p) + sum(
        len(label.prompts) for label in labels
    )


def _references(pack: Pack, key: str) -> str:
    found = pack.references.get(key)
    return "no references" if found is None else f"{len(found.values):,} references"
