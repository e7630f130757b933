"""Key objects: the frames that raised a flag, for viewers that jump to them.

A Key Object Selection "Of Interest". It speaks of the threshold, it is no diagnosis;
where nothing is flagged there is none.
"""

from collections.abc import Iterator

from dicom_node.domain import EncodedObject, Finding, ImageRef, ObjectKind, Result
from sr_writer import codes
from sr_writer.document import Basis, frame_numbers, is_image_class
from sr_writer.selection import Selected, encode_selection


def encode_key_objects(basis: Basis) -> EncodedObject | None:
    """Return the frames that a result's flags rest on, or None where there are none."""
    selected = list(_flagged_images(basis.result))
    if not selected:
        return None
    return encode_selection(
        basis,
        ObjectKind.KEY_OBJECTS,
        title=codes.OF_INTEREST,
        description=description(basis.result),
        selected=selected,
    )


def description(result: Result) -> str:
    """Return in words why the frames were selected."""
    algorithm, flagged = result.algorithm, result.flagged
    count = f"{len(flagged)} of {len(result.findings)} at or above threshold"
    lines = [
        "RESEARCH, NOT FOR DIAGNOSIS",
        f"Images that {algorithm.name} {algorithm.version} scored highest; {count}:",
        *(_words(finding) for finding in flagged),
    ]
    if algorithm.statement:
        lines.append(algorithm.statement)
    return "\n".join(lines)


def _words(finding: Finding) -> str:
    side = f" ({finding.laterality.meaning.lower()})" if finding.laterality else ""
    words = f"{finding.concept.meaning}{side}, {finding.urgency}"
    if (score := finding.score) is not None:
        kind = "probability" if score.calibration_set else "score"
        words += f": {kind} {score.value:.6g}"
    if (point := finding.operating_point) is not None:
        words += f", threshold {point.threshold:.6g} ({point.name})"
    return words


def _flagged_images(result: Result) -> Iterator[Selected]:
    """Yield each image once, most urgent finding's first, with its frames."""
    frames: dict[ImageRef, set[int]] = {}
    for finding in result.flagged:
        for one in finding.decisive:
            frames.setdefault(one.image, set()).add(one.frame)
    for image, indices in frames.items():
        yield Selected(
            instance=image,
            image=is_image_class(image.sop_class_uid),
            frames=frame_numbers(image, indices),
        )
