"""In which numeric profile a pack is computed: chosen by measurement, not by belief.

Half precision is worth it where the hardware multiplies it faster *and* embeddings
stay what they are in float32. Both are measured with the pack's own model and prompts
on phantoms; what fails either is computed in float32. How far scores moved becomes the
tolerance of each threshold: a score that near to it is indeterminate.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.asked import FindingSpec
from workers.encoder import Embeddings, Encoder, device_name, half_profile, open_encoder
from workers.heads import frame_logits, heads_of
from workers.manifest import NumericSpec
from workers.pack import Pack
from workers.phantoms import (
    CHEST_KINDS,
    HEAD_KINDS,
    ChestPhantom,
    ct_grey,
    phantom,
    radiograph_grey,
)
from workers.placing import Progress

AUTO = "auto"
REFERENCE = "float32"
IMAGES = 16
COSINE_MEAN, COSINE_WORST = 0.9998, 0.9995
"""Least cosines to float32, on average and of any image."""

SPEEDUP = 1.2
"""Half precision has to be so many times faster than float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a pack shall be computed in.

    Parameters
    ----------
    numeric
        What was measured of half precision; None where there was nothing to measure.
    tolerances
        Of each finding's threshold, in its score.
    reason
        Why it is this profile, for a person.
    """

    profile: str
    reason: str
    numeric: NumericSpec | None = None
    tolerances: Mapping[str, float]

    def applied(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Return the manifest of the same pack, computed in this profile."""
        encoder = {**manifest["encoder"], "numeric_profile": self.profile}
        if self.numeric is not None:
            encoder["numeric"] = {
                name: getattr(self.numeric, name) for name in NumericSpec.__slots__
            }
        findings = [
            {
                **finding,
                "operating_point": finding["operating_point"]
                | {"tolerance": self.tolerances[finding["key"]]},
            }
            if finding["key"] in self.tolerances
            else finding
            for finding in manifest.get("findings", [])
        ]
        return {**manifest, "encoder": encoder, "findings": findings}


def choose_profile(
    pack: Pack, wanted: str = AUTO, *, device: str = "auto", progress: Progress
) -> Choice:
    """Return what `pack` shall be computed in on hardware like this.

    Parameters
    ----------
    wanted
        A profile, or ``auto`` for half precision where it is fast and true enough.

    Raises
    ------
    Permanent
        If the wanted profile is not true enough, or cannot be computed here.
    """
    profile = half_profile(device) if wanted == AUTO else wanted
    if profile == REFERENCE:
        return Choice(profile=REFERENCE, reason="asked for", tolerances={})
    if not profile:
        return Choice(
            profile=REFERENCE,
            reason="this hardware multiplies nothing faster",
            tolerances={},
        )
    images = _phantoms(pack.preprocessing.size)
    exact = _measure(pack, REFERENCE, images, device, progress)
    half = _measure(pack, profile, images, device, progress)
    numeric = _compared(exact, half, device=device)
    fault = _fault(numeric, speed_matters=wanted == AUTO)
    if fault and wanted != AUTO:
        raise Permanent(f"pack {pack.name} cannot be computed in {profile}: {fault}")
    if fault:
        return Choice(profile=REFERENCE, reason=fault, numeric=numeric, tolerances={})
    return Choice(
        profile=profile,
        reason=f"{numeric.speedup:.1f} times as fast as {REFERENCE}, "
        f"cosine {numeric.cosine_mean:.5f} on average",
        numeric=numeric,
        tolerances={
            finding.key: _tolerance(finding, exact, half) for finding in pack.findings
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Measured:
    """Embeddings (N, D), the logits (N,) of each finding, seconds an image."""

    profile: str
    vectors: Embeddings
    logits: Mapping[str, NDArray[np.float64]]
    seconds: float


def _measure(
    pack: Pack,
    profile: str,
    images: NDArray[np.uint8],
    device: str,
    progress: Progress,
) -> _Measured:
    what = f"trying {profile}"
    progress(what, 0, len(images))
    manifest = pack.manifest
    encoder = replace(manifest.encoder, numeric_profile=profile)
    variant = replace(pack, manifest=replace(manifest, encoder=encoder))
    model = open_encoder(variant, device=device)
    model.embed_images(images[:1])  # what is done once is no part of the speed
    vectors, seconds = _embed(model, images, lambda n: progress(what, n, len(images)))
    heads = heads_of(variant, model)
    return _Measured(
        profile=profile,
        vectors=vectors,
        logits={f.key: frame_logits(heads[f.key], vectors) for f in pack.findings},
        seconds=seconds,
    )


def _embed(
    model: Encoder, images: NDArray[np.uint8], done: Callable[[int], None]
) -> tuple[Embeddings, float]:
    """Return the embeddings, and the median of the seconds that an image takes."""
    vectors, spent = [], []
    for number, image in enumerate(images, start=1):
        start = time.perf_counter()
        vectors.append(model.embed_images(image[None]))
        spent.append(time.perf_counter() - start)
        done(number)
    return np.concatenate(vectors), float(np.median(spent))


def _phantoms(size: int) -> NDArray[np.uint8]:
    """Return chests and slices of heads (N, 3, S, S) uint8, always the same."""
    kinds = [*CHEST_KINDS, *HEAD_KINDS]
    images = []
    for number in range(IMAGES):
        made = phantom(kinds[number % len(kinds)], seed=number)
        if isinstance(made, ChestPhantom):
            grey = radiograph_grey(made.pixels(size), size, inverted=made.inverted)
        else:
            grey = ct_grey(made.pixels(0.5, size), size)
        images.append(np.broadcast_to(grey, (3, size, size)))
    return np.stack(images)


def _compared(exact: _Measured, half: _Measured, *, device: str) -> NumericSpec:
    cosines = (exact.vectors.astype(np.float64) * half.vectors).sum(axis=1)
    return NumericSpec(
        profile=half.profile,
        device=device_name(device),
        images=len(cosines),
        cosine_mean=float(cosines.mean()),
        cosine_worst=float(cosines.min()),
        speedup=exact.seconds / half.seconds,
    )


def _fault(numeric: NumericSpec, *, speed_matters: bool) -> str:
    """Return what speaks against half precision; empty if nothing does."""
    if not (
        numeric.cosine_mean >= COSINE_MEAN and numeric.cosine_worst >= COSINE_WORST
    ):
        return (
            f"{numeric.profile} has cosines to {REFERENCE} of {numeric.cosine_mean:.5f} "
            f"on average and {numeric.cosine_worst:.5f} at worst: at least "
            f"{COSINE_MEAN} and {COSINE_WORST} are needed"
        )
    if speed_matters and not numeric.speedup >= SPEEDUP:
        return (
            f"{numeric.profile} is {numeric.speedup:.2f} times as fast as {REFERENCE} "
            f"here: at least {SPEEDUP} is needed"
        )
    return ""


def _tolerance(finding: FindingSpec, exact: _Measured, half: _Measured) -> float:
    """Return how far a score at the threshold may have moved, rounded up."""
    shift = float(np.abs(half.logits[finding.key] - exact.logits[finding.key]).max())
    threshold = finding.operating_point.threshold
    if not 0 < threshold < 1:
        return 0.0
    logit = math.log(threshold / (1 - threshold))
    ends = [1 / (1 + math.exp(-(logit + sign * shift))) for sign in (-1, 1)]
    return _rounded_up(max(threshold - ends[0], ends[1] - threshold))


def _rounded_up(value: float) -> float:
    """Return the next number of two digits: alike where measurements are nearly so."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round(math.ceil(value / unit) * unit, 12)
