"""Images and texts to embeddings: the model of a pack, ready to compute.

Everything behind it (heads, search, gates) knows only the `Encoder` protocol. Torch is
at home here and in `workers.medimageinsight`.
"""

from collections.abc import Callable, Mapping, Sequence
from platform import machine
from typing import Any, Protocol

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from dicom_node.domain import EncoderKey
from dicom_node.errors import Permanent, Transient
from workers.medimageinsight import (
    Config,
    Ensemble,
    MedImageInsight,
    Tokenizer,
    load,
    load_ensemble,
    multiplies_bfloat16,
    parse_config,
)
from workers.pack import Pack
from workers.policy import Preprocessing

Embeddings = NDArray[np.float32]
"""(N, D) float32, rows of length one."""

BATCHES = (32, 16, 8, 4, 2, 1)
"""Images, or texts, that go through the model at once: few sizes, largest first."""

PROFILES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Numeric profiles, and what is computed in."""

_WHITE = 255.0

log = structlog.get_logger(__name__)


class Encoder(Protocol):
    """Images and texts to unit vectors of one space."""

    @property
    def key(self) -> EncoderKey:
        """Return what makes its embeddings comparable with others."""
        ...

    @property
    def dimension(self) -> int:
        """Return the length D of an embedding."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """Return the policy that its images have to follow."""
        ...

    @property
    def logit_scale(self) -> float:
        """Return the logarithm of the temperature between images and texts."""
        ...

    def embed_images(self, images: NDArray[np.uint8]) -> Embeddings:
        """Return (N, D) float32 of length one, of (N, 3, S, S) uint8 RGB."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return (N, D) float32 of length one."""
        ...


def open_encoder(
    pack: Pack, *, device: str = "auto", threads: int | None = None
) -> Encoder:
    """Return the encoder of a pack, in evaluation mode.

    Parameters
    ----------
    device
        ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
    threads
        Of this process on the CPU; None leaves it to torch.

    Raises
    ------
    Permanent
        If the model cannot be computed here, or its files are not what the pack says.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    spec = pack.manifest.encoder
    at = _device(device)
    refusal = why_not(spec.numeric_profile, at)
    if refusal:
        raise Permanent(
            f"pack {pack.name} is computed in {spec.numeric_profile}: {refusal}"
        )
    config = read_config(spec.config)
    dimension = spec.members * config.embedding
    if dimension != spec.embedding_dim:
        raise Permanent(
            f"pack {pack.name} states {spec.embedding_dim} dimensions, "
            f"and its model has {dimension}"
        )
    tokenizer = Tokenizer.load(pack.tokenizer, context=config.text.context)
    if tokenizer.vocabulary != config.text.vocabulary:
        raise Permanent(f"the tokenizer of pack {pack.name} is not its model's")
    model = _model(pack, config, at)
    return MedImageInsightEncoder(
        model.prepare(), tokenizer, pack.encoder_key, pack.preprocessing
    )


def _model(
    pack: Pack, config: Config, device: torch.device
) -> MedImageInsight | Ensemble:
    spec = pack.manifest.encoder
    dtype, sha256 = PROFILES[spec.numeric_profile], spec.sha256
    if spec.members == 1:
        return load(
            pack.weights, dtype=dtype, device=device, config=config, sha256=sha256
        )
    return load_ensemble(
        pack.weights,
        spec.members,
        dtype=dtype,
        device=device,
        config=config,
        sha256=sha256,
    )


def why_not(profile: str, device: torch.device) -> str:
    """Return why a numeric profile cannot be computed on a device; empty if it can."""
    if profile not in PROFILES:
        return f"this worker computes in {', '.join(PROFILES)}"
    if profile == "float16" and device.type == "cpu":
        return "that takes a GPU"
    if profile == "bfloat16" and device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return "" if supported else "this GPU cannot"
    return ""


def half_profile(device: str) -> str:
    """Return the profile of half precision that a device has; empty if it has none."""
    if _device(device).type != "cuda":
        return "bfloat16" if multiplies_bfloat16() else ""
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if native else "float16"


def device_kind(device: str) -> str:
    """Return where models run, ``cpu`` or ``cuda``, if a worker is set to `device`.

    Raises
    ------
    Permanent
        If it is to be a GPU, and there is none.
    """
    return _device(device).type


def device_name(device: str) -> str:
    """Return what a device is called: by its maker, or by its instructions."""
    at = _device(device)
    if at.type == "cuda":
        return torch.cuda.get_device_name(at)
    amx = " and AMX" if torch.cpu._is_amx_tile_supported() else ""  # noqa: SLF001 - no public name
    return f"{machine()} with {torch.backends.cpu.get_cpu_capability()}{amx}"


def read_config(data: Mapping[str, Any]) -> Config:
    """Return the sizes of a model, every one of them stated.

    Raises
    ------
    Permanent
        If one is missing, unknown or impossible.
    """
    try:
        return parse_config(data)
    except ValueError as error:
        raise Permanent(f"encoder.config: {error}") from error


class MedImageInsightEncoder:
    """`Encoder` with a model on one device."""

    def __init__(
        self,
        model: MedImageInsight | Ensemble,
        tokenizer: Tokenizer,
        key: EncoderKey,
        preprocessing: Preprocessing,
    ) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._key = key
        self._preprocessing = preprocessing
        self._device = model.logit_scale.device
        self._mean = self._per_channel(preprocessing.mean)
        self._std = self._per_channel(preprocessing.std)
        self._batches: tuple[int, ...] = BATCHES

    @property
    def key(self) -> EncoderKey:
        """Return what makes its embeddings comparable with others."""
        return self._key

    @property
    def dimension(self) -> int:
        """Return the length D of an embedding."""
        return self._model.dimension

    @property
    def preprocessing(self) -> Preprocessing:
        """Return the policy that its images have to follow."""
        return self._preprocessing

    @property
    def logit_scale(self) -> float:
        """Return the logarithm of the temperature between images and texts."""
        return float(self._model.logit_scale)

    def embed_images(self, images: NDArray[np.uint8]) -> Embeddings:
        """Return (N, D) float32 of length one, of (N, 3, S, S) uint8 RGB.

        Raises
        ------
        ValueError
            If the images are others.
        """
        size = self._preprocessing.size
        if images.dtype != np.uint8 or images.shape[1:] != (3, size, size):
            raise ValueError(
                f"images must be (N, 3, {size}, {size}) uint8, "
                f"not {images.shape} {images.dtype}"
            )
        pixels = np.ascontiguousarray(images)
        return self._rows(len(images), lambda part: self._images(pixels[part]))

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Return (N, D) float32 of length one."""
        return self._rows(len(texts), lambda part: self._texts(texts[part]))

    @torch.inference_mode()
    def _images(self, images: NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(images).to(self._device)
        normal = (pixels.float() / _WHITE - self._mean) / self._std
        return self._model.encode_image(normal).float().cpu()

    @torch.inference_mode()
    def _texts(self, texts: Sequence[str]) -> Tensor:
        ids, mask = self._tokenizer.encode(texts)
        features = self._model.encode_text(ids.to(self._device), mask.to(self._device))
        return features.float().cpu()

    def _rows(self, count: int, embed: Callable[[slice], Tensor]) -> Embeddings:
        """Return the embeddings of `count` inputs, batch by batch.

        Raises
        ------
        Transient
            If the memory does not suffice for a single one.
        """
        parts = [torch.empty(0, self.dimension)]
        done = 0
        while done < count:
            size = next(b for b in self._batches if b <= count - done)
            try:
                parts.append(embed(slice(done, done + size)))
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                self._halve(size)
            else:
                done += size
        rows: Embeddings = torch.cat(parts).numpy()
        return rows

    def _halve(self, size: int) -> None:
        """Go on with smaller batches than `size`, for good: the memory is what it is."""
        self._batches = tuple(batch for batch in BATCHES if batch < size)
        if not self._batches:
            raise Transient("there is not enough memory to embed a single image")
        log.warning("batch_halved", batch=self._batches[0])
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _per_channel(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self._device).reshape(3, 1, 1)


def _out_of_memory(error: RuntimeError) -> bool:
    # On a CPU torch has no class of its own for it.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate" in str(error)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise Permanent("there is no GPU that torch can use: set worker.device to cpu")
    return torch.device(name)
