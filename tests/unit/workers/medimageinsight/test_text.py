from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.golden import recipe
from workers.medimageinsight import MedImageInsight, Tokens
from workers.medimageinsight.text import Attention, Block, TextTower


@pytest.fixture
def model(small: MedImageInsight) -> MedImageInsight:
    return small.double()


def test_only_tokens_that_are_attended_to_matter(model: MedImageInsight) -> None:
    """What stands behind the end token changes nothing, if it is masked."""
    ids, mask = recipe.small_texts()
    other = torch.where(mask.bool(), ids, 5)
    expected = model.encode_text(ids, mask)
    actual = model.encode_text(other, mask)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-14)


def test_every_token_before_the_end_matters(model: MedImageInsight) -> None:
    """Attention runs both ways, so each token of a text moves its embedding."""
    ids, mask = recipe.small_texts()
    before = model.encode_text(ids, mask)[1]
    for position in range(recipe.SMALL.text.context - 1):
        other = ids.clone()
        other[1, position] = 3
        assert not torch.allclose(model.encode_text(other, mask)[1], before)


def test_a_text_does_not_depend_on_its_neighbours(model: MedImageInsight) -> None:
    """A short text beside a long one is computed at the long one's length."""
    ids, mask = recipe.small_texts()
    together = model.encode_text(ids, mask)
    alone = torch.cat(
        [model.encode_text(i[None], m[None]) for i, m in zip(ids, mask, strict=True)]
    )
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-14)


def test_a_mask_may_hold_truth_values(model: MedImageInsight) -> None:
    """Zero and one, or false and true."""
    ids, mask = recipe.small_texts()
    expected = model.encode_text(ids, mask)
    assert torch.equal(expected, model.encode_text(ids, mask.bool()))


def test_attention_is_that_of_torch() -> None:
    """The parameters mean what they mean in nn.MultiheadAttention."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).double()
    ours = Attention(8, 2).double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    seen = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    expected, _ = theirs(x, x, x, key_padding_mask=~seen)
    actual = ours(x, seen[:, None, None, :])
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-14)


class Causal(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        past = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        y: Tensor = self.attention(x, keys & past)
        return y


def look_back_only(tower: TextTower) -> None:
    for block in blocks(tower):
        block.attn = Causal(block.attn)  # type: ignore[assignment]


def use_exact_gelu(tower: TextTower) -> None:
    for block in blocks(tower):
        block.mlp.gelu = nn.GELU()


def enlarge_epsilon(tower: TextTower) -> None:
    for module in tower.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5


def blocks(tower: TextTower) -> list[Block]:
    return [module for module in tower.modules() if isinstance(module, Block)]


@pytest.mark.parametrize("mistake", [look_back_only, use_exact_gelu, enlarge_epsilon])
def test_the_golden_would_show_a_wrong_tower(
    model: MedImageInsight, mistake: Callable[[TextTower], None]
) -> None:
    """Each known way to get this tower wrong moves the golden's texts."""
    right = model.encode_text(*recipe.small_texts())
    mistake(model.lang_encoder)
    wrong = model.encode_text(*recipe.small_texts())
    assert (wrong - right).abs().max() > 1e-9


def pool_the_start(texts: Tokens) -> Tokens:
    ids = texts.input_ids.clone()
    ids[:, 0] = recipe.END
    return Tokens(ids, texts.attention_mask)


def mask_nothing(texts: Tokens) -> Tokens:
    return Tokens(texts.input_ids, torch.ones_like(texts.attention_mask))


@pytest.mark.parametrize("mistake", [pool_the_start, mask_nothing])
def test_the_golden_would_show_wrong_inputs(
    model: MedImageInsight, mistake: Callable[[Tokens], Tokens]
) -> None:
    """Padding that is attended to, or another pooled token, moves its texts too."""
    right = model.encode_text(*recipe.small_texts())
    wrong = model.encode_text(*mistake(recipe.small_texts()))
    assert (wrong - right).abs().max() > 1e-9
