import dataclasses
from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from tests.golden import recipe
from workers.medimageinsight import MedImageInsight
from workers.medimageinsight.vision import (
    ChannelAttention,
    DepthwiseConv,
    Residual,
    VisionTower,
    WindowAttention,
    drop_samples,
)

HEIGHT, WIDTH, DIM, HEADS, WINDOW = 7, 11, 8, 2, 4


def grid(height: int, width: int) -> Tensor:
    values = recipe.noise("grid", (2, height, width, DIM))
    return torch.from_numpy(values).double()


@pytest.fixture
def window_attention() -> WindowAttention:
    torch.manual_seed(0)
    return (
        WindowAttention(DIM, HEADS, WINDOW).double().requires_grad_(requires_grad=False)
    )


def attention_of_windows(attention: WindowAttention, x: Tensor) -> Tensor:
    """Return what the attention should: a loop over windows, none of them padded."""
    y = torch.empty_like(x)
    for top in range(0, x.shape[1], WINDOW):
        for left in range(0, x.shape[2], WINDOW):
            rows, columns = slice(top, top + WINDOW), slice(left, left + WINDOW)
            window = x[:, rows, columns]
            qkv = attention.qkv(window).flatten(1, 2)  # (B, N, 3C)
            q, k, v = (
                part.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
                for part in qkv.chunk(3, dim=-1)
            )  # each (B, heads, N, d)
            seen = scaled_dot_product_attention(q, k, v).transpose(1, 2)
            y[:, rows, columns] = seen.reshape(window.shape)
    projected: Tensor = attention.proj(y)
    return projected


def test_tokens_attend_within_their_window(window_attention: WindowAttention) -> None:
    """On a grid of whole windows, each window is attended to by itself."""
    x = grid(2 * WINDOW, 3 * WINDOW)
    expected = attention_of_windows(window_attention, x)
    torch.testing.assert_close(window_attention(x), expected, rtol=0, atol=1e-14)


def test_padding_takes_part_in_attention(window_attention: WindowAttention) -> None:
    """A grid of no whole windows gets zero tokens at the bottom and on the right."""
    x = grid(HEIGHT, WIDTH)
    padded = pad(x, (0, 0, 0, 1, 0, 1))
    expected = attention_of_windows(window_attention, padded)[:, :HEIGHT, :WIDTH]
    torch.testing.assert_close(window_attention(x), expected, rtol=0, atol=1e-14)


def test_channels_attend_to_channels_of_their_group() -> None:
    """The affinity of two channels is a sum over tokens, scaled by their number."""
    torch.manual_seed(0)
    attention = ChannelAttention(DIM, 4).double().requires_grad_(requires_grad=False)
    x = grid(3, 5)
    q, k, v = attention.qkv(x).flatten(1, 2).chunk(3, dim=-1)  # each (B, N, C)
    seen = torch.empty_like(v)
    for group in range(4):
        own = slice(2 * group, 2 * group + 2)
        affinity = torch.einsum("bnc,bnd->bcd", q[..., own], k[..., own]) * 15**-0.5
        seen[..., own] = torch.einsum("bcd,bnd->bnc", affinity.softmax(-1), v[..., own])
    expected = attention.proj(seen).view(x.shape)
    torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-14)


def test_whole_samples_drop_out() -> None:
    """A sample's branch is dropped as a whole, or scaled so that the mean stays."""
    torch.manual_seed(0)
    dropped = drop_samples(torch.ones(4000, 2, 3, 1), 0.2).flatten(1)
    assert torch.equal(dropped.amin(dim=1), dropped.amax(dim=1))
    assert {0.0, 1.25} == set(dropped.flatten().tolist())
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)


def test_drop_rates_rise_from_block_to_block() -> None:
    """From 0 in the first to the whole rate in the last; convolutions never drop."""
    config = dataclasses.replace(recipe.SMALL.vision, drop_path=0.7)
    branches = [m for m in VisionTower(config).modules() if isinstance(m, Residual)]
    rates = [b.drop_path for b in branches if not isinstance(b.fn, DepthwiseConv)]
    convs = [b.drop_path for b in branches if isinstance(b.fn, DepthwiseConv)]
    blocks = [rate for i in range(8) for rate in (i / 10, i / 10)]
    assert rates == pytest.approx(blocks)
    assert {0.0} == set(convs)


def test_any_image_size_will_do(small: MedImageInsight) -> None:
    """There is no position embedding: a pixel, a line and a page have a grid."""
    for height, width in ((1, 1), (3, 200), (130, 40)):
        rows, columns = -(-height // 16), -(-width // 16)
        got = small.image_grid(recipe.images(1, 3, height, width))
        assert (1, rows, columns, 48) == tuple(got.shape)


class PaddedAtTheTop(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fn(x.flip(1, 2))
        return y.flip(1, 2)


class PaddingMasked(nn.Module):
    def __init__(self, fn: WindowAttention) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return attention_of_windows(self.fn, x)


def pad_at_the_top(tower: VisionTower) -> None:
    for branch in residuals(tower, WindowAttention):
        branch.fn = PaddedAtTheTop(branch.fn)


def mask_padding(tower: VisionTower) -> None:
    for branch in residuals(tower, WindowAttention):
        assert isinstance(branch.fn, WindowAttention)
        branch.fn = PaddingMasked(branch.fn)


def leave_out_first_norm(tower: VisionTower) -> None:
    tower.convs[1].norm = nn.Identity()


def leave_out_convolution(tower: VisionTower) -> None:
    for branch in residuals(tower, DepthwiseConv):
        for parameter in branch.parameters():
            parameter.zero_()


def approximate_gelu(tower: VisionTower) -> None:
    for module in tower.modules():
        if isinstance(module, nn.GELU):
            module.approximate = "tanh"


def shrink_epsilon(tower: VisionTower) -> None:
    for module in tower.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6


def scale_by_width(tower: VisionTower) -> None:
    tokens, width = 18 * 14, 16
    attention = tower.get_submodule("blocks.0.0.channel_block.channel_attn.fn")
    assert isinstance(attention, ChannelAttention)
    attention.qkv.weight[:16] *= (tokens / width) ** 0.5
    attention.qkv.bias[:16] *= (tokens / width) ** 0.5


def swap_heads_and_groups(tower: VisionTower) -> None:
    for window, channel in zip(
        residuals(tower, WindowAttention),
        residuals(tower, ChannelAttention),
        strict=True,
    ):
        assert isinstance(window.fn, WindowAttention)
        assert isinstance(channel.fn, ChannelAttention)
        window.fn.heads, channel.fn.groups = channel.fn.groups, window.fn.heads


def normalise_before_pooling(tower: VisionTower) -> None:
    last = tower.blocks[-1]
    assert isinstance(last, nn.Sequential)
    last.append(tower.norms)
    tower.norms = nn.Identity()  # type: ignore[assignment]


def residuals(tower: VisionTower, kind: type[nn.Module]) -> list[Residual]:
    branches = [m for m in tower.modules() if isinstance(m, Residual)]
    return [branch for branch in branches if isinstance(branch.fn, kind)]


@pytest.mark.parametrize(
    "mistake",
    [
        mask_padding,
        pad_at_the_top,
        normalise_before_pooling,
        scale_by_width,
        swap_heads_and_groups,
        leave_out_first_norm,
        leave_out_convolution,
        approximate_gelu,
        shrink_epsilon,
    ],
)
def test_the_golden_would_show(
    small: MedImageInsight, mistake: Callable[[VisionTower], None]
) -> None:
    """Each known way to get this tower wrong moves the golden's images."""
    model, images = small.double(), recipe.small_images().double()
    right = model.encode_image(images)
    mistake(cast("VisionTower", model.image_encoder))
    assert (model.encode_image(images) - right).abs().max() > 1e-9
