import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.golden import recipe
from workers.medimageinsight import (
    OFFICIAL_SHA256,
    CheckpointError,
    MedImageInsight,
    load,
    parse_config,
    save,
)
from workers.pack import locate

BIAS = "image_encoder.norms.bias"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.safetensors"


@pytest.fixture
def demo() -> Path:
    return locate("phantoms")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_saved_is_loaded(small: MedImageInsight, path: Path) -> None:
    """Every tensor comes back as it was, under its official name."""
    sha256 = save(small, path)
    loaded = load(path, config=recipe.SMALL, sha256=sha256)
    assert digest(path) == sha256
    assert list(small.state_dict()) == list(loaded.state_dict())
    for name, tensor in small.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


def test_a_loaded_model_is_ready_to_evaluate(
    small: MedImageInsight, path: Path
) -> None:
    """In evaluation mode, without gradients, the config at hand."""
    loaded = load(path, config=recipe.SMALL, sha256=save(small, path))
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.config == recipe.SMALL
    images = recipe.small_images()
    assert torch.equal(small.encode_image(images), loaded.encode_image(images))


def test_a_loaded_model_can_be_trained(small: MedImageInsight, path: Path) -> None:
    """Frozen parameters can be thawed."""
    loaded = load(path, config=recipe.SMALL, sha256=save(small, path))
    loaded.train().requires_grad_()
    loaded.encode_image(recipe.small_images()).sum().backward()  # type: ignore[no-untyped-call]
    assert loaded.image_projection.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_model_outlives_its_file(
    small: MedImageInsight, path: Path, dtype: torch.dtype
) -> None:
    """A file that is removed or replaced changes nothing."""
    small = small.to(dtype).float()
    sha256 = save(small, path, dtype=dtype)
    loaded = load(path, config=recipe.SMALL, sha256=sha256)
    path.unlink()
    path.write_bytes(b"another file")
    images = recipe.small_images()
    assert torch.equal(small.encode_image(images), loaded.encode_image(images))


def test_half_precision_is_for_storage_only(small: MedImageInsight, path: Path) -> None:
    """A file of float16 is half as large, and its model computes in float32."""
    loaded = load(
        path, config=recipe.SMALL, sha256=save(small, path, dtype=torch.float16)
    )
    for name, tensor in small.state_dict().items():
        assert torch.equal(tensor.half().float(), loaded.state_dict()[name])


@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_whatever_is_asked_for(
    small: MedImageInsight, path: Path, stored: torch.dtype, dtype: torch.dtype
) -> None:
    """Rounded once, from what is stored."""
    sha256 = save(small, path, dtype=stored)
    loaded = load(path, config=recipe.SMALL, sha256=sha256, dtype=dtype)
    for name, tensor in small.state_dict().items():
        assert torch.equal(tensor.to(stored).to(dtype), loaded.state_dict()[name])


@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_half_precision_is_for_matrices(
    small: MedImageInsight, path: Path, stored: torch.dtype
) -> None:
    """Norms, embeddings and what images and texts meet in stay in float32."""
    sha256 = save(small, path, dtype=stored)
    loaded = load(path, config=recipe.SMALL, sha256=sha256, dtype=torch.bfloat16)
    texts = loaded.lang_encoder.state_dict()
    halves = {name for name, tensor in texts.items() if tensor.dtype == torch.bfloat16}
    assert halves == {n for n in texts if ".attn." in n or ".mlp." in n}
    assert loaded.image_projection.dtype == torch.float32
    assert str(path) not in Path("/proc/self/maps").read_text("utf-8")


def test_weights_that_are_used_as_stored_stay_in_the_file(
    small: MedImageInsight, path: Path
) -> None:
    """Mapped, not copied; training changes the model and leaves the file alone."""
    sha256 = save(small, path)
    loaded = load(path, config=recipe.SMALL, sha256=sha256)
    mapped = Path("/proc/self/maps").read_text("utf-8")
    assert str(path) in mapped
    with torch.no_grad():
        loaded.image_projection.add_(1)
    assert digest(path) == sha256


def test_a_pack_says_itself_what_its_model_is(demo: Path) -> None:
    """The folder alone is enough."""
    config = json.loads((demo / "pack.json").read_bytes())["encoder"]["config"]
    assert load(demo).config == parse_config(config)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"encoder": {"config": {}}}'])
def test_a_folder_that_is_no_pack_is_refused(tmp_path: Path, content: bytes) -> None:
    """In one sentence that names its manifest, also if there is none."""
    with pytest.raises(CheckpointError, match=r"pack\.json: No such file"):
        load(tmp_path)
    (tmp_path / "pack.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"pack\.json: not the manifest"):
        load(tmp_path)


def test_weights_of_ones_own_need_no_digest(small: MedImageInsight, path: Path) -> None:
    """Where it is said that any digest will do; else it has to be the official one."""
    save(small, path)
    load(path, config=recipe.SMALL, sha256=None)
    with pytest.raises(CheckpointError, match=OFFICIAL_SHA256):
        load(path, config=recipe.SMALL)


def test_other_dtypes_are_not_written(small: MedImageInsight, path: Path) -> None:
    """What could not be loaded is not saved."""
    with pytest.raises(ValueError, match="float32 or float16"):
        save(small, path, dtype=torch.float64)
    assert not path.exists()


@pytest.mark.parametrize("value", [float("nan"), 1e9])
def test_weights_that_are_not_finite_are_not_written(
    small: MedImageInsight, path: Path, value: float
) -> None:
    """Neither those of a training that failed, nor those too large for float16."""
    small.logit_scale.fill_(value)
    with pytest.raises(ValueError, match="logit_scale is not finite"):
        save(small, path, dtype=torch.float16)
    assert not path.exists()


def test_the_digest_may_be_in_capitals(small: MedImageInsight, path: Path) -> None:
    """Hexadecimal digits are digits in either case."""
    load(path, config=recipe.SMALL, sha256=save(small, path).upper())


def test_another_digest_is_refused(small: MedImageInsight, path: Path) -> None:
    """One bit of one weight is enough."""
    sha256 = save(small, path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"expected {sha256}"):
        load(path, config=recipe.SMALL, sha256=sha256)


def lack_a_tensor(tensors: dict[str, Tensor]) -> None:
    del tensors[BIAS]


def have_a_tensor_more(tensors: dict[str, Tensor]) -> None:
    tensors["decoder.weight"] = torch.zeros(3)


def have_another_name(tensors: dict[str, Tensor]) -> None:
    tensors[f"module.{BIAS}"] = tensors.pop(BIAS)


def have_another_shape(tensors: dict[str, Tensor]) -> None:
    tensors[BIAS] = tensors[BIAS][:-1].clone()


def have_another_dtype(tensors: dict[str, Tensor]) -> None:
    tensors[BIAS] = tensors[BIAS].bfloat16()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lack_a_tensor, rf"{BIAS} is missing$"),
        (have_a_tensor_more, r"decoder\.weight is unknown$"),
        (have_another_name, rf"{BIAS} is missing; module\.{BIAS} is unknown$"),
        (have_another_shape, rf"{BIAS} is \[47\] and should be \[48\]$"),
        (have_another_dtype, rf"{BIAS} is stored as BF16$"),
        (dict.clear, "is missing; .* is missing; .* is missing; and 1.. more$"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    small: MedImageInsight,
    path: Path,
    change: Callable[[dict[str, Tensor]], None],
    message: str,
) -> None:
    """Not one tensor may lack, exceed or differ; the error says which."""
    save(small, path)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=message):
        load(path, config=recipe.SMALL, sha256=digest(path))


def test_another_config_is_refused(small: MedImageInsight, path: Path) -> None:
    """Weights of another model do not load in part."""
    sha256 = save(small, path)
    config = dataclasses.replace(recipe.SMALL, embedding=25)
    with pytest.raises(CheckpointError, match=r"image_projection is \[48, 24\]"):
        load(path, config=config, sha256=sha256)


def test_an_absent_file_is_refused(path: Path) -> None:
    """Without weights there is no model, least of all a random one."""
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(path, config=recipe.SMALL, sha256=64 * "0")


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs", 99 * b"\x00"])
def test_another_kind_of_file_is_refused(path: Path, content: bytes) -> None:
    """A pointer or a page in the weights' place is named as what it is not."""
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load(path, config=recipe.SMALL, sha256=digest(path))
