"""Several models of the same sizes as one: a deep ensemble.

Lakshminarayanan et al., NeurIPS 2017. The embeddings of the members are joined and made
unit, so that a cosine is the mean of the members' cosines; one head reads all of them.
"""

import math
from collections.abc import Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from workers.medimageinsight.config import Config
from workers.medimageinsight.model import MedImageInsight


class Ensemble(nn.Module):
    """Images and texts to unit vectors, as `MedImageInsight`; `members` times as long."""

    def __init__(self, members: Sequence[MedImageInsight]) -> None:
        super().__init__()
        if len({member.config for member in members}) != 1:
            raise ValueError("an ensemble has members, all of the same sizes")
        self.members = nn.ModuleList(members)

    @property
    def config(self) -> Config:
        """Return the sizes of each member."""
        return self._each()[0].config

    @property
    def dimension(self) -> int:
        """Return the length of an embedding."""
        return len(self.members) * self.config.embedding

    @property
    def logit_scale(self) -> Tensor:
        """Return the logarithm of the temperature: the mean of the members'."""
        return torch.stack([member.logit_scale for member in self._each()]).mean()

    def prepare(self) -> Self:
        """Return this model, made fast, for inference only."""
        for member in self._each():
            member.prepare()
        return self.eval()

    def encode_image(self, images: Tensor) -> Tensor:
        """Return embeddings (B, dimension) of length one, of images (B, 3, H, W)."""
        return _joined([member.encode_image(images) for member in self._each()])

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return embeddings (B, dimension) of length one, of tokens (B, context)."""
        return _joined([m.encode_text(input_ids, attention_mask) for m in self._each()])

    def _each(self) -> list[MedImageInsight]:
        return [cast("MedImageInsight", member) for member in self.members]


def _joined(embedded: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(embedded), dim=-1) / math.sqrt(len(embedded))
