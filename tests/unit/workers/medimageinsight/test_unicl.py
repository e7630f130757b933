import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tests.golden import recipe
from workers.medimageinsight import unicl_loss
from workers.medimageinsight.unicl import identities

INVERSE_TEMPERATURE_E = torch.tensor(1.0, dtype=torch.float64)


def embeddings(name: str) -> Tensor:
    values = torch.from_numpy(recipe.noise(name, (5, 4))).double()
    return normalize(values, dim=1)


@pytest.fixture
def images() -> Tensor:
    return embeddings("uc:img")


@pytest.fixture
def texts() -> Tensor:
    return embeddings("uc:txt")


def loss(images: Tensor, texts: Tensor, labels: list[int]) -> float:
    return unicl_loss(
        images, texts, torch.tensor(labels), logit_scale=INVERSE_TEMPERATURE_E
    ).item()


def test_the_loss_is_the_references(images: Tensor, texts: Tensor) -> None:
    """Two pairs of one label, one of another, two without: the known value."""
    assert loss(images, texts, [0, 3, 0, 3, 2]) == pytest.approx(
        3.1288025856, abs=1e-10
    )


def test_images_and_texts_count_alike(images: Tensor, texts: Tensor) -> None:
    """The loss is the mean of both directions, so they can be exchanged."""
    labels = [0, 3, 0, 3, 2]
    assert loss(images, texts, labels) == pytest.approx(loss(texts, images, labels))


def test_unlabelled_pairs_are_identities_of_their_own() -> None:
    """Each zero becomes a label that no other pair has."""
    labels = torch.tensor([0, 3, 0, 3, 2])
    assert identities(labels).tolist() == [4, 3, 5, 3, 2]


def test_without_labels_it_is_clips_loss(images: Tensor, texts: Tensor) -> None:
    """Plain pairs: the cross-entropy of finding the partner, both ways."""
    logits = INVERSE_TEMPERATURE_E.exp() * images @ texts.T
    found = logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal()
    assert loss(images, texts, 5 * [0]) == pytest.approx(-found.mean().item() / 2)


def test_a_negative_label_leaves_its_pair_out(images: Tensor, texts: Tensor) -> None:
    """The pair is neither positive nor negative to any other."""
    kept = [0, 1, 3]
    expected = loss(images[kept], texts[kept], [0, 3, 3])
    assert loss(images, texts, [0, 3, -1, 3, -7]) == pytest.approx(expected)


def test_the_temperature_learns(images: Tensor, texts: Tensor) -> None:
    """Gradients reach embeddings and logit_scale."""
    for leaf in (images, texts):
        leaf.requires_grad_()
    logit_scale = INVERSE_TEMPERATURE_E.clone().requires_grad_()
    labels = torch.tensor([0, 3, 0, 3, 2])
    unicl_loss(images, texts, labels, logit_scale=logit_scale).backward()  # type: ignore[no-untyped-call]
    gradients = [leaf.grad for leaf in (images, texts, logit_scale)]
    assert all(g is not None and g.abs().sum() > 0 for g in gradients)


def test_a_batch_without_a_pair_is_refused(images: Tensor, texts: Tensor) -> None:
    """Its mean would not be a number."""
    with pytest.raises(ValueError, match="no pair"):
        loss(images, texts, 5 * [-1])


def test_what_does_not_pair_is_refused(images: Tensor, texts: Tensor) -> None:
    """Every image has one text and one label."""
    with pytest.raises(ValueError, match=r"expected \(B, D\), \(B, D\) and \(B,\)"):
        loss(images, texts[:4], [0, 3, 0, 3, 2])
    with pytest.raises(ValueError, match="expected"):
        loss(images, texts, [0, 3, 0, 3])
