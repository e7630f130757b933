"""MedImageInsight: an image tower and a text tower that meet in one space.

Architecture: Codella et al., MedImageInsight: An Open-Source Embedding Model for
General Domain Medical Imaging, arXiv 2410.06542. The names in the state dict are
those of the official checkpoint, so weights load without renaming.
"""

from typing import Self

import torch
from torch import Tensor, nn

from workers.medimageinsight.config import Config
from workers.medimageinsight.prepared import PreparedTower
from workers.medimageinsight.text import TextTower
from workers.medimageinsight.vision import RGB, VisionTower


class MedImageInsight(nn.Module):
    """Images and texts to unit vectors of which the dot product is the similarity.

    The vectors are float32 even where the weights are of half precision.
    ``exp(logit_scale) * images @ texts.T`` are logits over labels that exclude one
    another.

    `image_encoder` is plain and can be trained, until `prepare` makes it fast.
    """

    image_encoder: VisionTower | PreparedTower

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = VisionTower(config.vision)
        self.lang_encoder = TextTower(config.text)
        self.image_projection = _projection(config.vision.dims[-1], config.embedding)
        self.lang_projection = _projection(config.text.width, config.embedding)
        self.logit_scale = nn.Parameter(torch.ones([]))

    @property
    def dimension(self) -> int:
        """Return the length of an embedding."""
        return self.config.embedding

    def prepare(self) -> Self:
        """Return this model, its image tower made fast, for inference only.

        It computes the same in the same dtype, and stays on its device.
        """
        if isinstance(self.image_encoder, VisionTower):
            self.image_encoder = PreparedTower(
                self.config.vision,
                self.image_encoder.state_dict().__getitem__,
                dtype=self.image_projection.dtype,
                device=self.image_projection.device,
            )
        return self.eval()

    def encode_image(self, images: Tensor) -> Tensor:
        """Return embeddings (B, embedding) of length one.

        Parameters
        ----------
        images
            (B, 3, H, W) RGB, already normalised, in the dtype of the weights; float32
            will do for a model that was loaded in half precision.

        Raises
        ------
        ValueError
            If the shape is another.
        TypeError
            If the dtype is another.
        """
        return self.embed_grid(self.image_grid(images))

    def image_grid(self, images: Tensor) -> Tensor:
        """Return the image tower's tokens (B, h, w, C); takes what encode_image does.

        `embed_grid` makes the embeddings of them, so that one pass gives both.
        """
        self._check_images(images)
        return self.image_encoder.grid(images)

    def embed_grid(self, grid: Tensor) -> Tensor:
        """Return embeddings (B, embedding) of length one, of a grid (B, h, w, C)."""
        features = self.image_encoder.pool(grid).to(self.image_projection.dtype)
        return _unit(features @ self.image_projection)

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return embeddings (B, embedding) of length one.

        Parameters
        ----------
        input_ids
            (B, context) int64, as the tokenizer gives them.
        attention_mask
            (B, context) bool or int64, zero where there is only padding.

        Raises
        ------
        ValueError
            If a shape is another, an id is not in the vocabulary, or a text is
            masked as a whole.
        TypeError
            If a dtype is another.
        """
        self._check_text(input_ids, attention_mask)
        features = self.lang_encoder(input_ids, attention_mask.bool())
        return _unit(features.to(self.lang_projection.dtype) @ self.lang_projection)

    def _check_images(self, images: Tensor) -> None:
        shape = tuple(images.shape)
        if len(shape) != 4 or shape[1] != RGB or 0 in shape:  # noqa: PLR2004 - BCHW
            raise ValueError(f"images must be (B, 3, H, W), not {shape}")
        taken = {self.image_projection.dtype}
        if isinstance(self.image_encoder, PreparedTower):
            taken.add(self.image_encoder.dtype)
        if images.dtype not in taken:
            expected = " or ".join(sorted(map(str, taken)))
            raise TypeError(f"images must be {expected}, not {images.dtype}")

    def _check_text(self, input_ids: Tensor, attention_mask: Tensor) -> None:
        text = self.config.text
        for name, tensor in (("ids", input_ids), ("mask", attention_mask)):
            shape = tuple(tensor.shape)
            if len(shape) != 2 or shape[1] != text.context or 0 in shape:  # noqa: PLR2004 - BT
                raise ValueError(f"{name} must be (B, {text.context}), not {shape}")
        if input_ids.shape != attention_mask.shape:
            raise ValueError("there must be as many masks as texts")
        if input_ids.dtype != torch.int64:
            raise TypeError(f"ids must be torch.int64, not {input_ids.dtype}")
        if attention_mask.dtype not in (torch.bool, torch.int64):
            raise TypeError(f"mask must be bool or int64, not {attention_mask.dtype}")
        if input_ids.amin() < 0 or input_ids.amax() >= text.vocabulary:
            raise ValueError(f"ids must lie in [0, {text.vocabulary})")
        if not attention_mask.any(dim=1).all():
            raise ValueError("a text is masked as a whole")


def _projection(width: int, embedding: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(width, embedding) * width**-0.5)


def _unit(x: Tensor) -> Tensor:
    # Three digits of a half-precision length would show in every cosine.
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    unit: Tensor = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return unit
