"""From stored embeddings to a result: gate, shadow mode, calibration and atlas together."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter

from dicom_node.domain import (
    ALWAYS_COMPOSED,
    AtlasSearch,
    Exam,
    Result,
    Sha256,
    StudyUid,
)
from dicom_node.errors import Permanent
from dicom_node.ledger import open_ledger
from dicom_node.ledger.results import JobInput, StoredEmbedding
from dicom_node.objects import ObjectStore
from sr_writer.codes import FINDINGS_REPORT
from tests.builders import atlas_search
from tests.studies import AXIS, HEADS, sigmoid, source
from workers.asked import AgainstSpec
from workers.calibration import CalibrationSpec
from workers.decoding import DecodePool
from workers.encoder import open_encoder
from workers.equipping import equip
from workers.manifest import AtlasSpec
from workers.pack import Pack
from workers.pipeline import Bench, Equipped, classify

PATIENT = Sha256("1" * 64)


@pytest.fixture
def bench(tmp_path: Path, spare_pool: DecodePool) -> Iterator[Bench]:
    """Yield a worker's bench without packs."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite", migrate=True)
    yield Bench(
        ledger=ledger,
        spool=tmp_path,
        objects=ObjectStore(tmp_path / "outbox"),
        packs={},
        decoders=spare_pool,
        site="test",
        title=FINDINGS_REPORT,
        reject_superseded=False,
        report_outside_scope=True,
        utc_offset_min=0,
        lease_s=60,
        clock=lambda: datetime(2026, 1, 15, tzinfo=UTC),
        software="0",
    )
    ledger.close()


class PositivesInside:
    """A gate that lets no vector through whose first number is negative."""

    def outside_volume(self, vectors: NDArray[np.float32], modality: str) -> str:
        """Return a reason for them."""
        return f"no {modality} like it" if vectors[0, 0] < 0 else ""


class Shelf:
    """An atlas with two cases, which notes who asks."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str, str]] = []

    def nearest(
        self,
        runs: Sequence[NDArray[np.float32]],
        exam: Exam,
        k: int,
        *,
        study: StudyUid,
        patient: Sha256,
    ) -> AtlasSearch | None:
        """Return as many cases as are asked for."""
        assert exam.modality == "DX"
        self.asked.append((len(runs), study, patient))
        return atlas_search(k)


def job(*logits: float) -> JobInput:
    """Return a study of chests, to which the heads of `HEADS` give these logits."""
    files = tuple(source(n, sex="F") for n in range(1, len(logits) + 1))
    return JobInput(
        study_uid=StudyUid("1.2.3"),
        revision=1,
        outcome=0,
        device_uid="2.25.1",
        patient=PATIENT,
        attributes=Sha256("2" * 64),
        files=files,
        embeddings=tuple(
            StoredEmbedding(
                version=file.version,
                frame=0,
                vector=(AXIS[0] * logit).astype("<f4").tobytes(),
                reason="",
            )
            for file, logit in zip(files, logits, strict=True)
        ),
        predecessors=(),
        objects=frozenset(ALWAYS_COMPOSED),
        former=(),
    )


def equipped(pack: Pack, **changes: Any) -> Equipped:
    """Return the pack: one finding calibrated, a check, and one in shadow mode."""
    calibrated, shadow, check = pack.findings
    findings = (
        replace(
            calibrated,
            calibration=CalibrationSpec(
                set="cal-1",
                method="temperature",
                parameters={"temperature": 2.0},
                prevalence=0.2,
            ),
        ),
        replace(shadow, mode="shadow"),
        replace(
            check,
            accepts=None,
            aggregation="mean",
            against=AgainstSpec(attribute="PatientSex", expects={"M": 1, "F": -1}),
            ungated=True,
        ),
    )
    atlas = AtlasSpec(name="a", version="1", digest="0" * 64, path="atlas", k=2)
    manifest = replace(pack.manifest, findings=findings, atlas=atlas)
    values: dict[str, Any] = {
        "pack": replace(pack, manifest=manifest),
        "encoder": open_encoder(pack, device="cpu", threads=1),
        "heads": HEADS,
        "labels": {},
        "gate": PositivesInside(),
        "atlas": Shelf(),
    }
    return Equipped(**values | changes)


def test_a_study_is_concluded_with_all_that_a_pack_has(
    pack: Pack, bench: Bench
) -> None:
    """Each part does its own: none undoes what another has decided."""
    shelf = Shelf()
    made = classify(job(2.0, -3.0), equipped(pack, atlas=shelf), bench)
    calibrated, check = made.findings
    (shadow,) = made.shadow
    assert calibrated.score is not None
    assert calibrated.score.value == pytest.approx(sigmoid(2.0 / 2))
    assert calibrated.score.calibration_set == "cal-1"
    assert calibrated.images_scored == 1
    assert check.score is not None  # both images: it is asked in spite of the gate
    assert check.score.value == pytest.approx((sigmoid(2.0) + sigmoid(-3.0)) / 2)
    assert shadow.score is not None
    assert shadow.score.value == pytest.approx(sigmoid(2.0))
    assert made.cases == atlas_search(2)
    assert shelf.asked == [(1, "1.2.3", PATIENT)]
    ledger_copy = TypeAdapter(Result)
    assert ledger_copy.validate_json(ledger_copy.dump_json(made)) == made


def test_what_lies_outside_asks_no_atlas(pack: Pack, bench: Bench) -> None:
    """No score and no cases, but the check that tells that something is wrong."""
    made = classify(job(-3.0), equipped(pack), bench)
    assert [one.score is None for one in made.findings] == [True, False]
    assert made.cases is None
    assert made.reason == ""


def test_a_pack_without_the_atlas_it_names_is_not_equipped(pack: Pack) -> None:
    """An atlas is not passed over."""
    atlas = AtlasSpec(name="a", version="1", digest="0" * 64, path="/nowhere")
    without = replace(pack, manifest=replace(pack.manifest, atlas=atlas))
    with pytest.raises(Permanent):
        equip(without, device="cpu", threads=1)
