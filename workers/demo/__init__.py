"""The demo pack: made from a seed, and measured on phantoms from other seeds."""

from workers.demo.build import Recipe, train_demo
from workers.demo.evaluation import Evaluation, evaluate_demo

__all__ = ["Evaluation", "Recipe", "evaluate_demo", "train_demo"]
