"""What a header says of a frame's place, and what it may not say."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from tests.images import image, save
from tests.packs import POLICY
from workers.decoding import DecodedInput, DecodePool, FrameInput
from workers.geometry import NOWHERE, Geometry, geometry_from_json, geometry_of

AXIAL = ["1", "0", "0", "0", "1", "0"]


def item(**values: Any) -> Dataset:
    """Return a data set with these attributes; a data set stands for a sequence of it."""
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, [value] if isinstance(value, Dataset) else value)
    return found


def test_a_classic_image_states_it_in_its_header() -> None:
    """Position, orientation, spacing, echo, time point and the like."""
    header = image(
        ImagePositionPatient=["-1.5", "2", "3e1"],
        ImageOrientationPatient=AXIAL,
        PixelSpacing=["0.5", "0.25"],
        ImageType=["ORIGINAL", "PRIMARY", "M"],
        FrameOfReferenceUID="1.2.3",
        StackID="1",
        InStackPositionNumber=7,
        EchoNumbers="2",
        EchoTime="4.6",
        DiffusionBValue=1000.0,
        TemporalPositionIdentifier="3",
        TriggerTime="120.5",
        AcquisitionNumber="4",
        AcquisitionTime="101112",
    )
    assert geometry_of(header, 0) == Geometry(
        position=(-1.5, 2, 30),
        orientation=(1, 0, 0, 0, 1, 0),
        spacing=(0.5, 0.25),
        rows=64,
        columns=56,
        image_type=("ORIGINAL", "PRIMARY", "M"),
        frame_of_reference="1.2.3",
        stack="1",
        in_stack=7,
        echo=2,
        echo_time_ms=4.6,
        b_value=1000,
        temporal=3,
        trigger_ms=120.5,
        acquisition=4,
    )


def test_a_frame_of_an_enhanced_image_states_it_in_its_groups() -> None:
    """Its own groups first, then those that all frames share."""
    frames = [
        item(
            PlanePositionSequence=item(ImagePositionPatient=[0, 0, z]),
            FrameContentSequence=item(
                StackID="1", InStackPositionNumber=z, TemporalPositionIndex=2
            ),
            MREchoSequence=item(EffectiveEchoTime=25.0),
            MRDiffusionSequence=item(DiffusionBValue=50.0),
            CardiacSynchronizationSequence=item(NominalCardiacTriggerDelayTime=8.5),
            MRImageFrameTypeSequence=item(
                FrameType=["DERIVED", "PRIMARY"], ComplexImageComponent="PHASE"
            ),
        )
        for z in (1, 2)
    ]
    header = item(Rows=64, Columns=56)
    header.PerFrameFunctionalGroupsSequence = frames
    header.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=item(ImageOrientationPatient=AXIAL),
            PixelMeasuresSequence=item(PixelSpacing=[2, 1]),
        )
    ]
    assert geometry_of(header, 1) == Geometry(
        position=(0, 0, 2),
        orientation=(1, 0, 0, 0, 1, 0),
        spacing=(2, 1),
        rows=64,
        columns=56,
        image_type=("DERIVED", "PRIMARY", "PHASE"),
        stack="1",
        in_stack=2,
        temporal=2,
        trigger_ms=8.5,
        echo_time_ms=25,
        b_value=50,
    )


@pytest.mark.parametrize(
    ("values", "time_s"),
    [
        ({"AcquisitionTime": "000102.5"}, 62.5),
        ({"ContentTime": "010000"}, 3600),
        ({"AcquisitionTime": "000102.5", "AcquisitionNumber": "1"}, None),
        ({"FrameReferenceDateTime": "20200630000102.5+0100"}, 62.5),
        ({"ContentTime": "01"}, 3600),
        ({"ContentTime": ""}, None),
    ],
)
def test_a_time_of_day_is_kept_only_where_no_number_tells_phases_apart(
    values: dict[str, str], time_s: float | None
) -> None:
    """Seconds since midnight, never a date."""
    assert geometry_of(item(**values), 0).time_s == time_s


@pytest.mark.parametrize(
    "orientation",
    [
        ["1", "0", "0", "1", "0", "0"],
        ["0", "0", "0", "0", "0", "0"],
        ["1", "0", "0"],
        ["1e9", "0", "0", "0", "1e9", "0"],
    ],
)
def test_an_orientation_that_spans_no_plane_is_none(orientation: list[str]) -> None:
    """The frame counts as one without a place."""
    header = item(
        ImagePositionPatient=["1", "2", "3"], ImageOrientationPatient=orientation
    )
    found = geometry_of(header, 0)
    assert (found.orientation, found.located) == (None, False)


def test_a_header_that_cannot_be_read_costs_the_place_and_not_the_frame(
    spare_pool: DecodePool, tmp_path: Path
) -> None:
    """A b-value of five bytes: the frame is embedded, without a geometry."""
    odd = image(ImagePositionPatient=[0, 0, 5], ImageOrientationPatient=AXIAL)
    odd.add_new("DiffusionBValue", "OB", b"12345")
    path = save(odd, tmp_path / "odd.dcm")
    written = path.read_bytes()
    tag = b"\x18\x00\x87\x90"
    element = tag + b"OB\0\0\x06\0\0\0"
    assert element in written
    path.write_bytes(written.replace(element, tag + b"UN\0\0\x06\0\0\0"))
    (found,) = spare_pool.map([FrameInput(path=path)], POLICY)
    assert isinstance(found, DecodedInput)
    assert found.geometry == NOWHERE


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.builds(
        Geometry,
        position=st.none() | st.tuples(numbers, numbers, numbers),
        orientation=st.none() | st.tuples(*[numbers] * 6),
        image_type=st.lists(st.text(max_size=16)).map(tuple),
        echo=st.none() | st.integers(),
        trigger_ms=st.none() | numbers,
        stack=st.text(max_size=16),
    )
)
def test_what_is_written_is_read(geometry: Geometry) -> None:
    """Canonical JSON: equal values, equal text."""
    assert geometry_from_json(geometry.to_json()) == geometry


@given(
    st.recursive(
        st.none() | st.booleans() | numbers | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).filter(lambda value: value != {})
)
def test_anything_else_is_refused(value: object) -> None:
    """Whatever a process that a file has taken over may say."""
    with pytest.raises(ValueError, match=r"."):
        geometry_from_json(json.dumps(value))


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"position":[1,2]}',
        '{"position":3}',
        '{"position":[NaN,0,0]}',
        '{"echo":"x"}',
        '{"echo":1e999}',
        '{"name":"Doe"}',
    ],
)
def test_a_geometry_that_is_none_is_a_value_error(text: str) -> None:
    """Numbers that are missing, are none, or have no end; names of other things."""
    with pytest.raises(ValueError, match=r"."):
        geometry_from_json(text)


def test_decode_processes_tell_it_with_the_pixels(
    spare_pool: DecodePool, tmp_path: Path
) -> None:
    """Read from the header that is open anyway."""
    placed = image(ImagePositionPatient=[0, 0, 5], ImageOrientationPatient=AXIAL)
    path = save(placed, tmp_path / "placed.dcm")
    (found,) = spare_pool.map([FrameInput(path=path)], POLICY)
    assert isinstance(found, DecodedInput)
    assert found.geometry.located
    assert found.geometry.position == (0, 0, 5)
