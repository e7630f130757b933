"""How good a pack is, measured: figures with intervals, subgroups, one report.

Scores and what is true go in, an `Evaluation` comes out; it is written as one HTML page
and one JSON file that hold the same figures. Files, packs and embeddings are read at the
edge, by ``pacsight evaluate``.
"""

from workers.evaluating.asked import Cases, Groups, Point, Question
from workers.evaluating.comparing import compare
from workers.evaluating.figures import Evaluation
from workers.evaluating.measuring import evaluate
from workers.evaluating.probed import probed, shortcut_figures

__all__ = [
    "Cases",
    "Evaluation",
    "Groups",
    "Point",
    "Question",
    "compare",
    "evaluate",
    "probed",
    "shortcut_figures",
]
