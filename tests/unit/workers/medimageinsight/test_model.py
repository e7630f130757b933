import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.golden import recipe
from workers.medimageinsight import (
    FULL,
    Config,
    MedImageInsight,
    TextConfig,
    VisionConfig,
)
from workers.medimageinsight.vision import VisionTower

SINGLE, DOUBLE = 1e-5, 1e-12  # of the largest value

TINY = Config(  # of the reference's own golden
    vision=VisionConfig(
        dims=(32, 64, 96, 128),
        depths=(1, 1, 2, 1),
        heads=(2, 4, 6, 8),
        groups=(1, 2, 3, 4),
    ),
    text=TextConfig(vocabulary=512, context=77, width=64, heads=4, layers=2),
    embedding=48,
    image_size_px=96,
)

Arrays = Mapping[str, NDArray[np.float64]]


def off(actual: Tensor, expected: NDArray[np.float64]) -> float:
    """Return the largest difference, relative to the largest value expected."""
    difference = np.abs(actual.numpy().astype(np.float64) - expected)
    return float(difference.max() / np.abs(expected).max())


def raw_images(model: MedImageInsight, images: Tensor) -> Tensor:
    """Return embeddings before they are brought to length one."""
    features: Tensor = model.image_encoder(images)
    return features @ model.image_projection


@pytest.fixture
def golden() -> Arrays:
    with np.load(recipe.GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture
def reference(shared: Path) -> Arrays:
    with np.load(shared / "golden" / "tiny.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def tiny(reference: Arrays) -> MedImageInsight:
    model = MedImageInsight(TINY)
    model.load_state_dict(
        {
            name.removeprefix("sd:"): torch.from_numpy(array)
            for name, array in reference.items()
            if name.startswith("sd:")
        },
        strict=True,
    )
    return model.eval().requires_grad_(requires_grad=False)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, SINGLE), (torch.float64, DOUBLE)]
)
def test_embeddings_are_the_golden_ones(
    small: MedImageInsight, golden: Arrays, dtype: torch.dtype, tolerance: float
) -> None:
    """Images and texts get the embeddings they had when the reference agreed."""
    model = small.to(dtype)
    images = model.encode_image(recipe.small_images().to(dtype))
    texts = model.encode_text(*recipe.small_texts())
    assert off(images, golden["image_embeddings"]) < tolerance
    assert off(texts, golden["text_embeddings"]) < tolerance


@pytest.mark.corpus
def test_single_precision_is_the_references(
    tiny: MedImageInsight, reference: Arrays
) -> None:
    """With the reference's weights and inputs, so are all of its outputs."""
    single = {
        k: torch.from_numpy(v) for k, v in reference.items() if k != "config_json"
    }
    images = tiny.encode_image(single["image"])
    texts = tiny.encode_text(single["input_ids"], single["attention_mask"])
    rect = raw_images(tiny, single["rect:image"])
    logits = tiny.logit_scale.exp() * images @ texts.T
    assert off(images, reference["image_embed"]) < SINGLE
    assert off(rect, reference["rect:image_embed_raw"]) < SINGLE
    assert off(texts, reference["text_embed"]) < SINGLE
    assert off(logits, reference["logits_per_image"]) < SINGLE


@pytest.mark.corpus
def test_a_prepared_tower_is_the_references(
    tiny: MedImageInsight, reference: Arrays
) -> None:
    """Fast or plain, in double precision, whole windows and beyond: the same."""
    model = tiny.double().prepare()
    images = torch.from_numpy(reference["image"]).double()
    rect = torch.from_numpy(reference["rect:image"]).double()
    assert off(raw_images(model, images), reference["f64:image_embed_raw"]) < DOUBLE
    assert off(raw_images(model, rect), reference["f64:rect:image_embed_raw"]) < DOUBLE


@pytest.mark.corpus
def test_double_precision_is_the_references(
    tiny: MedImageInsight, reference: Arrays
) -> None:
    """In double precision nothing but the order of additions may differ."""
    model = tiny.double()
    images = torch.from_numpy(reference["image"]).double()
    rect = torch.from_numpy(reference["rect:image"]).double()
    ids = torch.from_numpy(reference["input_ids"])
    mask = torch.from_numpy(reference["attention_mask"])
    texts = model.encode_text(ids, mask)
    assert off(raw_images(model, images), reference["f64:image_embed_raw"]) < DOUBLE
    assert off(raw_images(model, rect), reference["f64:rect:image_embed_raw"]) < DOUBLE
    assert off(model.encode_image(images), reference["f64:image_embed"]) < DOUBLE
    assert off(texts, reference["f64:text_embed"]) < DOUBLE


@pytest.mark.corpus
def test_every_stage_is_the_references(
    tiny: MedImageInsight, reference: Arrays
) -> None:
    """Not only the outputs agree but the grids in between, so a fault can be found."""
    x = torch.from_numpy(reference["image"]).permute(0, 2, 3, 1)
    tower = cast("VisionTower", tiny.image_encoder)
    for stage, (conv, blocks) in enumerate(zip(tower.convs, tower.blocks, strict=True)):
        x = conv(x)
        assert off(x.flatten(1, 2), reference[f"act:conv{stage}"]) < SINGLE
        for depth, block in enumerate(blocks.children()):
            x = block(x)
            expected = reference[f"act:block{stage}.{depth}"]
            assert off(x.flatten(1, 2), expected) < SINGLE


def test_names_and_shapes_are_the_official_checkpoints() -> None:
    """The full model's 601 tensors can take the official weights as they are.

    The digest is that of the list in the reference's goldens.
    """
    lines = [f"{name} {shape}" for name, shape in sorted(shapes_of_full().items())]
    assert len(lines) == 601
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == (
        "876efd7702e6f59d986da3c1b364c4537650d03006ee31004cb3b0f091f8eae8"
    )


@pytest.mark.corpus
def test_names_and_shapes_are_the_listed_ones(shared: Path) -> None:
    """The list itself, so that a difference can be read."""
    listed = json.loads((shared / "golden" / "state_dict_keys.json").read_text())
    assert listed == shapes_of_full()


def test_the_full_model_has_as_many_parameters_as_published() -> None:
    """615,996,417, of which the image tower has 360,636,416."""
    with torch.device("meta"):
        model = MedImageInsight(FULL)
    assert sum(p.numel() for p in model.parameters()) == 615_996_417
    assert sum(p.numel() for p in model.image_encoder.parameters()) == 360_636_416


def shapes_of_full() -> dict[str, list[int]]:
    with torch.device("meta"):
        model = MedImageInsight(FULL)
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_full_model_is_the_references() -> None:
    """At the official sizes the published first numbers come out."""
    with torch.device("meta"):
        model = MedImageInsight(FULL)
    model = recipe.fill(model.to_empty(device="cpu"))
    plain = raw_images(model, recipe.images(1, 3, 480, 480))[0, :8]
    assert off(plain, FULL_IMAGE) < 5 * SINGLE
    model = model.prepare()
    image = raw_images(model, recipe.images(1, 3, 480, 480))[0, :8]
    ids = torch.full((1, 77), 49407)
    ids[0, :13] = torch.tensor(X_RAY_CHEST_ANTEROPOSTERIOR_CARDIOMEGALY)
    mask = (torch.arange(77) < 14).long()[None]
    text = model.encode_text(ids, mask)[0, :8]
    assert off(image, FULL_IMAGE) < 5 * SINGLE
    assert off(text, FULL_TEXT) < 5 * SINGLE


X_RAY_CHEST_ANTEROPOSTERIOR_CARDIOMEGALY = [
    *(49406, 343, 268, 3077, 10563, 514, 20727),
    *(22881, 2498, 6211, 3693, 2001, 344),
]
FULL_IMAGE = np.array(
    [
        *(1.0870849, 1.3715225, 0.0149957, 0.1841756),
        *(-2.4033446, 0.2935149, -1.1641097, -0.8118541),
    ]
)
FULL_TEXT = np.array(
    [
        *(0.0258719, -0.0367145, 0.0208918, 0.0022135),
        *(0.0579720, 0.0523358, 0.0106004, -0.0092843),
    ]
)


def test_an_embedding_does_not_depend_on_the_batch(small: MedImageInsight) -> None:
    """Batches are filled across studies; that may move no result."""
    images = recipe.images(5, 3, 72, 56)
    together = small.encode_image(images)
    alone = torch.cat([small.encode_image(image[None]) for image in images])
    assert off(together, alone.numpy()) < SINGLE


def test_embeddings_have_length_one(small: MedImageInsight) -> None:
    """A dot product of two embeddings is their cosine."""
    texts = small.double().encode_text(*recipe.small_texts())
    assert off((texts**2).sum(dim=1), np.ones(3)) < DOUBLE


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_unit_embeddings_in_single(
    small: MedImageInsight, dtype: torch.dtype
) -> None:
    """A model of half precision is near, and its embeddings have length one still."""
    images, texts = recipe.small_images(), recipe.small_texts()
    expected = torch.cat([small.encode_image(images), small.encode_text(*texts)])
    half = small.to(dtype)
    actual = torch.cat([half.encode_image(images.to(dtype)), half.encode_text(*texts)])
    assert actual.dtype == torch.float32
    assert off((actual**2).sum(dim=1), np.ones(5)) < 1e-6
    assert (actual * expected).sum(dim=1).min() > 0.999


def test_the_grid_leads_to_the_same_embedding(small: MedImageInsight) -> None:
    """Who needs the token grid gets the embedding from the same pass."""
    images = recipe.small_images()
    grid = small.image_grid(images)
    assert grid.shape == (2, 5, 4, 48)
    assert torch.equal(small.embed_grid(grid), small.encode_image(images))


def test_training_reaches_every_parameter() -> None:
    """A fresh model has finite gradients everywhere, logit_scale included."""
    torch.manual_seed(0)
    model = MedImageInsight(recipe.SMALL).train()
    images = model.encode_image(recipe.small_images())
    texts = model.encode_text(*recipe.small_texts())
    (model.logit_scale.exp() * images @ texts.T).pow(2).sum().backward()  # type: ignore[no-untyped-call]
    lacking = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    assert not lacking


def test_evaluation_is_repeatable(small: MedImageInsight) -> None:
    """Nothing random is left in evaluation mode, and something is in training mode."""
    images = recipe.small_images()
    torch.manual_seed(0)
    assert torch.equal(small.encode_image(images), small.encode_image(images))
    small.train()
    draws = [small.encode_image(images) for _ in range(8)]
    assert not all(torch.equal(draws[0], draw) for draw in draws)


@pytest.mark.parametrize(
    "shape", [(3, 72, 56), (2, 1, 72, 56), (2, 72, 56, 3), (0, 3, 72, 56), (2, 3, 0, 9)]
)
def test_images_of_another_shape_are_refused(
    small: MedImageInsight, shape: tuple[int, ...]
) -> None:
    """No image is reshaped, stretched or given colours silently."""
    with pytest.raises(ValueError, match="images must be"):
        small.encode_image(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float64])
def test_images_of_another_dtype_are_refused(
    small: MedImageInsight, dtype: torch.dtype
) -> None:
    """Pixels that were not normalised, or another precision, are a mistake."""
    with pytest.raises(TypeError, match=r"images must be torch\.float32"):
        small.encode_image(recipe.small_images().to(dtype))


def test_texts_of_another_shape_are_refused(small: MedImageInsight) -> None:
    """A text has as many ids as the context is long, and as many masks as ids."""
    ids, mask = recipe.small_texts()
    with pytest.raises(ValueError, match="ids must be"):
        small.encode_text(ids[:, :-1], mask[:, :-1])
    with pytest.raises(ValueError, match="mask must be"):
        small.encode_text(ids, mask[0])
    with pytest.raises(ValueError, match="as many masks as texts"):
        small.encode_text(ids, mask[:1])


def test_texts_of_another_dtype_are_refused(small: MedImageInsight) -> None:
    """Ids are integers, and a mask is no weight."""
    ids, mask = recipe.small_texts()
    with pytest.raises(TypeError, match=r"ids must be torch\.int64"):
        small.encode_text(ids.int(), mask)
    with pytest.raises(TypeError, match="mask must be"):
        small.encode_text(ids, mask.float())


@pytest.mark.parametrize("id_", [-1, 64])
def test_ids_beyond_the_vocabulary_are_refused(
    small: MedImageInsight, id_: int
) -> None:
    """A tokenizer of another vocabulary is noticed, on a GPU as well."""
    ids, mask = recipe.small_texts()
    ids[0, 1] = id_
    with pytest.raises(ValueError, match="ids must lie in"):
        small.encode_text(ids, mask)


def test_a_text_without_a_token_is_refused(small: MedImageInsight) -> None:
    """Attention to nothing has no answer."""
    ids, mask = recipe.small_texts()
    mask[1] = 0
    with pytest.raises(ValueError, match="masked as a whole"):
        small.encode_text(ids, mask)
