"""What the demo pack says of its findings: codes, urgency, sizes, words.

Codes: SNOMED CT. Pneumothorax, pleural effusion and intracranial haemorrhage are in
PS3.16 too.
"""

from dataclasses import dataclass
from typing import Final

from workers.medimageinsight import Config, TextConfig, VisionConfig

STATEMENT: Final = (
    "Synthetic demonstration: trained on computer-generated phantoms only, it has "
    "never seen a patient. Its scores mean nothing for real images."
)
POINT: Final = "sens>=0.95"
SENSITIVITY: Final = 0.95
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
SIZE_PX: Final = 96

_CHEST = {"modality": ["DX", "CR"], "body_part": ["CHEST"]}
_HEAD = {"modality": ["CT"], "body_part": ["HEAD"]}
ACCEPTS: Final = (_CHEST, _HEAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A finding of the pack, coded; `site` is where it is."""

    key: str
    code: tuple[str, str, str]
    site: tuple[str, str, str]
    urgency: str

    @property
    def about_head(self) -> bool:
        """Whether it is looked for in head scans, not in chests."""
        return self.key == "haemorrhage"

    @property
    def accepts(self) -> dict[str, list[str]]:
        """The images it is looked for in."""
        return _HEAD if self.about_head else _CHEST


_LUNG = ("39607008", "SCT", "Lung structure")
CATALOGUE: Final = (
    Entry(
        key="pneumothorax",
        code=("36118008", "SCT", "Pneumothorax"),
        site=_LUNG,
        urgency="critical",
    ),
    Entry(
        key="effusion",
        code=("60046008", "SCT", "Pleural effusion"),
        site=("3120008", "SCT", "Pleural structure"),
        urgency="urgent",
    ),
    Entry(
        key="nodule",
        code=("786838002", "SCT", "Nodule of lung"),
        site=_LUNG,
        urgency="routine",
    ),
    Entry(
        key="enlarged_heart",
        code=("8186001", "SCT", "Cardiomegaly"),
        site=("80891009", "SCT", "Heart structure"),
        urgency="routine",
    ),
    Entry(
        key="haemorrhage",
        code=("1386000", "SCT", "Intracranial hemorrhage"),
        site=("12738006", "SCT", "Brain structure"),
        urgency="critical",
    ),
)


def model_config(vocabulary: int) -> Config:
    """Return the sizes of the demo model."""
    return Config(
        vision=VisionConfig(
            dims=(16, 32, 96, 192),
            depths=(1, 1, 2, 1),
            heads=(1, 2, 4, 8),
            groups=(1, 2, 4, 8),
            window=6,
            drop_path=0.05,
        ),
        text=TextConfig(
            vocabulary=vocabulary, context=77, width=128, heads=4, layers=2
        ),
        embedding=128,
        image_size_px=SIZE_PX,
    )
