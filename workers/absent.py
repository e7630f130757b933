"""Fields that manifests did not always have: absent, they change no digest.

A pack from before a field was thought of keeps its digest, and so its Device UID and the
UIDs of all that it has reported.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_MANIFEST: Mapping[str, Any] = {
    "categories": [],
    "estimates": [],
    "volume": None,
    "gate": None,
    "atlas": None,
}
_ENCODER: Mapping[str, Any] = {"members": 1}
_FINDING: Mapping[str, Any] = {
    "calibration": None,
    "against": None,
    "mode": "live",
    "ungated": False,
}
_CATEGORY: Mapping[str, Any] = {"head": None, "calibration": None, "validated": None}
_POINT: Mapping[str, Any] = {"tolerance": 0.0, "rule_out": None}
_ACCEPTS: Mapping[str, Any] = {"view": [], "age_years": None, "min_pixels": None}


def without_absent(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest as JSON values, without the later fields that it does not use.

    Parameters
    ----------
    manifest
        Every field of it, as JSON values; it is left as it is.
    """
    said = _without(manifest, _MANIFEST)
    said["encoder"] = _without(said["encoder"], _ENCODER)
    said["accepts"] = [_without(rule, _ACCEPTS) for rule in said["accepts"]]
    for asked in ("findings", "categories", "estimates"):
        if asked in said:
            later = _CATEGORY if asked == "categories" else _FINDING
            said[asked] = [dict(_asked(one, later)) for one in said[asked]]
    return said


def _asked(
    one: Mapping[str, Any], later: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    for name, value in _without(one, later).items():
        if name == "operating_point":
            yield name, _without(value, _POINT)
        elif name == "accepts" and value is not None:
            yield name, _without(value, _ACCEPTS)
        else:
            yield name, value


def _without(values: Mapping[str, Any], absent: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in values.items()
        if name not in absent or value != absent[name]
    }
