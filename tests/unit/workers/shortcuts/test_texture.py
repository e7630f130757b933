"""The baseline: texture and edges in a support vector machine."""

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

from workers.shortcuts.nested import patientwise_folds
from workers.shortcuts.texture import RbfMachine, texture, texture_baseline


def test_texture_is_told_apart_and_nothing_else() -> None:
    """Upright and lying stripes, by patient, with the same tones."""
    rng = np.random.default_rng(0)
    patient, truth = np.repeat(np.arange(16), 2), np.arange(16).repeat(2) % 2 == 0
    stripes = np.tile(np.repeat(np.array([90, 160]), 8), (160, 10))
    images = np.stack([stripes.T if t else stripes for t in truth])
    noisy = (images + rng.normal(0, 25, images.shape)).clip(0, 255).astype(np.uint8)
    fold = patientwise_folds(truth, patient, count=2, seed=0)
    scores = texture_baseline(noisy, truth, patient, fold)
    assert roc_auc_score(truth, scores) == 1.0


def test_features_have_one_length() -> None:
    """Whatever the size of the images."""
    images = np.random.default_rng(0).integers(0, 256, (2, 50, 70), dtype=np.uint8)
    found = texture(images)
    assert found.shape == (2, 2916 + 16 * (10 + 18))
    assert np.isfinite(found).all()


def test_the_machine_is_that_of_scikit_learn() -> None:
    """A kernel that is worked out beforehand changes nothing."""
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 2 == 0
    features = (rng.normal(size=(60, 5)) + truth[:, None]).astype(np.float32)
    ours = RbfMachine(3.0, 0.5).fit(features, truth).decision_function(features)
    scaled = (features - features.mean(0)) / features.std(0)
    theirs = SVC(C=3.0, gamma=0.1, class_weight="balanced").fit(scaled, truth)
    np.testing.assert_allclose(ours, theirs.decision_function(scaled), atol=2e-3)
