"""Pairs from a table of labels: what a pack's prompts say of each labelled image.

A finding that is present pairs the image with one of the prompts that say so, one that
is absent with one of the others; what is uncertain or missing pairs with nothing. All
images of which the same is said of a finding belong together.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from dicom_node.errors import Permanent
from workers.asked import Prompts
from workers.cohort import Cohort, Role, Truth, read_cohort
from workers.finetuning.pairs import TRAIN, TUNE, Pair, Pairs, paired, read_pairs
from workers.listing import ImageSource, files_in, images
from workers.pack import Pack

_ROLES = {None: TRAIN, Role.TRAIN: TRAIN, Role.TUNE: TUNE}
"""What patients of other roles have is never looked at."""


def pairs_of(path: Path, pack: Pack, folder: Path) -> Pairs:
    """Return the pairs of a table, be it one of pairs or one of labels.

    Parameters
    ----------
    folder
        Of the images that labels are of.

    Raises
    ------
    Permanent
        If it is neither, or no label is of a finding that the pack has prompts for.
    """
    return from_labels(path, pack, folder) if _has_labels(path) else read_pairs(path)


def from_labels(path: Path, pack: Pack, folder: Path) -> Pairs:
    """Return the pairs that a table of labels makes with a pack's prompts."""
    cohort = read_cohort(path)
    prompts = {f.key: f.prompts for f in pack.findings if f.prompts is not None}
    asked = {key: prompts[key] for key in cohort.findings if key in prompts}
    if not asked:
        raise Permanent(
            f"{path}: labels {', '.join(cohort.findings)}, and pack {pack.name} has "
            f"prompts for {', '.join(prompts) or 'nothing'}"
        )
    if cohort.unit_kind != "sop_instance_uid":
        raise Permanent(f"{path}: an encoder learns from images, not from series")
    files = _files(folder)
    return paired(list(_pairs(cohort, asked, files, path)), str(path))


def _pairs(
    cohort: Cohort, asked: Mapping[str, Prompts], files: Mapping[str, str], path: Path
) -> Iterator[Pair]:
    for key, prompts in asked.items():
        column = cohort.column(key)
        for row, uid in enumerate(cohort.units):
            truth = Truth(int(cohort.truth[row, column]))
            patient = int(cohort.patient[row])
            role = _ROLES.get(cohort.roles[patient])
            if role is None or truth not in (Truth.PRESENT, Truth.ABSENT):
                continue
            if uid not in files:
                raise Permanent(f"{path}: there is no image {uid} in the folder")
            texts = prompts.positive if truth else prompts.negative
            yield Pair(
                file=files[uid],
                text=texts[row % len(texts)],
                label=f"{key}={truth.value}",
                patient=cohort.patients[patient],
                role=role,
            )


def _files(folder: Path) -> dict[str, str]:
    """Return where each image lies, relative to the folder."""
    found = images(list(files_in([folder])), {})
    root = folder.absolute()
    return {
        one.sop_instance_uid: str(Path(one.stamp.path).relative_to(root))
        for one in found
        if isinstance(one, ImageSource)
    }


def _has_labels(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return "label" in [name.strip() for name in file.readline().split(",")]
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from error
    except UnicodeError as error:
        raise Permanent(f"{path}: not a CSV file ({error})") from error
