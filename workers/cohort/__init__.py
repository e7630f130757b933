"""Labelled data sets: who has what, who said so, and which embedding belongs to it."""

from workers.cohort.embedded import EmbeddingFile, check_encoder, read_embeddings
from workers.cohort.examples import Examples, StudyTruth, by_study, join
from workers.cohort.folds import folds
from workers.cohort.reading import read_cohort, write_cohort
from workers.cohort.roles import assign_roles
from workers.cohort.scores import ScoreTable, read_scores, write_scores
from workers.cohort.table import Cohort, Role, Truth

__all__ = [
    "Cohort",
    "EmbeddingFile",
    "Examples",
    "Role",
    "ScoreTable",
    "StudyTruth",
    "Truth",
    "assign_roles",
    "by_study",
    "check_encoder",
    "folds",
    "join",
    "read_cohort",
    "read_embeddings",
    "read_scores",
    "write_cohort",
    "write_scores",
]
