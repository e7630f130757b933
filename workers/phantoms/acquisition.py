"""The machines: how attenuation becomes the stored values of an instance.

None of the choices made here depends on what the patient has.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.phantoms.raster import Field, inside, smooth_field

Stored = NDArray[np.uint16]
HounsfieldUnits = NDArray[np.int16]

_NOISE_SIZE = 1024  # matrix size at which quantum noise is stated
_DARKEST, _BRIGHTEST = -0.15, 1.75  # attenuation that the full range stands for


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """One machine, with a made-up name.

    Parameters
    ----------
    gamma
        Mean slope of its grey curve (DX).
    noise
        Relative quantum noise: 1 is ordinary.
    kernel
        Cells of its noise grain along the image (CT): more is sharper.
    """

    manufacturer: str
    model: str
    station: str
    modality: str
    gamma: float = 1.0
    noise: float = 1.0
    kernel: int = 96


DX_SCANNERS = (
    Scanner(
        manufacturer="Phantom Works",
        model="Radia 3",
        station="DXROOM1",
        modality="DX",
        gamma=0.85,
    ),
    Scanner(
        manufacturer="Synthetica",
        model="FlatView",
        station="DXROOM2",
        modality="DX",
        noise=1.6,
    ),
    Scanner(
        manufacturer="Lumen Example",
        model="Mobile One",
        station="DXMOBILE",
        modality="DX",
        gamma=1.2,
        noise=2.2,
    ),
)

CT_SCANNERS = (
    Scanner(
        manufacturer="Phantom Works", model="Helix 64", station="CT1", modality="CT"
    ),
    Scanner(
        manufacturer="Synthetica",
        model="Volume 16",
        station="CT2",
        modality="CT",
        noise=1.5,
        kernel=72,
    ),
    Scanner(
        manufacturer="Lumen Example",
        model="Swift CT",
        station="CTEMERG",
        modality="CT",
        noise=1.2,
        kernel=128,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """How one radiograph was taken and developed.

    Parameters
    ----------
    gamma
        Exponent of the grey curve.
    tilt
        Brightness gradient to the right and down (heel effect, rotation).
    blotch
        Amplitude of slow brightness changes.
    span
        Stored values, of 0..4095, of the darkest and the brightest.
    shutters
        Collimated share of the image at left, right, top and bottom.
    shutter_tone
        Attenuation that is shown for what lies behind the shutters.
    noise_seed
        Of the quantum noise.
    """

    gamma: float
    tilt: tuple[float, float]
    blotch: float
    noise: float
    span: tuple[int, int]
    shutters: tuple[float, float, float, float]
    shutter_tone: float
    noise_seed: int


def draw_exposure(rng: np.random.Generator, scanner: Scanner) -> Exposure:
    """How this scanner happens to take the image."""
    shutters = rng.uniform(0, 0.07, 4) * (rng.random(4) < 0.35)  # noqa: PLR2004
    return Exposure(
        gamma=scanner.gamma * float(np.exp(rng.normal(0, 0.3))),
        tilt=(rng.normal(0, 0.06), rng.normal(0, 0.08)),
        blotch=rng.uniform(0, 0.06),
        noise=scanner.noise * rng.uniform(0.5, 1.5),
        span=(int(rng.integers(0, 500)), int(rng.integers(2600, 4096))),
        shutters=(shutters[0], shutters[1], shutters[2], shutters[3]),
        shutter_tone=float(rng.choice([-0.1, 1.6])),
        noise_seed=int(rng.integers(2**32)),
    )


def develop(attenuation: Field, exposure: Exposure) -> Stored:
    """Stored values (size, size) uint16, 12 bits, white is dense (MONOCHROME2)."""
    size = attenuation.shape[0]
    rng = np.random.default_rng(exposure.noise_seed)
    across = np.linspace(-1, 1, size, dtype=np.float32)
    tilt = across[None, :] * exposure.tilt[0] + across[:, None] * exposure.tilt[1]
    image = attenuation * (1 + tilt) + exposure.blotch * smooth_field(rng, 5, size)
    image += 0.008 * exposure.noise * smooth_field(rng, 80, size)
    grain = 0.05 * exposure.noise * size / _NOISE_SIZE
    image += np.float32(grain) * rng.standard_normal((size, size), dtype=np.float32)
    image = _collimate(image, exposure)
    tone = np.clip((image - _DARKEST) / (_BRIGHTEST - _DARKEST), 0, 1) ** exposure.gamma
    low, high = exposure.span
    stored: Stored = np.rint(low + (high - low) * tone).astype(np.uint16)
    return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """How one series of axial images was taken.

    Parameters
    ----------
    noise_hu
        Standard deviation of the noise that a smoothing eye still sees.
    kernel
        Cells of the noise grain along the image.
    offset_hu
        Error of the water calibration.
    cupping_hu
        How much too dark the middle is.
    """

    noise_hu: float
    kernel: int
    offset_hu: float
    cupping_hu: float
    noise_seed: int


def draw_scan(rng: np.random.Generator, scanner: Scanner) -> Scan:
    """How this scanner happens to take the series."""
    return Scan(
        noise_hu=scanner.noise * rng.uniform(1.5, 4.0),
        kernel=scanner.kernel,
        offset_hu=rng.normal(0, 3.0),
        cupping_hu=rng.uniform(0, 4),
        noise_seed=int(rng.integers(2**32)),
    )


def reconstruct(hounsfield: Field, scan: Scan, index: int) -> HounsfieldUnits:
    """One slice (size, size) int16 in Hounsfield units, -1024..3071, with noise."""
    size = hounsfield.shape[0]
    rng = np.random.default_rng([scan.noise_seed, index])
    across = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    middle = np.clip(1 - across[None, :] - across[:, None], 0, 1)
    grain = smooth_field(rng, scan.kernel, size)
    white = rng.standard_normal((size, size), dtype=np.float32) * np.float32(size / 400)
    noise = np.float32(scan.noise_hu) * (grain + white)
    image = hounsfield + noise + np.float32(scan.offset_hu)
    image -= np.float32(scan.cupping_hu) * middle
    values: HounsfieldUnits = np.rint(np.clip(image, -1024, 3071)).astype(np.int16)
    return values


def _collimate(image: Field, exposure: Exposure) -> Field:
    size = image.shape[0]
    at = (np.arange(size, dtype=np.float32) + 0.5) / size
    left, right, top, bottom = (np.float32(s) for s in exposure.shutters)
    open_x = inside(at - left, 0.01) * inside(1 - right - at, 0.01)
    open_y = inside(at - top, 0.01) * inside(1 - bottom - at, 0.01)
    if not any(exposure.shutters):
        return image
    visible = open_y[:, None] * open_x[None, :]
    return image * visible + np.float32(exposure.shutter_tone) * (1 - visible)
