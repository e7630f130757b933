"""A pack's files in another folder, where another pack is made of it."""

import json
from pathlib import Path
from typing import Any

from dicom_node.errors import Permanent
from workers.manifest import MANIFEST
from workers.pack import Pack, seal
from workers.placing import Progress, link_or_copy


def copy_parts(pack: Pack, folder: Path, progress: Progress) -> dict[str, Any]:
    """Return the manifest of a pack whose files now lie in `folder`, to be changed.

    Weights that the manifest names by an absolute path stay where they are.
    """
    for part in pack.manifest.files:
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(pack.folder / part, folder / part, progress)
    if not Path(pack.manifest.encoder.weights).is_absolute():
        weights = folder / pack.manifest.encoder.weights
        link_or_copy(pack.weights.resolve(), weights, progress)
    manifest: dict[str, Any] = json.loads((pack.folder / MANIFEST).read_bytes())
    return manifest


def seal_again(pack: Pack, folder: Path, manifest: dict[str, Any]) -> Pack:
    """Return the pack that `folder` becomes, of the encoder that `pack` has.

    Files that it no longer names are taken away.

    Raises
    ------
    Permanent
        If the weights changed meanwhile, or the manifest is none.
    """
    sealed = seal(folder, manifest)
    if sealed.manifest.encoder.sha256 != pack.manifest.encoder.sha256:
        raise Permanent(f"{pack.weights} changed while it was copied")
    for part in pack.manifest.files.keys() - sealed.manifest.files.keys():
        (folder / part).unlink()
    return sealed
