"""Heads: the same as scikit-learn and torch say, kept as a pack keeps them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from tests.cohorts import drawn
from workers.calibration import sigmoid
from workers.cohort import join
from workers.findings import aggregate
from workers.fitting import adapter, linear, nearest, vectormachine
from workers.fitting.samples import Samples, Training, Weighing, samples_of
from workers.heads import zero_shot


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Return the items of one finding."""
    made = drawn(patients=50, dimension=24)
    return samples_of(join(made.cohort, made.embeddings), 0, "max")


@pytest.fixture(scope="module")
def training(samples: Samples) -> Training:
    """Return all of them, to fit on."""
    everything = np.ones(len(samples.study_truth), dtype=np.bool_)
    return samples.training(everything, Weighing.PATIENTS)


@pytest.mark.parametrize("rows", [20, 100])
def test_a_linear_head_is_scikit_learns(training: Training, rows: int) -> None:
    """With fewer items than dimensions, too; scaling folded into its numbers."""
    few = Training(
        vectors=training.vectors[:rows],
        present=training.present[:rows],
        weights=training.weights[:rows],
    )
    (head,) = linear.fits(few, [{"C": 0.1, "scaling": "dimension"}])
    judge = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000)
    )
    judge.fit(
        few.vectors.astype(np.float64),
        few.present,
        logisticregression__sample_weight=few.weights,
    )
    expected = judge.predict_proba(training.vectors.astype(np.float64))[:, 1]
    assert head.scores(training.vectors) == pytest.approx(expected, abs=1e-5)


def test_a_support_vector_machine_is_scikit_learns(training: Training) -> None:
    """The sigmoid of its decision function."""
    parameters = {"C": 2.0, "width": 0.5, "scaling": "dimension"}
    (head,) = vectormachine.fits(training, [parameters])
    rows = StandardScaler().fit_transform(training.vectors.astype(np.float64))
    judge = SVC(C=2.0, gamma=0.5 / 24).fit(
        rows,
        training.present,
        sample_weight=training.weights,
    )
    decided = judge.decision_function(rows)
    assert head.scores(training.vectors) == pytest.approx(sigmoid(decided), abs=1e-5)


def test_an_adapter_scores_as_torch_does(training: Training) -> None:
    """What is kept gives the scores of the net that was trained; the seed decides."""
    grid = [{"epochs": 1, "width": 16}]
    (head,) = adapter.fits(training, grid, seed=3)
    (again,) = adapter.fits(training, grid, seed=3)
    (other,) = adapter.fits(training, grid, seed=4)
    net = adapter.Adapter(24, 16)
    state = {name: torch.tensor(values) for name, values in head.tensors.items()}
    net.load_state_dict(state)
    with torch.no_grad():
        logits = net(torch.from_numpy(training.vectors)).numpy()
    scores = head.scores(training.vectors)
    assert scores == pytest.approx(sigmoid(logits), abs=1e-5)
    assert scores.tolist() == again.scores(training.vectors).tolist()
    assert scores.tolist() != other.scores(training.vectors).tolist()


def test_an_adapter_learns(training: Training) -> None:
    """The examples' net, with the examples' rate."""
    (head,) = adapter.fits(training, [{"epochs": 10, "width": 64}], seed=0)
    assert roc_auc_score(training.present, head.scores(training.vectors)) > 0.9


def test_neighbours_vote_by_the_softmax_of_their_cosines(training: Training) -> None:
    """Over all references, the k largest, by class, with the classes' weights."""
    grid = [{"k": 7, "temperature": 20.0, "classes": "balanced"}]
    (head,) = nearest.fits(training, grid)
    query = training.vectors[:5].astype(np.float64)
    logits = 20.0 * query @ training.vectors.astype(np.float64).T
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    share = training.present.mean()
    for row, score in zip(softmax, head.scores(training.vectors[:5]), strict=True):
        near = np.argsort(-row)[:7]
        votes = row[near] * np.where(
            training.present[near], 0.5 / share, 0.5 / (1 - share)
        )
        assert score == pytest.approx(votes[training.present[near]].sum() / votes.sum())


def test_a_mixture_is_text_and_neighbours(training: Training) -> None:
    """(weight * text + neighbours) / (weight + 1)."""
    prompts = zero_shot(
        training.vectors[training.present][:2],
        training.vectors[~training.present][:2],
        logit_scale=2.0,
    )
    common = {"k": 10, "temperature": 100.0, "classes": "equal"}
    (near,) = nearest.fits(training, [common])
    (mixed,) = nearest.mixtures(training, [common | {"text_weight": 3.0}], prompts)
    (text,) = nearest.mixtures(training, [common | {"text_weight": 1e12}], prompts)
    rows = training.vectors
    expected = (3 * text.scores(rows) + near.scores(rows)) / 4
    assert mixed.scores(rows) == pytest.approx(expected, abs=1e-9)


def test_everybody_has_the_same_say(samples: Samples) -> None:
    """Every image, every patient or both labels, as wished."""
    everything = np.ones(len(samples.study_truth), dtype=np.bool_)
    images, patients, classes = (samples.training(everything, w) for w in Weighing)
    assert images.weights.tolist() == [1.0] * len(images.present)
    sums = np.bincount(samples.patient, weights=patients.weights)
    assert sums == pytest.approx(sums[0])
    present = classes.present
    assert classes.weights[present].sum() == pytest.approx(
        classes.weights[~present].sum()
    )
    assert {round(w.weights.mean(), 9) for w in (images, patients, classes)} == {1.0}


@pytest.mark.parametrize("aggregation", ["max", "mean", "median", "top2-mean"])
def test_studies_are_scored_as_at_runtime(samples: Samples, aggregation: str) -> None:
    """By the function that the pack uses."""
    some = np.arange(len(samples.study_truth)) % 3 != 0
    scores = np.linspace(0, 1, int(some[samples.study].sum())) ** 2
    found = replace(samples, aggregation=aggregation).of_studies(scores, some)
    study = samples.study[some[samples.study]]
    expected = [
        aggregate(aggregation, scores[study == s]) for s in np.flatnonzero(some)
    ]
    assert found == pytest.approx(expected, abs=1e-12)
