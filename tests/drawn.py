"""Results drawn at random, with everything that a result may hold: for hypothesis."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedMRImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from dicom_node.domain import (
    AtlasSearch,
    Category,
    Choice,
    Code,
    Completion,
    Estimate,
    Finding,
    Flag,
    FrameScore,
    ImageRef,
    OperatingPoint,
    Predecessor,
    ReferenceCase,
    Result,
    Score,
    SeriesUid,
    SopClassUid,
    SopInstanceUid,
    Unreadable,
    Urgency,
)
from dicom_node.domain.identity import patient_digest
from tests.builders import (
    ISSUER,
    PATIENT_ID,
    STUDY_UID,
    algorithm,
    digest,
    image_ref,
    result,
)

NUMBERS = st.floats(-1e30, 1e30, allow_nan=False)
COUNTS = st.integers(0, 1000)
WORDS = st.text(
    st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=90
)
"""Anything that can be printed, backslashes included."""
NAMES = WORDS.map(str.strip).filter(bool)
KEYS = st.text("abcdefghij-_/0123", min_size=1, max_size=12)
DIGESTS = KEYS.map(digest)
CLASSES = (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedMRImageStorage,
    UltrasoundMultiFrameImageStorage,
    "1.3.46.670589.5.0.1",  # a private one
)


def coded() -> SearchStrategy[Code]:
    """Return codes, some longer than Code Value and Code Meaning can hold."""
    return st.builds(
        Code,
        value=st.text("ABCDEF0123456789-.", min_size=1, max_size=20),
        scheme=st.sampled_from(["SCT", "DCM", "RADLEX", "99TEST"]),
        meaning=NAMES.filter(lambda text: text.strip("\\ ") != ""),
    )


def scores() -> SearchStrategy[Score]:
    """Return scores: raw or calibrated, with or without an interval."""
    return st.builds(
        Score,
        value=NUMBERS,
        calibration_set=st.just("") | NAMES,
        interval=st.none() | st.tuples(NUMBERS, NUMBERS),
    )


@st.composite
def operating_points(draw: DrawFn) -> OperatingPoint:
    """Return a threshold, perhaps with a tolerance, or one that rules out below it."""
    threshold = draw(NUMBERS)
    below = st.floats(-1e31, threshold, exclude_max=True, allow_nan=False)
    return OperatingPoint(
        name=draw(NAMES),
        threshold=threshold,
        threshold_set=draw(NAMES),
        threshold_set_digest=draw(DIGESTS),
        tolerance=draw(st.just(0.0) | st.floats(0, 1, allow_nan=False)),
        rule_out=draw(st.none() | below),
    )


@st.composite
def images(draw: DrawFn) -> tuple[ImageRef, ...]:
    """Return images of the study: several series and classes, with frames."""
    return tuple(
        image_ref(
            number,
            series_uid=SeriesUid(f"{STUDY_UID}.{draw(st.integers(1, 3))}"),
            sop_class_uid=SopClassUid(str(draw(st.sampled_from(CLASSES)))),
            frames=draw(st.integers(1, 5)),
        )
        for number in range(1, draw(st.integers(1, 4)) + 1)
    )


@st.composite
def frames(draw: DrawFn, of: tuple[ImageRef, ...]) -> FrameScore:
    """Return a frame of one of the images, and its score."""
    image = draw(st.sampled_from(of))
    frame = draw(st.integers(0, image.frames - 1))
    return FrameScore(image=image, frame=frame, score=draw(NUMBERS))


def evidence(of: tuple[ImageRef, ...]) -> SearchStrategy[tuple[FrameScore, ...]]:
    """Return what an answer rests on."""
    return st.lists(frames(of), max_size=3).map(tuple)


@st.composite
def findings(draw: DrawFn, of: tuple[ImageRef, ...], key: str) -> Finding:
    """Return a finding, evaluated or not."""
    score, point = draw(scores()), draw(operating_points())
    flag = draw(st.sampled_from(Flag))
    values: dict[str, Any] = {
        "score": score,
        "operating_point": point,
        "evidence": draw(evidence(of)),
        "reason": "",
    }
    if flag is Flag.NOT_EVALUATED:
        values |= {"score": None, "evidence": (), "reason": draw(WORDS)}
        values["operating_point"] = draw(st.sampled_from([None, point]))
    else:
        flag = point.flag_of(score.value)
    return Finding(
        key=f"{key}{draw(KEYS)}",
        concept=draw(coded()),
        site=draw(st.none() | coded()),
        laterality=draw(st.none() | coded()),
        flag=flag,
        urgency=draw(st.sampled_from(Urgency)),
        images_scored=draw(COUNTS),
        selection=draw(st.just("") | WORDS),
        **values,
    )


@st.composite
def categories(draw: DrawFn, of: tuple[ImageRef, ...], key: str) -> Category:
    """Return a category, answered or not."""
    answered = draw(st.booleans())
    choices = st.builds(Choice, label=coded(), score=scores())
    return Category(
        key=f"{key}{draw(KEYS)}",
        concept=draw(coded()),
        chosen=draw(choices) if answered else None,
        runner_up=draw(choices) if answered else None,
        labels=draw(st.integers(2, 50)),
        evidence=draw(evidence(of)) if answered else (),
        images_scored=draw(COUNTS),
        reason="" if answered else draw(WORDS),
        selection=draw(st.just("") | WORDS),
    )


@st.composite
def estimates(draw: DrawFn, of: tuple[ImageRef, ...], key: str) -> Estimate:
    """Return an estimate, answered or not."""
    answered = draw(st.booleans())
    return Estimate(
        key=f"{key}{draw(KEYS)}",
        concept=draw(coded()),
        value=draw(NUMBERS) if answered else None,
        spread=draw(NUMBERS) if answered else None,
        unit=draw(coded()),
        references=draw(COUNTS),
        validated=draw(st.booleans()),
        evidence=draw(evidence(of)) if answered else (),
        images_scored=draw(COUNTS),
        reason="" if answered else draw(WORDS),
        selection=draw(st.just("") | WORDS),
        unequipped=not answered and draw(st.booleans()),
    )


def atlas_searches() -> SearchStrategy[AtlasSearch]:
    """Return nearest cases of an atlas."""
    case = st.builds(
        ReferenceCase,
        identifier=NAMES,
        similarity=st.floats(-1, 1, allow_nan=False),
        labels=st.lists(coded(), max_size=3).map(tuple),
        established_by=st.just("") | WORDS,
    )
    return st.builds(
        AtlasSearch,
        atlas=NAMES,
        version=st.text("0123456789.v", min_size=1, max_size=8),
        digest=DIGESTS,
        metric=st.sampled_from(["cosine", "euclidean"]),
        cases=st.lists(case, max_size=3).map(tuple),
    )


def predecessors() -> SearchStrategy[Predecessor]:
    """Return former reports, some of one series."""
    return st.builds(
        Predecessor,
        series_uid=st.integers(1, 3).map(lambda n: SeriesUid(f"2.25.{n}")),
        sop_class_uid=st.just(SopClassUid("1.2.840.10008.5.1.4.1.1.88.34")),
        sop_instance_uid=st.integers(1, 1 << 64).map(
            lambda n: SopInstanceUid(f"2.25.{n}")
        ),
        patient=st.just(patient_digest(PATIENT_ID, ISSUER)),
    )


@st.composite
def unreadables(draw: DrawFn, of: tuple[ImageRef, ...]) -> Unreadable:
    """Return an image that could not be looked at."""
    image = draw(st.sampled_from(of))
    frame = draw(st.integers(0, image.frames - 1))
    reason = draw(st.sampled_from(["truncated", "no decoder"]) | WORDS)
    return Unreadable(image=image, frame=frame, reason=reason)


@st.composite
def results(draw: DrawFn) -> Result:
    """Return any result."""
    of = draw(images())
    return result(
        [draw(findings(of, f"f{n}")) for n in range(draw(st.integers(0, 3)))],
        images=of,
        shadow=tuple(
            draw(findings(of, f"s{n}")) for n in range(draw(st.integers(0, 2)))
        ),
        categories=[
            draw(categories(of, f"c{n}")) for n in range(draw(st.integers(0, 2)))
        ],
        estimates=[
            draw(estimates(of, f"e{n}")) for n in range(draw(st.integers(0, 2)))
        ],
        revision=draw(st.integers(1, 99)),
        outcome=draw(st.integers(0, 3)),
        algorithm=algorithm(
            name=draw(NAMES),
            version=draw(NAMES),
            title=draw(st.just("") | WORDS),
            statement=draw(st.just("") | WORDS),
            profile=draw(st.sampled_from(["float32", "bfloat16", "float16"])),
        ),
        completion=draw(st.sampled_from(Completion)),
        unreadable=tuple(draw(st.lists(unreadables(of), max_size=4))),
        cases=draw(st.none() | atlas_searches()),
        predecessors=tuple(draw(st.lists(predecessors(), max_size=3))),
        reason=draw(st.just("") | WORDS),
        concluded_at=draw(
            st.integers(0, 10**15).map(
                lambda us: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
            )
        ),
        utc_offset_min=draw(st.integers(-720, 840)),
        site=draw(WORDS),
        software=draw(NAMES),
    )
