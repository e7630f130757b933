"""Frames in any order, volumes in the order in which they lie in the patient."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.spatial import get_volume_positions
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicom_node.domain import SeriesUid, SopInstanceUid
from workers.decode import open_image, read_header
from workers.geometry import NOWHERE, Geometry
from workers.volumes import (
    Kind,
    Slice,
    Volume,
    evenly,
    volume_embedding,
    volumes,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def a_slice(number: int, z: float | None = None, **changes: Any) -> Slice:
    """Return an axial slice at a height; None: it states no geometry."""
    given_: dict[str, Any] = {}
    if z is not None:
        given_ = {"position": (0.0, 0.0, z), "orientation": AXIAL}
    names = ("series_uid", "sop_instance_uid", "frame", "number", "modality")
    own = {name: changes.pop(name) for name in names if name in changes}
    values: dict[str, Any] = {
        "series_uid": SeriesUid("1.2"),
        "sop_instance_uid": SopInstanceUid(f"1.2.{number:04}"),
        "frame": 0,
        "number": number,
        "modality": "CT",
        "geometry": Geometry(**given_ | changes),
    }
    return Slice(**values | own)


def numbers(volume: Volume) -> list[int | None]:
    """Return the instance numbers of a volume, in its order."""
    return [one.number for one in volume.slices]


def told_apart(found: Sequence[Volume]) -> dict[str, list[int | None]]:
    """Return the instance numbers of volumes, by what tells them apart."""
    return {volume.apart: numbers(volume) for volume in found}


# ── order ───────────────────────────────────────────────────────────────────


@st.composite
def rotations(draw: st.DrawFn) -> NDArray[np.float64]:
    """Return a rotation matrix (3, 3): its rows are row, column and normal."""
    parts = st.floats(-1, 1).filter(lambda x: abs(x) > 0.01)
    quaternion = np.array(draw(st.tuples(parts, parts, parts, parts)))
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@st.composite
def stacks(draw: st.DrawFn) -> tuple[list[Slice], list[float], float, Any]:
    """Return slices in disorder, their heights by number, their tilt, the rotation."""
    rotation = draw(rotations())
    gaps = draw(st.lists(st.floats(0.1, 20), min_size=1, max_size=25))
    heights = list(np.cumsum([draw(st.floats(-500, 500)), *gaps]))
    tilt_deg = draw(st.floats(-30, 30))
    lean = rotation[1] * np.tan(np.radians(tilt_deg))
    orientation = tuple(map(float, (*rotation[0], *rotation[1])))
    given_ = draw(st.permutations(range(len(heights))))
    slices = [
        a_slice(
            number,
            position=tuple(map(float, heights[place] * (rotation[2] + lean))),
            orientation=orientation,
        )
        for number, place in enumerate(given_)
    ]
    by_number = [heights[place] for place in given_]
    return slices, by_number, tilt_deg, rotation


@given(stacks(), st.randoms(use_true_random=False))
def test_slices_are_ordered_by_position_whatever_their_numbers(
    made: tuple[list[Slice], list[float], float, Any], chance: Any
) -> None:
    """Along the normal, tilted or not, and the same for any order of arrival."""
    slices, heights, tilt_deg, _ = made
    (volume,) = found = volumes(slices)
    ordered = [heights[number or 0] for number in numbers(volume)]
    assert ordered == sorted(heights)
    assert volume.tilt_deg == pytest.approx(abs(tilt_deg), abs=0.01)
    assert volume.kind is Kind.VOLUME
    shuffled = list(slices)
    chance.shuffle(shuffled)
    assert volumes(shuffled) == found


@given(stacks())
def test_a_normal_that_is_turned_over_turns_the_order(
    made: tuple[list[Slice], list[float], float, Any],
) -> None:
    """Rows that run the other way look at the stack from the other end."""
    slices, _, _, _ = made
    (upright,) = volumes(slices)
    turned = []
    for one in slices:
        x, y, z, *column = one.geometry.orientation or AXIAL
        turned.append(
            a_slice(
                one.number or 0,
                position=one.geometry.position,
                orientation=(-x, -y, -z, *column),
            )
        )
    (other,) = volumes(turned)
    assert numbers(upright)[::-1] == numbers(other)


@given(stacks())
def test_highdicom_puts_slices_into_the_same_order(
    made: tuple[list[Slice], list[float], float, Any],
) -> None:
    """Even stacks: the same indices, and the same spacing."""
    slices, heights, _, rotation = made
    rank = {height: place for place, height in enumerate(sorted(heights))}
    even = [
        a_slice(
            one.number or 0,
            position=tuple(
                map(float, 2.5 * rank[heights[one.number or 0]] * rotation[2])
            ),
            orientation=one.geometry.orientation,
        )
        for one in slices
    ]
    spacing, indices = get_volume_positions(
        [one.geometry.position or () for one in even],
        even[0].geometry.orientation or (),
        index_convention=("R", "D"),
    )
    (volume,) = volumes(even)
    places = {one.place: place for place, one in enumerate(volume.slices)}
    assert indices == [places[one.place] for one in even]
    assert volume.spacing_mm == pytest.approx(spacing)
    assert (volume.even, volume.missing) == (True, 0)


def test_uneven_spacing_is_found() -> None:
    """One gap that is 2 % off, and no slice is said to be missing."""
    (volume,) = volumes(a_slice(n, z) for n, z in enumerate((0, 5, 10.1, 15)))
    assert (volume.even, volume.missing, volume.spacing_mm) == (False, 0, 5)


def test_missing_slices_are_counted() -> None:
    """Gaps of two and of three spacings lack one and two."""
    (volume,) = volumes(a_slice(n, z) for n, z in enumerate((0, 5, 15, 20, 35, 40)))
    assert (volume.even, volume.missing, volume.spacing_mm) == (False, 3, 5)


def test_rounded_positions_are_even() -> None:
    """A spacing of 0.6667 mm, written with two digits."""
    (volume,) = volumes(a_slice(n, round(n * 2 / 3, 2)) for n in range(30))
    assert (volume.even, volume.missing) == (True, 0)


def test_without_geometry_the_instance_number_orders_and_it_is_said() -> None:
    """A CT that states no position."""
    (volume,) = volumes(a_slice(n) for n in (3, 1, 2))
    assert numbers(volume) == [1, 2, 3]
    assert volume.remark == "no geometry is stated: ordered by InstanceNumber"
    assert (volume.spacing_mm, volume.normal) == (None, None)


def test_pictures_are_no_volume() -> None:
    """Two radiographs of one series are two; the frames of a film are one."""
    pictures = [a_slice(n, modality="DX") for n in (2, 1)]
    uid = SopInstanceUid("1.2.9")
    film = [
        a_slice(3, sop_instance_uid=uid, frame=frame, modality="US")
        for frame in (1, 0, 2)
    ]
    found = volumes([*pictures, *film])
    assert [volume.kind for volume in found] == [Kind.IMAGE] * 3
    assert [numbers(volume) for volume in found] == [[1], [2], [3, 3, 3]]
    assert [one.frame for one in found[2].slices] == [0, 1, 2]


def test_series_are_never_mixed() -> None:
    """The same place in another series is another volume."""
    slices = [
        a_slice(n, n, series_uid=SeriesUid(uid)) for n in range(4) for uid in "ba"
    ]
    assert [v.series_uid for v in volumes(slices)] == ["a", "b"]


# ── what is told apart ──────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("trait", "values", "words"),
    [
        ("image_type", (("M",), ("P",)), ("image type M", "image type P")),
        ("echo", (1, 2), ("echo 1", "echo 2")),
        ("echo_time_ms", (2.3, 4.6), ("echo time 2.3", "echo time 4.6")),
        ("b_value", (0.0, 1000.0), ("b-value 0", "b-value 1000")),
        ("temporal", (1, 2), ("time point 1", "time point 2")),
        ("trigger_ms", (None, 30.0), ("no trigger delay", "trigger delay 30")),
        ("acquisition", (1, 2), ("acquisition 1", "acquisition 2")),
        ("time_s", (60.0, 120.0), ("time 60", "time 120")),
    ],
)
def test_what_repeats_a_position_is_told_apart(
    trait: str, values: tuple[Any, Any], words: tuple[str, str]
) -> None:
    """Each holds every position once, and says what it is."""
    slices = [
        a_slice(2 * z + which, z, **{trait: value})
        for z in range(5)
        for which, value in enumerate(values)
    ]
    found = told_apart(volumes(slices))
    assert found == {words[0]: [0, 2, 4, 6, 8], words[1]: [1, 3, 5, 7, 9]}


def test_echoes_of_time_points_are_told_apart_twice() -> None:
    """Two echoes, three time points: six volumes."""
    slices = [
        a_slice(100 * echo + 10 * when + z, z, echo=echo, temporal=when)
        for echo in (1, 2)
        for when in (1, 2, 3)
        for z in range(4)
    ]
    found = told_apart(volumes(slices))
    assert list(found)[:2] == ["echo 1, time point 1", "echo 1, time point 2"]
    assert len(found) == 6
    assert found["echo 2, time point 3"] == [230, 231, 232, 233]


def test_acquisitions_that_follow_each_other_are_one_volume() -> None:
    """A CT that steps and shoots numbers its acquisitions slice by slice."""
    slices = [a_slice(n, n, acquisition=n) for n in range(10)]
    assert len(volumes(slices)) == 1
    repeated = a_slice(99, 4, acquisition=99)
    found = told_apart(volumes([*slices, repeated]))
    assert found == {"pass 1": list(range(10)), "pass 2": [99]}


def test_trigger_delays_that_vary_from_slice_to_slice_give_phases() -> None:
    """The first delay of every position, the second of every position."""
    slices = [
        a_slice(10 * z + phase, z, trigger_ms=30.0 * phase + z)
        for z in range(5)
        for phase in (2, 0, 1)
    ]
    found = told_apart(volumes(slices))
    assert found == {
        f"pass {phase + 1}": [10 * z + phase for z in range(5)] for phase in range(3)
    }


def test_two_sides_at_the_same_height_are_two_volumes() -> None:
    """Both knees, reconstructed apart."""
    slices = [
        a_slice(10 * side + z, position=(150.0 * side, 0.0, z), orientation=AXIAL)
        for z in range(5)
        for side in (0, 1)
    ]
    assert [numbers(v) for v in volumes(slices)] == [
        [0, 1, 2, 3, 4],
        [10, 11, 12, 13, 14],
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"frame_of_reference": "1.9"},
        {"stack": "2"},
        {"rows": 64},
        {"orientation": (1.0, 0.0, 0.0, 0.0, np.cos(0.2), np.sin(0.2))},
    ],
)
def test_other_matrices_stacks_and_orientations_are_other_volumes(
    changes: dict[str, Any],
) -> None:
    """Although no position is repeated: slices of two discs of a spine."""
    low = [a_slice(n, n) for n in range(3)]
    high = [a_slice(n, n, **changes) for n in range(10, 13)]
    found = volumes([*high, *low])
    assert [numbers(v) for v in found] == [[0, 1, 2], [10, 11, 12]]
    assert {v.kind for v in found} == {Kind.VOLUME}


def test_localisers_are_known_by_type_and_by_orientation() -> None:
    """A scout says so; three planes of few frames are one without saying so."""
    scout = a_slice(1, 0, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    axial = [a_slice(n, n) for n in range(2, 6)]
    kinds = [v.kind for v in volumes([scout, *axial])]
    assert kinds == [Kind.LOCALISER, Kind.VOLUME]
    planes = [
        a_slice(n, position=(0.0, 0.0, 0.0), orientation=plane)
        for n, plane in enumerate((AXIAL, CORONAL, SAGITTAL))
    ]
    assert {v.kind for v in volumes(planes)} == {Kind.LOCALISER}


def test_reformats_in_three_planes_are_no_localiser() -> None:
    """They are derived; and originals with many frames are none either."""
    for count, image_type in ((3, ("DERIVED",)), (20, ("ORIGINAL",))):
        slices = [
            a_slice(
                100 * p + n,
                position=(float(n),) * 3,
                orientation=plane,
                image_type=image_type,
            )
            for p, plane in enumerate((AXIAL, CORONAL, SAGITTAL))
            for n in range(count)
        ]
        assert {v.kind for v in volumes(slices)} == {Kind.VOLUME}


@given(
    st.lists(
        st.builds(
            a_slice,
            number=st.integers(0, 500),
            z=st.one_of(st.none(), st.integers(0, 4).map(float)),
            echo=st.sampled_from([None, 1, 2]),
            temporal=st.sampled_from([None, 1, 2]),
            orientation=st.just(AXIAL),
            modality=st.sampled_from(["CT", "DX"]),
        ),
        unique_by=lambda one: one.place,
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_every_frame_is_in_one_volume(slices: list[Slice], chance: Any) -> None:
    """None is lost, none is in two, no position is twice in a volume."""
    found = volumes(slices)
    held = Counter(one.place for volume in found for one in volume.slices)
    assert held == Counter(one.place for one in slices)
    assert all(a < b for volume in found for a, b in pairwise(volume.along))
    shuffled = list(slices)
    chance.shuffle(shuffled)
    assert volumes(shuffled) == found


# ── selections and embeddings ───────────────────────────────────────────────


@given(
    st.lists(st.floats(-500, 500), min_size=1, max_size=60, unique=True).map(sorted),
    st.integers(1, 70),
)
def test_an_even_selection_has_both_ends_and_no_slice_twice(
    along: list[float], limit: int
) -> None:
    """As many as asked for, in order."""
    chosen = evenly(along, limit)
    assert len(chosen) == min(limit, len(along))
    assert list(chosen) == sorted(set(chosen))
    if limit > 1:
        assert {chosen[0], chosen[-1]} == {0, len(along) - 1}


def test_an_even_selection_goes_by_position() -> None:
    """Where slices lie densely, fewer of them are taken."""
    along = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 30]
    assert evenly(along, 4) == (0, 9, 10, 11)
    assert evenly([0.0, 5.0, 10.0, 15.0, 20.0], 3) == (0, 2, 4)
    assert evenly([0.0, 5.0, 10.0], 1) == (1,)


def test_volume_embeddings() -> None:
    """Median and mean of each dimension; the mean of length one."""
    vectors = np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32)
    np.testing.assert_allclose(volume_embedding(vectors, "median"), [0, 1])
    np.testing.assert_allclose(volume_embedding(vectors, "mean"), [1 / 3, 2 / 3])
    np.testing.assert_allclose(
        volume_embedding(vectors, "unit-mean"), np.array([1, 2]) / np.sqrt(5), rtol=1e-6
    )
    with pytest.raises(ValueError, match="sum"):
        volume_embedding(vectors, "sum")


# ── real files ──────────────────────────────────────────────────────────────


def read(folder: Path) -> list[Slice]:
    """Return every frame of every file in a folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name == "DICOMDIR":
            continue
        header = read_header(path)
        with open_image(path) as image:
            found += [
                Slice(
                    series_uid=SeriesUid(header.SeriesInstanceUID),
                    sop_instance_uid=SopInstanceUid(header.SOPInstanceUID),
                    frame=frame,
                    number=int(header.InstanceNumber),
                    modality=header.Modality,
                    geometry=image.geometry(frame),
                )
                for frame in range(image.frames)
            ]
    return found


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "count", "spacing_mm"),
    [
        ("ct_philips_phantom_28", 28, 5.0),
        ("mr_ge_fruit_196", 196, 1.2),
        ("mr_ge_prostate_adc_20", 20, 3.0),
    ],
)
def test_real_series_are_one_even_volume(
    shared: Path, name: str, count: int, spacing_mm: float
) -> None:
    """In the order and with the spacing that highdicom finds."""
    slices = read(shared / "data" / "series" / name)
    (volume,) = volumes(slices)
    spacing, indices = get_volume_positions(
        [one.geometry.position or () for one in slices],
        slices[0].geometry.orientation or (),
        index_convention=("R", "D"),
    )
    places = {one.place: place for place, one in enumerate(volume.slices)}
    assert indices == [places[one.place] for one in slices]
    assert len(volume.slices) == count
    assert volume.spacing_mm == pytest.approx(spacing, rel=1e-4)
    assert volume.spacing_mm == pytest.approx(spacing_mm, rel=1e-3)
    assert (volume.even, volume.missing) == (True, 0)
    assert volume.tilt_deg < 0.1


@pytest.mark.corpus
def test_a_real_perfusion_is_told_apart_by_time(shared: Path) -> None:
    """Enhanced MR: two series, four time points each, 25 positions."""
    found = volumes(read(shared / "data" / "multiframe" / "agfa_enhanced_mr"))
    assert [v.apart for v in found] == [f"time point {n}" for n in (1, 2, 3, 4)] * 2
    assert {len(v.slices) for v in found} == {25}
    assert {round(v.spacing_mm or 0, 3) for v in found} == {3.3}


@pytest.mark.corpus
def test_real_localisers_gaps_and_projections(shared: Path) -> None:
    """Of the file-set: two scouts, three planes twice, 161 slices that are not there."""
    slices = read(shared / "data" / "dicom" / "fileset")
    found = volumes(slices)
    kinds = Counter(volume.kind for volume in found)
    assert kinds == {Kind.LOCALISER: 8, Kind.VOLUME: 13, Kind.IMAGE: 3}
    assert [v.missing for v in found if v.missing] == [161]
    assert all(one.geometry != NOWHERE for one in slices)
