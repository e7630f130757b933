"""An encoder is its pack's model, strictly loaded, in evaluation mode."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dicom_node.errors import Permanent, Transient
from tests.packs import CONFIG, POLICY, make_pack, manifest
from workers.encoder import (
    BATCHES,
    PROFILES,
    Encoder,
    MedImageInsightEncoder,
    open_encoder,
    read_config,
    why_not,
)
from workers.medimageinsight import MedImageInsight, Tokenizer, load
from workers.pack import Pack, open_pack

SIZE = POLICY.size


@pytest.fixture(scope="module")
def encoder(pack: Pack) -> Encoder:
    """Return the small pack's encoder on the CPU."""
    return open_encoder(pack, device="cpu", threads=1)


def noise(count: int) -> NDArray[np.uint8]:
    """Return images (count, 3, S, S)."""
    shape = (count, 3, SIZE, SIZE)
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)


def test_it_is_what_its_pack_says(encoder: Encoder, pack: Pack) -> None:
    """Key, dimension and policy come from the manifest."""
    assert encoder.key == pack.encoder_key
    assert encoder.dimension == CONFIG.embedding
    assert encoder.preprocessing == POLICY


def test_images_are_normalised_and_embedded(encoder: Encoder, pack: Pack) -> None:
    """As by hand: /255, minus mean, over std, through the image tower."""
    images = noise(3)
    mean = np.array(POLICY.mean, np.float32).reshape(3, 1, 1)
    std = np.array(POLICY.std, np.float32).reshape(3, 1, 1)
    spec = pack.manifest.encoder
    model = load(pack.weights, config=CONFIG, sha256=spec.sha256)
    normal = (images.astype(np.float32) / 255 - mean) / std
    expected = model.encode_image(torch.from_numpy(normal)).numpy()
    np.testing.assert_allclose(encoder.embed_images(images), expected, atol=1e-6)


def test_embeddings_have_length_one(encoder: Encoder) -> None:
    """Images and texts meet on the unit sphere, as float32."""
    for rows in (encoder.embed_images(noise(2)), encoder.embed_texts(["a", "chest"])):
        assert rows.dtype == np.float32
        assert rows.shape == (2, CONFIG.embedding)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_neither_batches_nor_order_matter(encoder: Encoder) -> None:
    """One by one, in any order or in more than one batch: the same embedding."""
    images = noise(BATCHES[0] + 3)
    together = encoder.embed_images(images)
    alone = np.concatenate([encoder.embed_images(image[None]) for image in images])
    backwards = encoder.embed_images(images[::-1])[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, backwards, atol=1e-5)
    np.testing.assert_array_equal(together, encoder.embed_images(images))


def test_nothing_in_nothing_out(encoder: Encoder) -> None:
    """An empty batch has the shape of any other."""
    assert encoder.embed_images(noise(0)).shape == (0, CONFIG.embedding)
    assert encoder.embed_texts([]).shape == (0, CONFIG.embedding)


def test_texts_go_through_the_packs_tokenizer(encoder: Encoder, pack: Pack) -> None:
    """The same as the text tower gives for the tokenizer's ids."""
    text = "x-ray chest pneumothorax."
    model = load(pack.weights, config=CONFIG, sha256=pack.manifest.encoder.sha256)
    ids, mask = Tokenizer.load(pack.tokenizer, context=CONFIG.text.context).encode(
        [text]
    )
    expected = model.encode_text(ids, mask).numpy()
    np.testing.assert_allclose(encoder.embed_texts([text]), expected, atol=1e-6)
    assert encoder.logit_scale == pytest.approx(float(model.logit_scale))


@pytest.mark.parametrize(
    "images",
    [
        noise(1).astype(np.float32),
        noise(1)[:, :, :-1],
        noise(1)[:, :2],
        noise(1)[0],
    ],
)
def test_other_images_are_refused(encoder: Encoder, images: NDArray[Any]) -> None:
    """No silent cast, no silent resize."""
    with pytest.raises(ValueError, match=r"images must be \(N, 3, 56, 56\) uint8"):
        encoder.embed_images(images)


def edited(pack: Pack, folder: Path, **encoder: Any) -> Pack:
    """Return a copy of the pack that claims something else of its encoder."""
    shutil.copytree(pack.folder, folder)
    path = folder / "pack.json"
    data = json.loads(path.read_text())
    data["encoder"] |= encoder
    path.write_text(json.dumps(data))
    return open_pack(folder)


@pytest.mark.parametrize(
    ("claim", "sentence"),
    [
        ({"numeric_profile": "int8"}, "is computed in int8: this worker computes in"),
        ({"numeric_profile": "float16"}, "is computed in float16: that takes a GPU"),
        ({"embedding_dim": 24, "config": {}}, "encoder.config: vision: Field required"),
    ],
)
def test_a_model_that_cannot_be_computed_here_is_refused(
    pack: Pack, tmp_path: Path, claim: dict[str, Any], sentence: str
) -> None:
    """With a sentence, before anything is computed."""
    with pytest.raises(Permanent, match=sentence):
        open_encoder(edited(pack, tmp_path / "copy", **claim), device="cpu")


def test_a_pack_is_computed_in_its_profile(pack: Pack, tmp_path: Path) -> None:
    """Half precision gives other embeddings, near those of float32, of length one."""
    half = edited(pack, tmp_path / "copy", numeric_profile="bfloat16")
    encoder = open_encoder(half, device="cpu", threads=1)
    assert encoder.key != pack.encoder_key
    images = noise(3)
    rows = encoder.embed_images(images)
    exact = open_encoder(pack, device="cpu", threads=1).embed_images(images)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert not np.array_equal(rows, exact)
    assert (rows * exact).sum(axis=1).min() > 0.999


def test_a_profile_needs_the_hardware_for_it() -> None:
    """A CPU computes in float32 and bfloat16."""
    cpu = torch.device("cpu")
    assert [name for name in PROFILES if not why_not(name, cpu)] == [
        "float32",
        "bfloat16",
    ]


class Hungry(torch.nn.Module):
    """A model that takes two fifths of the machine's memory for each image."""

    def __init__(self, model: MedImageInsight, share: float) -> None:
        super().__init__()
        self.model = model
        self.dimension = model.dimension
        self.logit_scale = model.logit_scale
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self.bytes = int(memory * share)

    def encode_image(self, images: Tensor) -> Tensor:
        """Return the model's embeddings, if so much can be had."""
        torch.empty(len(images) * self.bytes, dtype=torch.uint8)
        return self.model.encode_image(images)


def hungry(pack: Pack, share: float) -> MedImageInsightEncoder:
    """Return the pack's encoder with a model that wants memory."""
    spec = pack.manifest.encoder
    return MedImageInsightEncoder(
        Hungry(load(pack.weights, config=CONFIG, sha256=spec.sha256), share),  # type: ignore[arg-type]
        Tokenizer.load(pack.tokenizer, context=CONFIG.text.context),
        pack.encoder_key,
        pack.preprocessing,
    )


def test_batches_are_halved_when_memory_runs_out(pack: Pack, encoder: Encoder) -> None:
    """Nothing is lost, and it goes on with what fits."""
    images = noise(BATCHES[0] + 3)
    rows = hungry(pack, 0.4).embed_images(images)
    np.testing.assert_allclose(rows, encoder.embed_images(images), atol=1e-5)


def test_memory_for_not_even_one_image_is_said(pack: Pack) -> None:
    """Another time there may be enough."""
    with pytest.raises(Transient, match="not enough memory to embed a single image"):
        hungry(pack, 3.0).embed_images(noise(2))


def test_weights_of_another_model_are_refused(pack: Pack, tmp_path: Path) -> None:
    """Every size has to fit: nothing is left as it was initialised."""
    config = asdict(CONFIG)
    config["vision"] |= {"depths": (1, 1, 1)}
    other = edited(pack, tmp_path / "copy", config=config)
    with pytest.raises(Permanent, match="unknown"):
        open_encoder(other, device="cpu")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """Its vocabulary is the text tower's."""
    config = asdict(CONFIG)
    config["text"] |= {"vocabulary": 652}
    encoder = manifest()["encoder"] | {"config": config}
    with pytest.raises(Permanent, match="tokenizer of pack test-pack is not its model"):
        open_encoder(make_pack(tmp_path, encoder=encoder), device="cpu")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c["vision"].pop("window"), "every size of the model"),
        (lambda c: c.update(colour=3), "every size of the model"),
        (lambda c: c["text"].update(width="32"), "encoder.config: text.width"),
        (lambda c: c["vision"].update(heads=[3, 4, 6]), "cannot be shared"),
    ],
)
def test_a_config_states_every_size_and_no_more(change: Any, sentence: str) -> None:
    """A default that changes one day must not change a model."""
    config = json.loads(json.dumps(asdict(CONFIG)))
    change(config)
    with pytest.raises(Permanent, match=sentence):
        read_config(config)


def test_a_missing_gpu_is_said_in_a_sentence(pack: Pack) -> None:
    """Where a GPU is asked for and there is none."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(Permanent, match="there is no GPU"):
        open_encoder(pack, device="cuda")
    assert open_encoder(pack, device="auto").dimension == CONFIG.embedding
