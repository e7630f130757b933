"""What tells labels of real chest X-rays beside anatomy, and what a plain baseline makes.

``python tests/benchmarks/shortcuts.py [label ...] [--seed N]``, on
``data/nih_cxr`` of the shared corpus: 477 images of 318 patients, 320 x 320, 8 bit. Five
outer folds by patient, pooled; intervals clustered by patient; one thread. The labels:
pneumonia, sex, view. Matching is repeated in 25 other orders. ``--null N`` instead runs
matching and rule N times on noise: how often a clean model would be sent to shadow mode.
"""

import argparse
import csv
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # noqa: TID251 - before numpy is loaded

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from workers.shortcuts.areas import area, lost
from workers.shortcuts.attributes import Attributes
from workers.shortcuts.describing import describe_images
from workers.shortcuts.looking import Found, Looked, look
from workers.shortcuts.matching import match
from workers.shortcuts.nested import Rowed, patientwise_folds
from workers.shortcuts.texture import texture_baseline
from workers.shortcuts.verdict import FEWEST_MATCHED, HIGHEST_LIMIT

SHARED = Path(os.environ.get("PACSIGHT_SHARED", "../shared"))  # noqa: TID251 - as in tests
FOLDER = SHARED / "data" / "nih_cxr"
Table = list[dict[str, str]]


def main() -> None:
    """Print the tables."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("labels", nargs="*", default=["pneumonia", "sex", "view"])
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--save", type=Path)
    asked.add_argument("--null", type=int, default=0)
    options = asked.parse_args()
    if options.null:
        null(options.null)
        return
    with (FOLDER / "labels.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    paths = [FOLDER / "images" / row["file"] for row in table]
    start = time.perf_counter()
    attributes = with_labels(describe_images(paths), table)
    print(f"describing {len(paths)} images: {time.perf_counter() - start:.1f} s")
    images = np.stack([np.asarray(Image.open(path).convert("L")) for path in paths])
    for label in options.labels:
        measure(label, table, attributes, images, options)


def with_labels(described: Attributes, table: Table) -> Attributes:
    """Return attributes with what the table says in place of a header."""
    return replace(
        described,
        sex=tuple(row["sex"] for row in table),
        age_years=np.array([float(row["age"]) for row in table]),
        view=tuple(row["view"] for row in table),
    )


def truth_of(label: str, table: Table) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Return the truth of each row, and the attributes that are the label itself."""
    if label == "pneumonia":
        return np.array(["Pneumonia" in row["labels"] for row in table]), ()
    positive = {"sex": "M", "view": "AP"}[label]
    return np.array([row[label] == positive for row in table]), (label,)


def measure(
    label: str,
    table: Table,
    attributes: Attributes,
    images: NDArray[np.uint8],
    options: argparse.Namespace,
) -> None:
    """Print probes, baseline, matched figures and verdict of one label."""
    truth, itself = truth_of(label, table)
    patient = np.unique([row["patient"] for row in table], return_inverse=True)[1]
    fold = patientwise_folds(truth, patient, count=5, seed=options.seed)
    start = time.perf_counter()
    scores = texture_baseline(images, truth, patient, fold, seed=options.seed)
    took = time.perf_counter() - start
    rowed = Rowed(truth=truth, patient=patient, fold=fold)
    how = Looked(finding=label, leave_out=itself, seed=options.seed)
    found = look(scores, rowed, attributes, how)
    again = [
        match(found.logit, truth, patient, seed=seed).rows for seed in range(1, 26)
    ]
    values = [area(scores, truth, patient, rows).value for rows in again]
    print(f"\n== {label}, folds of seed {options.seed}")
    print(f"baseline, LBP + HOG in an RBF SVM: {took:.0f} s; its model is judged here")
    print(f"probes and the rest: {time.perf_counter() - start - took:.0f} s")
    report(found)
    low, middle, high = np.quantile(values, (0, 0.5, 1))
    print(f"  matched in 25 other orders: {low:.3f} to {high:.3f}, median {middle:.3f}")
    if options.save:
        np.savez(
            options.save / f"{label}-{options.seed}.npz",
            scores=scores,
            fold=fold,
            rows=found.rows,
            logit=found.logit,
        )


def null(runs: int) -> None:
    """Print how often noise is sent to shadow mode, and why.

    Patients with 1 to 7 images and one truth each, a model with an area near 0.86 whose
    scores are correlated within patients, and eight probes of noise, so correlated too.
    """
    rng = np.random.default_rng(0)
    strong = lower = few = 0
    for _ in range(runs):
        patient = np.repeat(np.arange(200), rng.integers(1, 8, 200))
        truth = (rng.random(200) < 0.5)[patient]

        def noise(patient: NDArray[np.intp] = patient) -> NDArray[np.float64]:
            shared = rng.normal(size=200)[patient]
            return shared + rng.normal(size=len(patient))

        scores = noise() + 2.2 * truth
        probes = [noise() for _ in range(8)]
        areas = [area(probe, truth, patient) for probe in probes]
        best = probes[int(np.argmax([found.value for found in areas]))]
        rows = match(best, truth, patient, seed=0).rows
        strong += any(found.low > HIGHEST_LIMIT for found in areas)
        lower += lost(scores, truth, patient, rows).low > 0
        few += min(truth[rows].sum(), (~truth[rows]).sum()) < FEWEST_MATCHED
    print(f"of {runs} runs on noise: probe {strong}, matched {lower}, too few {few}")


def report(found: Found) -> None:
    """Print what was found."""
    for told in found.report.probes:
        reason = told.reason or f"after matching {told.matched}"
        mark = "" if told.counts else " (beside the verdict)"
        print(f"  {told.name:<20}{told.area!s:<28}{reason}{mark} {set(told.chosen)}")
    for each in found.report.strata:
        print(f"  within {each.attribute}: adjusted {each.adjusted}")
        for stratum in each.strata:
            said = stratum.area or stratum.reason
            counts = f"{stratum.positives} + {stratum.negatives}"
            print(f"    {stratum.name:<12}{counts:<12}{said}")
    for sentence in found.report.sentences:
        print(f"  {sentence}")


if __name__ == "__main__":
    main()
