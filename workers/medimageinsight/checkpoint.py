"""Weights to a model and back: safetensors, held to a digest, a name and a shape each.

Either every parameter comes from the file whose digest was asked for, or there is no
model. Nothing is renamed, resized or left as it was initialised.

Weights that are computed in as they are stored stay in the file: it is mapped, and its
pages are shared by all processes that use it. Replace such a file, never write into it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from workers.medimageinsight.config import FULL, Config, parse_config
from workers.medimageinsight.ensemble import Ensemble
from workers.medimageinsight.errors import CheckpointError
from workers.medimageinsight.model import MedImageInsight
from workers.medimageinsight.prepared import PreparedTower, Weights

OFFICIAL_SHA256 = "5eeda63bf616a61664bc95b2c09d3b3d7125209e635678bd3f5f324e9bdb1414"
"""Digest of `FULL`'s weights: release 2024.09.27, 2,464,060,700 bytes, MIT licence."""

MANIFEST = "pack.json"
STORED_DTYPES = {"F32": torch.float32, "F16": torch.float16}
HALF = (torch.bfloat16, torch.float16)
IMAGE_TOWER = "image_encoder."
NAMED_FAULTS = 3


def load(
    path: Path | str,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    config: Config = FULL,
    sha256: str | None = OFFICIAL_SHA256,
) -> MedImageInsight:
    """Return the model in evaluation mode, its parameters frozen.

    To train it, call ``model.train().requires_grad_()``: in float32 or float64. In
    bfloat16 or float16 its matrices are rounded and its image tower is prepared for
    inference, while norms, sums and depth-wise convolutions stay in float32.

    Parameters
    ----------
    path
        A safetensors file of float32 or float16 tensors, or the folder of a pack,
        which says itself what `config` and `sha256` are.
    dtype
        What the model computes in.
    device
        Where it computes.
    config
        The sizes that the file must have.
    sha256
        The digest that the file must have, in hexadecimal digits. None takes any
        file with the right names and shapes: for weights that are your own.

    Raises
    ------
    CheckpointError
        If the file cannot be read, has another digest, or holds other names, shapes
        or dtypes than a model of this config has.
    """
    path = Path(path)
    if path.is_dir():
        path, config, sha256 = _of_pack(path)
    with torch.device("meta"):
        model = MedImageInsight(config)
    _load_into(model, path, dtype, torch.device(device), sha256)
    return model


def load_ensemble(
    path: Path,
    members: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    config: Config,
    sha256: str | None,
) -> Ensemble:
    """Return so many models of these sizes as one; else as `load`.

    Raises
    ------
    CheckpointError
        As `load` does.
    """
    with torch.device("meta"):
        model = Ensemble([MedImageInsight(config) for _ in range(members)])
    _load_into(model, path, dtype, torch.device(device), sha256)
    return model


def _load_into(
    model: MedImageInsight | Ensemble,
    path: Path,
    dtype: torch.dtype,
    device: torch.device,
    sha256: str | None,
) -> None:
    """Give the model its tensors, for evaluation, frozen."""
    try:
        if sha256 is not None:
            _check_digest(path, sha256)
        _check_tensors(path, model.state_dict())
        if dtype in HALF:
            _fill_half(model, path, dtype, device)
        else:
            _fill(model, path, dtype)
            model.to(device)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from error
    model.eval().requires_grad_(requires_grad=False)


def save(
    model: MedImageInsight | Ensemble, path: Path, *, dtype: torch.dtype = torch.float32
) -> str:
    """Write the weights, rounded to `dtype`, and return the file's SHA-256 digest.

    Raises
    ------
    ValueError
        If `load` would not take the dtype, or a weight is not finite in it.
    """
    if dtype not in STORED_DTYPES.values():
        raise ValueError(f"weights are stored as float32 or float16, not {dtype}")
    tensors = {
        name: tensor.detach().to(device="cpu", dtype=dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} is not finite as {dtype}")
    save_file(tensors, path)
    return _digest(path)


def _check_digest(path: Path, expected: str) -> None:
    actual = _digest(path)
    if actual != expected.lower():
        raise CheckpointError(f"{path}: has SHA-256 {actual}, expected {expected}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_pack(folder: Path) -> tuple[Path, Config, str]:
    """Return weights, sizes and digest of a pack's encoder."""
    manifest = folder / MANIFEST
    try:
        encoder = json.loads(manifest.read_bytes())["encoder"]
        if encoder.get("members", 1) != 1:
            raise CheckpointError(f"{manifest}: an encoder of several members, not one")
        config = parse_config(encoder["config"])
        return folder / encoder["weights"], config, str(encoder["sha256"])
    except OSError as error:
        raise CheckpointError(f"{manifest}: {error.strerror}") from error
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{manifest}: not the manifest of a pack") from error


def _check_tensors(path: Path, expected: Mapping[str, Tensor]) -> None:
    with safe_open(path, framework="pt", device="cpu") as file:
        names = set(file.keys())
        faults = [f"{name} is missing" for name in sorted(expected.keys() - names)]
        faults += [f"{name} is unknown" for name in sorted(names - expected.keys())]
        for name in sorted(names & expected.keys()):
            stored, shape = file.get_slice(name), list(expected[name].shape)
            if stored.get_shape() != shape:
                faults.append(f"{name} is {stored.get_shape()} and should be {shape}")
            if stored.get_dtype() not in STORED_DTYPES:
                faults.append(f"{name} is stored as {stored.get_dtype()}")
    if faults:
        raise CheckpointError(f"{path}: {_summary(faults)}")


def _fill(model: nn.Module, path: Path, dtype: torch.dtype) -> None:
    """Give the model its tensors: mapped if all are stored so, else converted."""
    names = list(model.state_dict())
    with safe_open(path, framework="pt", device="cpu") as file:
        stored = {STORED_DTYPES[file.get_slice(name).get_dtype()] for name in names}
        if stored == {dtype}:
            tensors = {name: file.get_tensor(name) for name in names}
            model.load_state_dict(tensors, strict=True, assign=True)
            return
    tensors = {name: _converted(path, name, dtype) for name in names}
    model.load_state_dict(tensors, strict=True, assign=True)


def _fill_half(
    model: MedImageInsight | Ensemble,
    path: Path,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Give the model its tensors, matrices in half precision."""
    for prefix, member in model.named_modules():
        if isinstance(member, MedImageInsight):
            member.image_encoder = PreparedTower(
                member.config.vision,
                _tower(path, f"{prefix}.{IMAGE_TOWER}".removeprefix(".")),
                dtype=dtype,
                device=device,
            )
    tensors = {
        name: _converted(path, name, dtype if _halved(name) else torch.float32)
        for name in model.state_dict()
    }
    there = {name: tensor.to(device) for name, tensor in tensors.items()}
    model.load_state_dict(there, strict=True, assign=True)


def _tower(path: Path, prefix: str) -> Weights:
    return lambda name: _converted(path, f"{prefix}{name}", None)


def _halved(name: str) -> bool:
    """Return whether a parameter of the text tower is a matrix, or goes with one."""
    return ".resblocks." in name and ".ln_" not in name


def _converted(path: Path, name: str, dtype: torch.dtype | None) -> Tensor:
    # A file that is mapped anew for each tensor never counts with more than the one.
    with safe_open(path, framework="pt", device="cpu") as file:
        tensor: Tensor = file.get_tensor(name)
        return tensor if dtype is None else tensor.to(dtype, copy=True)


def _summary(faults: list[str]) -> str:
    more = len(faults) - NAMED_FAULTS
    named = "; ".join(faults[:NAMED_FAULTS])
    return named if more <= 0 else f"{named}; and {more} more"
