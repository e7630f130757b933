"""What the page shows: the frames that matter, else the middle of what was looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom_node.domain import (
    Exam,
    Flag,
    FrameScore,
    InputFile,
    Result,
    SeriesUid,
    Unreadable,
    Urgency,
)
from dicom_node.errors import Permanent
from tests import builders
from tests.images import PIXELS, image, save
from workers.decoding import DecodePool
from workers.evidence import Shot, choose, pictures, sources
from workers.geometry import NOWHERE, Geometry
from workers.study import image_ref
from workers.volumes import Volume, slice_of, volumes


def file(number: int = 1, **changes: Any) -> InputFile:
    """Return an instance of the study, as `builders.image_ref` numbers it."""
    ref = builders.image_ref(number)
    values: dict[str, Any] = {
        "version": number,
        "path": f"{number}.dcm",
        "sha256": ref.sha256,
        "series_uid": ref.series_uid,
        "sop_instance_uid": ref.sop_instance_uid,
        "sop_class_uid": ref.sop_class_uid,
        "exam": Exam(modality="CT", body_part="HEAD"),
        "frames": 1,
        "instance_number": number,
    }
    return InputFile(**values | changes)


def result(
    files: Sequence[InputFile], *findings: dict[int, float], **changes: Any
) -> Result:
    """Return a result whose findings have these scores, by the files' number."""
    by_number = {f.version: image_ref(f) for f in files}
    found = [
        builders.finding(
            max(scores.values()),
            key=f"finding {n}",
            urgency=list(Urgency)[n],
            evidence=tuple(
                FrameScore(image=by_number[number], frame=0, score=score)
                for number, score in scores.items()
            ),
        )
        for n, scores in enumerate(findings)
    ]
    images = tuple(by_number.values())
    return builders.result(found, **{"images": images} | changes)


def shots(
    made: Result,
    files: Sequence[InputFile],
    geometries: Mapping[int, Geometry] | None = None,
) -> tuple[Shot, ...]:
    """Return what is shown of files whose geometry is given by their number."""
    return choose(made, files, laid_out(files, geometries))


def laid_out(
    files: Sequence[InputFile], geometries: Mapping[int, Geometry] | None = None
) -> tuple[Volume, ...]:
    """Return the volumes of files, by default of such as state no geometry."""
    return volumes(
        slice_of(one, frame, (geometries or {}).get(one.version, NOWHERE))
        for one in files
        for frame in range(one.frames)
    )


def numbers(made: Result, files: Sequence[InputFile]) -> list[int]:
    """Return the numbers of the files that are shown."""
    return [shot.file.version for shot in shots(made, files)]


SERIES = [file(n) for n in range(1, 29)]


def test_flagged_findings_show_the_slices_that_matter() -> None:
    """Those at or above the threshold, highest first, with their score."""
    made = result(SERIES, {12: 0.9, 13: 0.8, 11: 0.6, 14: 0.3, 10: 0.1})
    assert numbers(made, SERIES) == [12, 13, 11]
    shown = shots(made, SERIES)
    assert [shot.score for shot in shown] == [0.9, 0.8, 0.6]
    assert shown[0].label == "slice 12 of 28"


def test_slices_are_named_by_where_they_lie() -> None:
    """Instance 12 of a series that was numbered from the top is the 17th from below."""
    turned = {
        n: Geometry(position=(0, 0, -5.0 * n), orientation=(1, 0, 0, 0, 1, 0))
        for n in range(1, 29)
    }
    shown = shots(result(SERIES, {12: 0.9}), SERIES, turned)
    assert [shot.label for shot in shown] == ["slice 17 of 28"]


def test_what_tells_volumes_apart_stands_in_the_label() -> None:
    """Two echoes at the same places: each counts its own slices."""
    echoes = {
        n: Geometry(
            position=(0, 0, float(n // 2)),
            orientation=(1, 0, 0, 0, 1, 0),
            echo=1 + n % 2,
        )
        for n in range(1, 29)
    }
    shown = shots(result(SERIES, {12: 0.9}), SERIES, echoes)
    assert [shot.label for shot in shown] == ["slice 6 of 14, echo 1"]


def test_a_localiser_is_not_shown_where_there_is_a_volume() -> None:
    """However many images it has."""
    scouts = [file(n, series_uid=SeriesUid("1.9")) for n in range(50, 90)]
    survey = {s.version: Geometry(image_type=("ORIGINAL", "LOCALIZER")) for s in scouts}
    files = [*scouts, *SERIES]
    made = builders.result(
        [builders.finding(None)], images=tuple(map(image_ref, files))
    )
    shown = shots(made, files, survey)
    assert {shot.file.series_uid for shot in shown} == {SERIES[0].series_uid}


def test_several_flagged_findings_take_turns() -> None:
    """The most urgent leads; no slice is shown twice; scores are the leader's."""
    made = result(SERIES, {12: 0.9, 13: 0.8}, {20: 0.99, 12: 0.7, 21: 0.6})
    assert numbers(made, SERIES) == [12, 20, 13, 21]
    assert [shot.score for shot in shots(made, SERIES)] == [0.9, None, 0.8, None]


def test_a_page_has_room_for_six() -> None:
    """Whatever is flagged."""
    scores = {n: 0.9 - n / 100 for n in range(1, 6)}
    other = {n: 0.9 - n / 100 for n in range(11, 16)}
    assert len(numbers(result(SERIES, scores, other), SERIES)) == 6


def test_the_highest_slice_is_shown_even_below_the_threshold() -> None:
    """The score of a study may be more than that of any slice."""
    made = result(SERIES, {12: 0.4})
    flagged = replace(made.findings[0], flag=Flag.ABOVE)
    assert numbers(replace(made, findings=(flagged,)), SERIES) == [12]


def test_where_nothing_is_flagged_the_middle_of_the_series_is_shown() -> None:
    """Six slices, evenly spread, the ends left out."""
    made = result(SERIES, {3: 0.2, 1: 0.1})
    shown = numbers(made, SERIES)
    assert shown == [6, 10, 13, 16, 19, 23]


def test_the_series_that_was_looked_at_goes_before_a_longer_one() -> None:
    """A long localiser is not what the score rests on."""
    other = [file(n, series_uid=SeriesUid("1.9")) for n in range(50, 100)]
    files = [*other, *SERIES]
    assert set(numbers(result(files, {3: 0.2}), files)) <= set(range(1, 29))


def test_two_radiographs_are_both_shown() -> None:
    """The one that was scored first, then the middle of each other series."""
    pa = file(1, exam=Exam(modality="DX", view="PA"))
    lateral = file(2, exam=Exam(modality="DX", view="LL"), series_uid=SeriesUid("1.1"))
    shown = shots(result([pa, lateral], {1: 0.2}), [lateral, pa])
    assert [shot.label for shot in shown] == ["DX PA", "DX LL"]


def test_a_study_that_was_not_evaluated_is_shown_all_the_same() -> None:
    """A radiologist sees which images the report is about."""
    made = builders.result(
        [builders.finding(None)], images=tuple(map(image_ref, SERIES))
    )
    assert len(numbers(made, SERIES)) == 6


def test_what_cannot_be_read_or_has_no_frames_is_not_chosen() -> None:
    """Neither unreadable frames nor reports."""
    files = [file(1), file(2, frames=0), file(3)]
    made = builders.result(
        [builders.finding(None)],
        images=tuple(map(image_ref, files)),
        unreadable=(Unreadable(image=image_ref(files[0]), frame=0, reason="bad"),),
    )
    assert numbers(made, files) == [3]
    assert numbers(made, files[:2]) == []


def test_frames_of_one_file_are_counted_as_frames() -> None:
    """Ten frames, six shown."""
    many = file(1, frames=10, exam=Exam(modality="US"))
    shown = shots(result([many], {1: 0.2}), [many])
    assert [shot.frame for shot in shown] == [2, 3, 4, 5, 6, 7]
    assert shown[0].label == "frame 3 of 10"


# ── pixels and headers ──────────────────────────────────────────────────────


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Return a folder with the files 1 to 3: two images, and one that is broken."""
    for number in (1, 2):
        dataset = image(
            PIXELS * number, PixelSpacing=["2", "1"], WindowCenter="9", WindowWidth="99"
        )
        dataset.SOPInstanceUID = builders.image_ref(number).sop_instance_uid
        save(dataset, tmp_path / f"{number}.dcm")
    (tmp_path / "3.dcm").write_bytes(b"broken")
    return tmp_path


def test_pictures_are_ready_to_be_drawn(spool: Path, spare_pool: DecodePool) -> None:
    """In the header's window, with aspect, label and score; broken ones left out."""
    files = [file(n) for n in (1, 2, 3)]
    made = result(files, {3: 0.9, 2: 0.8, 1: 0.7})
    shown = pictures(made, files, laid_out(files), spool, spare_pool)
    assert [p.image for p in shown] == [image_ref(files[1]), image_ref(files[0])]
    assert [p.label for p in shown] == ["slice 2 of 3", "slice 1 of 3"]
    assert [p.score for p in shown] == [0.8, 0.7]
    assert {p.pixel_aspect_ratio for p in shown} == {2.0}
    assert shown[0].pixels.shape == PIXELS.shape


def test_sources_are_the_headers_that_the_objects_refer_to(spool: Path) -> None:
    """Of shown and scored images, without pixels."""
    files = [file(n) for n in (1, 2)]
    made = result(files, {2: 0.9, 1: 0.1})
    headers = sources(made, files, laid_out(files), spool)
    uids = [header.SOPInstanceUID for header in headers]
    assert uids == [files[1].sop_instance_uid, files[0].sop_instance_uid]
    assert all("PixelData" not in header for header in headers)


def test_there_is_always_a_source(spool: Path) -> None:
    """A report on unreadable images still names the patient."""
    files = [file(1)]
    made = builders.result(
        [builders.finding(None)],
        images=(image_ref(files[0]),),
        unreadable=(Unreadable(image=image_ref(files[0]), frame=0, reason="bad"),),
    )
    assert len(sources(made, files, (), spool)) == 1


def test_a_source_that_is_gone_is_an_error(spool: Path) -> None:
    """A report cannot be about nobody."""
    files = [file(9)]
    with pytest.raises(Permanent, match="cannot be read"):
        sources(result(files, {9: 0.9}), files, laid_out(files), spool)
