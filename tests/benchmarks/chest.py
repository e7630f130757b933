"""How well the chest encoder tells sex, view, pneumonia and orientation of real images.

``python tests/benchmarks/chest.py [--folder DIR] [--seed N] [--cache DIR] [--build DIR]``:
five outer folds by patient, the encoder trained anew in each, all folds pooled; intervals
clustered by patient. With what is in the cache, it takes seconds. ``--shortcuts`` adds what
tells sex and pneumonia beside anatomy, on the same folds, and a plain baseline on samples
matched for the strongest of it (minutes). ``--gate`` asks each fold's gate, at a limit of
the other folds, about the patients that it has not seen, and about strangers. ``--scores``
writes what ``pacsight evaluate`` takes. ``--build`` trains an encoder on all patients, too,
and writes the pack.
"""

import argparse
import csv
import hashlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # noqa: TID251 - before numpy is loaded

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from scipy.special import expit

from dicom_node.domain import Sha256
from tests import strangers
from workers.chest import Crossed, build, cross_validate, read_radiographs
from workers.chest.altering import STATES
from workers.chest.crossing import TOPICS
from workers.chest.folding import ensemble_of
from workers.chest.gating import held_out_of
from workers.chest.judging import CATALOGUE, flagged, judged
from workers.chest.radiographs import Radiographs, resized
from workers.chest.recipe import NORMALISATION, POLICY, SIZE_PX
from workers.cohort.scores import ScoreTable, write_scores
from workers.gate.fitting import fit_across
from workers.measures import (
    clustered_auc,
    clustered_proportion,
    paired_difference,
    predictive,
    roc,
)
from workers.medimageinsight.training import embed_images
from workers.pack import locate, open_pack
from workers.shortcuts.describing import describe_images
from workers.shortcuts.looking import Found, Looked, look
from workers.shortcuts.matching import match
from workers.shortcuts.nested import Rowed
from workers.shortcuts.texture import texture_baseline

RARE = 1e-4
STRANGERS = 240
SHARED = Path(os.environ.get("PACSIGHT_SHARED", "../shared"))  # noqa: TID251 - as in tests


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--folder", type=Path, default=SHARED / "data" / "nih_cxr")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--folds", type=int, default=5)
    asked.add_argument("--build", type=Path)
    asked.add_argument("--scores", type=Path, help="a folder")
    asked.add_argument("--plot", type=Path, help="ROC curves, a picture")
    asked.add_argument("--gate", action="store_true")
    asked.add_argument("--shortcuts", action="store_true")
    asked.add_argument("--cache", type=Path, default=Path(".chest"))
    options = asked.parse_args()
    start = time.perf_counter()
    found = cross_validate(
        options.folder,
        options.seed,
        options.folds,
        cache=options.cache,
        progress=lambda what, done, of: print(f"{what}: {done} of {of}", flush=True),
    )
    print(f"{len(found.files)} images: {time.perf_counter() - start:.0f} s")
    tell_topics(found)
    tell_states(found)
    tell_exam(found)
    data = read_radiographs(options.folder, POLICY)
    if options.scores is not None:
        store(found, data, options.folder, options.scores)
    if options.plot is not None:
        draw(found, options.plot)
    if options.gate:
        tell_gate(found, data)
    if options.shortcuts:
        tell_shortcuts(found, options.folder, options.seed)
    if options.build is not None:
        build(options.build, data, found, seed=options.seed, progress=told_step)


def told_step(step: int, steps: int, loss: float) -> None:
    """Print how far the training has come, now and then."""
    if step % 100 == 0 or step == steps:
        print(f"step {step} of {steps}, loss {loss:.3f}", flush=True)


def tell_topics(found: Crossed) -> None:
    """Print the area of each topic, pooled and by fold."""
    for topic, name in enumerate(TOPICS):
        use = found.truth[:, topic] >= 0
        truth, scores = found.truth[:, topic] == 1, found.scores[:, topic]
        area = clustered_auc(scores[use], truth[use], found.patient[use])
        folds = [
            clustered_auc(scores[rows], truth[rows], found.patient[rows]).value
            for number in range(len(found.embedded))
            for rows in [np.flatnonzero(use & (found.fold == number))]
        ]
        each = " ".join(f"{value:.3f}" for value in folds)
        print(f"{name:<10} AUC {area}, by fold {each}")


def tell_states(found: Crossed) -> None:
    """Print how well each wrong state is told from the ordinary one."""
    count = len(found.files)
    truth = np.repeat([True, False], count)
    for state, scores in zip(STATES[1:], found.states[1:], strict=True):
        both = np.concatenate([found.states[0], scores])
        area = clustered_auc(both, truth, np.tile(found.patient, 2))
        print(f"ordinary and not {state:<13} AUC {area}")


def tell_exam(found: Crossed) -> None:
    """Print how often headers that are right are doubted, and what a doubt is worth.

    One image in 10,000 has a wrong header. A wrong patient is of the other sex as often
    as two images of the collection are.
    """
    male = float((found.truth[:, TOPICS.index("sex")] == 1).mean())
    for entry in CATALOGUE:
        if entry.expects is None:
            continue
        rows = judged(entry, found)
        flags = flagged(entry, rows)
        wrong = clustered_proportion(flags[rows.truth], rows.patient[rows.truth])
        right = clustered_proportion(flags[~rows.truth], rows.patient[~rows.truth])
        print(f"{entry.key}: {wrong} of wrong headers flagged, {right} of right ones")
        ppv = predictive(wrong.value, 1 - right.value, RARE).ppv
        print(f"  one wrong header in 10,000: PPV {ppv:.5f}")
        if entry.key == "sex":
            other = 2 * male * (1 - male)
            caught = other * wrong.value + (1 - other) * right.value
            ppv = predictive(caught, 1 - right.value, RARE).ppv
            print(f"  one wrong patient in 10,000: {caught:.3f} caught, PPV {ppv:.5f}")


def store(found: Crossed, data: Radiographs, folder: Path, out: Path) -> None:
    """Write the scores out of fold and the groups, as ``pacsight evaluate`` takes them."""
    out.mkdir(parents=True, exist_ok=True)
    digest = Sha256(hashlib.sha256((folder / "labels.csv").read_bytes()).hexdigest())
    table = ScoreTable(
        findings=TOPICS,
        scores=expit(found.scores),
        truth=found.truth,
        values=np.full(found.scores.shape, np.nan),
        patient=found.patient,
        units=found.files,
        level="image",
        fold=found.fold,
        calibrated=(False,) * len(TOPICS),
        pack=open_pack(locate("chest")).digest,
        data=digest,
        kind="out-of-fold",
    )
    write_scores(table, out / "chest.scores")
    with (out / "groups.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(("sop_instance_uid", "sex", "view", "age_years"))
        for row, name in enumerate(found.files):
            sex, view = "FM"[int(data.male[row])], ("PA", "AP")[int(data.ap[row])]
            lines.writerow((name, sex, view, int(data.age[row])))


def draw(found: Crossed, path: Path) -> None:
    """Draw the ROC curve of each topic, out of fold, all folds pooled."""
    figure, axes = plt.subplots(1, len(TOPICS), figsize=(9, 3.2), layout="constrained")
    for topic, (name, axis) in enumerate(zip(TOPICS, axes, strict=True)):
        use = found.truth[:, topic] >= 0
        truth, scores = found.truth[use, topic] == 1, found.scores[use, topic]
        area = clustered_auc(scores, truth, found.patient[use])
        curve = roc(scores, truth)
        axis.plot(1 - curve.specificity, curve.sensitivity)
        axis.plot((0, 1), (0, 1), color="0.8", linewidth=1)
        axis.set(title=f"{name}\n{area}", xlabel="1 - specificity", aspect="equal")
    axes[0].set_ylabel("sensitivity")
    figure.savefig(path, dpi=110)


def tell_gate(found: Crossed, data: Radiographs) -> None:
    """Print what is caught, by category, and how often chests are left out wrongly."""
    folds = [held_out_of(members, data, seed=0) for members in found.learned]
    made = strangers.of_chests(POLICY, STRANGERS, SHARED)
    plain = resized(data, SIZE_PX).images
    out: dict[str, list[NDArray[np.bool_]]] = {}
    whose: dict[str, list[NDArray[np.int32]]] = {}
    for members, held in zip(found.learned, folds, strict=True):
        fold = members[0]
        others = [other for other in folds if other is not held]
        gate = fit_across(held.fitted, others)
        rows = np.flatnonzero(found.fold == fold.number)
        unseen = strangers.of_validated(
            np.repeat(plain[rows, None], 3, axis=1), len(rows)
        )
        asked = {"false alarms": plain[rows]}
        asked |= {name: some[:, 0] for name, some in unseen.items()}
        asked |= {
            name: some[fold.number :: len(folds), 0] for name, some in made.items()
        }
        encoder = ensemble_of(members)
        for name, images in asked.items():
            vectors = embed_images(encoder, np.ascontiguousarray(images), NORMALISATION)
            out.setdefault(name, []).append(gate.distances(vectors, "DX") > 1)
            of = (
                data.patient[rows]
                if len(images) == len(rows)
                else np.arange(len(images))
            )
            whose.setdefault(name, []).append(of.astype(np.int32) + 1000 * fold.number)
    for name, parts in out.items():
        share = clustered_proportion(np.concatenate(parts), np.concatenate(whose[name]))
        print(f"  {name:12s} {share.n:4d}  outside {share}")


def tell_shortcuts(found: Crossed, folder: Path, seed: int) -> None:
    """Print probes, and model and baseline on the rows that are matched for the best."""
    data = read_radiographs(folder, POLICY)
    paths = [folder / "images" / name for name in found.files]
    attributes = replace(
        describe_images(paths),
        sex=tuple("M" if male else "F" for male in data.male),
        age_years=data.age.astype(np.float64),
        view=tuple("AP" if ap else "PA" for ap in data.ap),
    )
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    for name in TOPICS:
        topic = TOPICS.index(name)
        truth, scores = found.truth[:, topic] == 1, found.scores[:, topic]
        rowed = Rowed(truth=truth, patient=found.patient, fold=found.fold)
        leave_out = () if name == "pneumonia" else (name,)
        how = Looked(finding=name, leave_out=leave_out, seed=seed)
        looked = look(scores, rowed, attributes, how)
        plain = texture_baseline(images, truth, found.patient, found.fold, seed=seed)
        print("\n".join(looked.report.sentences))
        compare(scores, plain, rowed, looked)


def compare(
    scores: NDArray[np.float64],
    plain: NDArray[np.float64],
    rowed: Rowed,
    looked: Found,
) -> None:
    """Print model and baseline: on all rows, on the matched, in 25 other orders."""
    orders = [
        match(looked.logit, rowed.truth, rowed.patient, seed=order).rows
        for order in range(1, 26)
    ]
    for what, rows in (("all", np.arange(len(scores))), ("matched", looked.rows)):
        columns = rowed.truth[rows], rowed.patient[rows]
        model, baseline = (clustered_auc(x[rows], *columns) for x in (scores, plain))
        gap = paired_difference(scores[rows], plain[rows], *columns)
        print(f"{what} {len(rows)}: model {model}, LBP + HOG {baseline}, gap {gap}")
    gaps = [
        paired_difference(scores[r], plain[r], rowed.truth[r], rowed.patient[r]).value
        for r in orders
    ]
    low, middle, high = np.quantile(gaps, (0, 0.5, 1))
    print(f"gap in 25 other orders: {low:+.3f} to {high:+.3f}, median {middle:+.3f}")


if __name__ == "__main__":
    main()
