"""The demo pack against phantoms that it has never seen, and against shortcuts.

For each finding: the area under the ROC curve of the linear head and of the prompts,
per study, and that of four things which know nothing of anatomy. All of it is a
synthetic demonstration and says nothing about patients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.asked import Prompts
from workers.datasets import Overlap, overlap
from workers.demo.build import SEEDS_PER_RUN
from workers.demo.heads import by_study
from workers.demo.probes import PROBES, probe_area, views
from workers.demo.roc import area
from workers.demo.samples import FINDINGS, Samples, Sizes, orders, render
from workers.encoder import Encoder, open_encoder
from workers.heads import score_frames
from workers.measures import Area
from workers.pack import Pack, open_pack

Progress = Callable[[str], None]

LINEAR_BAR: Final = 0.95
ZERO_SHOT_BAR: Final = 0.90
PROBE_BAR: Final = 0.65
UNSEEN: Final = 500 * SEEDS_PER_RUN
"""First seed of an evaluation: far beyond those of any run of train-demo."""

_CHUNK = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured of one finding.

    Parameters
    ----------
    linear, zero_shot
        Area under the curve, per study.
    probes
        By name: the best that a classifier made of it, in cross-validation.
    """

    finding: str
    n_positive: int
    n_negative: int
    linear: Area
    zero_shot: Area
    sensitivity: float
    specificity: float
    probes: dict[str, Area]

    @property
    def passed(self) -> bool:
        """Whether the finding clears every bar."""
        return (
            self.linear.low > LINEAR_BAR
            and self.zero_shot.low > ZERO_SHOT_BAR
            and all(probe.value <= PROBE_BAR for probe in self.probes.values())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured, and on what."""

    pack: str
    per_class: int
    first_seed: int
    rows: tuple[Row, ...]
    overlaps: tuple[Overlap, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every finding clears every bar."""
        return all(row.passed for row in self.rows)

    def __str__(self) -> str:
        head = (
            f"Synthetic demonstration, pack {self.pack}: {self.per_class} phantoms of "
            f"each kind from seed {self.first_seed}. It says nothing about patients.\n"
            f"AUC (95 % limits), per study; bars: linear lower limit {LINEAR_BAR}, "
            f"zero-shot lower limit {ZERO_SHOT_BAR}, shortcuts at most {PROBE_BAR}"
        )
        warnings = [f"Warning: {overlap}" for overlap in self.overlaps]
        return "\n".join([head, *warnings, *(_line(row) for row in self.rows)])


def evaluate_demo(
    *,
    pack: Path,
    progress: Progress,
    n_per_class: int = 500,
    seed: int = 0,
    processes: int = 2,
) -> Evaluation:
    """Return what the pack in a folder makes of phantoms from unseen seeds.

    Parameters
    ----------
    seed
        Other phantoms, for each other number.
    """
    opened = open_pack(pack)
    encoder = open_encoder(opened, device="cpu", threads=1)
    first = UNSEEN + seed * SEEDS_PER_RUN
    sizes = Sizes(encoder=opened.preprocessing.size, chest=512, head=256)
    wanted = orders((n_per_class, n_per_class), first, sizes, slices=12)
    progress(f"drawing {len(wanted)} phantoms")
    samples = render(wanted, processes=processes)
    progress(f"embedding {len(samples.images)} images")
    embedded = _embed(encoder, samples.images)
    progress("looking for shortcuts")
    seen = views(samples, wanted)
    rows = tuple(
        _row(key, opened, encoder, samples, embedded, seen) for key in FINDINGS
    )
    return Evaluation(
        pack=f"{opened.name} {opened.version} ({opened.digest[:12]})",
        per_class=n_per_class,
        first_seed=first,
        rows=rows,
        overlaps=overlap(
            opened.manifest.encoder.training_data,
            [f"pacsight phantoms, seeds {first} to {max(o.seed for o in wanted)}"],
        ),
    )


def _embed(encoder: Encoder, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    parts = [
        encoder.embed_images(np.repeat(images[at : at + _CHUNK, None], 3, axis=1))
        for at in range(0, len(images), _CHUNK)
    ]
    return np.concatenate(parts)


def _row(
    key: str,
    pack: Pack,
    encoder: Encoder,
    samples: Samples,
    embedded: NDArray[np.float32],
    seen: dict[str, NDArray[np.float32]],
) -> Row:
    finding = next(f for f in pack.findings if f.key == key)
    studies = np.flatnonzero(samples.head == (key == "haemorrhage"))
    truth = samples.truth[studies, FINDINGS.index(key)]
    linear = by_study(
        score_frames(pack.heads[key], embedded), samples, studies.tolist()
    )
    zero_shot = by_study(
        _zero_shot(encoder, finding.prompts, embedded), samples, studies.tolist()
    )
    flagged = linear >= finding.operating_point.threshold
    return Row(
        finding=key,
        n_positive=int(truth.sum()),
        n_negative=int((~truth).sum()),
        linear=area(linear, truth),
        zero_shot=area(zero_shot, truth),
        sensitivity=float(flagged[truth].mean()),
        specificity=float((~flagged[~truth]).mean()),
        probes={name: probe_area(seen[name][studies], truth) for name in PROBES},
    )


def _zero_shot(
    encoder: Encoder, prompts: Prompts | None, embedded: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Cosine to the prompts that say it is there, less that to the others'."""
    if prompts is None:
        raise ValueError("a finding without prompts has no zero-shot score")
    sides = [
        encoder.embed_texts(texts).mean(axis=0)
        for texts in (prompts.positive, prompts.negative)
    ]
    there, absent = (side / np.linalg.norm(side) for side in sides)
    difference: NDArray[np.float64] = (embedded @ (there - absent)).astype(np.float64)
    return difference


def _line(row: Row) -> str:
    shortcuts = ", ".join(f"{k} {v.value:.3f}" for k, v in row.probes.items())
    verdict = "passed" if row.passed else "FAILED"
    return (
        f"{row.finding} ({row.n_positive} with, {row.n_negative} without): "
        f"linear {row.linear}, zero-shot {row.zero_shot}, "
        f"sensitivity {row.sensitivity:.3f}, specificity {row.specificity:.3f}; "
        f"shortcuts: {shortcuts}: {verdict}"
    )
