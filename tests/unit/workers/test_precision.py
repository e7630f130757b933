"""A pack's numeric profile is measured; what it costs in accuracy widens thresholds."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dicom_node.errors import Permanent
from tests.golden import recipe
from tests.packs import CONFIG, finding, make_pack, manifest, write_parts
from workers.medimageinsight import MedImageInsight, save
from workers.pack import Pack, locate, open_pack, seal
from workers.precision import COSINE_MEAN, IMAGES, REFERENCE, Choice, choose_profile


def silent(what: str, done: int, total: int) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def demo() -> Pack:
    """Return the demo pack, whose trained weights bear half precision."""
    return open_pack(locate("phantoms"))


@pytest.fixture(scope="module")
def half(demo: Pack) -> Choice:
    """Return what is found of the demo pack in bfloat16."""
    return choose_profile(demo, "bfloat16", device="cpu", progress=silent)


def test_half_precision_is_measured_before_it_is_used(half: Choice) -> None:
    """Cosines to float32, on images that are always the same."""
    assert half.profile == "bfloat16"
    assert half.numeric is not None
    assert half.numeric.images == IMAGES
    assert COSINE_MEAN <= half.numeric.cosine_mean < 1
    assert half.numeric.cosine_worst <= half.numeric.cosine_mean


def test_tolerances_cover_what_scores_moved(demo: Pack, half: Choice) -> None:
    """Near its threshold no score of these images moves by more."""
    assert set(half.tolerances) == {f.key for f in demo.findings}
    for tolerance in half.tolerances.values():
        assert 0 < tolerance < 0.1
        assert float(f"{tolerance:.2g}") == tolerance


def test_the_choice_goes_into_the_manifest(half: Choice) -> None:
    """Profile, evidence and tolerances; and with them another identity."""
    plain = manifest()
    chosen = Choice(
        profile="bfloat16",
        reason="tried",
        numeric=half.numeric,
        tolerances={plain["findings"][0]["key"]: 0.02},
    )
    applied = chosen.applied(plain)
    assert applied["encoder"]["numeric_profile"] == "bfloat16"
    assert applied["findings"][0]["operating_point"]["tolerance"] == 0.02
    assert plain["encoder"]["numeric_profile"] == "float32"


def test_the_profile_is_part_of_identity_and_the_evidence_is_not(
    pack: Pack, half: Choice
) -> None:
    """Another precision is another pack and threshold set; another timing is not."""
    assert half.numeric is not None
    slower = replace(half.numeric, speedup=half.numeric.speedup / 2)
    first, second, plain = (
        replace(
            pack.manifest,
            encoder=replace(
                pack.manifest.encoder, numeric_profile=profile, numeric=numeric
            ),
        )
        for profile, numeric in (
            ("bfloat16", half.numeric),
            ("bfloat16", slower),
            ("float32", half.numeric),
        )
    )
    assert first.digest == second.digest
    assert first.digest != plain.digest
    assert plain.digest == pack.manifest.digest
    sets = {replace(pack, manifest=m).threshold_set_digest for m in (first, plain)}
    assert len(sets) == 2


def test_float32_needs_no_measurement(pack: Pack) -> None:
    """It is what others are measured against."""
    choice = choose_profile(pack, REFERENCE, progress=silent)
    assert (choice.profile, choice.numeric) == ("float32", None)
    assert dict(choice.tolerances) == {}


def test_half_precision_that_is_not_true_enough_is_refused(tmp_path: Path) -> None:
    """A model that rounding changes is computed in float32, or not at all."""
    write_parts(tmp_path)
    model = recipe.fill(MedImageInsight(CONFIG))
    with torch.no_grad():
        for name, parameter in model.image_encoder.named_parameters():
            if name.endswith(("qkv.weight", "fc1.weight")):
                parameter.mul_(20)
    save(model, tmp_path / "weights.safetensors")
    chaotic = seal(tmp_path, manifest())
    automatic = choose_profile(chaotic, device="cpu", progress=silent)
    assert automatic.profile == "float32"
    with pytest.raises(Permanent, match="bfloat16 has cosines to float32 of"):
        choose_profile(chaotic, "bfloat16", device="cpu", progress=silent)


def test_a_profile_needs_its_hardware(pack: Pack) -> None:
    """It says so instead of measuring something else."""
    with pytest.raises(Permanent, match="float16: that takes a GPU"):
        choose_profile(pack, "float16", device="cpu", progress=silent)


def test_a_tolerance_cannot_be_negative(tmp_path: Path) -> None:
    """Nor endless: nothing would ever be flagged."""
    point = {"name": "any", "threshold": 0.5, "tolerance": -0.1}
    with pytest.raises(Permanent, match="tolerance of a threshold"):
        make_pack(tmp_path, findings=[finding("effusion", operating_point=point)])
