"""Shortcuts: what can be told without anatomy, from grey levels, border and header.

Each is given to a logistic regression and to boosted trees; the better of the two,
in cross-validation, is what the shortcut is worth.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from workers.demo.roc import area
from workers.demo.samples import Order, Samples
from workers.measures import Area
from workers.phantoms import ChestPhantom, Phantom, phantom

PROBES: Final = ("mean intensity", "histogram", "border", "header")
_BINS: Final = 32
_BORDER: Final = 0.08
_BORDER_CELLS: Final = 28
_FOLDS: Final = 5


def views(samples: Samples, wanted: Sequence[Order]) -> dict[str, NDArray[np.float32]]:
    """Return what each probe sees of each study: (studies, features) by name.

    Of a study with many images, the mean over them.
    """
    images = samples.images
    of_image = {
        "mean intensity": images.mean(axis=(1, 2))[:, None],
        "histogram": np.stack([_histogram(image) for image in images]),
        "border": np.stack([_border(image) for image in images]),
    }
    count = np.bincount(samples.study)[:, None]
    seen = {}
    for name, features in of_image.items():
        total = np.zeros((len(count), features.shape[1]))
        np.add.at(total, samples.study, features)
        seen[name] = (total / count).astype(np.float32)
    header = [_header(phantom(order.kind, order.seed)) for order in wanted]
    return seen | {"header": np.array(header, np.float32)}


def probe_area(features: NDArray[np.float32], truth: NDArray[np.bool_]) -> Area:
    """Return the area under the curve of the better classifier, cross-validated."""
    models = (
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)),
        HistGradientBoostingClassifier(
            max_iter=100, max_depth=4, learning_rate=0.05, random_state=0
        ),
    )
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    areas = [
        area(
            cross_val_predict(model, features, truth, cv=folds, method="predict_proba")[
                :, 1
            ].astype(np.float64),
            truth,
        )
        for model in models
    ]
    return max(areas, key=lambda found: found.value)


def _histogram(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.histogram(image, _BINS, (0, 256))[0] / image.size


def _border(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Blocks of the outer 8 %, their mean and deviation, and their histogram."""
    size = len(image)
    edge = max(1, round(_BORDER * size))
    outer = np.ones(image.shape, bool)
    outer[edge:-edge, edge:-edge] = False
    pixels = image[outer].astype(np.float64)
    block = size // _BORDER_CELLS
    sides = [image[:edge], image[-edge:], image[:, :edge].T, image[:, -edge:].T]
    cells = [
        side[:, : block * _BORDER_CELLS]
        .reshape(edge, _BORDER_CELLS, block)
        .mean((0, 2))
        for side in sides
    ]
    shares = np.histogram(pixels, 16, (0, 256))[0] / pixels.size
    tones = [pixels.mean(), pixels.std()]
    features: NDArray[np.float64] = np.concatenate([*cells, tones, shares])
    return features


def _header(made: Phantom) -> list[float]:
    """What the attributes say: person, dates, numbers, machine, view, polarity."""
    person, when = made.patient, made.patient.examined
    return [
        float(person.sex == "F"),
        float(person.age_years),
        float(when.timetuple().tm_yday),
        float(when.weekday()),
        float(when.hour),
        float(int(person.patient_id[2:]) % 1000),
        float(int(person.accession[1:]) % 1000),
        float(sum(map(ord, made.scanner.station))),
        *_radiograph(made),
    ]


def _radiograph(made: Phantom) -> tuple[float, float]:
    """View and polarity, which only a radiograph has."""
    if isinstance(made, ChestPhantom):
        return float(made.view == "PA"), float(made.inverted)
    return 0.0, 0.0
