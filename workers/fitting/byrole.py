"""Heads by fixed roles: fitted on one part, chosen on another, judged on a third.

Patients who train fit the heads; those who tune choose among them; those who calibrate
make probabilities; those who test are scored once, at the end. Without anybody to tune
the choice is made by cross-validation among those who train; without anybody to
calibrate the scores that chose also calibrate.
"""

from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import roc_auc_score

from dicom_node.errors import Permanent
from workers.cohort import Examples, Role, by_study
from workers.fitting.calibrating import calibrate
from workers.fitting.choosing import (
    Choice,
    Plan,
    candidates,
    choose,
    fit,
    fits,
    inner_folds,
)
from workers.fitting.fitted import Fitted
from workers.fitting.nested import Outcome, Step
from workers.fitting.samples import Floats, Mask, Samples
from workers.heads import ZeroShotWeights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Roles:
    """Which studies (S,) are for what; no patient is in two."""

    train: Mask
    tune: Mask
    calibrate: Mask
    test: Mask


def roles_of(examples: Examples) -> Roles:
    """Return the roles of the studies.

    Raises
    ------
    Permanent
        If nobody trains, or nobody tests.
    """
    patient = by_study(examples).patient
    has = {
        role: np.array([given is role for given in examples.roles])[patient]
        for role in Role
    }
    for role in (Role.TRAIN, Role.TEST):
        if not has[role].any():
            raise Permanent(f"the labels assign roles, but to nobody the role {role}")
    return Roles(
        train=has[Role.TRAIN],
        tune=has[Role.TUNE],
        calibrate=has[Role.CALIBRATE],
        test=has[Role.TEST],
    )


def by_role(
    samples: Samples,
    roles: Roles,
    plan: Plan,
    *,
    prompts: ZeroShotWeights | None,
    step: Step,
) -> Outcome:
    """Return the head of those who train, and the scores of those who test."""
    tune = roles.tune & samples.known
    if tune.any():
        choice = _tuned(samples, roles.train, tune, plan, prompts)
    else:
        choice = choose(samples, roles.train, plan, prompts)
    step()
    head = fit(samples, roles.train, choice, plan, prompts)
    calibrating = roles.calibrate & samples.known
    if calibrating.any():
        choice = _calibrated(samples, calibrating, choice, head, plan)
    items = head.scores(samples.items_of(roles.test))
    raw = np.full(len(roles.test), np.nan)
    images = np.full(len(samples.truth), np.nan)
    images[roles.test[samples.study]] = items
    raw[roles.test] = samples.of_studies(items, roles.test)
    step()
    return Outcome(
        head=head,
        choice=choice,
        fold=np.full(len(raw), -1, dtype=np.int8),
        raw=raw,
        scores=choice.calibration.apply(raw),
        images=images,
        choices=(),
    )


def _tuned(
    samples: Samples,
    train: Mask,
    tune: Mask,
    plan: Plan,
    prompts: ZeroShotWeights | None,
) -> Choice:
    """Return the candidate, fitted on some, that does best on others."""
    fold = inner_folds(samples, tune, plan)[tune]
    training, items = samples.training(train, plan.weighing), samples.items_of(tune)
    present = samples.present[tune]
    best: Choice | None = None
    for kind, grid in candidates(plan, prompts, count=len(samples.truth)).items():
        heads = fits(kind, training, grid, plan.seed, prompts)
        for parameters, head in zip(grid, heads, strict=True):
            scores = samples.of_studies(head.scores(items), tune)
            area = float(roc_auc_score(present, scores))
            if best is None or area > best.auc:
                best = Choice(
                    kind=kind,
                    parameters=parameters,
                    auc=area,
                    calibration=calibrate(scores, present, fold),
                )
    if best is None:
        raise Permanent("a zero-shot head or a mixture needs prompts for the finding")
    return best


def _calibrated(
    samples: Samples, studies: Mask, choice: Choice, head: Fitted, plan: Plan
) -> Choice:
    """Return the choice with a calibration of its own patients."""
    scores: Floats = samples.of_studies(head.scores(samples.items_of(studies)), studies)
    fold = inner_folds(samples, studies, plan)[studies]
    return replace(
        choice, calibration=calibrate(scores, samples.present[studies], fold)
    )
