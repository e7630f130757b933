"""How well the chest encoder tells sex, view, pneumonia and orientation of real images.

``python tests/benchmarks/chest.py [--folder DIR] [--seed N] [--cache DIR] [--build DIR]``:
five outer folds by patient, the encoder trained anew in each, all folds pooled; intervals
clustered by patient. With what is in the cache, it takes seconds. ``--build`` trains an
encoder on all patients, too, and writes the pack.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # noqa: TID251 - before numpy is loaded

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from workers.chest import Crossed, Recipe, build, cross_validate, read_radiographs
from workers.chest.altering import STATES
from workers.chest.crossing import TOPICS
from workers.chest.recipe import POLICY
from workers.measures import clustered_auc

SHARED = Path(os.environ.get("PACSIGHT_SHARED", "../shared"))  # noqa: TID251 - as in tests


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--folder", type=Path, default=SHARED / "data" / "nih_cxr")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--folds", type=int, default=5)
    asked.add_argument("--build", type=Path)
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


if __name__ == "__main__":
    main()
