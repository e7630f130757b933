"""Labelled images for a pack that estimates: their embeddings and values go into it.

The embeddings are those of ``pacsight embed`` with the same pack: a safetensors file
with ``embeddings`` (N, D) and, in its metadata, which image each row is. The labels are
a CSV file. The new pack holds embeddings and values, and no identifier of anybody.
"""

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from dicom_node.errors import Permanent
from workers.cohort import check_encoder, read_embeddings
from workers.copying import copy_parts, seal_again
from workers.neighbours import References
from workers.pack import Pack
from workers.placing import Progress, in_one_piece

_FILE = "references.safetensors"
_UID, _VALUE = "sop_instance_uid", "value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplied:
    """The pack with references, and how many labels found no image, and images none."""

    pack: Pack
    references: int
    labels_left: int
    images_left: int


def supply(
    pack: Pack, out: Path, *, embeddings: Path, labels: Path, progress: Progress
) -> Supplied:
    """Return the pack that was written to `out`: the same one, with references.

    Parameters
    ----------
    embeddings
        A file of ``pacsight embed`` with this pack's encoder.
    labels
        CSV with a header: ``sop_instance_uid`` and ``value``, in the estimate's unit.

    Raises
    ------
    Permanent
        If the pack estimates nothing, or a file is not what it should be.
    """
    if len(pack.manifest.estimates) != 1:
        raise Permanent(f"pack {pack.name} does not estimate just one quantity")
    values = _read_labels(labels)
    embedded = read_embeddings(embeddings)
    check_encoder(embedded, pack.encoder_key, pack.name)
    uids = embedded.sop_instances
    rows = [row for row, uid in enumerate(uids) if uid in values]
    if not rows:
        raise Permanent(f"no image of {embeddings} is labelled in {labels}")
    references = References(
        embeddings=np.ascontiguousarray(embedded.vectors[rows]),
        values=np.array([values[uids[row]] for row in rows], dtype=np.float32),
    )
    made = _write(pack, out, references, progress)
    return Supplied(
        pack=made,
        references=len(rows),
        labels_left=len(values.keys() - set(uids)),
        images_left=len(uids) - len(rows),
    )


def _read_labels(path: Path) -> dict[str, float]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {_UID, _VALUE} <= set(reader.fieldnames or ()):
                raise Permanent(f"{path}: needs the columns {_UID} and {_VALUE}")
            values: dict[str, float] = {}
            for row in reader:
                uid, value = (row[_UID] or "").strip(), _number(row[_VALUE])
                where = f"{path}, line {reader.line_num}"
                if not uid or value is None:
                    raise Permanent(f"{where}: needs a UID and a number")
                if values.setdefault(uid, value) != value:
                    raise Permanent(f"{where}: {uid} has another value above")
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error
    except (UnicodeError, csv.Error) as error:
        raise Permanent(f"{path}: not a CSV file ({error})") from error
    return values


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _write(pack: Pack, out: Path, references: References, progress: Progress) -> Pack:
    with in_one_piece(out) as folder:
        manifest = copy_parts(pack, folder, progress)
        (folder / _FILE).unlink(missing_ok=True)
        arrays = {"embeddings": references.embeddings, "values": references.values}
        save_file(arrays, folder / _FILE)
        manifest["estimates"][0]["head"]["references"] = _FILE
        sealed = seal_again(pack, folder, manifest)
    return replace(sealed, folder=out.resolve())
