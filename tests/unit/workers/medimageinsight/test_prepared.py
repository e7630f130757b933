"""A prepared tower computes what the plain one does, in any shape and precision."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.golden import recipe
from workers.medimageinsight import MedImageInsight, load, save
from workers.medimageinsight.prepared import PreparedTower

SHAPES = [(2, 3, 72, 56), (1, 3, 20, 20), (3, 3, 57, 61), (1, 3, 80, 160)]
CPU = torch.device("cpu")


def prepared(
    model: MedImageInsight, dtype: torch.dtype, *, whole_windows: bool
) -> PreparedTower:
    """Return the model's image tower, prepared."""
    weights = model.image_encoder.state_dict()
    return PreparedTower(
        recipe.SMALL.vision,
        weights.__getitem__,
        dtype=dtype,
        device=CPU,
        whole_windows=whole_windows,
    )


def off(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest value expected."""
    difference: Tensor = (actual - expected).abs().max() / expected.abs().max()
    return float(difference)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("whole_windows", [True, False])
def test_it_is_the_plain_tower(
    small: MedImageInsight, shape: tuple[int, ...], *, whole_windows: bool
) -> None:
    """To the last digits of double precision, with all padding or with one for all."""
    model = small.double()
    images = recipe.images(*shape).double()
    tower = prepared(model, torch.float64, whole_windows=whole_windows)
    with torch.no_grad():
        assert off(tower(images), model.image_encoder(images)) < 1e-12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("whole_windows", [True, False])
def test_half_precision_is_near(
    small: MedImageInsight, dtype: torch.dtype, *, whole_windows: bool
) -> None:
    """Only matrices are rounded, and what they are multiplied with."""
    images = recipe.small_images()
    tower = prepared(small, dtype, whole_windows=whole_windows)
    features = tower(images)
    assert features.dtype == torch.float32
    with torch.no_grad():
        assert off(features, small.image_encoder(images)) < 0.02


def test_images_go_through_in_groups(small: MedImageInsight) -> None:
    """However many there are, each gets what it would get alone."""
    tower = prepared(small, torch.float32, whole_windows=False)
    images = recipe.images(5, 3, 72, 56)
    alone = torch.cat([tower(image[None]) for image in images])
    assert off(tower(images), alone) < 1e-6
    assert off(tower(images.flip(0)).flip(0), alone) < 1e-6


def test_half_precision_does_not_depend_on_batch_or_order(
    small: MedImageInsight, tmp_path: Path
) -> None:
    """Two runs, two batch sizes, two orders: the same embedding."""
    path = tmp_path / "weights.safetensors"
    sha256 = save(small, path)
    model = load(path, config=recipe.SMALL, sha256=sha256, dtype=torch.bfloat16)
    images = recipe.images(7, 3, 72, 56)
    together = model.encode_image(images)
    alone = torch.cat([model.encode_image(image[None]) for image in images])
    backwards = model.encode_image(images.flip(0)).flip(0)
    assert torch.equal(together, model.encode_image(images))
    assert (together * alone).sum(dim=1).min() > 0.9999
    assert (together * backwards).sum(dim=1).min() > 0.9999
    assert (together * small.encode_image(images)).sum(dim=1).min() > 0.999


def test_its_images_may_be_rounded_already(
    small: MedImageInsight, tmp_path: Path
) -> None:
    """A model in half precision takes float32 too, and nothing else."""
    path = tmp_path / "weights.safetensors"
    sha256 = save(small, path)
    model = load(path, config=recipe.SMALL, sha256=sha256, dtype=torch.bfloat16)
    images = recipe.small_images().bfloat16()
    expected = model.encode_image(images.float())
    torch.testing.assert_close(model.encode_image(images), expected)
    with pytest.raises(TypeError, match=r"torch\.bfloat16 or torch\.float32, not"):
        model.encode_image(images.double())


def test_it_is_for_inference_where_it_is(small: MedImageInsight) -> None:
    """It says so instead of training nothing, or of moving half of itself."""
    model = small.prepare()
    assert model.prepare() is model
    assert not model.training
    with pytest.raises(RuntimeError, match="cannot be trained"):
        model.train()
    with pytest.raises(RuntimeError, match="stays as it is"):
        model.double()


def test_drop_path_is_off(small: MedImageInsight) -> None:
    """A model that was left in training mode is prepared for evaluation."""
    images = recipe.small_images()
    expected = small.encode_image(images)
    actual = small.train().prepare().encode_image(images)
    torch.testing.assert_close(actual, expected)


def test_no_other_dtype_is_computed_in(small: MedImageInsight) -> None:
    """Integers are no precision."""
    with pytest.raises(ValueError, match=r"not in torch\.int8"):
        prepared(small, torch.int8, whole_windows=False)
