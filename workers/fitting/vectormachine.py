"""A support vector machine with a radial basis function, on standardised embeddings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.svm import SVC

from workers.fitting.fitted import Fitted
from workers.fitting.linear import Scaled
from workers.fitting.samples import Training

GRID = tuple(
    {"C": c, "width": width, "scaling": scaling}
    for c in (1.0, 10.0)
    for width in (0.3, 1.0)
    for scaling in ("dimension", "overall")
)
"""``width``: gamma, times the number of dimensions. Scaling as for linear heads."""

MOST = 20_000
"""Items from which on no support vector machine is fitted: its time grows cubically."""


def fits(training: Training, grid: Sequence[Mapping[str, Any]]) -> Iterator[Fitted]:
    """Yield a head for each penalty and width."""
    for parameters in grid:
        scaled = Scaled.of(training.vectors, parameters["scaling"])
        gamma = parameters["width"] / scaled.rows.shape[1]
        model = SVC(C=parameters["C"], gamma=gamma, cache_size=500)
        model.fit(scaled.rows, training.present, sample_weight=training.weights)
        tensors = {
            "support": model.support_vectors_.astype(np.float32),
            "dual": model.dual_coef_[0].astype(np.float32),
            "intercept": model.intercept_.astype(np.float32),
            "gamma": np.array([gamma], dtype=np.float32),
            "mean": scaled.mean.astype(np.float32),
            "scale": scaled.scale.astype(np.float32),
        }
        yield Fitted(kind="svm", tensors=tensors)
