"""A pack of MedImageInsight's weights: from the released files to a folder that runs.

The weights are the official file, by its digest, or they are marked as unofficial; in
either case every tensor of the model comes from the file. The pack is made beside its
place and moved there whole. What it asks of a study is a template: a manifest without
digests, as data in ``workers/packs/medimageinsight``.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors import safe_open

from dicom_node.errors import Permanent
from workers.medimageinsight import CheckpointError, Config, Tokenizer, load
from workers.medimageinsight.release import Release
from workers.medimageinsight.renaming import needs_renaming, rewrite
from workers.pack import Pack, seal
from workers.placing import CHUNK, Progress, in_one_piece, link_or_copy
from workers.precision import AUTO, REFERENCE, Choice, choose_profile

UNOFFICIAL = "Unofficial weights: not the file that was released."
UNKNOWN_DATA = "whatever else unofficial weights have seen"

_WEIGHTS, _TOKENIZER = "weights.safetensors", "tokenizer"
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the files of a model lie, and what they may be.

    Parameters
    ----------
    weights
        A safetensors file, whatever its name ends in.
    tokenizer
        A folder with ``vocab.json`` and ``merges.txt``.
    allow_unofficial
        Take weights that are not those of the release, and mark the pack.
    """

    weights: Path
    tokenizer: Path
    allow_unofficial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The pack that was made, and why it is computed as it is."""

    pack: Pack
    choice: Choice


def import_pack(
    origin: Origin,
    out: Path,
    *,
    kind: str,
    release: Release,
    progress: Progress,
    profile: str = AUTO,
) -> Imported:
    """Return the pack that was written to `out`.

    Parameters
    ----------
    out
        A folder that is empty, or not there.
    kind
        What the pack asks: one of `kinds`.
    release
        What the official weights are.
    profile
        What it is computed in: a numeric profile, or ``auto`` for a measured choice.

    Raises
    ------
    Permanent
        If a file is not what it should be, or the pack cannot be written. Nothing is
        left behind then, nor after an interrupt.
    """
    template = read_template(kind)
    with in_one_piece(out) as folder:
        _place_tokenizer(origin.tokenizer, folder / _TOKENIZER, release)
        weights = origin.weights.resolve()
        digest = _identify(weights, release, origin, progress)
        official = digest == release.sha256
        _place_weights(weights, folder / _WEIGHTS, release.config, progress)
        _check_weights(weights, folder / _WEIGHTS, release.config, finite=not official)
        size = weights.stat().st_size
        progress("sealing", 0, size)
        manifest = {
            **(template if official else _marked(template)),
            "encoder": _encoder(folder / _WEIGHTS, release, official=official),
        }
        pack = seal(folder, manifest)
        if official and pack.manifest.encoder.sha256 != release.sha256:
            raise Permanent(f"{origin.weights} changed while it was imported")
        progress("sealing", size, size)
        choice = choose_profile(pack, profile, progress=progress)
        pack = seal(folder, choice.applied(manifest))
    return Imported(pack=replace(pack, folder=out.resolve()), choice=choice)


def kinds() -> tuple[str, ...]:
    """Return the names of the templates."""
    names = (entry.name for entry in _templates().iterdir())
    return tuple(sorted(n.removesuffix(".json") for n in names if n.endswith(".json")))


def read_template(kind: str) -> dict[str, Any]:
    """Return the manifest of a ready pack, without encoder and digests.

    Raises
    ------
    Permanent
        If there is none of that name.
    """
    if kind not in kinds():
        raise Permanent(f"there is no pack of kind {kind!r}: {', '.join(kinds())}")
    template: dict[str, Any] = json.loads(
        (_templates() / f"{kind}.json").read_text("utf-8")
    )
    return template


def _templates() -> Any:
    return files("workers.packs") / "medimageinsight"


def _identify(
    weights: Path, release: Release, origin: Origin, progress: Progress
) -> str:
    """Return the digest of the weights, which is the official one or may be another."""
    official = f"the official weights of release {release.name}"
    remedy = "get the file again, or say --allow-unofficial"
    size = weights.stat().st_size
    if size != release.size_bytes and not origin.allow_unofficial:
        raise CheckpointError(
            f"{origin.weights}: has {size:,} bytes, and {official} have "
            f"{release.size_bytes:,}: {remedy}"
        )
    digest = _digest(weights, progress)
    if digest != release.sha256 and not origin.allow_unofficial:
        raise CheckpointError(
            f"{origin.weights}: has SHA-256 {digest[:12]}..., and {official} have "
            f"{release.sha256[:12]}...: {remedy}"
        )
    return digest


def _digest(path: Path, progress: Progress) -> str:
    size, done, digest = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
            done += len(block)
            progress("checking weights", done, size)
    return digest.hexdigest()


def _place_weights(
    source: Path, target: Path, config: Config, progress: Progress
) -> None:
    """Put the weights into the pack: rewritten where tensors have older names."""
    if needs_renaming(source, context=config.text.context):
        size = source.stat().st_size
        progress("renaming tensors", 0, size)
        try:
            rewrite(source, target, context=config.text.context)
        except CheckpointError as error:
            raise CheckpointError(f"{source}: {error}") from error
        progress("renaming tensors", size, size)
        return
    link_or_copy(source, target, progress)


def _check_weights(source: Path, stored: Path, config: Config, *, finite: bool) -> None:
    """Raise unless the file holds the model's tensors: name, shape, dtype, numbers."""
    try:
        model = load(stored, config=config, sha256=None)
    except CheckpointError as error:
        fault = str(error).removeprefix(f"{stored}: ")
        raise CheckpointError(f"{source}: {fault}") from error
    if not finite:
        return
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{source}: {name} holds a value that is no number")


def _place_tokenizer(source: Path, target: Path, release: Release) -> None:
    """Write the tokenizer into the pack, alike whatever its line ends were."""
    text = release.config.text
    tokenizer = Tokenizer.load(source, context=text.context)
    if tokenizer.vocabulary != text.vocabulary:
        raise CheckpointError(
            f"{source}: has {tokenizer.vocabulary:,} tokens, "
            f"and the model {text.vocabulary:,}"
        )
    for known in release.known_ids:
        if " ".join(map(str, tokenizer.ids(known.text))) != known.ids:
            raise CheckpointError(
                f"{source}: not the tokenizer of release {release.name}: "
                f"it gives other ids to {known.text!r}"
            )
    vocabulary = json.loads((source / "vocab.json").read_text("utf-8"))
    ordered = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    merges = (source / "merges.txt").read_text("utf-8").rstrip("\n")
    target.mkdir()
    vocab = json.dumps(ordered, ensure_ascii=False, indent=0)
    (target / "vocab.json").write_text(f"{vocab}\n", "utf-8")
    (target / "merges.txt").write_text(f"{merges}\n", "utf-8")


def _encoder(weights: Path, release: Release, *, official: bool) -> dict[str, Any]:
    """Return what the manifest says of the model, but for the digest."""
    config = release.config
    with safe_open(weights, framework="numpy") as file:
        dtype = file.get_slice("logit_scale").get_dtype()
    return {
        "config": asdict(config),
        "weights": _WEIGHTS,
        "dtype": _DTYPES[dtype],
        "numeric_profile": REFERENCE,
        "embedding_dim": config.embedding,
        "tokenizer": _TOKENIZER,
        "training_data": [
            *release.training_data,
            *(() if official else (UNKNOWN_DATA,)),
        ],
    }


def _marked(template: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **template,
        "title": f"Unofficial weights: {template['title']}",
        "statement": f"{UNOFFICIAL} {template['statement']}",
    }
