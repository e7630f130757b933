"""A gate as a safetensors file: the arrays of each scope, and the rest as metadata."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dicom_node.errors import Permanent
from workers.gate.values import Gate, Learned, Scope

FORMAT = "pacsight-gate-1"
_ENTRY = "gate"
_ARRAYS = ("centre", "axes", "bank")
_LEARNED = ("supports", "weights")


def encode_gate(gate: Gate) -> bytes:
    """Return the content of the file: the same for the same gate."""
    tensors: dict[str, NDArray[np.float32]] = {}
    scopes = []
    for number, scope in enumerate(gate.scopes):
        for name in _ARRAYS:
            tensors[f"{number}.{name}"] = np.ascontiguousarray(getattr(scope, name))
        for name in _LEARNED if scope.learned else ():
            tensors[f"{number}.{name}"] = np.ascontiguousarray(
                getattr(scope.learned, name)
            )
        scopes.append(_plain(scope))
    # one entry: safetensors writes several in any order, and bytes are to be the same
    stated = json.dumps({"format": FORMAT, "scopes": scopes})
    return save(tensors, metadata={_ENTRY: stated})


def read_gate(path: Path, *, dimension: int, limit: float = 1.0) -> Gate:
    """Return the gate in a file, for vectors of length `dimension`.

    Raises
    ------
    Permanent
        If it is none, or one of another encoder's length.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            plain = _stated(file.metadata() or {}, path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        gate = Gate(
            scopes=tuple(_scope(one, str(i), tensors) for i, one in enumerate(plain)),
            limit=limit,
        )
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror or error}") from error
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise Permanent(f"{path} does not hold a gate: {error}") from error
    if gate.dimension != dimension:
        raise Permanent(
            f"{path} is a gate for embeddings of {gate.dimension} numbers, "
            f"not of {dimension}"
        )
    return gate


def _stated(metadata: dict[str, str], path: Path) -> list[dict[str, Any]]:
    """Return what is said of each scope."""
    stated = json.loads(metadata.get(_ENTRY, "{}"))
    if stated.get("format") != FORMAT:
        raise Permanent(f"{path} is not a gate of format {FORMAT}")
    scopes: list[dict[str, Any]] = stated["scopes"]
    return scopes


def _plain(scope: Scope) -> dict[str, Any]:
    learned = scope.learned
    return {
        "modalities": list(scope.modalities),
        "scales": [list(pair) for pair in scope.scales],
        "rate": scope.rate,
        "learned": {"bias": learned.bias, "gamma": learned.gamma} if learned else None,
    }


def _scope(
    plain: dict[str, Any], number: str, tensors: dict[str, NDArray[Any]]
) -> Scope:
    arrays = {
        name: tensors[f"{number}.{name}"].astype(np.float32)
        for name in (*_ARRAYS, *(_LEARNED if plain["learned"] else ()))
    }
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("it holds something that is no number")
    learned = plain["learned"] and Learned(
        supports=arrays.pop("supports"),
        weights=arrays.pop("weights"),
        **plain["learned"],
    )
    return Scope(
        modalities=tuple(plain["modalities"]),
        scales=tuple((float(at), float(unit)) for at, unit in plain["scales"]),
        rate=float(plain["rate"]),
        learned=learned,
        **arrays,
    )
