"""The gradient of a loss over a global batch that no single pass can hold.

UniCL's loss compares every image with every text of the batch, so it cannot be summed
over parts. Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup (2021): embed all parts without gradients, take the loss's gradient with
regard to the embeddings, then embed each part again and carry that gradient on. The
result is the gradient of the whole batch, whatever the parts, and however many
processes share them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.medimageinsight.model import MedImageInsight
from workers.medimageinsight.unicl import unicl_loss
from workers.medimageinsight.world import World


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Pairs that go through the model at once.

    Parameters
    ----------
    rows
        (b,) int64: their places in the global batch.
    images
        (b, 3, S, S) float32, normalised.
    ids, mask
        (b, context) int64: their texts.
    seed
        Of whatever is random in the model: drop path.
    """

    rows: Tensor
    images: Tensor
    ids: Tensor
    mask: Tensor
    seed: int


def backward(
    model: MedImageInsight, parts: Sequence[Part], labels: Tensor, world: World
) -> float:
    """Return the loss of the global batch, and leave its gradient in the parameters.

    Parameters
    ----------
    parts
        Those of this process; all processes' together are the batch.
    labels
        (B,) int64 of the whole batch, as `unicl_loss` takes them.
    """
    images, texts = _embedded(model, parts, len(labels), world)
    scale = model.logit_scale.detach().requires_grad_()
    loss = unicl_loss(images, texts, labels, logit_scale=scale)
    loss.backward()  # type: ignore[no-untyped-call]
    for part in parts:
        with _seeded(part.seed, world.device):
            both = _forward(model, part)
        _carry_on(both, [_given(x.grad)[part.rows] for x in (images, texts)])
    learning = [p for p in model.parameters() if p.requires_grad]
    for parameter in learning:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    world.add_up([_given(p.grad) for p in learning])
    if model.logit_scale.requires_grad:  # every process has the whole of this one
        model.logit_scale.grad = _given(scale.grad).clone()
    return loss.item()


def _embedded(
    model: MedImageInsight, parts: Sequence[Part], size: int, world: World
) -> tuple[Tensor, Tensor]:
    """Return the embeddings (B, D) of all processes, as leaves."""
    shape = (size, model.config.embedding)
    whole = [torch.zeros(shape, device=world.device) for _ in range(2)]
    with torch.no_grad():
        for part in parts:
            with _seeded(part.seed, world.device):
                both = _forward(model, part)
            for all_rows, some in zip(whole, both, strict=True):
                all_rows[part.rows] = some.float()
    world.add_up(whole)
    return whole[0].requires_grad_(), whole[1].requires_grad_()


def _forward(model: MedImageInsight, part: Part) -> tuple[Tensor, Tensor]:
    """Return embeddings (b, D) float32 of images and texts; in bfloat16 on a GPU."""
    kind = part.images.device.type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda"):
        images = model.encode_image(part.images)
        texts = model.encode_text(part.ids, part.mask)
    return images.float(), texts.float()


def _carry_on(embedded: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Add to the parameters' gradients what those of the embeddings make of them."""
    pairs = zip(embedded, gradients, strict=True)
    learning = [(e, g) for e, g in pairs if e.requires_grad]  # a tower may be frozen
    torch.autograd.backward([e for e, _ in learning], [g for _, g in learning])


def _given(gradient: Tensor | None) -> Tensor:
    if gradient is None:
        raise RuntimeError("a tensor of the loss has no gradient")
    return gradient


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let the same things happen at random each time, and nowhere else."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield
