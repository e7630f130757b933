import dataclasses
from typing import Any

import pytest

from workers.medimageinsight import FULL, Config, TextConfig, VisionConfig


def test_full_is_the_official_release() -> None:
    """The sizes are those of the official config.yaml."""
    official = Config(
        vision=VisionConfig(
            dims=(256, 512, 1024, 2048),
            depths=(1, 1, 9, 1),
            heads=(8, 16, 32, 64),
            groups=(8, 16, 32, 64),
            window=12,
            drop_path=0.2,
        ),
        text=TextConfig(vocabulary=49408, context=77, width=1024, heads=16, layers=16),
        embedding=1024,
        image_size_px=480,
    )
    assert official == FULL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": (1, 1, 9)}, "unequal number"),
        ({"dims": (), "depths": (), "heads": (), "groups": ()}, "or none"),
        ({"depths": (1, 1, 0, 1)}, "positive"),
        ({"window": 0}, "positive"),
        ({"heads": (8, 16, 32, 63)}, "2048 channels cannot be shared by 63"),
        ({"groups": (7, 16, 32, 64)}, "256 channels cannot be shared by 7"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"drop_path": -0.1}, "drop_path"),
    ],
)
def test_an_image_tower_that_cannot_be_built_is_refused(
    change: dict[str, Any], message: str
) -> None:
    """A mistake in a config is named when the config is made."""
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FULL.vision, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": 0}, "positive"),
        ({"context": -1}, "positive"),
        ({"heads": 15}, "1024 channels cannot be shared by 15"),
    ],
)
def test_a_text_tower_that_cannot_be_built_is_refused(
    change: dict[str, Any], message: str
) -> None:
    """A mistake in a config is named when the config is made."""
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FULL.text, **change)


@pytest.mark.parametrize("size", ["embedding", "image_size_px"])
def test_a_size_must_be_positive(size: str) -> None:
    """A model without an embedding, or of images without pixels, is none."""
    change: dict[str, Any] = {size: 0}
    with pytest.raises(ValueError, match="positive"):
        dataclasses.replace(FULL, **change)
