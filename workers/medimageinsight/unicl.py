"""The UniCL loss: contrastive learning where pairs of one label belong together.

Paper: Yang et al., Unified Contrastive Learning in Image-Text-Label Space, CVPR 2022.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def unicl_loss(
    images: Tensor, texts: Tensor, labels: Tensor, *, logit_scale: Tensor
) -> Tensor:
    """Return the loss of a batch, a scalar: the mean of image-to-text and back.

    Parameters
    ----------
    images, texts
        (B, D) embeddings of length one; row i of both is one pair.
    labels
        (B,) int64. Pairs of one positive label are all positives of one another. A
        pair labelled 0 is positive with itself only. A negative label leaves the
        pair out.
    logit_scale
        Scalar, the natural logarithm of the inverse temperature.

    Raises
    ------
    ValueError
        If the shapes do not fit, or every pair is left out.
    """
    if images.shape != texts.shape or labels.shape != images.shape[:1]:
        shapes = tuple(tuple(x.shape) for x in (images, texts, labels))
        raise ValueError(f"expected (B, D), (B, D) and (B,), not {shapes}")
    used = labels >= 0
    if not used.any():
        raise ValueError("no pair has a label of 0 or more")
    logits = logit_scale.exp() * images[used] @ texts[used].T  # (b, b)
    ids = identities(labels[used])
    same = (ids[:, None] == ids[None, :]).to(logits.dtype)  # (b, b)
    target = same / same.sum(dim=1, keepdim=True)  # (b, b), rows and columns sum to 1
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def identities(labels: Tensor) -> Tensor:
    """Return labels (B,) of which every 0 has become a new label of its own."""
    unlabelled = labels == 0
    fresh = labels.amax() + torch.cumsum(unlabelled, dim=0)  # (B,)
    return torch.where(unlabelled, fresh, labels)
