"""Where in the patient a frame lies, and what else tells it from its neighbours.

Image Plane (PS3.3 C.7.6.2), and of enhanced images the functional groups that say the
same for a frame (C.7.6.16.2): plane position and orientation, frame content, echo,
diffusion, cardiac synchronisation. Numbers and codes only. A time of day is kept as
seconds, and only where nothing else tells repeated frames apart.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

from pydicom import Dataset

from workers.facts import group_of, numbers_of

_COORDINATES, _COSINES, _SPACINGS = 3, 6, 2
_LEAST_LENGTH = 0.5
_MOST_TERMS = 16
_TERM_LENGTH = 64
_TIME = re.compile(r"(?:\d{8})?(\d{2})(\d{2})?(\d{2}(?:\.\d{1,6})?)?(?:[+-]|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The place of a frame, and its place among frames of the same place.

    Parameters
    ----------
    position
        ImagePositionPatient (0020,0032), mm; None where it is not stated.
    orientation
        ImageOrientationPatient (0020,0037): direction cosines of row and column.
    spacing
        PixelSpacing (0028,0030): mm between rows and between columns.
    image_type
        ImageType (0008,0008) or FrameType (0008,9007), and the complex component.
    in_stack
        InStackPositionNumber (0020,9057).
    temporal
        TemporalPositionIndex (0020,9128) or TemporalPositionIdentifier (0020,0100).
    trigger_ms
        Delay after the trigger of a cardiac cycle.
    time_s
        Time of day of the acquisition; None where `temporal`, `trigger_ms` or
        `acquisition` is there.
    """

    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, ...] = ()
    rows: int = 0
    columns: int = 0
    image_type: tuple[str, ...] = ()
    frame_of_reference: str = ""
    stack: str = ""
    in_stack: int | None = None
    echo: int | None = None
    echo_time_ms: float | None = None
    b_value: float | None = None
    temporal: int | None = None
    trigger_ms: float | None = None
    acquisition: int | None = None
    time_s: float | None = None

    def __post_init__(self) -> None:
        for numbers, count in (
            (self.position, _COORDINATES),
            (self.orientation, _COSINES),
            (self.spacing or None, _SPACINGS),
        ):
            if numbers is not None and not _finite(numbers, count):
                raise ValueError("a geometry has finite numbers, and all of them")

    @property
    def located(self) -> bool:
        """Return whether the frame has a place in the patient."""
        return self.position is not None and self.orientation is not None

    def to_json(self) -> str:
        """Return it as canonical JSON, what is not there left out."""
        stated = {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        }
        return json.dumps(stated, sort_keys=True, separators=(",", ":"))


NOWHERE = Geometry()
"""The geometry of a frame that states none."""


def geometry_from_json(text: str) -> Geometry:
    """Return what `Geometry.to_json` wrote.

    Raises
    ------
    ValueError
        If the text is anything else.
    """
    found = json.loads(text, parse_constant=_refuse)
    if not isinstance(found, dict) or not found.keys() <= _READERS.keys():
        raise ValueError("not a geometry")
    try:
        return Geometry(**{name: _READERS[name](v) for name, v in found.items()})
    except (TypeError, OverflowError) as error:
        raise ValueError(f"not a geometry: {error}") from error


def geometry_of(header: Dataset, frame: int) -> Geometry:
    """Return what a header says of a frame, counted from 0.

    What is malformed counts as not stated.
    """
    group = _groups(header, frame)
    plane, facing = group("PlanePositionSequence"), group("PlaneOrientationSequence")
    measures, content = group("PixelMeasuresSequence"), group("FrameContentSequence")
    echo, diffusion = group("MREchoSequence"), group("MRDiffusionSequence")
    cardiac = group("CardiacSynchronizationSequence")
    temporal = _integer(content, "TemporalPositionIndex", "TemporalPositionIdentifier")
    trigger_ms = _number(cardiac, "NominalCardiacTriggerDelayTime", "TriggerTime")
    acquisition = _integer(content, "FrameAcquisitionNumber", "AcquisitionNumber")
    numbered = (temporal, trigger_ms, acquisition) != (None, None, None)
    return Geometry(
        position=_exactly(_COORDINATES, plane, "ImagePositionPatient"),
        orientation=_cosines(facing),
        spacing=_exactly(_SPACINGS, measures, "PixelSpacing") or (),
        rows=_integer(header, "Rows") or 0,
        columns=_integer(header, "Columns") or 0,
        image_type=_image_type(header, group),
        frame_of_reference=_text(header.get("FrameOfReferenceUID")),
        stack=_text(content.get("StackID")),
        in_stack=_integer(content, "InStackPositionNumber"),
        echo=_integer(echo, "EchoNumbers"),
        echo_time_ms=_number(echo, "EffectiveEchoTime", "EchoTime"),
        b_value=_number(diffusion, "DiffusionBValue"),
        temporal=temporal,
        trigger_ms=trigger_ms,
        acquisition=acquisition,
        time_s=None if numbered else _time_s(content),
    )


def _groups(header: Dataset, frame: int) -> Callable[[str], Dataset]:
    """Return what finds where a frame's attributes stand: in classic images, one place."""
    if "PerFrameFunctionalGroupsSequence" in header:
        return lambda keyword: group_of(header, frame, keyword)
    return lambda _keyword: header


def _image_type(header: Dataset, group: Callable[[str], Dataset]) -> tuple[str, ...]:
    """Return FrameType and component of an enhanced frame, else ImageType."""
    for keyword in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence"):
        found = group(keyword)
        if found is not header:
            component = found.get("ComplexImageComponent")
            return _terms([*_each(found.get("FrameType")), component])
    return _terms(_each(header.get("ImageType")))


def _time_s(content: Dataset) -> float | None:
    for keyword in ("FrameReferenceDateTime", "AcquisitionTime", "ContentTime"):
        if found := _TIME.match(str(content.get(keyword) or "")):
            hours, minutes, seconds = map(float, found.groups(default="0"))
            return 3600 * hours + 60 * minutes + seconds
    return None


def _cosines(item: Dataset) -> tuple[float, ...] | None:
    """Return an orientation whose row and column span a plane."""
    found = _exactly(_COSINES, item, "ImageOrientationPatient")
    if found is None or max(map(abs, found)) > 1 / _LEAST_LENGTH:
        return None
    row, column = found[:3], found[3:]
    along = sum(a * b for a, b in zip(row, column, strict=True))
    area = math.hypot(*row) * math.hypot(*column)
    flat = area < _LEAST_LENGTH or abs(along) > _LEAST_LENGTH * area
    return None if flat else found


def _exactly(count: int, item: Dataset, keyword: str) -> tuple[float, ...] | None:
    found = numbers_of(item, keyword)
    return found if len(found) == count else None


def _number(item: Dataset, *keywords: str) -> float | None:
    for keyword in keywords:
        if found := numbers_of(item, keyword):
            return found[0]
    return None


def _integer(item: Dataset, *keywords: str) -> int | None:
    found = _number(item, *keywords)
    return None if found is None else int(found)


def _each(value: Any) -> list[Any]:
    """Return the values of an element that may have one, many or none."""
    return [value] if isinstance(value, str) else list(value or ())


def _terms(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(_text(value).upper() for value in values if value)[:_MOST_TERMS]


def _text(value: Any) -> str:
    return str(value or "").strip()[:_TERM_LENGTH]


def _finite(numbers: tuple[float, ...], count: int) -> bool:
    return len(numbers) == count and all(map(math.isfinite, numbers))


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _strings(values: Any) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


_READERS: dict[str, Callable[[Any], Any]] = {
    "position": _floats,
    "orientation": _floats,
    "spacing": _floats,
    "rows": int,
    "columns": int,
    "image_type": _strings,
    "frame_of_reference": str,
    "stack": str,
    "in_stack": int,
    "echo": int,
    "echo_time_ms": float,
    "b_value": float,
    "temporal": int,
    "trigger_ms": float,
    "acquisition": int,
    "time_s": float,
}
