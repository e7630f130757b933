"""Exclusive labels, nested by patient: what is judged was chosen without its patients.

As `workers.fitting.nested` and `workers.fitting.choosing`. The candidate with the lowest
cross-entropy of studies on the inner folds is chosen: an area under the curve would not
see how the values stand to one another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.cohort import folds
from workers.fitting.byrole import Roles
from workers.fitting.choosing import Plan
from workers.fitting.exclusive.calibrating import Calibration, calibrate, cross_entropy
from workers.fitting.exclusive.learning import Head, Kind, Parameters, fits
from workers.fitting.exclusive.samples import Samples
from workers.fitting.nested import Step
from workers.fitting.samples import Mask
from workers.labels import LabelWeights, Logits, Shares, shares_of, terms

_KINDS: tuple[Kind, ...] = ("zero-shot", "linear", "knn")
"""In order of simplicity: of equal ones the first is chosen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """What the inner folds chose.

    Parameters
    ----------
    loss
        Its cross-entropy there: flattered by the choice.
    """

    kind: Kind
    parameters: Parameters
    loss: float
    calibration: Calibration


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """A head, and how the procedure that made it does on patients it has not seen.

    Parameters
    ----------
    fold
        (S,) int8: the outer fold of each study; -1: not scored, or a held-out set.
    raw, shares
        (S, K): as heads give them, and calibrated; NaN where not scored.
    choices
        Of each outer fold.
    """

    head: Head
    choice: Choice
    fold: NDArray[np.int8]
    raw: Shares
    shares: Shares
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Procedure:
    """How heads are chosen and fitted: the plan, and texts where values have some."""

    samples: Samples
    plan: Plan
    texts: LabelWeights | None

    def crossed(self, outer: NDArray[np.int8], step: Step) -> Outcome:
        """Return out-of-fold shares by outer folds (S,), and the head of all studies."""
        logits = np.full((len(outer), len(self.samples.names)), np.nan)
        shares, choices = logits.copy(), []
        for number in range(self.plan.outer):
            inside = outer == number
            choice = self.choose(~inside)
            head = self.fit(~inside, choice)
            logits[inside] = self.score(head, inside)
            shares[inside] = choice.calibration.apply(logits[inside])
            choices.append(choice)
            step()
        everybody = np.ones(len(outer), dtype=np.bool_)
        choice = self.choose(everybody)
        head = self.fit(everybody, choice)
        step()
        return Outcome(
            head=head,
            choice=choice,
            fold=outer,
            raw=shares_of(logits),
            shares=shares,
            choices=tuple(choices),
        )

    def by_role(self, roles: Roles, step: Step) -> Outcome:
        """Return the head of those who train, and the shares of those who test."""
        tune = roles.tune & self.samples.known
        choice = (
            self._tuned(roles.train, tune) if tune.any() else self.choose(roles.train)
        )
        step()
        head = self.fit(roles.train, choice)
        calibrating = roles.calibrate & self.samples.known
        if calibrating.any():
            logits = self.score(head, calibrating)
            choice = replace(choice, calibration=self._calibration(logits, calibrating))
        logits = np.full((len(roles.test), len(self.samples.names)), np.nan)
        logits[roles.test] = self.score(head, roles.test)
        step()
        return Outcome(
            head=head,
            choice=choice,
            fold=np.full(len(logits), -1, dtype=np.int8),
            raw=shares_of(logits),
            shares=choice.calibration.apply(logits),
            choices=(),
        )

    def choose(self, studies: Mask) -> Choice:
        """Return the best candidate, judged on inner folds of some studies (S,) alone."""
        studies = studies & self.samples.known
        fold = self._folds(studies)
        found = {
            kind: self._left_out(fold, kind, grid)
            for kind, grid in self.candidates().items()
        }
        return self._best(found, studies, fold[studies])

    def fit(self, studies: Mask, choice: Choice) -> Head:
        """Return the head of a choice, fitted on some studies (S,)."""
        training = self.samples.training(studies, self.plan.weighing)
        return next(fits(choice.kind, training, [choice.parameters], self.texts))

    def score(self, head: Head, studies: Mask) -> Logits:
        """Return the logits (n, K) of some studies (S,), by the runtime's scorer."""
        items = self.samples.items_of(studies)
        weights = head.weights(items.shape[1])
        return self.samples.of_studies(weights, terms(weights, items), studies)

    def candidates(self) -> Mapping[Kind, Sequence[Parameters]]:
        """Return what is tried.

        Raises
        ------
        Permanent
            If that is nothing.
        """
        kinds = [kind for kind in _KINDS if kind in self.plan.heads]
        if self.texts is None:
            kinds = [kind for kind in kinds if kind != "zero-shot"]
        if not kinds:
            raise Permanent(
                "labels that exclude one another have linear or knn heads, "
                "and zero-shot ones where the pack has prompts for every label"
            )
        return {kind: self.plan.grids[kind] for kind in kinds}

    def _tuned(self, train: Mask, tune: Mask) -> Choice:
        """Return the candidate, fitted on some, that does best on others."""
        training = self.samples.training(train, self.plan.weighing)
        found = {}
        for kind, grid in self.candidates().items():
            heads = fits(kind, training, grid, self.texts)
            scored = np.full((len(grid), *self._shape), np.nan)
            for row, head in zip(scored, heads, strict=True):
                row[tune] = self.score(head, tune)
            found[kind] = scored
        return self._best(found, tune, self._folds(tune)[tune])

    def _left_out(
        self, fold: NDArray[np.int8], kind: Kind, grid: Sequence[Parameters]
    ) -> Logits:
        """Return the out-of-fold logits for each candidate, (G, S, K); NaN outside."""
        logits = np.full((len(grid), *self._shape), np.nan)
        for number in range(self.plan.inner):
            inside = fold == number
            training = self.samples.training((fold >= 0) & ~inside, self.plan.weighing)
            heads = fits(kind, training, grid, self.texts)
            for row, head in zip(logits, heads, strict=True):
                row[inside] = self.score(head, inside)
        return logits

    def _best(
        self, found: Mapping[Kind, Logits], studies: Mask, fold: NDArray[np.int8]
    ) -> Choice:
        """Return the candidate whose logits (G, S, K) of some studies say most."""
        value = self.samples.study_value[studies]
        grids = self.candidates()
        losses = {
            (kind, number): cross_entropy(shares_of(logits[studies]), value)
            for kind, rows in found.items()
            for number, logits in enumerate(rows)
        }
        kind, number = min(losses, key=lambda one: losses[one])
        return Choice(
            kind=kind,
            parameters=grids[kind][number],
            loss=losses[kind, number],
            calibration=calibrate(
                found[kind][number][studies], value, fold, self.samples.names
            ),
        )

    def _calibration(self, logits: Logits, studies: Mask) -> Calibration:
        value = self.samples.study_value[studies]
        fold = self._folds(studies)[studies]
        return calibrate(logits, value, fold, self.samples.names)

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.samples.study_value), len(self.samples.names)

    def _folds(self, studies: Mask) -> NDArray[np.int8]:
        """Return the inner fold of each study (S,); -1 for those that are not meant.

        Raises
        ------
        Permanent
            If a value has too few patients.
        """
        some = self.samples
        for number, name in enumerate(some.names):
            has = studies & (some.study_value == number)
            patients = len(np.unique(some.study_patient[has]))
            if patients < self.plan.inner:
                raise Permanent(
                    f"{patients} patients with {name} are too few "
                    f"for {self.plan.inner} inner folds"
                )
        fold = np.full(len(studies), -1, dtype=np.int8)
        fold[studies] = folds(
            some.study_patient[studies],
            some.study_value[studies],
            self.plan.inner,
            seed=self.plan.seed,
        )
        return fold
