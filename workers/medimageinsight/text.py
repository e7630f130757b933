"""The text tower: a transformer that sees the whole label at once.

It differs from CLIP's text tower in three points: no causal mask, padding that is
masked, and norms with an epsilon of 1e-12. Names of modules are those of the official
checkpoint.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from workers.medimageinsight.config import TextConfig

MLP_RATIO = 4
NORM_EPSILON = 1e-12


class TextTower(nn.Module):
    """Token ids to one feature vector per text: the state at the first end token."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.positional_embedding = nn.Parameter(
            torch.empty(config.context, config.width)
        )
        self.resblocks = nn.ModuleList(
            Block(config.width, config.heads) for _ in range(config.layers)
        )
        self.ln_final = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return features (B, width).

        Parameters
        ----------
        input_ids
            (B, context) int64; the highest id of a row ends its text.
        attention_mask
            (B, context) bool, true where a token may be attended to.
        """
        end = input_ids.argmax(dim=-1)  # (B,), the first of equal ids
        length = _needed_length(end, attention_mask)
        input_ids, attention_mask = input_ids[:, :length], attention_mask[:, :length]
        x = self.token_embedding(input_ids) + self.positional_embedding[:length]
        keys = attention_mask[:, None, None, :]  # (B, 1, 1, T): the same for all
        for block in self.resblocks:
            x = block(x, keys)  # (B, T, width)
        x = x[torch.arange(x.shape[0], device=x.device), end]  # (B, width)
        features: Tensor = self.ln_final(x)
        return features


def _needed_length(end: Tensor, attention_mask: Tensor) -> int:
    # What is neither attended to nor pooled cannot change the features: labels are
    # short, and most of the context is padding.
    positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    last = (positions * attention_mask).amax()
    return int(torch.maximum(last, end.amax())) + 1


class Block(nn.Module):
    """Attention among the tokens of a text, then a token-wise MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.ln_1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.mlp = nn.Sequential(
            OrderedDict[str, nn.Module](
                c_fc=nn.Linear(width, MLP_RATIO * width),
                gelu=QuickGELU(),
                c_proj=nn.Linear(MLP_RATIO * width, width),
            )
        )
        self.ln_2 = nn.LayerNorm(width, eps=NORM_EPSILON)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Return (B, T, width); `keys` (B, 1, 1, T) is true where one may attend.

        Matrices may be of half precision; sums and norms stay as precise as `x`.
        """
        dtype = self.mlp.get_parameter("c_fc.weight").dtype
        x = x + self.attn(self.ln_1(x).to(dtype), keys)
        y: Tensor = x + self.mlp(self.ln_2(x).to(dtype))
        return y


class Attention(nn.Module):
    """Multi-head self-attention, with the parameters of nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Return (B, T, width)."""
        batch, length, _ = x.shape
        qkv = linear(x, self.in_proj_weight, self.in_proj_bias)  # (B, T, 3·width)
        qkv = qkv.view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, T, d)
        y = scaled_dot_product_attention(q, k, v, attn_mask=keys)
        y = y.transpose(1, 2).reshape(batch, length, -1)  # (B, T, width)
        projected: Tensor = self.out_proj(y)
        return projected


class QuickGELU(nn.Module):
    """The sigmoid form of GELU that CLIP was trained with."""

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        return x * torch.sigmoid(1.702 * x)
