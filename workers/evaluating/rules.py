"""The rules of an evaluation, written down before it is made; the report repeats them."""

from typing import Final

CONFIDENCE: Final = 0.95
FEWEST: Final = 10
"""Patients of each class that a group needs before anything is said of it."""

PREVALENCES: Final = (0.01, 0.05, 0.10)
NEIGHBOURS: Final = (1, 5, 10)
CURVE_POINTS: Final = 200
BINS: Final = 10
SCORE_BINS: Final = 30
MOST_QUERIES, FEWEST_QUERIES, QUERIES_IN_ALL = 1000, 100, 2000
"""Queries of a finding, drawn from the seed: at most 1,000, and fewer where the findings
are many, so that there are 2,000 in all, but not fewer than 100."""

RULES: Final = (
    (
        "Patients, not images, are the unit of every interval: studies of one patient are "
        "never taken for independent. Intervals are 95 %."
    ),
    (
        "Areas under ROC curves: Obuchowski's clustered variance (DeLong's where each "
        "patient has one study), limits on the logit scale; at an area of 1 an exact "
        "one-sided limit."
    ),
    "Shares: Wilson's limits on the effective number of studies.",
    (
        "Studies whose label is missing or uncertain are left out of a finding's figures "
        "and counted. So are studies that the pack did not evaluate."
    ),
    "A study is flagged when its score is at or above the threshold.",
    (
        "Predictive values at a prevalence follow from sensitivity and specificity by Bayes' "
        "rule; their ranges are those at both lower and at both upper limits."
    ),
    (
        f"A group with fewer than {FEWEST} patients with the finding, or fewer than {FEWEST} "
        "without it, is too small: nothing is said of it. For a quantity it is fewer than "
        f"{FEWEST} patients."
    ),
    (
        "The gap of a group is its figure less that of all other studies whose group is "
        "known, at the same threshold. The limits of a finding's gaps hold for all its "
        "groups at once (max |t|), for each figure by itself."
    ),
    "A score of which no calibration is stated is a score, not a probability.",
    (
        "Retrieval: cases are ranked by cosine; those of the query's own patient are left "
        "out; a query is a case with the finding. Of many queries some are drawn."
    ),
)
