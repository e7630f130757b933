"""UniCL training of a model on images, texts and labels, reproducible from a seed.

The loop sees pairings, not data sets: for a batch of images, each `Pairing` says
which text goes with which image and which of them belong together. Several pairings
of one batch share the image tower's pass; the loss is the mean of theirs, each times
its weight.

As the official configuration has it: AdamW (`workers.medimageinsight.optimiser`),
linear warm-up, cosine decay, gradient norm clipped to 1, an average of the weights over
the last steps.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.medimageinsight.checkpoint import load, load_ensemble, save
from workers.medimageinsight.config import Config
from workers.medimageinsight.ensemble import Ensemble
from workers.medimageinsight.model import MedImageInsight
from workers.medimageinsight.optimiser import adamw
from workers.medimageinsight.tokenizer import Tokenizer
from workers.medimageinsight.unicl import unicl_loss
from workers.medimageinsight.vision import VisionTower

Progress = Callable[[int, int, float], None]
"""Told (step, steps, loss) as training goes on."""

MAX_LOGIT_SCALE = math.log(100)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairing:
    """A text for every image of a batch, and which pairs belong together.

    Parameters
    ----------
    texts
        One per image; equal texts are encoded once.
    labels
        (B,) int64, as `unicl_loss` takes them; not all of them negative.
    weight
        Of this pairing's loss.
    """

    texts: tuple[str, ...]
    labels: NDArray[np.int64]
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Images (B, S, S) uint8, grey, and at least one pairing of them."""

    images: NDArray[np.uint8]
    pairings: tuple[Pairing, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rephrasing:
    """Two texts for each label (B,) int64: different words, the same meaning."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how fast to train.

    Parameters
    ----------
    steps
        Number of batches.
    text_steps
        Number of rephrasings that the text tower learns from before that, alone: with
        texts apart from the start, images know where to go.
    locked
        Share of the steps, from the first, in which the text tower only watches. Two
        towers that know nothing collapse onto one point before they learn.
    averaged
        Decay of the moving average of the weights, which are what is returned.
    logit_scale
        What the logit scale starts from. A small model that starts from the official
        value, 1, hardly moves for hundreds of steps.
    threads
        Sums depend on it in their last bits, so it is part of the plan. A model this
        small gains little from a second one.
    """

    steps: int
    text_steps: int = 0
    locked: float = 0.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 100
    averaged: float = 0.995
    logit_scale: float = math.log(1 / 0.07)
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """How long and how fast a trained model goes on, to be averaged.

    Parameters
    ----------
    warmup
        Steps in which the rate rises.
    skipped
        Steps, from the first, whose weights do not count.
    """

    steps: int
    learning_rate: float
    weight_decay: float = 0.05
    warmup: int = 50
    skipped: int = 150
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.skipped < self.steps:
            raise ValueError("some steps must count")


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """Mean and deviation per RGB channel, of values in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lessons:
    """What is learned from: images with texts, and before that texts alone.

    Parameters
    ----------
    tower
        An image tower of the same sizes whose weights are started from; None starts
        from scratch.
    """

    batches: Iterable[Batch]
    rephrasings: Iterable[Rephrasing] = ()
    tower: VisionTower | None = None


def train(
    config: Config,
    tokenizer: Tokenizer,
    lessons: Lessons,
    plan: Plan,
    *,
    normalisation: Normalisation,
    progress: Progress,
) -> MedImageInsight:
    """Return a model, in evaluation mode, trained on `lessons`.

    Two runs with equal arguments on one machine, with one number of threads, give
    the same weights to the bit.
    """
    with _exactly(plan.threads):
        return _trained(config, tokenizer, lessons, plan, (normalisation, progress))


def _trained(
    config: Config,
    tokenizer: Tokenizer,
    lessons: Lessons,
    plan: Plan,
    setting: tuple[Normalisation, Progress],
) -> MedImageInsight:
    normalisation, progress = setting
    torch.manual_seed(plan.seed)
    model = MedImageInsight(config).train()
    torch.nn.init.constant_(model.logit_scale, plan.logit_scale)
    if lessons.tower is not None:
        model.image_encoder.load_state_dict(lessons.tower.state_dict())
    _learn_texts(model, tokenizer, lessons.rephrasings, plan)
    average = torch.optim.swa_utils.AveragedModel(
        model,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]
            plan.averaged
        ),
    )
    optimizer = adamw(
        model, learning_rate=plan.learning_rate, weight_decay=plan.weight_decay
    )
    for step, batch in zip(range(plan.steps), lessons.batches, strict=False):
        if step == 0:
            _spread(model, batch, normalisation)
        _lock_text(model, locked=step < plan.locked * plan.steps)
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, plan)
        loss = _loss(model, tokenizer, batch, normalisation)
        _follow(loss, model, optimizer)
        average.update_parameters(model)
        progress(step + 1, plan.steps, loss.item())
    model.load_state_dict(average.module.state_dict())
    return model.eval()


def settle(
    model: MedImageInsight,
    tokenizer: Tokenizer,
    batches: Iterable[Batch],
    plan: Settling,
    *,
    normalisation: Normalisation,
    progress: Progress,
) -> MedImageInsight:
    """Return the mean of what further training at a constant rate passes through.

    Stochastic weight averaging (Izmailov et al., UAI 2018): what many runs agree on, in
    the weights of one. The text tower stays as it is. As `train`, the same to the bit.
    """
    with _exactly(plan.threads):
        torch.manual_seed(plan.seed)
        model.requires_grad_().train()
        _lock_text(model, locked=True)
        optimizer = adamw(
            model, learning_rate=plan.learning_rate, weight_decay=plan.weight_decay
        )
        mean = torch.optim.swa_utils.AveragedModel(model)
        for step, batch in zip(range(plan.steps), batches, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * min(1, (step + 1) / plan.warmup)
            loss = _loss(model, tokenizer, batch, normalisation)
            _follow(loss, model, optimizer)
            if step >= plan.skipped:
                mean.update_parameters(model)
            progress(step + 1, plan.steps, loss.item())
        model.load_state_dict(mean.module.state_dict())
    return model.eval()


def _follow(
    loss: Tensor, model: MedImageInsight, optimizer: torch.optim.Optimizer
) -> None:
    """Take one step down the loss."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)


@contextmanager
def _exactly(threads: int) -> Iterator[None]:
    """Compute with so many threads and reproducible kernels only, for a while."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(mode=before[1])


def save_half(model: MedImageInsight, path: Path) -> MedImageInsight:
    """Write the weights as float16, and return the model that the file holds."""
    digest = save(model, path, dtype=torch.float16)
    return load(path, config=model.config, sha256=digest)


def save_half_ensemble(model: Ensemble, path: Path) -> Ensemble:
    """Write the weights of all members as float16, and return what the file holds."""
    digest = save(model, path, dtype=torch.float16)
    members = len(model.members)
    return load_ensemble(path, members, config=model.config, sha256=digest)


def embed_images(
    model: MedImageInsight | Ensemble,
    images: NDArray[np.uint8],
    normalisation: Normalisation,
    *,
    batch_size: int = 64,
) -> NDArray[np.float32]:
    """Return embeddings (N, D) of length one, of grey images (N, S, S) uint8."""
    with _exactly(1), torch.inference_mode():
        parts = [
            model.encode_image(_pixels(images[at : at + batch_size], normalisation))
            for at in range(0, len(images), batch_size)
        ]
    embedded: NDArray[np.float32] = torch.cat(parts).numpy()
    return embedded


def embed_texts(
    model: MedImageInsight, tokenizer: Tokenizer, texts: Sequence[str]
) -> NDArray[np.float32]:
    """Return embeddings (N, D) of length one."""
    with _exactly(1), torch.inference_mode():
        embedded: NDArray[np.float32] = model.encode_text(
            *tokenizer.encode(texts)
        ).numpy()
    return embedded


def _lock_text(model: MedImageInsight, *, locked: bool) -> None:
    model.lang_encoder.requires_grad_(not locked)
    model.lang_projection.requires_grad_(not locked)


def _learn_texts(
    model: MedImageInsight,
    tokenizer: Tokenizer,
    rephrasings: Iterable[Rephrasing],
    plan: Plan,
) -> None:
    """Train the text tower alone, by the same loss, between texts."""
    tower = [*model.lang_encoder.parameters(), model.lang_projection]
    optimizer = torch.optim.AdamW(tower, lr=plan.learning_rate, weight_decay=0.0)
    for _, batch in zip(range(plan.text_steps), rephrasings, strict=False):
        unique = sorted({*batch.first, *batch.second})
        rows = {text: row for row, text in enumerate(unique)}
        embedded = model.encode_text(*tokenizer.encode(unique))
        loss = unicl_loss(
            embedded[torch.tensor([rows[text] for text in batch.first])],
            embedded[torch.tensor([rows[text] for text in batch.second])],
            torch.from_numpy(batch.labels),
            logit_scale=model.logit_scale.detach(),
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(tower, 1.0)
        optimizer.step()


def _spread(model: MedImageInsight, batch: Batch, normalisation: Normalisation) -> None:
    """Set the image tower's last norm so that this batch spreads about zero.

    A fresh tower gives nearly the same embedding to everything, and contrastive
    learning from there takes long to begin.
    """
    tower = cast("VisionTower", model.image_encoder)  # what is trained is not prepared
    norm = tower.norms
    with torch.no_grad():
        features = tower(_pixels(batch.images, normalisation))
        scale = 1 / features.std(dim=0).clamp(min=1e-3)
        norm.weight.mul_(scale)
        norm.bias.sub_(features.mean(dim=0)).mul_(scale)


def _loss(
    model: MedImageInsight,
    tokenizer: Tokenizer,
    batch: Batch,
    normalisation: Normalisation,
) -> Tensor:
    images = model.encode_image(_pixels(batch.images, normalisation))
    unique = sorted({text for pairing in batch.pairings for text in pairing.texts})
    rows = {text: row for row, text in enumerate(unique)}
    texts = model.encode_text(*tokenizer.encode(unique))
    losses = [
        unicl_loss(
            images,
            texts[torch.tensor([rows[text] for text in pairing.texts])],
            torch.from_numpy(pairing.labels),
            logit_scale=model.logit_scale,
        )
        for pairing in batch.pairings
    ]
    weights = torch.tensor([pairing.weight for pairing in batch.pairings])
    return (torch.stack(losses) * weights).mean()


def _pixels(images: NDArray[np.uint8], normalisation: Normalisation) -> Tensor:
    """(B, 3, S, S) float32, normalised, of (B, S, S) uint8."""
    grey = torch.from_numpy(np.ascontiguousarray(images)).float().div(255)
    mean = torch.tensor(normalisation.mean).view(1, 3, 1, 1)
    std = torch.tensor(normalisation.std).view(1, 3, 1, 1)
    return (grey[:, None] - mean) / std


def _rate(step: int, plan: Plan) -> float:
    if step < plan.warmup:
        return plan.learning_rate * (step + 1) / plan.warmup
    done = (step - plan.warmup) / max(plan.steps - plan.warmup, 1)
    return plan.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
