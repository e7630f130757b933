"""Learning in parts and in pieces: the same gradient, the same weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.golden import recipe
from workers.medimageinsight import CheckpointError, MedImageInsight, unicl_loss
from workers.medimageinsight.finetune import Learner, Schedule
from workers.medimageinsight.gradcache import Part, backward
from workers.medimageinsight.world import World

ALONE = World(rank=0, size=1, device=torch.device("cpu"))
LABELS = torch.tensor([0, 3, 0, 3, 2])


def parts(*sizes: int) -> list[Part]:
    """Return a batch of five pairs in parts of so many."""
    size = recipe.SMALL.image_size_px
    images = torch.from_numpy(recipe.noise("ft:img", (5, 3, size, size)))
    text = recipe.SMALL.text
    ids = torch.arange(1, 1 + 5 * text.context).view(5, -1) % (text.vocabulary - 1)
    ids[:, -1] = text.vocabulary - 1
    made, at = [], 0
    for number, count in enumerate(sizes):
        rows = torch.arange(at, at + count)
        mask = torch.ones(count, text.context, dtype=torch.int64)
        part = Part(
            rows=rows, images=images[rows], ids=ids[rows], mask=mask, seed=number
        )
        made.append(part)
        at += count
    return made


def gradients(model: MedImageInsight) -> dict[str, Tensor]:
    return {
        n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
    }


@pytest.fixture
def eager(small: MedImageInsight) -> MedImageInsight:
    """Return a model that learns; drop path off, so that parts do not matter."""
    return small.requires_grad_()


@pytest.mark.parametrize("sizes", [(5,), (2, 3), (1, 1, 1, 1, 1)])
def test_the_gradient_is_that_of_the_whole_batch(
    eager: MedImageInsight, sizes: tuple[int, ...]
) -> None:
    """What autograd gives for all five pairs at once, however they were cut."""
    (whole,) = parts(5)
    images, texts = (
        eager.encode_image(whole.images),
        eager.encode_text(whole.ids, whole.mask),
    )
    loss = unicl_loss(images, texts, LABELS, logit_scale=eager.logit_scale)
    loss.backward()  # type: ignore[no-untyped-call]
    expected = gradients(eager)
    eager.zero_grad()

    found = backward(eager, parts(*sizes), LABELS, ALONE)

    assert found == pytest.approx(loss.item(), rel=1e-5)
    for name, gradient in gradients(eager).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-4, rtol=1e-3)


def test_a_frozen_tower_stays_as_it_is(small: MedImageInsight) -> None:
    """What the pattern names does not move, everything else does."""
    before = {n: p.clone() for n, p in small.named_parameters()}
    schedule = Schedule(steps=2, learning_rate=1e-3, frozen=("lang_encoder", "logit"))
    learner = Learner(small, schedule, ALONE)
    learner.learn(parts(5), LABELS)

    moved = {n for n, p in small.named_parameters() if not torch.equal(p, before[n])}

    assert not {n for n in moved if n.startswith(("lang_encoder", "logit_scale"))}
    assert {"image_projection", "lang_projection"} <= moved


def test_a_pattern_that_names_nothing_is_refused(small: MedImageInsight) -> None:
    """Else a model would learn that was meant to be frozen."""
    with pytest.raises(ValueError, match="convs"):
        Learner(small, Schedule(steps=1, frozen=("convs",)), ALONE)


def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Two steps, a checkpoint, another process's two: as four in a row, to the bit."""
    schedule = Schedule(steps=4, learning_rate=1e-3, warmup=1, averaged=0.9)

    def learner() -> Learner:
        return Learner(recipe.fill(MedImageInsight(recipe.SMALL)), schedule, ALONE)

    straight, first, second = learner(), learner(), learner()
    for _ in range(4):
        straight.learn(parts(2, 3), LABELS)
    for _ in range(2):
        first.learn(parts(2, 3), LABELS)
    first.keep(tmp_path / "last.pt", data="a")
    second.resume(tmp_path / "last.pt", data="a")
    for _ in range(2):
        second.learn(parts(2, 3), LABELS)

    assert second.step == 4
    assert second.write(tmp_path / "b") == straight.write(tmp_path / "a")


def test_another_runs_checkpoint_is_refused(
    tmp_path: Path, small: MedImageInsight
) -> None:
    """A checkpoint goes on with the data and the schedule that it was made with."""
    learner = Learner(small, Schedule(steps=2), ALONE)
    learner.keep(tmp_path / "last.pt", data="a")

    with pytest.raises(CheckpointError, match="another data"):
        learner.resume(tmp_path / "last.pt", data="b")


def test_what_is_no_checkpoint_is_refused(
    tmp_path: Path, small: MedImageInsight
) -> None:
    """One sentence, no traceback of a pickle."""
    (tmp_path / "last.pt").write_bytes(b"no")

    with pytest.raises(CheckpointError, match="not a checkpoint"):
        Learner(small, Schedule(steps=2), ALONE).resume(tmp_path / "last.pt", data="a")


def test_rates_rise_then_fall() -> None:
    """A linear warm-up, then half a cosine down to the least."""
    schedule = Schedule(steps=10, warmup=2, learning_rate=1.0, least_rate=0.1)

    rates = [schedule.rate(step) for step in range(11)]

    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[10] == pytest.approx(0.1)
