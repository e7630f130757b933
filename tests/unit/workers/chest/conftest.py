"""A small collection of made-up radiographs, laid out as the real ones are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PATIENTS = 12
SIZE_PX = 48


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 24 images: two of each patient, one each of both views."""
    made = tmp_path_factory.mktemp("radiographs")
    (made / "images").mkdir()
    rng = np.random.default_rng(0)
    lines = ["file,patient,labels,sex,age,view"]
    for number in range(2 * PATIENTS):
        patient = number // 2
        found = "Effusion|Pneumonia" if patient % 3 == 0 else "No Finding"
        sex, view = "FM"[patient % 2], ("AP", "PA")[number % 2]
        name = f"{number:04d}.png"
        lines.append(f"{name},P{patient:02d},{found},{sex},{10 + 5 * patient},{view}")
        levels = rng.integers(0, 256, (SIZE_PX, SIZE_PX), dtype=np.uint8)
        Image.fromarray(levels).save(made / "images" / name)
    (made / "labels.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return made
