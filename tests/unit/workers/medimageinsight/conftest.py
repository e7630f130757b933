"""What the model's tests share: few threads, and models with the recipe's weights."""

import pytest
import torch

from tests.golden import recipe
from workers.medimageinsight import MedImageInsight


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture
def small() -> MedImageInsight:
    """Return a model of a few thousand parameters, float32, in evaluation mode."""
    return recipe.fill(MedImageInsight(recipe.SMALL))
