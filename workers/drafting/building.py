"""From a draft to a sealed pack: its files gathered, named with their digests, checked.

The encoder may be that of another pack; then its weights are linked where the file
system allows it, and heads that the draft names and does not hold are that pack's, too.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dicom_node.errors import Permanent
from workers.drafting.draft import CARD, DRAFT, read_draft
from workers.manifest import MANIFEST, parse_manifest
from workers.pack import Pack, locate, open_pack, seal
from workers.placing import Progress, in_one_piece, link_or_copy


def build(draft: Path, out: Path, *, progress: Progress) -> Pack:
    """Return the pack that was written to `out`.

    Parameters
    ----------
    draft
        A folder with ``pack.toml`` and the files that it names.

    Raises
    ------
    Permanent
        If the draft is not understood or not filled in, or a file is not there.
    """
    said = read_draft(draft)
    encoder = said.get("encoder")
    name = encoder.get("from") if isinstance(encoder, dict) else None
    other = open_pack(locate(name)) if isinstance(name, str) else None
    if other is not None:
        said = _with_encoder(said, other)
    text = json.dumps(_unsealed(said)).encode()
    manifest = parse_manifest(text, draft / DRAFT)
    sources = [draft] if other is None else [draft, other.folder]
    with in_one_piece(out) as folder:
        for part in sorted(manifest.parts):
            _gather(part, sources, folder, progress)
        home = sources[-1]
        for path in sorted((home / manifest.encoder.tokenizer).rglob("*")):
            if path.is_file():
                part = path.relative_to(home).as_posix()
                _gather(part, [home], folder, progress)
        if not Path(manifest.encoder.weights).is_absolute():
            _gather(manifest.encoder.weights, [home], folder, progress)
        if (draft / CARD).is_file():
            _gather(CARD, [draft], folder, progress)
        sealed = seal(folder, said)
    return replace(sealed, folder=out.resolve())


def _with_encoder(said: Mapping[str, Any], other: Pack) -> dict[str, Any]:
    """Return the draft on the encoder of `other`, which says nothing else of its own."""
    theirs = json.loads((other.folder / MANIFEST).read_bytes())
    own = {key: value for key, value in said["encoder"].items() if key != "from"}
    return {
        "preprocessing": theirs["preprocessing"],
        **said,
        "encoder": {**theirs["encoder"], **own},
    }


def _unsealed(said: Mapping[str, Any]) -> dict[str, Any]:
    encoder = said.get("encoder")
    filled = {**encoder, "sha256": ""} if isinstance(encoder, dict) else encoder
    return {**said, "encoder": filled, "files": {}}


def _gather(part: str, sources: list[Path], folder: Path, progress: Progress) -> None:
    """Link or copy a file from the first of `sources` that has it."""
    home = next((source for source in sources if (source / part).is_file()), None)
    if home is None:
        raise Permanent(f"{sources[0] / part}: the draft names it, and it is not there")
    if not (folder / part).resolve().is_relative_to(folder.resolve()):
        raise Permanent(f"{part} lies outside the pack")
    (folder / part).parent.mkdir(parents=True, exist_ok=True)
    link_or_copy((home / part).resolve(), folder / part, progress)
