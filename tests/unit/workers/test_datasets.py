"""A test set that the encoder was trained on is found by any of its names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.datasets import bare_name, overlap
from workers.medimageinsight.release import RELEASE


@pytest.mark.parametrize(
    ("name", "trained_on"),
    [
        ("ChestX-ray14", "ChestX-ray14"),
        ("chestxray14", "ChestX-ray14"),
        ("NIH ChestX-ray", "ChestX-ray14"),
        ("NIH-CXR-LT", "NIH-CXR-LT"),
        ("mimic_cxr_v2", "MIMIC-CXR"),
        ("MIMIC-CXR-JPG v2.1.0", "MIMIC-CXR"),
        ("CheXpert v1.0", "CheXpert"),
        ("irma2009_v2", "IRMA2009"),
        ("RSNA Bone Age (test)", "RSNA bone age"),
        ("LIDC-IDRI", "LIDC-IDRI"),
        ("LUNA16", "LIDC-IDRI"),
        ("PatchCamelyon", "PCAM"),
        ("HAM10000", "ISIC2019"),
        ("ODIR", "ODIR-5K"),
    ],
)
def test_a_test_set_of_the_training_data_is_found(name: str, trained_on: str) -> None:
    """Whatever case, punctuation and version, and by what it was made of."""
    found = overlap(RELEASE.training_data, [name])
    assert trained_on in [one.trained_on for one in found]
    assert f"trained on {found[0].trained_on}" in str(found[0])


@pytest.mark.parametrize(
    "name", ["PadChest", "VinDr-CXR", "our own, 2026", "", "v2", "(none)"]
)
def test_other_test_sets_are_not(name: str) -> None:
    """Nor what has no name."""
    assert overlap([*RELEASE.training_data, ""], [name]) == ()


def test_numbers_that_are_no_version_tell_sets_apart() -> None:
    """Seeds of phantoms, or the year of a challenge."""
    assert overlap(["phantoms, seeds 0 to 9"], ["phantoms, seeds 10 to 19"]) == ()
    assert overlap(["ISIC2019"], ["ISIC2020"]) == ()


@given(st.text(max_size=30))
def test_a_bare_name_is_its_own(name: str) -> None:
    """And every set overlaps with itself, if it has a name."""
    bare = bare_name(name)
    assert bare_name(bare) in {bare, bare_name(bare)}
    assert bool(bare) == bool(overlap([name], [name]))
