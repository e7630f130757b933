"""Statistics of diagnostic scores, each interval clustered by patient.

Plain arrays in, frozen values out: nothing here knows of packs, files or findings. A
score is *flagged* from its threshold on (``score >= threshold``). Rows of one patient
are never taken for independent: ``cluster`` says which patient each row belongs to.
"""

from workers.measures.areas import (
    Area,
    auc_covariance,
    clustered_auc,
    linear_auc,
    paired_difference,
)
from workers.measures.arrays import Clusters, Hits, Scores, Truth, Undefined, distinct
from workers.measures.calibration import (
    Bin,
    Recalibration,
    brier,
    calibration_curve,
    calibration_slope_intercept,
)
from workers.measures.curves import (
    Curve,
    PrecisionRecall,
    average_precision,
    pr,
    roc,
    threshold_at_sensitivity,
    youden,
)
from workers.measures.exclusive import balanced_accuracy
from workers.measures.linear import (
    Estimate,
    Linear,
    clustered_mean,
    linear_mean,
    linear_share,
)
from workers.measures.pairs import Difference, difference_of, difference_of_hits
from workers.measures.predictive import Predictive, predictive, predictive_range
from workers.measures.proportions import (
    Proportion,
    clustered_proportion,
    exact_proportion,
    lower_limit,
)
from workers.measures.regression import mae
from workers.measures.resampling import bootstrap
from workers.measures.retrieval import (
    average_precisions,
    mean_average_precision,
    precision_at_k,
)
from workers.measures.simultaneous import Gap, simultaneous_gaps

__all__ = [
    "Area",
    "Bin",
    "Clusters",
    "Curve",
    "Difference",
    "Estimate",
    "Gap",
    "Hits",
    "Linear",
    "PrecisionRecall",
    "Predictive",
    "Proportion",
    "Recalibration",
    "Scores",
    "Truth",
    "Undefined",
    "auc_covariance",
    "average_precision",
    "average_precisions",
    "balanced_accuracy",
    "bootstrap",
    "brier",
    "calibration_curve",
    "calibration_slope_intercept",
    "clustered_auc",
    "clustered_mean",
    "clustered_proportion",
    "difference_of",
    "difference_of_hits",
    "distinct",
    "exact_proportion",
    "linear_auc",
    "linear_mean",
    "linear_share",
    "lower_limit",
    "mae",
    "mean_average_precision",
    "paired_difference",
    "pr",
    "precision_at_k",
    "predictive",
    "predictive_range",
    "roc",
    "simultaneous_gaps",
    "threshold_at_sensitivity",
    "youden",
]
