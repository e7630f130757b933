"""The optimiser of the official configuration, release 2024.09.27: AdamW, decay for some.

Biases, norms, depth-wise convolutions, embeddings and the logit scale do not decay.
"""

import torch
from torch import nn

_UNDECAYED = ("positional_embedding", "token_embedding.weight", "logit_scale")
_DEPTH_WISE = ".dw."
_MATRIX = 2
"""Dimensions from which on a parameter is neither a bias nor of a norm."""


def adamw(
    model: nn.Module, *, learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """Return the optimiser of the parameters that learn; frozen ones are left out."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (decayed if _decays(name, parameter) else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))


def _decays(name: str, parameter: nn.Parameter) -> bool:
    if parameter.ndim < _MATRIX or _DEPTH_WISE in name:
        return False
    return not name.endswith(_UNDECAYED)
