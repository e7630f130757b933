"""The capture: a page that is a valid image, and claims nothing that it is not."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
)

from dicom_node.domain import FrameScore, ObjectKind, Result
from sr_writer.compose import compose
from sr_writer.page import Picture, draw_page
from tests.builders import cine, ct_images, finding, image_ref, result, source_header


def capture(
    made_from: Result | None = None, *sources: Dataset, pictures: Any = ()
) -> Dataset:
    """Return the secondary capture of a result, re-read."""
    made_from = made_from or result()
    headers = sources or (source_header(made_from.images[0]),)
    (obj,) = compose(made_from, headers, pictures, kinds=[ObjectKind.CAPTURE])
    return dcmread(BytesIO(obj.content))


def picture(**changes: Any) -> Picture:
    """Return a small picture."""
    values: dict[str, Any] = {
        "pixels": np.full((8, 8), 128, np.uint8),
        "image": image_ref(),
    }
    return Picture(**values | changes)


def test_it_is_an_rgb_page_without_spacing() -> None:
    sc = capture(pictures=[picture()])
    assert sc.SOPClassUID == SecondaryCaptureImageStorage
    assert sc.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert sc.Modality == "OT"
    assert list(sc.ImageType) == ["DERIVED", "SECONDARY"]
    assert sc.PhotometricInterpretation == "RGB"
    assert (sc.BitsAllocated, sc.SamplesPerPixel) == (8, 3)
    assert not [k for k in sc.dir("Spacing") if k in sc]
    assert "PatientOrientation" in sc
    assert not sc.PatientOrientation


def test_its_pixels_are_the_page() -> None:
    r = result()
    sc = capture(r, pictures=[picture()])
    when = r.concluded_at.astimezone()
    page = draw_page(r, [picture()], concluded_at=when).pixels
    # the line with the time differs with the zone; the pictures do not
    assert np.array_equal(sc.pixel_array[116:860], page[116:860])


def test_it_names_the_images_that_it_rests_on() -> None:
    images = ct_images(28)
    evidence = (FrameScore(image=images[4], frame=0, score=0.9),)
    r = result([finding(0.9, evidence=evidence)], images=images)
    sc = capture(r, pictures=[picture(image=images[4]), picture(image=images[7])])
    assert [i.ReferencedSOPInstanceUID for i in sc.SourceImageSequence] == [
        images[4].sop_instance_uid,
        images[7].sop_instance_uid,
    ]
    (purpose,) = sc.SourceImageSequence[0].PurposeOfReferenceCodeSequence
    assert purpose.CodeValue == "121322"
    assert sc.DerivationDescription == "Page with the AI result of chest-demo 1.2.0"


def test_frames_of_one_instance_are_named_together_counted_from_one() -> None:
    image = cine()
    evidence = tuple(FrameScore(image=image, frame=f, score=0.9) for f in (11, 4))
    sc = capture(result([finding(0.9, evidence=evidence)], images=(image,)))
    (item,) = sc.SourceImageSequence
    assert list(item.ReferencedFrameNumber) == [5, 12]


def test_a_run_that_looked_at_nothing_still_names_its_study_s_first_image() -> None:
    sc = capture(result([], reason="out of scope"))
    assert len(sc.SourceImageSequence) == 1


# ── inherited ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (["NO"], "NO"),
        (["NO", "NO"], "NO"),
        (["NO", "YES"], "YES"),
        (["NO", None], None),
        ([None], None),
    ],
)
def test_burned_in_identity_is_denied_only_where_every_source_denies_it(
    stated: list[str | None], expected: str | None
) -> None:
    images = tuple(image_ref(n) for n in range(1, len(stated) + 1))
    headers = [
        source_header(i, BurnedInAnnotation=s)
        for i, s in zip(images, stated, strict=True)
    ]
    sc = capture(result(images=images), *headers)
    assert sc.get("BurnedInAnnotation") == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "NO"),
        ({"RecognizableVisualFeatures": "YES"}, "YES"),
        ({"Modality": "XC"}, "YES"),
        ({"Modality": "XC", "RecognizableVisualFeatures": "NO"}, "NO"),
    ],
)
def test_recognizable_features_are_inherited(
    changes: dict[str, Any], expected: str
) -> None:
    sc = capture(None, source_header(**changes))
    assert sc.RecognizableVisualFeatures == expected


def test_lossy_compression_is_inherited_with_ratio_and_method() -> None:
    lossy: dict[str, Any] = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": ["10", "2"],
        "LossyImageCompressionMethod": ["ISO_10918_1", "ISO_15444_1"],
    }
    sc = capture(None, source_header(**lossy))
    assert sc.LossyImageCompression == "01"
    assert [float(r) for r in sc.LossyImageCompressionRatio] == [10, 2]
    assert list(sc.LossyImageCompressionMethod) == ["ISO_10918_1", "ISO_15444_1"]
    assert capture().LossyImageCompression == "00"


@pytest.mark.parametrize(
    ("syntax", "stated", "expected"),
    [
        (JPEGBaseline8Bit, None, "01"),
        (JPEGBaseline8Bit, "00", "00"),
        (JPEG2000Lossless, None, "00"),
    ],
)
def test_a_lossy_transfer_syntax_counts_where_the_header_is_silent(
    syntax: str, stated: str | None, expected: str
) -> None:
    header = source_header(LossyImageCompression=stated)
    header.file_meta.TransferSyntaxUID = UID(syntax)
    assert capture(None, header).LossyImageCompression == expected


@pytest.mark.parametrize(
    ("changes", "body_part", "laterality"),
    [
        ({}, "CHEST", None),
        ({"Laterality": "L"}, "CHEST", None),
        ({"BodyPartExamined": "KNEE", "Laterality": "L"}, "KNEE", "L"),
        ({"BodyPartExamined": "KNEE", "ImageLaterality": "R"}, "KNEE", "R"),
        ({"BodyPartExamined": "KNEE"}, "KNEE", ""),
        ({"BodyPartExamined": None}, None, ""),
    ],
)
def test_body_part_and_side_are_the_source_s(
    changes: dict[str, Any], body_part: str | None, laterality: str | None
) -> None:
    """None: the attribute is absent."""
    sc = capture(None, source_header(**changes))
    assert sc.get("BodyPartExamined") == body_part
    side = (sc.Laterality or "") if "Laterality" in sc else None
    assert side == laterality
