"""A kind and a seed decide everything, and the truth is where it is said to be."""

import numpy as np
import pytest

from workers.phantoms import (
    ANY_CHEST,
    CHEST_FINDINGS,
    CHEST_KINDS,
    KINDS,
    ChestPhantom,
    HeadPhantom,
    ct_grey,
    phantom,
    radiograph_grey,
)


def _chest(kind: str, seed: int) -> ChestPhantom:
    made = phantom(kind, seed)
    assert isinstance(made, ChestPhantom)
    return made


def _head(kind: str, seed: int) -> HeadPhantom:
    made = phantom(kind, seed)
    assert isinstance(made, HeadPhantom)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_and_a_seed_are_the_whole_phantom(kind: str) -> None:
    """Made twice, it is the same value, with the same pixels."""
    first, second = phantom(kind, 3), phantom(kind, 3)
    assert first == second
    if isinstance(first, ChestPhantom) and isinstance(second, ChestPhantom):
        assert np.array_equal(first.pixels(96), second.pixels(96))
    if isinstance(first, HeadPhantom) and isinstance(second, HeadPhantom):
        assert np.array_equal(first.pixels(0.5, 96), second.pixels(0.5, 96))


def test_another_seed_is_another_patient() -> None:
    """Neither person nor anatomy is shared."""
    first, second = _chest("nodule", 1), _chest("nodule", 2)
    assert first.patient != second.patient
    assert first.chest != second.chest


def test_a_kind_has_its_finding_and_normal_has_none() -> None:
    """What else a chest has is left to chance, and chance gives it sometimes."""
    seen: set[frozenset[str]] = set()
    for kind in KINDS:
        for seed in range(30):
            findings = frozenset(map(str, phantom(kind, seed).findings))
            normal = kind.endswith("normal")
            assert (not findings) if normal else kind in findings
            seen.add(findings)
    assert max(map(len, seen)) > 1


def test_a_chest_to_learn_from_has_any_findings() -> None:
    """Each of them in some and not in others, none of them always with another."""
    drawn = [phantom(ANY_CHEST, seed).findings for seed in range(200)]
    assert {len(findings) for findings in drawn} == {0, 1, 2, 3, 4}
    for finding in CHEST_FINDINGS:
        assert 60 < sum(finding in findings for findings in drawn) < 100


def test_an_unknown_kind_is_refused() -> None:
    """The message names what there is."""
    with pytest.raises(ValueError, match="chest_normal"):
        phantom("fracture", 1)


def test_stored_values_keep_to_their_bits() -> None:
    """12 bits for radiographs, -1024 to 3071 HU for CT."""
    for seed in range(4):
        stored = _chest("effusion", seed).pixels(96)
        assert stored.dtype == np.uint16
        assert stored.max() < 4096
        values = _head("haemorrhage", seed).pixels(0.5, 96)
        assert values.dtype == np.int16
        assert values.min() >= -1024
        assert values.max() <= 3071


def test_person_machine_and_polarity_do_not_depend_on_findings() -> None:
    """Each value comes up among the healthy as well as among the ill."""
    for kind in ("chest_normal", "pneumothorax"):
        made = [_chest(kind, seed) for seed in range(60)]
        assert {m.patient.sex for m in made} == {"F", "M"}
        assert {m.view for m in made} == {"AP", "PA"}
        assert {m.inverted for m in made} == {True, False}
        assert len({m.scanner for m in made}) == 3


def test_a_nodule_is_brighter_than_what_is_around_it() -> None:
    """Its region, in the picture as shown, stands out from its own surroundings."""
    brighter = 0
    for seed in range(20):
        made = _chest("nodule", seed)
        region = next(r for r in made.regions() if r.finding == "nodule")
        image = radiograph_grey(made.pixels(256), 256, inverted=made.inverted)
        x, y = (region.left + region.right) / 2, (region.top + region.bottom) / 2
        row, column = int(y * 256), int(x * 256)
        reach = int((region.right - region.left) * 128)
        inner = image[row - 3 : row + 4, column - 3 : column + 4].mean()
        block = image[
            max(0, row - 2 * reach) : row + 2 * reach,
            max(0, column - 2 * reach) : column + 2 * reach,
        ]
        brighter += inner > block.mean()
    assert brighter >= 16


def test_blood_shows_where_it_is_said_to() -> None:
    """Slices that show it, by the truth, differ from those without any."""
    made = _head("haemorrhage", 5)
    bleed = made.head.bleed
    assert bleed is not None
    assert made.shows(bleed.level)
    assert not made.shows(bleed.level + 2 * bleed.extent)
    assert not any(_head("head_normal", 5).shows(level) for level in (0.3, 0.5, 0.7))


def test_both_polarities_look_the_same() -> None:
    """An inverted image is turned over: the outside of the body stays dark."""
    made = [_chest(kind, seed) for kind in CHEST_KINDS for seed in range(3)]
    for one in made:
        image = radiograph_grey(one.pixels(128), 64, inverted=one.inverted)
        spine = image[30:60, 30:34].mean()
        assert spine > image.mean()


def test_ct_grey_is_a_fixed_window() -> None:
    """-10 HU is black, 90 HU is white, 40 HU is in the middle."""
    values = np.array([[-10, 90], [40, 3000]], np.int16).repeat(8, 0).repeat(8, 1)
    grey = ct_grey(values, 16)
    assert grey[2, 2] == 0
    assert grey[2, 13] == 255
    assert abs(int(grey[13, 2]) - 128) <= 1
