"""What tells labels of real chest X-rays beside anatomy, and what a plain baseline makes.

``python tests/benchmarks/shortcuts.py [label ...] [--seed N]``, on
``data/nih_cxr`` of the shared corpus: 477 images of 318 patients, 320 x 320, 8 bit. Five
outer folds by patient, pooled; intervals clustered by patient; one thread. The labels:
pneumonia, sex, view. Matching is repeated in 25 other orders. ``--null N`` instead runs
matching and rule N times on noise: how often a clean model would be sent to shadow mode.
``--noise N`` cross-validates models that learn nothing: how far areas lie off a half.
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
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).parents[2]))

from workers.shortcuts.areas import adjusted, area, lost
from workers.shortcuts.attributes import Attributes
from workers.shortcuts.describing import describe_images
from workers.shortcuts.looking import Found, Looked, look
from workers.shortcuts.matching import match
from workers.shortcuts.nested import Rowed, patientwise_folds
from workers.shortcuts.strata import quantiles, strata
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
    asked.add_argument("--noise", type=int, default=0)
    options = asked.parse_args()
    if options.null:
        null(options.null)
        return
    if options.noise:
        learned_noise(options.noise)
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
    strong = lower = higher = few = 0
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
        fallen = lost(scores, truth, patient, rows)
        lower += fallen.low > 0
        higher += fallen.high < 0
        few += min(truth[rows].sum(), (~truth[rows]).sum()) < FEWEST_MATCHED
    print(f"of {runs} runs on noise: probe {strong}, matched {lower}, too few {few}")
    print(f"the matched area was higher by more than the interval: {higher}")


def learned_noise(runs: int) -> None:
    """Print what cross-validation makes of noise: areas of models that learn nothing.

    100 patients with 1 to 3 images, a truth each. The probe sees five numbers without
    meaning, the model these and ten more; logistic regression, five folds by patient.
    """
    rng = np.random.default_rng(0)
    found = []
    for seed in range(runs):
        patient = np.repeat(np.arange(100), rng.integers(1, 4, 100))
        truth = (rng.random(100) < 0.5)[patient]
        fold = patientwise_folds(truth, patient, count=5, seed=seed)
        rowed = Rowed(truth=truth, patient=patient, fold=fold)
        x = rng.normal(size=(100, 15))[patient] + rng.normal(size=(len(patient), 15))
        model, probe = (_crossed(part, rowed) for part in (x, x[:, :5]))
        fifths = quantiles(probe)
        across = [np.flatnonzero(np.array(fifths) == name) for name in set(fifths)]
        within = strata("fifths", fifths, model, rowed).adjusted
        raw = area(model, truth, patient)
        pooled = adjusted(model, truth, patient, across)
        if within is not None:
            found.append((raw, pooled, within))
    for number, name in enumerate(("raw", "adjusted, folds pooled", "adjusted")):
        areas = [each[number] for each in found]
        values = np.array([one.value for one in areas])
        error = values.std() / np.sqrt(len(values))
        covers = np.mean([one.low <= 0.5 <= one.high for one in areas])
        print(f"{name:<24}{values.mean():.4f} +- {error:.4f}, covers 0.5: {covers:.3f}")


def _crossed(x: NDArray[np.float64], rowed: Rowed) -> NDArray[np.float64]:
    scores = np.zeros(len(x))
    for train, test in rowed.outer():
        machine = LogisticRegression(class_weight="balanced")
        machine.fit(x[train], rowed.truth[train])
        scores[test] = machine.decision_function(x[test])
    return scores


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
