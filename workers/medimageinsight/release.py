"""What Microsoft released as MedImageInsight, and how to recognise it.

Sources: the model card and ``config.yaml`` of release 2024.09.27 (MIT licence); the ids
are those of Hugging Face's slow ``CLIPTokenizer`` with the files of the release.
"""

from dataclasses import dataclass

from workers.medimageinsight.checkpoint import OFFICIAL_SHA256
from workers.medimageinsight.config import FULL, Config


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownIds:
    """A text, and the ids that a tokenizer gives it, separated by spaces."""

    text: str
    ids: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release of weights.

    Parameters
    ----------
    sha256, size_bytes
        Of the weights' file.
    known_ids
        What its tokenizer gives: two prompts, quotes and dashes that ftfy repairs, and
        a text of which the only id is next to the lowest.
    training_data
        Names of the data sets that it was trained on.
    """

    name: str
    sha256: str
    size_bytes: int
    config: Config
    known_ids: tuple[KnownIds, ...]
    training_data: tuple[str, ...]


RELEASE = Release(
    name="2024.09.27",
    sha256=OFFICIAL_SHA256,
    size_bytes=2_464_060_700,
    config=FULL,
    known_ids=(
        KnownIds(
            text="x-ray chest anteroposterior Cardiomegaly",
            ids="49406 343 268 3077 10563 514 20727 22881 2498 6211 3693 2001 344 49407",
        ),
        KnownIds(
            text="Hand X-Ray, male, 12 years 6 months (150 mo).",
            ids="49406 2463 343 268 3077 267 2801 267 272 273 1151 277 3109 263 272 276"
            " 271 2080 1818 49407",
        ),
        KnownIds(
            text="M\u00e9ni\u00e8re\u2019s disease \u2014 \u201crare\u201d; 5\u00b5m",
            ids="49406 21890 697 30272 568 5336 2005 257 3865 37549 276 126 113 332"
            " 49407",
        ),
        KnownIds(text="!", ids="49406 256 49407"),
    ),
    training_data=(
        "MIMIC-CXR",
        "ChestX-ray14",
        "NIH-CXR-LT",
        "CheXpert",
        "IRMA2009",
        "RSNA bone age",
        "MURA",
        "UPENN-GBM",
        "TCGA-SARC",
        "SD-198",
        "ISIC2019",
        "PCAM",
        "RSNA mammography",
        "LIDC-IDRI",
        "PAD-UFES-20",
        "ODIR-5K",
        "bingmedicalfewshot (not public)",
        "proprietary and web data (not listed)",
    ),
)
"""The official weights: one file of 601 float32 tensors."""
