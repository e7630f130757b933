"""How a pack turns DICOM pixels into model input: named, explicit, with a digest.

Values only: what they do stands in `workers.preprocess`. A policy is data of the
pack's manifest (``preprocessing`` in ``pack.json``), and its digest is part of what
makes two embeddings comparable.

In a manifest::

    {
      "name": "demo-1",
      "size": 96,
      "intensity": [
        {"modality": ["CT"], "method": {"kind": "window", "center": 40, "width": 80}},
        {"modality": [], "method": {"kind": "percentiles", "low": 1, "high": 99}}
      ],
      "mean": [0.485, 0.456, 0.406],
      "std": [0.229, 0.224, 0.225]
    }

The first rule whose ``modality`` names the image's, or is empty, holds. Whatever the
rule: modality rescale or LUT first, palette and YBR turned to RGB, colour images left as
they are; and, but for the rule ``toolkit``, MONOCHROME1 inverted.

``standardise`` are steps between the grey levels and the last resize to ``size``, and
``frames`` says which frames of an image are used; both are left out where there is
nothing to say. `named` gives the policies that have a name of their own.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, ClassVar, Literal, cast

from dicom_node.domain import Sha256

IMPLEMENTATION = 1
"""Raised whenever `workers.preprocess` gives other pixels for the same policy."""

MAX_SIZE_PX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Grey levels from 0 at the `low` percentile to 255 at the `high` one.

    Of the frame's values in modality units, padding left out.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: Literal["percentiles"] = "percentiles"
    low: float = 1.0
    high: float = 99.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:  # noqa: PLR2004 - percent
            raise ValueError("percentiles need 0 <= low < high <= 100")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Grey levels from 0 at center - width/2 to 255 at center + width/2.

    In modality units (HU for CT), the same for every image: the header's own window
    is not looked at.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: Literal["window"] = "window"
    center: float
    width: float

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError("a window needs a width above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Voi:
    """What a viewer shows: the header's first VOI LUT or window (PS3.3 C.11.2).

    Images without one get the percentiles `low` and `high`.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: Literal["voi"] = "voi"
    low: float = 1.0
    high: float = 99.0

    def __post_init__(self) -> None:
        Percentiles(low=self.low, high=self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolkit:
    """What Microsoft's public toolkit client does with grey levels.

    Those of all pixels, padding among them, from the `low` to the `high` percentile,
    cut off to 8 bits; values of 8 bits as they are. MONOCHROME1 stays as it is stored.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: Literal["toolkit"] = "toolkit"
    low: float = 1.0
    high: float = 99.0

    def __post_init__(self) -> None:
        Percentiles(low=self.low, high=self.high)


Method = Percentiles | Window | Voi | Toolkit

_METHODS = {
    "percentiles": Percentiles,
    "window": Window,
    "voi": Voi,
    "toolkit": Toolkit,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """A square of `size` pixels a side, its proportions not kept.

    ``bicubic`` is Pillow's; ``spline`` is scikit-image's order 3 with anti-aliasing,
    black beyond the edges, cut off to 8 bits.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: Literal["resize"] = "resize"
    size: int
    filter: Literal["bicubic", "spline"] = "bicubic"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MAX_SIZE_PX:
            raise ValueError(f"size must lie in 1 to {MAX_SIZE_PX}, not {self.size}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Jpeg:
    """A way through a JPEG file of this quality."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: Literal["jpeg"] = "jpeg"
    quality: int

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:  # noqa: PLR2004 - percent
            raise ValueError(f"quality must lie in 1 to 100, not {self.quality}")


Step = Resize | Jpeg

_STEPS = {"resize": Resize, "jpeg": Jpeg}

_ADDED: Mapping[str, Any] = {"standardise": (), "frames": "all"}
"""Fields that came later, with what they are where they are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntensityRule:
    """The method for grey images of these modalities; empty means any."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    modality: tuple[str, ...] = ()
    method: Method

    def covers(self, modality: str) -> bool:
        """Return whether this rule is for images of `modality`."""
        return not self.modality or modality in self.modality


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """The whole policy of a pack.

    Parameters
    ----------
    size
        Height and width of the model input, pixels.
    intensity
        Rules for grey images, tried in turn; the last one is for any modality.
    mean, std
        Of the normalisation of (R, G, B) in [0, 1], done by the encoder.
    standardise
        Steps on 8-bit pixels before the resize to `size`, in their order.
    frames
        Which frames of an image are embedded: all of them, or the first alone.

    Raises
    ------
    ValueError
        If it cannot be carried out.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    size: int
    intensity: tuple[IntensityRule, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    standardise: tuple[Step, ...] = ()
    frames: Literal["all", "first"] = "all"

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a preprocessing policy needs a name")
        if not 1 <= self.size <= MAX_SIZE_PX:
            raise ValueError(f"size must lie in 1 to {MAX_SIZE_PX}, not {self.size}")
        if not self.intensity or self.intensity[-1].modality:
            raise ValueError("the last intensity rule must be for any modality")
        if not min(self.std) > 0:
            raise ValueError("std must be above 0")

    def method_for(self, modality: str) -> Method:
        """Return the method for grey images of `modality`."""
        return next(r.method for r in self.intensity if r.covers(modality))

    def uses(self, frame: int) -> bool:
        """Return whether frame `frame` of an image, counted from 0, is embedded."""
        return frame == 0 or self.frames == "all"

    def to_json(self) -> str:
        """Return the policy as canonical JSON: sorted keys, every number a float."""
        plain = _floats(stated(asdict(self)))
        return json.dumps(plain, sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> Sha256:
        """Return what identifies the pixels that the model gets to see."""
        text = f"pacsight-preprocessing/{IMPLEMENTATION}\n{self.to_json()}"
        return Sha256(sha256(text.encode()).hexdigest())


def policy_from_json(text: str) -> Preprocessing:
    """Return the policy that `Preprocessing.to_json` wrote. Not for foreign text."""
    data: dict[str, Any] = json.loads(text)
    rules = tuple(
        IntensityRule(
            modality=tuple(rule["modality"]), method=_method_from(rule["method"])
        )
        for rule in data["intensity"]
    )
    return Preprocessing(
        name=data["name"],
        size=int(data["size"]),
        intensity=rules,
        mean=_three(data["mean"]),
        std=_three(data["std"]),
        standardise=tuple(_step_from(step) for step in data.get("standardise", ())),
        frames=data.get("frames", "all"),
    )


def stated(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy's fields without those that say nothing.

    So that a policy has one text and one digest, whether or not it leaves them out.
    """
    return {
        key: value
        for key, value in fields.items()
        if key not in _ADDED or value not in (_ADDED[key], [])
    }


def named(name: str, *, size: int = 480) -> Preprocessing:
    """Return a policy by its name, for a model input of `size` pixels a side.

    ``percentiles``, ``voi``, ``toolkit-client`` or ``endpoint``; normalised as ImageNet.

    Raises
    ------
    KeyError
        If there is none of that name.
    """
    method, steps, frames = _NAMED[name]
    return Preprocessing(
        name=name,
        size=size,
        intensity=(IntensityRule(method=method),),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        standardise=steps,
        frames=frames,
    )


def _floats(value: Any) -> Any:
    """Return JSON of which equal values have equal text: 40 and 40.0 are the same."""
    if isinstance(value, Mapping):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_floats(item) for item in value]
    return float(value) if isinstance(value, int) else value


def _method_from(data: Mapping[str, Any]) -> Method:
    return cast(Method, _METHODS[data["kind"]](**data))


def _step_from(data: Mapping[str, Any]) -> Step:
    whole = {k: int(v) if isinstance(v, float) else v for k, v in data.items()}
    return cast(Step, _STEPS[data["kind"]](**whole))


def _three(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


_NAMED: Mapping[str, tuple[Method, tuple[Step, ...], Literal["all", "first"]]] = {
    "percentiles": (Percentiles(), (), "all"),
    "voi": (Voi(), (), "all"),
    "toolkit-client": (Toolkit(), (Resize(size=480, filter="spline"),), "first"),
    "endpoint": (Percentiles(), (Resize(size=512), Jpeg(quality=75)), "all"),
}

NAMES = tuple(_NAMED)
"""What `named` knows."""
