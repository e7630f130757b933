"""From labels and embeddings to a pack, as Python and as a command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_node.errors import Permanent
from tests.cohorts import Drawn, drawn, embedded
from tests.packs import CONFIG
from tests.studies import source
from workers.calibration import calibrated
from workers.classify import conclude
from workers.cli import app
from workers.cohort import Role, Truth, read_scores, write_cohort
from workers.fitting.asking import Asked, Wishes, accepts, asked, triple, wishes
from workers.fitting.choosing import Grids, Plan
from workers.fitting.packing import Identity
from workers.fitting.story import FitReport, Material, fit_pack
from workers.heads import heads_of, score_frames
from workers.pack import Pack, open_pack
from workers.study import EmbeddedImage

IDENTITY = Identity(name="fitted", version="2", created="2026-01-01")
GRIDS: Grids = {
    "linear": ({"C": 0.1, "scaling": "overall"},),
    "knn": ({"k": 10, "temperature": 10.0, "classes": "equal"},),
    "svm": ({"C": 1.0, "width": 1.0, "scaling": "dimension"},),
    "mlp": ({"epochs": 2, "width": 8},),
    "zero-shot": ({},),
    "mixture": (
        {"text_weight": 1.0, "k": 10, "temperature": 10.0, "classes": "equal"},
    ),
}
PLAN = Plan(heads=("linear",), outer=3, inner=2, grids=GRIDS)
NEW = Wishes(
    code=("233604007", "SCT", "Pneumonia"),
    site=("39607008", "SCT", "Lung"),
    accepts=accepts("DX|CR:CHEST"),
)


def made(pack: Pack, **changes: Any) -> Drawn:
    """Return patients whose embeddings are the pack's."""
    values: dict[str, Any] = {
        "patients": 60,
        "dimension": CONFIG.embedding,
        "key": pack.encoder_key,
        "findings": ("Pneumonia", "effusion"),
        "strength": 3.0,
    }
    return drawn(**values | changes)


def fitted(
    pack: Pack, out: Path, some: Drawn, *, wanted: list[Asked], **changes: Any
) -> FitReport:
    """Return what is said of the pack in `out`."""
    material = Material(cohort=some.cohort, embeddings=some.embeddings)
    options: dict[str, Any] = {"plan": PLAN, "identity": IDENTITY} | changes
    return fit_pack(pack, out, material, wanted, progress=lambda *_: None, **options)


def test_a_pack_with_new_heads_is_a_pack(pack: Pack, tmp_path: Path) -> None:
    """A new finding and one in its namesake's place; both calibrated, in shadow mode."""
    some = made(pack)
    wanted = [asked(pack, "Pneumonia", NEW), asked(pack, "effusion", Wishes())]
    report = fitted(
        pack,
        tmp_path / "new",
        some,
        wanted=wanted,
        scores_out=tmp_path / "s.safetensors",
    )
    opened = open_pack(tmp_path / "new")
    assert opened.digest == report.pack.digest
    assert (opened.name, opened.version) == ("fitted", "2")
    assert opened.encoder_key == pack.encoder_key
    keys = [finding.key for finding in opened.findings]
    assert keys == ["pneumothorax", "effusion", "haemorrhage", "pneumonia"]
    spec = opened.findings[3]
    assert (spec.mode, spec.concept.meaning) == ("shadow", "Pneumonia")
    assert spec.operating_point.evidence["provisional"] is True
    assert spec.operating_point.evidence["data"] == some.cohort.digest
    assert spec.operating_point.evidence["auc"][0] > 0.8
    head = opened.heads["pneumonia"]
    raw = score_frames(head, some.embeddings.vectors)
    assert spec.calibration is not None
    assert spec.calibration.prevalence == pytest.approx(0.5, abs=0.15)
    scores = calibrated(spec.calibration, raw)
    assert np.corrcoef(scores, some.cohort.truth[:, 0])[0, 1] > 0.8


def test_out_of_fold_scores_are_kept(pack: Pack, tmp_path: Path) -> None:
    """Of studies and of images, with the new pack's digest and the labels'."""
    some, path = made(pack), tmp_path / "s.safetensors"
    wanted = [asked(pack, "effusion", Wishes())]
    report = fitted(pack, tmp_path / "new", some, wanted=wanted, scores_out=path)
    studies, images = read_scores(path), read_scores(tmp_path / "s-images.safetensors")
    assert (studies.level, images.level) == ("study", "image")
    assert studies.pack == report.pack.digest
    assert studies.data == some.cohort.digest
    assert studies.units == some.cohort.studies
    assert images.units == some.cohort.units
    assert sorted({*studies.fold.tolist()}) == [0, 1, 2]
    assert studies.calibrated == (True,)
    assert studies.kind == "out-of-fold"
    truth = np.zeros(len(studies.units), np.int8)
    truth[some.cohort.study] = some.cohort.truth[:, 1]
    assert studies.truth[:, 0].tolist() == truth.tolist()


def test_with_roles_the_test_patients_are_scored(pack: Pack, tmp_path: Path) -> None:
    """And nobody else."""
    roles = (Role.TRAIN, Role.TRAIN, Role.TEST)
    some, path = made(pack, roles=roles), tmp_path / "s.safetensors"
    wanted = [asked(pack, "effusion", Wishes())]
    report = fitted(pack, tmp_path / "new", some, wanted=wanted, scores_out=path)
    studies = read_scores(path)
    given = {some.cohort.roles[p] for p in studies.patient.tolist()}
    assert (given, studies.kind) == ({Role.TEST}, "test")
    assert report.fits[0].kind == "test"


def test_the_same_seed_gives_the_same_pack(pack: Pack, tmp_path: Path) -> None:
    """Bit for bit; another seed gives another one."""
    some = made(pack)
    wanted = [asked(pack, "effusion", Wishes())]
    digests = [
        fitted(
            pack,
            tmp_path / str(number),
            some,
            wanted=wanted,
            plan=replace(PLAN, heads=("knn", "svm"), seed=seed),
        ).pack.digest
        for number, seed in enumerate((0, 0, 1))
    ]
    assert digests[0] == digests[1] != digests[2]


class Texts:
    """What embeds prompts: each into a direction of its own."""

    logit_scale = 2.0

    def embed_texts(self, texts: Any) -> Any:
        """Return rows of length one."""
        rows = np.zeros((len(texts), CONFIG.embedding), np.float32)
        rows[:, 1] = [-1.0 if "no" in text else 1.0 for text in texts]
        return rows


@pytest.mark.parametrize("kind", GRIDS)
def test_the_pack_gives_the_scores_that_were_reported(
    pack: Pack, tmp_path: Path, kind: Any
) -> None:
    """Every head, written and opened: of images raw, of studies as a node says them."""
    some = made(pack, patients=24, roles=(Role.TRAIN, Role.TRAIN, Role.TEST))
    material = Material(cohort=some.cohort, embeddings=some.embeddings, texts=Texts())
    path = tmp_path / "s.safetensors"
    report = fit_pack(
        pack,
        tmp_path / "new",
        material,
        [asked(pack, "effusion", Wishes())],
        plan=replace(PLAN, heads=(kind,)),
        identity=IDENTITY,
        progress=lambda *_: None,
        scores_out=path,
    )
    opened = open_pack(tmp_path / "new")
    assert opened.findings[1].head.kind == report.fits[0].choice.kind == kind
    named = "fitted-effusion.safetensors" in opened.manifest.files
    assert named == (kind != "zero-shot")
    heads = heads_of(opened, Texts())
    studies, images = read_scores(path), read_scores(tmp_path / "s-images.safetensors")
    rows = np.isin(some.embeddings.sop_instances, images.units)
    raw = score_frames(heads["effusion"], some.embeddings.vectors[rows])
    assert raw == pytest.approx(images.scores[:, 0], abs=1e-12)
    for study, score in zip(studies.units, studies.scores[:, 0], strict=True):
        frames = [
            EmbeddedImage(source=source(n), frame=0, vector=vector)
            for n, vector in enumerate(some.embeddings.vectors)
            if some.embeddings.studies[n] == study
        ]
        said = conclude(
            opened, heads, images=[frame.source for frame in frames], frames=frames
        )
        (finding,) = said.shadow
        assert finding.score is not None
        assert finding.score.value == pytest.approx(score, abs=1e-12)


def test_what_cannot_be_fitted_is_refused(pack: Pack, tmp_path: Path) -> None:
    """In a sentence, and no pack is written."""
    some = made(pack)
    wanted = [asked(pack, "effusion", Wishes())]
    some.cohort.truth[:, 1] = Truth.PRESENT
    with pytest.raises(Permanent, match="know no study without effusion"):
        fitted(pack, tmp_path / "new", some, wanted=wanted)
    other = made(pack, key=drawn(patients=3).embeddings.encoder_key)
    with pytest.raises(Permanent, match="its encoder is e, and that of pack test-pack"):
        fitted(pack, tmp_path / "new", other, wanted=wanted)
    assert list(tmp_path.iterdir()) == []


def test_a_new_finding_needs_a_name(pack: Pack) -> None:
    """What it is called is said in a code; codes and rules are read, or refused."""
    with pytest.raises(Permanent, match="say what it is called with --code"):
        asked(pack, "Pneumonia", Wishes())
    with pytest.raises(Permanent, match="is no code"):
        triple("233604007|SCT")
    with pytest.raises(Permanent, match="is no rule"):
        accepts(":CHEST")
    with pytest.raises(Permanent, match="with the finding, and without it"):
        wishes(
            code=None,
            site=None,
            urgency=None,
            accept=None,
            aggregation=None,
            texts=(("x-ray.",), ()),
        )
    known = asked(pack, "Effusion", Wishes())
    assert (known.key, known.code[2]) == ("effusion", "Pleural effusion")


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_says_what_it_made(
    pack: Pack, tmp_path: Path, *, as_json: bool
) -> None:
    """Figures with intervals, at 80 columns or as JSON."""
    some = made(pack, findings=("Pneumonia",))
    write_cohort(some.cohort, tmp_path / "labels.csv")
    embedded(
        tmp_path / "e.safetensors",
        some.embeddings.vectors,
        studies=some.embeddings.studies,
        sop_instances=some.embeddings.sop_instances,
        key=pack.encoder_key,
    )
    options = ["--head", "knn", "--folds", "3", "--inner-folds", "2"]
    options += ["--code", "233604007|SCT|Pneumonia", "--finding", "Pneumonia"]
    options += ["--data", str(tmp_path / "labels.csv")]
    options += ["--embeddings", str(tmp_path / "e.safetensors")]
    options += ["--out", str(tmp_path / "new"), *(["--json"] if as_json else [])]
    found = CliRunner().invoke(
        app, ["pack", "fit", str(pack.folder), *options], catch_exceptions=False
    )
    assert found.exit_code == 0
    if as_json:
        said = json.loads(found.stdout)
        assert said["findings"][0]["head"]["kind"] == "knn"
        assert len(said["findings"][0]["heads_of_folds"]) == 3
    else:
        assert "in shadow mode" in found.stdout
        assert max(map(len, found.stdout.splitlines()[:-2])) <= 80
    assert open_pack(tmp_path / "new").findings[-1].key == "pneumonia"
