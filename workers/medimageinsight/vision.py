"""The image tower: DaViT, which attends within windows and across channels in turn.

Images enter as (B, 3, H, W); from there on a grid of tokens (B, H, W, C) flows through
every module, so norms, linear layers and windows need no transposition, and the
convolutions see the same memory as a channels-last image. No module knows the size of
the image: there is no position embedding.

Names of modules are those of the official checkpoint. Paper: Ding et al., DaViT: Dual
Attention Vision Transformers, ECCV 2022; sizes and order as MedImageInsight has them.
"""

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from workers.medimageinsight.config import VisionConfig

RGB = 3
MLP_RATIO = 4


class VisionTower(nn.Module):
    """Images to one feature vector each, by way of the last stage's token grid."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        rates = iter(_drop_rates(config))
        self.convs = nn.ModuleList([_stem(config.dims[0])])
        self.convs.extend(_shrink(c, d) for c, d in pairwise(config.dims))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(
                    DualBlock(config, stage, (next(rates), next(rates)))
                    for _ in range(depth)
                )
            )
            for stage, depth in enumerate(config.depths)
        )
        self.norms = nn.LayerNorm(config.dims[-1])

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, C) of images (B, 3, H, W)."""
        return self.pool(self.grid(images))

    def grid(self, images: Tensor) -> Tensor:
        """Return the last stage's tokens (B, h, w, C), not yet normalised."""
        x = images.permute(0, 2, 3, 1)  # (B, H, W, 3)
        for conv, blocks in zip(self.convs, self.blocks, strict=True):
            x = blocks(conv(x))  # (B, h, w, C), smaller and wider at each stage
        return x

    def pool(self, grid: Tensor) -> Tensor:
        """Return features (B, C) of a grid (B, h, w, C): the mean first, then norm."""
        features: Tensor = self.norms(grid.mean(dim=(1, 2)))
        return features


class ConvEmbed(nn.Module):
    """A strided convolution to a smaller, wider grid, with a norm before or after."""

    def __init__(self, proj: nn.Conv2d, norm_dim: int, *, norm_first: bool) -> None:
        super().__init__()
        self.proj = proj
        self.norm = nn.LayerNorm(norm_dim)
        self.norm_first = norm_first

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, h, w, D) of a grid (B, H, W, C)."""
        if self.norm_first:
            return _conv(self.proj, self.norm(x))
        normed: Tensor = self.norm(_conv(self.proj, x))
        return normed


def _stem(dim: int) -> ConvEmbed:
    proj = nn.Conv2d(RGB, dim, kernel_size=7, stride=4, padding=3)
    return ConvEmbed(proj, dim, norm_first=False)


def _shrink(dim: int, wider: int) -> ConvEmbed:
    proj = nn.Conv2d(dim, wider, kernel_size=3, stride=2, padding=1)
    return ConvEmbed(proj, dim, norm_first=True)


class DualBlock(nn.Module):
    """A spatial block, then a channel block: four residual branches each."""

    def __init__(
        self, config: VisionConfig, stage: int, drop_rates: tuple[float, float]
    ) -> None:
        super().__init__()
        dim = config.dims[stage]
        spatial, channel = drop_rates
        windows = WindowAttention(dim, config.heads[stage], config.window)
        groups = ChannelAttention(dim, config.groups[stage])
        self.spatial_block = _block("window_attn", windows, dim, spatial)
        self.channel_block = _block("channel_attn", groups, dim, channel)

    def forward(self, x: Tensor) -> Tensor:
        """Return a grid (B, H, W, C) of the same size."""
        y: Tensor = self.channel_block(self.spatial_block(x))
        return y


def _block(name: str, attention: nn.Module, dim: int, rate: float) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            [
                ("conv1", Residual(DepthwiseConv(dim))),
                (name, Residual(attention, norm=nn.LayerNorm(dim), drop_path=rate)),
                ("conv2", Residual(DepthwiseConv(dim))),
                ("ffn", Residual(FeedForward(dim), nn.LayerNorm(dim), drop_path=rate)),
            ]
        )
    )


class Residual(nn.Module):
    """``x + fn(norm(x))``; in training whole samples skip `fn` at the drop rate."""

    def __init__(
        self, fn: nn.Module, norm: nn.Module | None = None, *, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = norm if norm is not None else nn.Identity()
        self.fn = fn
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """Return a grid (B, H, W, C) of the same size."""
        branch: Tensor = self.fn(self.norm(x))
        if self.training and self.drop_path > 0:
            branch = drop_samples(branch, self.drop_path)
        return x + branch


def drop_samples(x: Tensor, rate: float) -> Tensor:
    """Return `x` (B, ...) with samples zeroed at `rate` and the kept ones scaled up."""
    keep = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= rate
    return x * (keep / (1 - rate)).to(x.dtype)


class DepthwiseConv(nn.Module):
    """A 3x3 convolution of every channel by itself: the tower's sense of position."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return a grid (B, H, W, C) of the same size."""
        return _conv(self.dw, x)


def _conv(conv: nn.Conv2d, x: Tensor) -> Tensor:
    # The permuted view is a channels-last image in memory: no copy either way.
    image: Tensor = conv(x.permute(0, 3, 1, 2))  # (B, C, H, W)
    return image.permute(0, 2, 3, 1)  # (B, H, W, C)


class WindowAttention(nn.Module):
    """Self-attention within windows that do not overlap.

    A grid that is no multiple of the window is padded at the bottom and on the right.
    Padding tokens are not masked: being zero, their query, key and value are the
    bias of `qkv`. So only real tokens go through the linear layers, and the
    padding is filled with that bias.
    """

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return a grid (B, H, W, C) of the same size."""
        _, height, width, _ = x.shape
        qkv = self._padded(self.qkv(x))  # (B, H', W', 3C), whole windows
        rows, columns = qkv.shape[1] // self.window, qkv.shape[2] // self.window
        q, k, v = self._partition(qkv)  # each (B·rows·columns, heads, window², d)
        y = scaled_dot_product_attention(q, k, v)
        y = self._reverse(y, rows, columns)  # (B, H', W', C)
        projected: Tensor = self.proj(y[:, :height, :width])  # (B, H, W, C)
        return projected

    def _padded(self, qkv: Tensor) -> Tensor:
        batch, height, width, channels = qkv.shape
        whole_height = height + -height % self.window
        whole_width = width + -width % self.window
        if (whole_height, whole_width) == (height, width):
            return qkv
        bias = self.qkv.bias.to(qkv.dtype)
        padded = bias.expand(batch, whole_height, whole_width, channels).clone()
        padded[:, :height, :width] = qkv
        return padded

    def _partition(self, qkv: Tensor) -> tuple[Tensor, ...]:
        batch, height, width, _ = qkv.shape
        w, h = self.window, self.heads
        x = qkv.view(batch, height // w, w, width // w, w, 3, h, -1)
        x = x.permute(5, 0, 1, 3, 6, 2, 4, 7)  # (3, B, rows, columns, heads, w, w, d)
        x = x.reshape(3, -1, h, w * w, x.shape[-1])
        return x.unbind(0)

    def _reverse(self, y: Tensor, rows: int, columns: int) -> Tensor:
        w, h = self.window, self.heads
        y = y.reshape(-1, rows, columns, h, w, w, y.shape[-1])
        y = y.permute(0, 1, 4, 2, 5, 3, 6)  # (B, rows, w, columns, w, heads, d)
        return y.reshape(y.shape[0], rows * w, columns * w, -1)


class ChannelAttention(nn.Module):
    """Self-attention among the channels of a group, each described by all tokens."""

    def __init__(self, dim: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return a grid (B, H, W, C) of the same size."""
        batch, height, width, dim = x.shape
        tokens = height * width
        qkv = self.qkv(x).view(batch, tokens, 3, self.groups, dim // self.groups)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, groups, N, d)
        # Scaled before the sum over N tokens, so that half precision cannot overflow.
        affinity = (q * tokens**-0.5).transpose(-2, -1) @ k  # (B, groups, d, d)
        y = v @ affinity.softmax(dim=-1).transpose(-2, -1)  # (B, groups, N, d)
        y = y.transpose(1, 2).reshape(batch, height, width, dim)
        projected: Tensor = self.proj(y)
        return projected


class FeedForward(nn.Module):
    """Two linear layers about an exact GELU, token by token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            OrderedDict[str, nn.Module](
                fc1=nn.Linear(dim, MLP_RATIO * dim),
                act=nn.GELU(),
                fc2=nn.Linear(MLP_RATIO * dim, dim),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a grid (B, H, W, C) of the same size."""
        y: Tensor = self.net(x)
        return y


def _drop_rates(config: VisionConfig) -> list[float]:
    """Return a rate per block, spatial and channel in turn, from 0 up."""
    rates: list[float] = torch.linspace(
        0, config.drop_path, 2 * sum(config.depths), device="cpu"
    ).tolist()
    return rates
