"""The MLP adapter of MedImageInsight's examples, on one embedding.

Linear, GELU, Linear, LayerNorm, Conv1d, GELU, Conv1d, Linear; AdamW with a rate of 3e-4
and a decay of 0.01. On a sequence of length one only the centre taps of the
convolutions act, so these are what is trained, begun as convolutions are. Batches grow
with the data: the examples' 8 would take hours on 100,000 images.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from workers.fitting.fitted import Fitted
from workers.fitting.samples import Training

GRID = ({"epochs": 10, "width": 512}, {"epochs": 30, "width": 512})

_RATE, _DECAY = 3e-4, 0.01
_SMALLEST_BATCH, _LARGEST_BATCH, _STEPS_AN_EPOCH = 8, 256, 64
_TAPS = 3


class Adapter(nn.Module):
    """From embeddings (B, D) to one logit each, (B,)."""

    def __init__(self, dimension: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(dimension, width)
        self.project = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.conv1 = nn.Linear(width, width)
        self.conv2 = nn.Linear(width, width)
        self.output = nn.Linear(width, 1)
        self.activation = nn.GELU()
        for layer in (self.conv1, self.conv2):
            for parameter in layer.parameters():
                # a convolution's bound counts all of its taps
                parameter.data /= math.sqrt(_TAPS)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the logits."""
        hidden = self.norm(self.project(self.activation(self.reduce(rows))))
        hidden = self.conv2(self.activation(self.conv1(hidden)))
        logits: Tensor = self.output(hidden).squeeze(-1)
        return logits


def fits(
    training: Training, grid: Sequence[Mapping[str, Any]], *, seed: int
) -> Iterator[Fitted]:
    """Yield an adapter for each width and number of epochs.

    The same seed gives the same numbers on the same machine.
    """
    for parameters in grid:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapter = Adapter(training.vectors.shape[1], parameters["width"])
            _train(adapter, training, parameters["epochs"])
        tensors = {
            name: values.detach().numpy()
            for name, values in adapter.state_dict().items()
        }
        yield Fitted(kind="mlp", tensors=tensors)


def _train(adapter: Adapter, training: Training, epochs: int) -> None:
    rows = torch.from_numpy(training.vectors)
    truth = torch.from_numpy(training.present).float()
    weights = torch.from_numpy(training.weights).float()
    size = max(_SMALLEST_BATCH, min(len(rows) // _STEPS_AN_EPOCH, _LARGEST_BATCH))
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=_RATE, weight_decay=_DECAY)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(rows)), size):
            loss = binary_cross_entropy_with_logits(
                adapter(rows[batch]), truth[batch], weight=weights[batch]
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
