"""A pack with heads that were fitted: written whole, in shadow mode, with evidence."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from dicom_node.domain import Sha256
from workers.copying import copy_parts, seal_again
from workers.fitting.asking import Asked
from workers.fitting.fitted import Fitted
from workers.fitting.report import Fit
from workers.pack import Pack
from workers.placing import Progress, in_one_piece

POINT = "youden, provisional"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the new pack is called, and when its thresholds were made.

    Parameters
    ----------
    created
        A date, as in ISO 8601.
    """

    name: str
    version: str
    created: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """A finding with its head and its figures."""

    asked: Asked
    head: Fitted
    fit: Fit


def write_pack(
    pack: Pack,
    out: Path,
    made: Sequence[Made],
    *,
    identity: Identity,
    data: Sha256,
    progress: Progress,
) -> Pack:
    """Return the pack that was written to `out`: `pack`, with other or more findings.

    Raises
    ------
    Permanent
        If it cannot be written there.
    """
    with in_one_piece(out) as folder:
        manifest = copy_parts(pack, folder, progress)
        manifest |= {"name": identity.name, "version": identity.version}
        manifest["threshold_set"] = {
            "name": f"provisional-{data[:8]}",
            "created": identity.created,
        }
        for one in made:
            spec = _finding(one, data) | {"head": _head(one, folder)}
            put(manifest["findings"], spec)
        sealed = seal_again(pack, folder, manifest)
    return replace(sealed, folder=out.resolve())


def put(findings: list[dict[str, Any]], spec: dict[str, Any]) -> None:
    """Put a finding in the place of its namesake, or at the end."""
    keys = [finding["key"] for finding in findings]
    if spec["key"] in keys:
        findings[keys.index(spec["key"])] = spec
    else:
        findings.append(spec)


def _finding(made: Made, data: Sha256) -> dict[str, Any]:
    """Return the finding's entry, but for its head."""
    fit, figures = made.fit, made.fit.to_json()
    spec: dict[str, Any] = {
        **made.asked.to_json(),
        "mode": "shadow",
        "operating_point": {
            "name": POINT,
            "threshold": fit.threshold,
            "evidence": {"provisional": True, "data": data, **figures},
        },
    }
    calibration = fit.choice.calibration
    if calibration.method is not None:
        spec["calibration"] = {
            "set": f"{made.asked.key}-{data[:8]}",
            "method": calibration.method,
            "parameters": {
                name: value if isinstance(value, float) else list(value)
                for name, value in calibration.parameters.items()
            },
            "prevalence": calibration.prevalence,
            "evidence": {
                "studies": calibration.studies,
                "cross_entropy": dict(calibration.losses),
                "slope": figures["calibration_slope"],
                "intercept": figures["calibration_intercept"],
            },
        }
    return spec


def _head(made: Made, folder: Path) -> Mapping[str, Any]:
    """Return the head's entry; its numbers are written into the folder."""
    head, key = made.head, made.asked.key
    name = f"fitted-{re.sub(r'[^a-z0-9]+', '-', key.casefold())}.safetensors"
    (folder / name).unlink(missing_ok=True)  # a link to another pack's
    if head.tensors:
        save_file(head.named(key), folder / name)
    return asdict(head.spec(file=name, key=key))
