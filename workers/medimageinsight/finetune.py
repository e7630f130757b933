"""A model that goes on learning from where its weights are, and can be interrupted.

UniCL over the global batch, AdamW (`workers.medimageinsight.optimiser`), linear warm-up,
cosine decay, the gradient's norm clipped, and a moving average of the weights, which is what is kept at
the end. Source: the official configuration, release 2024.09.27.

A run that was stopped goes on from its last checkpoint and ends with the same weights,
on the same machine and number of processes, to the bit.
"""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from torch import Tensor, nn

from workers.medimageinsight.checkpoint import save
from workers.medimageinsight.errors import CheckpointError
from workers.medimageinsight.gradcache import Part, backward
from workers.medimageinsight.model import MedImageInsight
from workers.medimageinsight.optimiser import adamw
from workers.medimageinsight.world import World

_EARLY = 10
"""Steps after which the average begins to weigh the past as it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast to learn.

    Parameters
    ----------
    steps, warmup
        Batches, and those of them in which the rate rises.
    learning_rate, least_rate
        Reached after the warm-up, and at the end.
    clip
        Largest norm of the gradient.
    averaged
        Decay of the moving average of the weights.
    frozen
        Regular expressions; a parameter whose name one of them matches from its
        beginning stays as it is.
    seed
        Of whatever is random.
    """

    steps: int
    warmup: int = 5
    learning_rate: float = 5e-6
    least_rate: float = 1e-9
    weight_decay: float = 0.2
    clip: float = 1.0
    averaged: float = 0.999
    frozen: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warmup < 0:
            raise ValueError("a schedule needs a step, and no negative warm-up")
        if not 0 < self.least_rate <= self.learning_rate:
            raise ValueError("learning rates must be above 0, the least the smaller")
        if not 0 <= self.averaged < 1 or self.clip <= 0 or self.weight_decay < 0:
            raise ValueError("averaged lies in [0, 1), clip above 0, decay not below")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        span = self.learning_rate - self.least_rate
        return self.least_rate + span * (1 + math.cos(math.pi * done)) / 2


class Learner:
    """A model in training, and the average of its weights so far.

    Parameters
    ----------
    model
        Plain, in float32; it is moved to this process's device and changed in place.

    Raises
    ------
    ValueError
        If a pattern of `Schedule.frozen` matches no parameter, or they match all.
    """

    def __init__(
        self, model: MedImageInsight, schedule: Schedule, world: World
    ) -> None:
        self._world = world
        self._schedule = schedule
        self._model = model.to(world.device).train().requires_grad_()
        _freeze(self._model, schedule.frozen)
        self._average = torch.optim.swa_utils.AveragedModel(
            self._model, multi_avg_fn=_Averaging(schedule.averaged)
        )
        self._optimizer = adamw(
            self._model,
            learning_rate=schedule.learning_rate,
            weight_decay=schedule.weight_decay,
        )
        self.step = 0

    @property
    def average(self) -> MedImageInsight:
        """Return the model with the averaged weights, in evaluation mode."""
        return cast("MedImageInsight", self._average.module).eval()

    def learn(self, parts: Sequence[Part], labels: Tensor) -> float:
        """Take a step, and return the loss before it.

        Parameters
        ----------
        parts
            Those of this process; all processes' together are the batch.
        labels
            (B,) int64 of the whole batch, as `unicl_loss` takes them.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = self._schedule.rate(self.step)
        self._optimizer.zero_grad()
        loss = backward(self._model, parts, labels.to(self._world.device), self._world)
        learning = [p for p in self._model.parameters() if p.requires_grad]
        torch.nn.utils.clip_grad_norm_(learning, self._schedule.clip)
        self._optimizer.step()
        self._average.update_parameters(self._model)
        self.step += 1
        return loss

    def keep(self, path: Path, *, data: str) -> None:
        """Write a checkpoint, whole or not at all; `data` names what is learned from."""
        state = {
            "schedule": asdict(self._schedule),
            "data": data,
            "processes": self._world.size,
            "step": self.step,
            "model": self._model.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        if self._world.first:
            aside = path.with_suffix(".part")
            with aside.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        self._world.wait()

    def resume(self, path: Path, *, data: str) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        CheckpointError
            If it cannot be read, or belongs to another run.
        """
        try:
            state = torch.load(path, map_location=self._world.device, weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
            raise CheckpointError(f"{path}: not a checkpoint of a run") from error
        for name, ours in (
            ("schedule", asdict(self._schedule)),
            ("data", data),
            ("processes", self._world.size),
        ):
            if state.get(name) != ours:
                raise CheckpointError(
                    f"{path}: belongs to a run with another {name}: "
                    f"go on with what it was started with, or start anew elsewhere"
                )
        self._model.load_state_dict(state["model"])
        self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])

    def write(self, path: Path, *, dtype: torch.dtype = torch.float32) -> str:
        """Write the averaged weights, and return the file's SHA-256 digest."""
        return save(self.average, path, dtype=dtype)


class _Averaging:
    """What an average of weights becomes, shorter-sighted in its first steps."""

    def __init__(self, decay: float) -> None:
        self._decay = decay

    def __call__(self, averages: Any, current: Any, count: Tensor | int) -> None:
        done = float(count)
        share = 1 - min(self._decay, (1 + done) / (_EARLY + done))
        with torch.no_grad():
            for average, now in zip(averages, current, strict=True):
                average.lerp_(now, share)


def _freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(re.match(pattern, name) for name in names):
            raise ValueError(f"no parameter's name begins with {pattern!r}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not any(re.match(p, name) for p in patterns)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("every parameter is frozen: there is nothing to learn")
