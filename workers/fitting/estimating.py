"""Quantities by weighted neighbours: the references of an estimate, chosen and judged.

The protocol is that of MedImageInsight's bone age benchmark (`workers.neighbours`);
nothing is fitted, three numbers are chosen: how many neighbours, how many of their
values, which temperature. Nested as for findings: the inner loop chooses by the mean
absolute error of studies, the outer folds judge.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from dicom_node.errors import Permanent
from workers.cohort import Cohort, EmbeddingFile, by_study, check_encoder, folds, join
from workers.copying import copy_parts, seal_again
from workers.fitting.choosing import Plan
from workers.fitting.packing import Identity
from workers.fitting.samples import Floats, Mask
from workers.measures import Estimate, mae
from workers.neighbours import Ranked, References, ranked, weighted
from workers.pack import Pack
from workers.placing import Progress, in_one_piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbourhood:
    """How many neighbours, how many of their values, and the temperature."""

    k: int
    values: int
    temperature: float


GRID = tuple(
    Neighbourhood(k=k, values=values, temperature=temperature)
    for k in (5, 10, 30, 100)
    for values in (1, 3, 10)
    for temperature in (30.0, 100.0)
)
_MOST = max(by.k for by in GRID)


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateFit:
    """What was chosen, and the error on patients that no choice has seen.

    Parameters
    ----------
    error
        Mean absolute error of studies, in the estimate's unit.
    """

    estimate: str
    chosen: Neighbourhood
    choices: tuple[Neighbourhood, ...]
    error: Estimate
    studies: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantities:
    """Items (N, D) with a value each (N,), and their S studies.

    Parameters
    ----------
    study
        (N,) int32, from 0 to S-1.
    patient
        (S,) int32.
    truth
        (S,) float64: the mean of the items' values.
    """

    vectors: NDArray[np.float32]
    values: Floats
    study: NDArray[np.int32]
    patient: NDArray[np.int32]
    truth: Floats

    def ranked(self, train: Mask, test: Mask) -> Ranked:
        """Return the items of the studies `train` that are nearest to those of `test`."""
        rows = train[self.study]
        references = References(
            embeddings=self.vectors[rows], values=self.values[rows].astype(np.float32)
        )
        return ranked(references, self.vectors[test[self.study]], k=_MOST)

    def estimated(self, near: Ranked, test: Mask, by: Neighbourhood) -> Floats:
        """Return the values of the studies in `test`, (S,), by what is near; else NaN.

        Each item of a study has the same say, as `workers.neighbours.nearby` has it.
        """
        study = self.study[test[self.study]]
        means, _ = weighted(near, **asdict(by))
        found = np.full(len(test), np.nan)
        sums = np.bincount(study, means, minlength=len(test))
        found[test] = sums[test] / np.bincount(study, minlength=len(test))[test]
        return found


def fit_estimate(  # noqa: PLR0913 - what a fit is made of
    pack: Pack,
    out: Path,
    cohort: Cohort,
    embeddings: EmbeddingFile,
    estimate: str,
    *,
    plan: Plan,
    identity: Identity,
    progress: Progress,
) -> tuple[Pack, EstimateFit]:
    """Return the pack that was written to `out`, and the error of its estimate.

    Raises
    ------
    Permanent
        If the pack does not estimate it, or the labels have no values of it.
    """
    keys = [spec.key for spec in pack.manifest.estimates]
    if estimate not in keys:
        raise Permanent(f"pack {pack.name} does not estimate {estimate!r}")
    check_encoder(embeddings, pack.encoder_key, pack.name)
    some = quantities(cohort, embeddings, estimate)
    fit = judged(some, estimate, plan, progress)
    with in_one_piece(out) as folder:
        manifest = copy_parts(pack, folder, progress)
        manifest |= {"name": identity.name, "version": identity.version}
        name = f"references-{keys.index(estimate)}.safetensors"
        (folder / name).unlink(missing_ok=True)
        values = some.values.astype(np.float32)
        save_file({"embeddings": some.vectors, "values": values}, folder / name)
        entry = manifest["estimates"][keys.index(estimate)]
        entry["head"] |= {"references": name, **asdict(fit.chosen)}
        entry["validated"] = {"data": cohort.digest, **fit.to_json()}
        sealed = seal_again(pack, folder, manifest)
    return replace(sealed, folder=out.resolve()), fit


def quantities(cohort: Cohort, embeddings: EmbeddingFile, estimate: str) -> Quantities:
    """Return the items that have a value.

    Raises
    ------
    Permanent
        If none has.
    """
    examples = join(cohort, embeddings, need=[estimate])
    studies = by_study(examples)
    has = np.isfinite(examples.values[:, 0])
    if not has.any():
        raise Permanent(f"{cohort.origin} has no values of {estimate}")
    kept, study = np.unique(studies.of_row[has], return_inverse=True)
    return Quantities(
        vectors=np.ascontiguousarray(examples.vectors[has]),
        values=examples.values[has, 0],
        study=study.astype(np.int32),
        patient=studies.patient[kept],
        truth=studies.values[kept, 0],
    )


def judged(
    some: Quantities, estimate: str, plan: Plan, progress: Progress
) -> EstimateFit:
    """Return what is chosen on all, and the error of what is chosen without a fold."""
    everything = np.ones(len(some.truth), dtype=np.bool_)
    outer = _folds(some, everything, plan.outer, plan.seed)
    found, choices = np.full(len(some.truth), np.nan), []
    for number in range(plan.outer):
        inside = outer == number
        choices.append(_choose(some, ~inside, plan))
        near = some.ranked(~inside, inside)
        found[inside] = some.estimated(near, inside, choices[-1])[inside]
        progress("estimating", number + 1, plan.outer + 1)
    chosen = _choose(some, everything, plan)
    progress("estimating", plan.outer + 1, plan.outer + 1)
    return EstimateFit(
        estimate=estimate,
        chosen=chosen,
        choices=tuple(choices),
        error=mae(found, some.truth, some.patient),
        studies=len(some.truth),
    )


def _choose(some: Quantities, studies: Mask, plan: Plan) -> Neighbourhood:
    """Return what has the lowest error on inner folds of some studies."""
    inner = _folds(some, studies, plan.inner, plan.seed)
    errors = np.zeros(len(GRID))
    for number in range(plan.inner):
        inside = inner == number
        near = some.ranked(studies & ~inside, inside)
        for place, by in enumerate(GRID):
            found = some.estimated(near, inside, by)
            errors[place] += np.abs(found - some.truth)[inside].sum()
    return GRID[int(errors.argmin())]


def _folds(some: Quantities, studies: Mask, n: int, seed: int) -> NDArray[np.int8]:
    """Return folds by patient, with low and high values in each; -1 outside."""
    found = np.full(len(studies), -1, dtype=np.int8)
    edges = np.quantile(some.truth[studies], np.linspace(0, 1, n + 1)[1:-1])
    bands = np.searchsorted(edges, some.truth[studies]).astype(np.int8)
    found[studies] = folds(some.patient[studies], bands, n, seed=seed)
    return found
