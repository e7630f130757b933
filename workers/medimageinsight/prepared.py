"""The image tower prepared for inference: `vision`'s function in fewer, larger steps.

What `vision` says plainly, this computes fast, in single precision or with matrices
in half precision; a test holds each to the other. What rounding would add up in stays
in single precision: the residual stream, norms, depth-wise convolutions, softmax.

- A depth-wise convolution and the identity beside it are one convolution.
- Tokens are put into the order of their windows while they are cast, so attention
  works on views. Padding tokens of a window are equal to each other: on a CPU one
  stands for all of them, its score raised by the logarithm of their number.
- Query and key of channel attention come out of the linear layer transposed, and the
  attention matrix is multiplied into the projection instead of into the tokens.
- The convolutions that shrink the grid are matrix products of patches. What they give
  is the residual stream itself, so that is not rounded.
- On a CPU, images go through in groups, and norms and sums in pieces, that fit its
  caches, and bfloat16 matrices are laid out once the way oneDNN multiplies them.
"""

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    conv2d,
    gelu,
    layer_norm,
    linear,
    scaled_dot_product_attention,
)

from workers.medimageinsight.config import VisionConfig

Weights = Callable[[str], Tensor]
"""The tensor with a name of the checkpoint, without the tower's prefix."""

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""What matrices may be computed in."""

ELEMENTS_PER_PASS = 14400 * 256
"""Of the first grid on a CPU: one image of 480 x 480 through the full model."""

ELEMENTS_PER_PIECE = 1 << 17
"""Half a megabyte in single precision: a fraction of a core's own cache."""

KEPT_BYTES = 1 << 30
"""Freed memory that the C library may keep for the next image."""

STRIDE = 4

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's ``mallopt(3)``."""


class PreparedTower(nn.Module):
    """Images to one feature vector each; `vision.VisionTower` for inference only.

    Parameters
    ----------
    weights
        Gives the parameters of a `vision.VisionTower`, by name.
    dtype
        Of matrices; all else is in single precision, or double if they are.
    device
        Where it computes. It stays there.
    whole_windows
        Windows that reach beyond the grid are filled with padding tokens to the size
        of the others: more work in fewer steps, as a GPU has it.
    """

    def __init__(
        self,
        config: VisionConfig,
        weights: Weights,
        *,
        dtype: torch.dtype,
        device: torch.device,
        whole_windows: bool | None = None,
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise ValueError(f"a tower is computed in one of {DTYPES}, not in {dtype}")
        whole = device.type != "cpu" if whole_windows is None else whole_windows
        at = _Source(weights, dtype, device, whole)
        if device.type == "cpu":
            _keep_freed_memory()
        self.dtype = dtype
        self._first_dim = config.dims[0]
        self._stem = _Stem(at.under("convs.0"))
        self._stages = tuple(_stage(config, i, at) for i in range(len(config.dims)))
        self._norm = _Norm(at.under("norms"))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, C) of images (B, 3, H, W)."""
        return self.pool(self.grid(images))

    @torch.no_grad()
    def grid(self, images: Tensor) -> Tensor:
        """Return the last stage's tokens (B, h, w, C), not yet normalised."""
        if images.device.type != "cpu":
            return self._grid(images)
        height, width = images.shape[2] // STRIDE, images.shape[3] // STRIDE
        elements = max(1, height * width * self._first_dim)
        group = max(1, ELEMENTS_PER_PASS // elements)
        return torch.cat([self._grid(part) for part in _runs(images, group)])

    def pool(self, grid: Tensor) -> Tensor:
        """Return features (B, C) of a grid (B, h, w, C): the mean first, then norm."""
        return self._norm(grid.mean(dim=(1, 2)))

    def train(self, mode: bool = True) -> "PreparedTower":  # noqa: FBT001, FBT002 - torch's signature
        """Refuse to be trained.

        Raises
        ------
        RuntimeError
            If `mode` is true.
        """
        if mode:
            raise RuntimeError("a prepared tower cannot be trained: load it in float32")
        return self

    def _apply(self, *_: object, **__: object) -> "PreparedTower":
        raise RuntimeError("a prepared tower stays as it is: load it where it computes")

    def _grid(self, images: Tensor) -> Tensor:
        x = self._stem(images)
        for shrink, blocks in self._stages:
            if shrink is not None:
                x = shrink(x)
            for block in blocks:
                x = block(x)
        return x


@dataclass(frozen=True, slots=True)
class _Source:
    """Where parameters come from, and what becomes of them."""

    weights: Weights
    dtype: torch.dtype
    device: torch.device
    whole_windows: bool
    prefix: str = ""

    @property
    def precise(self) -> torch.dtype:
        """Return the dtype of all that is no matrix."""
        return torch.promote_types(self.dtype, torch.float32)

    def under(self, name: str) -> "_Source":
        return replace(self, prefix=f"{self.prefix}{name}.")

    def matrix(self, name: str) -> Tensor:
        return self.weights(self.prefix + name).to(self.device, self.dtype)

    def exact(self, name: str) -> Tensor:
        return self.weights(self.prefix + name).to(self.device, self.precise)


_Step = Callable[[Tensor], Tensor]


def _stage(
    config: VisionConfig, stage: int, at: _Source
) -> tuple["_Shrink | None", tuple[_Step, ...]]:
    shrink = _Shrink(at.under(f"convs.{stage}")) if stage else None
    heads, groups = config.heads[stage], config.groups[stage]
    blocks: list[_Step] = []
    for depth in range(config.depths[stage]):
        here = at.under(f"blocks.{stage}.{depth}")
        spatial, channel = here.under("spatial_block"), here.under("channel_block")
        windows = _WindowAttention(spatial.under("window_attn"), heads, config.window)
        blocks.append(_Block(spatial, windows))
        blocks.append(
            _Block(channel, _ChannelAttention(channel.under("channel_attn"), groups))
        )
    return shrink, tuple(blocks)


class _Block:
    """Convolution, attention, convolution, feed-forward, each beside the identity."""

    def __init__(self, at: _Source, attention: "_Branch") -> None:
        self._conv1 = _Depthwise(at.under("conv1.fn.dw"))
        self._attention = attention
        self._conv2 = _Depthwise(at.under("conv2.fn.dw"))
        self._feed_forward = _FeedForward(at.under("ffn"))

    def __call__(self, x: Tensor) -> Tensor:
        """Return a grid (B, H, W, C) of the same size."""
        x = self._conv1(x)
        self._attention.add_to(x)
        x = self._conv2(x)
        self._feed_forward.add_to(x)
        return x


class _Branch(Protocol):
    """A residual branch: what it computes is added to the grid in place."""

    def add_to(self, x: Tensor) -> None:
        """Add to a grid (B, H, W, C)."""
        ...


class _WindowAttention:
    """`vision.WindowAttention` with its norm, on tokens in the order of windows."""

    def __init__(self, at: _Source, heads: int, window: int) -> None:
        self._norm = _Norm(at.under("norm"))
        self._qkv = _Linear.of(at.under("fn.qkv"))
        self._proj = _Linear.of(at.under("fn.proj"))
        self._heads = heads
        self._window = window
        self._dtype = at.dtype
        self._whole = at.whole_windows

    def add_to(self, x: Tensor) -> None:
        """Add to a grid (B, H, W, C)."""
        dim = x.shape[3]
        tiles = _tiles(x, self._window, whole=self._whole)
        normed = self._norm(x)
        rows = [tile.windows * tile.tokens for tile in tiles]
        tokens = x.new_empty(sum(rows), dim, dtype=self._dtype)
        for tile, part in zip(tiles, tokens.split_with_sizes(rows), strict=True):
            inside = part.view(*tile.shape, dim)
            inside[..., tile.real :, :] = 0
            tile.real_tokens(inside).copy_(tile.of_grid(normed))
        mixed = self._attend(self._qkv(tokens), tiles, rows)
        branch = self._proj(mixed)
        for tile, part in zip(tiles, branch.split_with_sizes(rows), strict=True):
            tile.of_grid(x).add_(tile.real_tokens(part.view(*tile.shape, dim)))

    def _attend(self, qkv: Tensor, tiles: Sequence["_Tile"], rows: list[int]) -> Tensor:
        """Return the values (R, C) that tokens attend to, of queries to values (R, 3C)."""
        mixed = []
        for tile, part in zip(tiles, qkv.split_with_sizes(rows), strict=True):
            shape = (tile.windows, tile.tokens, 3, self._heads, -1)
            q, k, v = part.view(shape).permute(2, 0, 3, 1, 4).unbind(0)
            y = scaled_dot_product_attention(q, k, v, attn_mask=tile.mask(q))
            mixed.append(y.transpose(1, 2).reshape(part.shape[0], -1))
        return torch.cat(mixed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tile:
    """The part of a grid that is cut into windows of one size.

    Parameters
    ----------
    top, left, height, width
        Of the part, in tokens.
    across, down
        Size of a window, without padding.
    pads
        Tokens of padding in each window, after the real ones.
    stands_for
        Padding tokens that each of `pads` stands for.
    """

    batch: int
    top: int
    left: int
    height: int
    width: int
    down: int
    across: int
    pads: int
    stands_for: int

    @property
    def real(self) -> int:
        return self.down * self.across

    @property
    def tokens(self) -> int:
        return self.real + self.pads

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return (B, windows down, windows across, tokens)."""
        rows, columns = self.height // self.down, self.width // self.across
        return self.batch, rows, columns, self.tokens

    @property
    def windows(self) -> int:
        return math.prod(self.shape[:3])

    def of_grid(self, grid: Tensor) -> Tensor:
        """Return a view (B, rows, columns, down, across, C) of a grid (B, H, W, C)."""
        batch, rows, columns, _ = self.shape
        part = grid.narrow(1, self.top, self.height).narrow(2, self.left, self.width)
        cells = part.view(batch, rows, self.down, columns, self.across, -1)
        return cells.transpose(2, 3)

    def real_tokens(self, tokens: Tensor) -> Tensor:
        """Return a view (B, rows, columns, down, across, C) of (B, .., tokens, C)."""
        batch, rows, columns, _ = self.shape
        real = tokens[..., : self.real, :]
        return real.view(batch, rows, columns, self.down, self.across, -1)

    def mask(self, queries: Tensor) -> Tensor | None:
        """Return what is added to the scores (windows, heads, tokens, tokens)."""
        if self.stands_for <= 1:
            return None
        mask = torch.zeros(
            self.tokens,
            dtype=torch.promote_types(queries.dtype, torch.float32),
            device=queries.device,
        )
        mask[self.real :] = math.log(self.stands_for)
        windows, heads, tokens, _ = queries.shape
        return mask.expand(windows, heads, tokens, tokens)


def _tiles(x: Tensor, window: int, *, whole: bool) -> list[_Tile]:
    """Return the whole windows of a grid, then those that reach beyond its edges."""
    batch, height, width, _ = x.shape
    tiles = []
    for top, tall, down in _spans(height, window):
        for left, wide, across in _spans(width, window):
            missing = window * window - down * across
            pads = missing if whole else min(missing, 1)
            tiles.append(
                _Tile(
                    batch=batch,
                    top=top,
                    left=left,
                    height=tall,
                    width=wide,
                    down=down,
                    across=across,
                    pads=pads,
                    stands_for=missing // pads if pads else 0,
                )
            )
    return tiles


def _spans(length: int, window: int) -> Iterator[tuple[int, int, int]]:
    """Yield start, length and length of a window: whole windows, then the rest."""
    whole = length - length % window
    if whole:
        yield 0, whole, window
    if length > whole:
        yield whole, length - whole, length - whole


class _ChannelAttention:
    """`vision.ChannelAttention` with its norm."""

    def __init__(self, at: _Source, groups: int) -> None:
        self._norm = _Norm(at.under("norm"))
        weight, bias = at.matrix("fn.qkv.weight"), at.matrix("fn.qkv.bias")
        dim = weight.shape[1]
        self._query_key = weight[: 2 * dim]  # (2C, C)
        self._query_key_bias = bias[: 2 * dim, None]
        self._value = _Linear(weight[2 * dim :], bias[2 * dim :])
        proj = at.matrix("fn.proj.weight").t()  # (C, C), in by out
        self._proj = proj.contiguous().view(groups, dim // groups, dim)
        self._proj_bias = at.matrix("fn.proj.bias")

    def add_to(self, x: Tensor) -> None:
        """Add to a grid (B, H, W, C)."""
        tokens = x.flatten(1, 2)  # (B, N, C)
        h = self._norm.cast(tokens, self._query_key.dtype)
        branch = torch.baddbmm(self._proj_bias, self._value(h), self._mixing(h))
        _add(tokens.flatten(0, 1), branch.flatten(0, 1))

    def _mixing(self, h: Tensor) -> Tensor:
        """Return matrices (B, C, C) from values to the branch, of tokens h (B, N, C)."""
        batch, tokens, dim = h.shape
        groups, size, _ = self._proj.shape
        weight = self._query_key.expand(batch, -1, -1)
        query_key = torch.baddbmm(self._query_key_bias, weight, h.transpose(1, 2))
        q, k = query_key.view(batch, 2, groups, size, tokens).unbind(1)  # (B, g, d, N)
        # Scaled before the sum over N tokens, so that half precision cannot overflow.
        affinity = (q * tokens**-0.5) @ k.transpose(-2, -1)  # (B, g, d, d)
        attention = _precise(affinity).softmax(dim=-1).to(h.dtype)
        return (attention.transpose(-2, -1) @ self._proj).view(batch, dim, dim)


class _FeedForward:
    """`vision.FeedForward` with its norm."""

    def __init__(self, at: _Source) -> None:
        self._norm = _Norm(at.under("norm"))
        self._fc1 = _Linear.of(at.under("fn.net.fc1"))
        self._fc2 = _Linear.of(at.under("fn.net.fc2"))
        self._dtype = at.dtype

    def add_to(self, x: Tensor) -> None:
        """Add to a grid (B, H, W, C)."""
        tokens = x.flatten(0, 2)  # (B·H·W, C)
        h = self._norm.cast(tokens, self._dtype)
        _add(tokens, self._fc2(self._fc1.gelu(h)))


class _Depthwise:
    """``x + conv(x)`` in one convolution: the identity is a weight of its centre."""

    def __init__(self, at: _Source) -> None:
        weight = at.exact("weight").clone()
        weight[:, 0, 1, 1] += 1
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._bias = at.exact("bias").clone()

    def __call__(self, x: Tensor) -> Tensor:
        """Return a grid (B, H, W, C) of the same size, in memory of its own."""
        image = x.permute(0, 3, 1, 2)
        y = conv2d(image, self._weight, self._bias, padding=1, groups=image.shape[1])
        return y.permute(0, 2, 3, 1).contiguous()


class _Stem:
    """The first convolution, then its norm, in single precision."""

    def __init__(self, at: _Source) -> None:
        weight = at.exact("proj.weight").clone()
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._bias = at.exact("proj.bias").clone()
        self._norm = _Norm(at.under("norm"))

    def __call__(self, images: Tensor) -> Tensor:
        """Return a grid (B, H/4, W/4, C) of images (B, 3, H, W)."""
        images = images.to(self._weight.dtype)
        images = images.contiguous(memory_format=torch.channels_last)
        y = conv2d(images, self._weight, self._bias, stride=STRIDE, padding=3)
        return self._norm(y.permute(0, 2, 3, 1).contiguous())


class _Shrink:
    """A norm, then a convolution of 3 x 3 that takes every second place."""

    def __init__(self, at: _Source) -> None:
        weight = at.matrix("proj.weight").permute(0, 2, 3, 1)  # (D, 3, 3, C)
        self._linear = _Linear(weight.flatten(1), at.matrix("proj.bias"))
        self._norm = _Norm(at.under("norm"))
        self._dtype = at.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """Return a grid (B, h, w, D) of a grid (B, H, W, C)."""
        batch, height, width, dim = x.shape
        padded = x.new_zeros(batch, height + 2, width + 2, dim, dtype=self._dtype)
        padded[:, 1:-1, 1:-1] = self._norm(x)
        patches = padded.unfold(1, 3, 2).unfold(2, 3, 2)  # (B, h, w, C, 3, 3)
        patches = patches.permute(0, 1, 2, 4, 5, 3).flatten(3)  # (B, h, w, 9C)
        return self._linear.precise(patches)


class _Linear:
    """A linear layer; on a CPU its bfloat16 matrix is laid out for oneDNN."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._packs = _packs(weight)
        self._weight = _packed(weight) if self._packs else weight
        self._bias = bias

    @classmethod
    def of(cls, at: _Source) -> "_Linear":
        return cls(at.matrix("weight"), at.matrix("bias"))

    def __call__(self, x: Tensor) -> Tensor:
        """Return (..., D) of (..., C)."""
        if self._packs:
            return _multiply(x, self._weight, self._bias, "none", "")
        return linear(x, self._weight, self._bias)

    def precise(self, x: Tensor) -> Tensor:
        """Return (..., D) of (..., C), at least in single precision.

        oneDNN sums in single precision and rounds the sum to the dtype of `x`. A second
        product, from which the first is taken away before it is rounded, is the rest.
        """
        y = self(x)
        if not self._packs:
            return _precise(y)
        rest: Tensor = torch.ops.mkldnn._linear_pointwise.binary(  # noqa: SLF001 - no public name
            x, -y, self._weight, self._bias, "add"
        )
        return _precise(y) + _precise(rest)

    def gelu(self, x: Tensor) -> Tensor:
        """Return (..., D) of (..., C), through an exact GELU."""
        if self._packs:
            return _multiply(x, self._weight, self._bias, "gelu", "none")
        return gelu(linear(x, self._weight, self._bias))


def multiplies_bfloat16() -> bool:
    """Return whether this CPU has instructions to multiply bfloat16 matrices."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - no public name


def _packs(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16:
        return False
    return multiplies_bfloat16()


def _packed(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())  # noqa: SLF001 - no public name
    return packed


def _multiply(x: Tensor, weight: Tensor, bias: Tensor, then: str, how: str) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], how)  # noqa: SLF001 - no public name
    return y


class _Norm:
    """A layer norm with epsilon 1e-5, over the last dimension."""

    def __init__(self, at: _Source) -> None:
        self._weight = at.exact("weight").clone()
        self._bias = at.exact("bias").clone()

    def __call__(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape and dtype."""
        return layer_norm(x, x.shape[-1:], self._weight, self._bias)

    def cast(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a tensor (..., C) of the same shape, in `dtype`."""
        y = torch.empty_like(x, dtype=dtype)
        for source, target in zip(_pieces(x), _pieces(y), strict=True):
            target.copy_(self(source))
        return y


def _add(x: Tensor, branch: Tensor) -> None:
    """Add a branch (N, C) of any dtype to tokens (N, C), in place."""
    for target, source in zip(_pieces(x), _pieces(branch), strict=True):
        target.add_(source)


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    """Return runs of tokens of (..., C), small enough for a core's own cache."""
    tokens = x.view(-1, x.shape[-1])
    if x.device.type != "cpu":
        return (tokens,)
    return _runs(tokens, max(1, ELEMENTS_PER_PIECE // x.shape[-1]))


def _runs(x: Tensor, longest: int) -> tuple[Tensor, ...]:
    """Return views of at most `longest` rows each."""
    starts = range(0, x.shape[0], longest)
    return tuple(x[start : start + longest] for start in starts)


def _keep_freed_memory() -> None:
    """Let glibc keep what one image frees for the next one.

    Given back to the system and taken anew, its pages would cost a tenth of the time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
