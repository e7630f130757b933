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
rule: modality rescale or LUT first, MONOCHROME1 inverted after it, palette and YBR
turned to RGB, colour images left as they are.
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


Method = Percentiles | Window | Voi

_METHODS = {"percentiles": Percentiles, "window": Window, "voi": Voi}


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

    def to_json(self) -> str:
        """Return the policy as canonical JSON: sorted keys, every number a float."""
        plain = _floats(asdict(self))
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


def _three(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue
