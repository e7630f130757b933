"""The story of a fine-tuning: read, decode, learn step by step, keep, write a pack.

Beside the new pack lies ``PACK.run/`` as long as the run lasts: decoded images and the
last checkpoint. A run that was stopped goes on from there. The new pack asks what the
old one asks by prompts, in shadow mode and without calibration: heads, thresholds and
a gate belong to the encoder that they were made on.
"""

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dicom_node.errors import Permanent
from workers.decoding import DecodePool
from workers.finetuning.batches import (
    Material,
    Sizes,
    normalised,
    parts_of,
    rows_of,
)
from workers.finetuning.images import gather, mapped
from workers.finetuning.pairs import TRAIN, TUNE, Pairs
from workers.finetuning.views import Alteration
from workers.manifest import MANIFEST
from workers.medimageinsight import Tokenizer, load, parse_config, unicl_loss
from workers.medimageinsight.finetune import Learner, Schedule
from workers.medimageinsight.world import World
from workers.pack import Pack, seal
from workers.placing import Progress, check_place, in_one_piece, link_or_copy

LOG = "log.csv"
_WEIGHTS, _IMAGES, _CHECKPOINT = "weights.safetensors", "images.npy", "last.pt"
_TUNED_ON = 1024
"""Pairs at most that the loss is taken on besides."""
_OF_A_HEAD = ("head", "calibration", "validated")
"""What a category has of a head that was fitted, and loses with its encoder."""
_PROVISIONAL = {"name": "provisional", "threshold": 0.5}


Loss = tuple[int, float, float | None]
"""A step, the loss of its batch, and that on the pairs to tune on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is wanted.

    Parameters
    ----------
    folder
        Of the images.
    every
        A checkpoint is kept, and the loss on the pairs to tune on is taken, after so
        many steps.
    """

    pairs: Pairs
    folder: Path
    schedule: Schedule
    sizes: Sizes
    how: Alteration = "wide"
    every: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The pack that was made, and the losses on the way.

    Parameters
    ----------
    resumed_at
        The step that the run went on from; 0 for a new one.
    """

    pack: Pack
    losses: tuple[Loss, ...]
    resumed_at: int


def finetune(
    pack: Pack,
    out: Path,
    order: Order,
    *,
    decoders: Callable[[], DecodePool],
    world: World,
    progress: Progress,
) -> Tuned | None:
    """Return the pack that was written to `out`; None in all processes but the first.

    Parameters
    ----------
    out
        A folder that is empty, or not there.
    decoders
        Started where images are decoded: in the first process.

    Raises
    ------
    Permanent
        If the pack asks nothing by prompts, an image cannot be read, the batch is
        larger than what there is to learn from, or a checkpoint is another run's.
    """
    asked = _still_asked(pack)
    learned = order.pairs.rows(TRAIN)
    if len(learned) < order.sizes.batch:
        raise Permanent(
            f"{len(learned)} pairs are too few for a batch of {order.sizes.batch}"
        )
    check_place(out)
    beside = out.with_name(f"{out.name}.run")
    run = _Run(pack=pack, beside=beside, order=order, world=world, progress=progress)
    learner, losses, began = run.learn(run.material(decoders))
    if not world.first:
        return None
    made = run.write(out, asked, learner)
    shutil.rmtree(beside)
    return Tuned(pack=made, losses=losses, resumed_at=began)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One fine-tuning, and the folder that it lives in until it is done."""

    pack: Pack
    beside: Path
    order: Order
    world: World
    progress: Progress

    def material(self, decoders: Callable[[], DecodePool]) -> Material:
        """Return the images, decoded once, with what is said of them."""
        target, policy = self.beside / _IMAGES, self.pack.preprocessing
        if self.world.first:
            files = [self.order.folder / file for file in self.order.pairs.files]
            with decoders() as pool, _nothing_left(self.beside):
                gather(
                    files,
                    target,
                    policy=policy,
                    decoders=pool,
                    progress=self.progress,
                )
        self.world.wait()
        return Material(
            pairs=self.order.pairs,
            images=mapped(target),
            mean=policy.mean,
            std=policy.std,
            how=self.order.how,
            seed=self.order.schedule.seed,
        )

    def learn(self, material: Material) -> tuple[Learner, tuple[Loss, ...], int]:
        """Return what has learned all its steps, its losses, and where it began."""
        learner, tokenizer = self._learner()
        checkpoint, order = self.beside / _CHECKPOINT, self.order
        data = f"{order.pairs.digest} {self.pack.digest} {order.sizes} {order.how}"
        if checkpoint.is_file():
            learner.resume(checkpoint, data=data)
        began, learned = learner.step, order.pairs.rows(TRAIN)
        losses = _read_log(self.beside / LOG, upto=began)
        labels = torch.from_numpy(order.pairs.labels)
        while (step := learner.step) < order.schedule.steps:
            rows = rows_of(step, learned, order.sizes.batch, order.schedule.seed)
            parts = parts_of(
                material,
                rows,
                step=step,
                sizes=order.sizes,
                tokenizer=tokenizer,
                world=self.world,
            )
            loss = learner.learn(list(parts), labels[rows])
            self.progress("learning", step + 1, order.schedule.steps)
            if learner.step % order.every == 0 or learner.step == order.schedule.steps:
                tuned = self._tuned(learner, material, tokenizer)
                losses.append((learner.step, loss, tuned))
                self._keep(learner, losses, checkpoint, data)
        return learner, tuple(losses), began

    def write(
        self, out: Path, asked: Mapping[str, list[dict[str, Any]]], learner: Learner
    ) -> Pack:
        """Return the pack with the new encoder."""
        manifest = json.loads((self.pack.folder / MANIFEST).read_bytes())
        for gone in ("gate", "atlas", "estimates", "files"):
            manifest.pop(gone, None)
        encoder = manifest["encoder"]
        dtype = torch.float16 if encoder["dtype"] == "float16" else torch.float32
        encoder |= {
            "weights": _WEIGHTS,
            "numeric_profile": "float32",
            "training_data": [
                *encoder["training_data"],
                f"fine-tuned on sha256:{self.order.pairs.digest}",
            ],
        }
        encoder.pop("numeric", None)
        with in_one_piece(out) as folder:
            tokenizer = folder / encoder["tokenizer"]
            tokenizer.mkdir(parents=True)
            for file in self.pack.tokenizer.iterdir():
                link_or_copy(file, tokenizer / file.name, self.progress)
            learner.write(folder / _WEIGHTS, dtype=dtype)
            (folder / _WEIGHTS).chmod(0o644)
            shutil.copyfile(self.beside / LOG, folder / LOG)
            version = f"{manifest['version']}+tuned"
            made = seal(folder, {**manifest, "version": version, **asked})
        return replace(made, folder=out.resolve())

    def _learner(self) -> tuple[Learner, Tokenizer]:
        spec = self.pack.manifest.encoder
        if spec.members != 1:
            raise Permanent(
                f"the encoder of pack {self.pack.name} is an ensemble of {spec.members} "
                "members: only single models are fine-tuned"
            )
        config = parse_config(spec.config)
        tokenizer = Tokenizer.load(self.pack.tokenizer, context=config.text.context)
        model = load(self.pack.weights, config=config, sha256=spec.sha256)
        try:
            return Learner(model, self.order.schedule, self.world), tokenizer
        except ValueError as error:
            raise Permanent(str(error)) from error

    def _tuned(
        self, learner: Learner, material: Material, tokenizer: Tokenizer
    ) -> float | None:
        """Return the averaged model's loss on the pairs to tune on; None without any."""
        rows = self.order.pairs.rows(TUNE)[:_TUNED_ON]
        if not len(rows) or not self.world.first:
            return None
        place, some = material.place, self.order.sizes.at_once
        images, texts = [], []
        model = learner.average
        with torch.no_grad():
            for at in range(0, len(rows), some):
                part = rows[at : at + some]
                pixels = normalised(
                    material.images[place[part]], material, self.world.device
                )
                tokens = tokenizer.encode([material.pairs.pairs[r].text for r in part])
                images.append(model.encode_image(pixels))
                there = (t.to(self.world.device) for t in tokens)
                texts.append(model.encode_text(*there))
            loss = unicl_loss(
                torch.cat(images),
                torch.cat(texts),
                torch.from_numpy(self.order.pairs.labels[rows]).to(self.world.device),
                logit_scale=model.logit_scale,
            )
        return float(loss)

    def _keep(
        self, learner: Learner, losses: list[Loss], checkpoint: Path, data: str
    ) -> None:
        if self.world.first:
            lines = [f"{step},{loss:.6f},{_word(t)}" for step, loss, t in losses]
            text = "\n".join(["step,loss,loss_on_tune", *lines])
            (self.beside / LOG).write_text(f"{text}\n", "utf-8")
        learner.keep(checkpoint, data=data)


@contextmanager
def _nothing_left(beside: Path) -> Iterator[None]:
    """Remove the folder of a run that cannot even begin."""
    try:
        yield
    except Permanent:
        if not (beside / _CHECKPOINT).exists():
            shutil.rmtree(beside, ignore_errors=True)
        raise


def _still_asked(pack: Pack) -> Mapping[str, list[dict[str, Any]]]:
    """Return the findings and categories that prompts can go on asking: zero-shot."""
    manifest = json.loads((pack.folder / MANIFEST).read_bytes())
    kept = [f for f in manifest["findings"] if f.get("prompts")]
    categories = [
        {name: value for name, value in one.items() if name not in _OF_A_HEAD}
        for one in manifest.get("categories", [])
        if all(label.get("prompts") for label in one["labels"])
    ]
    if not kept and not categories:
        raise Permanent(
            f"pack {pack.name} asks nothing by prompts, and trained heads do not "
            f"survive another encoder: give a finding of it prompts first"
        )
    for finding in kept:
        finding.pop("calibration", None)
        finding["head"] = {"kind": "zero-shot"}
        finding["mode"] = "shadow"
        finding["operating_point"] = {
            **_PROVISIONAL,
            "evidence": {"measured_on": "nothing yet: the encoder is new"},
        }
    return {"findings": kept, "categories": categories}


def _read_log(path: Path, *, upto: int) -> list[Loss]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            (int(r["step"]), float(r["loss"]), _number(r["loss_on_tune"]))
            for r in csv.DictReader(file)
        ]
    return [row for row in rows if row[0] <= upto]


def _word(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.6f}"


def _number(word: str) -> float | None:
    return float(word) if word else None
