"""How well the chest encoder tells sex, view, pneumonia and orientation of real images.

``python tests/benchmarks/chest.py [--folder DIR] [--seed N] [--cache DIR] [--build DIR]``:
five outer folds by patient, the encoder trained anew in each, all folds pooled; intervals
clustered by patient. With what is in the cache, it takes seconds. ``--shortcuts`` adds what
tells sex and pneumonia beside anatomy, on the same folds, and a plain baseline on samples
matched for the strongest of it (minutes). ``--build`` trains an encoder on all patients,
too, and writes the pack.
"""

import argparse
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

from workers.chest import Crossed, Recipe, build, cross_validate, read_radiographs
from workers.chest.altering import STATES
from workers.chest.crossing import TOPICS
from workers.chest.recipe import POLICY
from workers.measures import clustered_auc, paired_difference
from workers.shortcuts.describing import describe_images
from workers.shortcuts.looking import Found, Looked, look
from workers.shortcuts.matching import match
from workers.shortcuts.nested import Rowed
from workers.shortcuts.texture import texture_baseline

SHARED = Path(os.environ.get("PACSIGHT_SHARED", "../shared"))  # noqa: TID251 - as in tests


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--folder", type=Path, default=SHARED / "data" / "nih_cxr")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--folds", type=int, default=5)
    asked.add_argument("--build", type=Path)
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
    if options.shortcuts:
        tell_shortcuts(found, options.folder, options.seed)
    if options.build is not None:
        data = read_radiographs(options.folder, POLICY)
        build(
            options.build, data, found, Recipe(), seed=options.seed, progress=told_step
        )


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
    for name in ("sex", "pneumonia"):
        topic = TOPICS.index(name)
        truth, scores = found.truth[:, topic] == 1, found.scores[:, topic]
        rowed = Rowed(truth=truth, patient=found.patient, fold=found.fold)
        leave_out = (name,) if name == "sex" else ()
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
