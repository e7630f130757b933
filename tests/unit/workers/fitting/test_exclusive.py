"""Labels that exclude one another: fitted, judged by scikit-learn, and as the node has it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
    roc_auc_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from dicom_node.errors import Permanent
from tests.cohorts import Drawn, drawn, embedded
from tests.packs import CONFIG, make_pack
from tests.studies import source
from workers.classify import conclude
from workers.cli import app
from workers.cohort import Role, Truth, read_scores, write_cohort
from workers.drafting.showing import show
from workers.fitting.choosing import Grids, Plan
from workers.fitting.exclusive.asking import Names, Question, question
from workers.fitting.exclusive.calibrating import calibrate
from workers.fitting.exclusive.learning import fits
from workers.fitting.exclusive.samples import SEVERAL, Training, samples_of
from workers.fitting.exclusive.story import CategoryReport, fit_category
from workers.fitting.packing import Identity
from workers.fitting.story import Material
from workers.heads import heads_of, labels_of
from workers.labels import SoftmaxWeights, shares, shares_of
from workers.measures import balanced_accuracy, bootstrap
from workers.pack import Pack, open_pack
from workers.study import EmbeddedImage

IDENTITY = Identity(name="fitted", version="2", created="2026-01-01")
VIEWS = ("AP", "LL", "PA")
GRIDS: Grids = {
    "linear": ({"C": 1.0, "scaling": "overall"},),
    "knn": ({"k": 10, "temperature": 10.0, "classes": "balanced"},),
    "zero-shot": ({},),
}
PLAN = Plan(heads=("linear",), outer=3, inner=2, grids=GRIDS)
NAMES = Names(
    code=("111031", "DCM", "Image View"),
    values=tuple(f"{view}={view}|99TEST|view {view}" for view in VIEWS),
)


def made(
    pack: Pack,
    *,
    strength: float = 2.0,
    odds: Sequence[float] = (1, 1, 1),
    **changes: Any,
) -> Drawn:
    """Return studies with one view each, that the vectors of their images show."""
    options = {"patients": 60, "dimension": CONFIG.embedding, "key": pack.encoder_key}
    some = drawn(findings=[f"view={v}" for v in VIEWS], **{**options, **changes})
    rng = np.random.default_rng(7)
    share = np.array(odds) / sum(odds)
    value = rng.choice(3, size=len(some.cohort.studies), p=share)[some.cohort.study]
    vectors = rng.normal(size=some.embeddings.vectors.shape)
    vectors[np.arange(len(value)), value] += strength
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    truth = (value[:, None] == np.arange(3)).astype(np.int8)
    return Drawn(
        cohort=replace(some.cohort, truth=truth),
        embeddings=replace(some.embeddings, vectors=vectors.astype(np.float32)),
    )


def told(some: Drawn, truth: NDArray[np.int8]) -> Drawn:
    """Return the same images with other labels."""
    return replace(some, cohort=replace(some.cohort, truth=truth))


def view(pack: Pack, some: Drawn, text: str = "view=AP,LL,PA") -> Question:
    """Return what is asked."""
    return question(pack, some.cohort, text, NAMES)


def fitted(pack: Pack, out: Path, some: Drawn, **changes: Any) -> CategoryReport:
    """Return what is said of the pack in `out`."""
    material = Material(cohort=some.cohort, embeddings=some.embeddings)
    options: dict[str, Any] = {"plan": PLAN, "identity": IDENTITY} | changes
    wanted = options.pop("wanted", None) or view(pack, some)
    return fit_category(
        pack, out, material, wanted, progress=lambda *_: None, **options
    )


def test_a_pack_with_a_category_is_a_pack(pack: Pack, tmp_path: Path) -> None:
    """Its findings are as they were; the category has codes, head and evidence."""
    some = made(pack)
    report = fitted(pack, tmp_path / "new", some)
    opened = open_pack(tmp_path / "new")
    assert opened.digest == report.pack.digest != pack.digest
    assert opened.findings == pack.findings
    (spec,) = opened.manifest.categories
    assert (spec.key, spec.concept.meaning) == ("view", "Image View")
    assert [label.key for label in spec.labels] == ["ap", "ll", "pa"]
    assert spec.head is not None
    assert (spec.head.kind, spec.validated is not None) == ("softmax", True)
    (shown,) = show(opened).categories
    low, high = report.fit.accuracy.low, report.fit.accuracy.high
    assert shown.startswith("Image View: softmax head, one of 3 labels, accuracy ")
    assert f"(95 % {low:.4g} to {high:.4g})" in str(show(opened))
    again = fitted(opened, tmp_path / "again", some, wanted=view(opened, some))
    assert len(again.pack.manifest.categories) == 1


def test_the_figures_are_scikit_learn_s(pack: Pack, tmp_path: Path) -> None:
    """Accuracy, balanced accuracy, confusion, areas, of the shares that are kept."""
    some, path = made(pack, strength=1.0), tmp_path / "s.safetensors"
    fit = fitted(pack, tmp_path / "new", some, scores_out=path).fit
    scores = read_scores(path)
    assert scores.findings == ("view=ap", "view=ll", "view=pa")
    assert sorted({*scores.fold.tolist()}) == [0, 1, 2]
    value, chosen = scores.truth.argmax(axis=1), scores.scores.argmax(axis=1)
    assert fit.accuracy.value == pytest.approx(accuracy_score(value, chosen))
    balanced = balanced_accuracy_score(value, chosen)
    assert fit.balanced.value == pytest.approx(balanced)
    assert fit.balanced.low < balanced < fit.balanced.high
    assert fit.confusion == tuple(map(tuple, confusion_matrix(value, chosen).tolist()))
    assert fit.loss == pytest.approx(log_loss(value, scores.scores))
    for number, one in enumerate(fit.values):
        area = roc_auc_score(value == number, scores.scores[:, number])
        assert one.area.value == pytest.approx(area)
    assert 0.5 < fit.accuracy.value < 1


@pytest.mark.parametrize("values", [2, 3])
def test_a_linear_head_is_scikit_learn_s(values: int) -> None:
    """Standardised before, and folded into weights: the same probabilities."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(90, 8)).astype(np.float32)
    value = (np.arange(90) % values).astype(np.int8)
    training = Training(
        vectors=vectors, value=value, weights=np.ones(90), values=values
    )
    grid = [{"C": 0.5, "scaling": "dimension"}]
    (head,) = fits("linear", training, grid, None)
    judge = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, tol=1e-8))
    expected = judge.fit(vectors.astype(np.float64), value).predict_proba(
        vectors.astype(np.float64)
    )
    found = head.weights(8)
    assert isinstance(found, SoftmaxWeights)
    _, each = shares(found, vectors)
    np.testing.assert_allclose(each, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "knn", "zero-shot"])
def test_the_node_says_what_the_fit_scored(tmp_path: Path, kind: Any) -> None:
    """For every study of the test patients: the same value, the same share."""
    labels = [
        {
            "key": view.lower(),
            "meaning": view,
            "code": [view, "99TEST", view],
            "prompts": [f"x-ray {view}."],
        }
        for view in VIEWS
    ]
    asked = {"key": "view", "meaning": "View", "code": ["1", "99TEST", "View"]}
    pack = make_pack(tmp_path / "pack", categories=[{**asked, "labels": labels}])
    roles = (Role.TRAIN, Role.TRAIN, Role.TUNE, Role.CALIBRATE, Role.TEST)
    some, path = made(pack, roles=roles, strength=1.0), tmp_path / "s.safetensors"
    material = Material(cohort=some.cohort, embeddings=some.embeddings, texts=Texts())
    fit_category(
        pack,
        tmp_path / "new",
        material,
        question(pack, some.cohort, "view=AP,LL,PA", Names()),
        plan=replace(PLAN, heads=(kind,)),
        identity=IDENTITY,
        progress=lambda *_: None,
        scores_out=path,
    )
    opened, scores = open_pack(tmp_path / "new"), read_scores(path)
    (spec,) = opened.manifest.categories
    heads = {"view": opened.labels.get("view") or labels_of(opened, Texts())["view"]}
    assert scores.kind == "test"
    for study, row in zip(scores.units, scores.scores, strict=True):
        frames = [
            EmbeddedImage(source=source(n), frame=0, vector=vector)
            for n, vector in enumerate(some.embeddings.vectors)
            if some.embeddings.studies[n] == study
        ]
        (said,) = conclude(
            opened,
            heads_of(opened, Texts()),
            images=[frame.source for frame in frames],
            frames=frames,
            labels=heads,
        ).categories
        assert said.chosen is not None
        assert said.chosen.label == spec.labels[int(row.argmax())].concept
        assert said.chosen.score.value == pytest.approx(row.max(), abs=1e-12)
        name = spec.calibration.set if spec.calibration else ""
        assert said.chosen.score.calibration_set == name


class Texts:
    """What embeds prompts: each label's into the direction of its images."""

    logit_scale = 1.0

    def embed_texts(self, texts: Any) -> NDArray[np.float32]:
        """Return (N, D) unit vectors."""
        places = [
            next((n for n, v in enumerate(VIEWS) if f" {v}." in text), 5)
            for text in texts
        ]
        return np.eye(CONFIG.embedding, dtype=np.float32)[places]


def test_the_same_seed_gives_the_same_pack(pack: Pack, tmp_path: Path) -> None:
    """Bit for bit; another seed gives another one."""
    some = made(pack)
    digests = [
        fitted(
            pack,
            tmp_path / str(number),
            some,
            plan=replace(PLAN, heads=("knn", "linear"), seed=seed),
        ).pack.digest
        for number, seed in enumerate((0, 0, 1))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_the_commonest_value_is_no_answer_to_everything(
    pack: Pack, tmp_path: Path
) -> None:
    """Timid penalties order all studies rightly, and would always say the same."""
    some = made(pack, strength=60.0, odds=(6, 1, 1))
    timid, bold = ({"C": c, "scaling": "overall"} for c in (1e-3, 1.0))
    grids: Grids = {"linear": (timid, bold)}
    fit = fitted(pack, tmp_path / "new", some, plan=replace(PLAN, grids=grids)).fit
    assert fit.choice.parameters == bold
    assert fit.balanced.value == 1.0
    always = fitted(
        pack, tmp_path / "timid", some, plan=replace(PLAN, grids={"linear": (timid,)})
    ).fit
    assert all(one.area.value == 1.0 for one in always.values)
    assert always.balanced.value < 0.5


def test_missing_is_no_value(pack: Pack) -> None:
    """Nor is uncertain, nor 0 throughout; a study of two values has several."""
    some = made(pack, patients=20)
    truth = some.cohort.truth.copy()
    first = some.cohort.study == 0
    truth[first] = [Truth.ABSENT, Truth.MISSING, Truth.UNCERTAIN]
    pairs = np.bincount(some.cohort.study)
    study = int(np.flatnonzero(pairs[1:] == 2)[0]) + 1
    truth[np.flatnonzero(some.cohort.study == study)] = [[1, 0, 0], [0, -2, 1]]
    other = told(some, truth)
    samples, _ = samples_of(other.cohort, other.embeddings, view(pack, other))
    assert (samples.value[first] == -1).all()
    assert samples.study_value[0] == -1
    assert samples.study_value[study] == SEVERAL
    assert samples.known.sum() == len(samples.study_value) - 2
    assert len(samples.training(samples.study_value == 0, PLAN.weighing).value)


def test_what_cannot_be_fitted_is_refused(pack: Pack, tmp_path: Path) -> None:
    """In a sentence, and no pack is written."""
    some = made(pack, patients=20)
    twice, none = some.cohort.truth.copy(), some.cohort.truth.copy()
    twice[3] = [0, 1, 1]
    none[:, 2] = Truth.MISSING
    few = some.cohort.truth.copy()
    few[(few[:, 1] == 1) & (some.cohort.study > 12)] = Truth.MISSING
    other = made(pack, key=drawn(patients=3).embeddings.encoder_key)
    plan = replace(PLAN, inner=6)
    for wrong, options, sentence in (
        (told(some, twice), {}, "is both view=LL and view=PA, which exclude"),
        (told(some, none), {}, "knows no study that is view=PA"),
        (told(some, few), {"plan": plan}, "with ll are too few for 6 inner folds"),
        (some, {"plan": replace(PLAN, heads=("svm",))}, "have linear or knn heads"),
        (other, {}, "its encoder is e, and that of pack test-pack"),
    ):
        with pytest.raises(Permanent, match=sentence):
            fitted(pack, tmp_path / "new", wrong, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "names", "sentence"),
    [
        ("view", NAMES, "is no category: write 'view=AP,PA'"),
        ("view=AP", NAMES, "is no category"),
        ("view=AP,,PA", NAMES, "is no category"),
        ("=AP,PA", NAMES, "is no category"),
        ("view=AP,ap", NAMES, "names a value twice"),
        ("view=AP,PA", NAMES, "'LL=LL|99TEST|view LL' is of no value"),
        ("view=AP,LL,PA", Names(), "'view' is no category of pack test-pack"),
        ("view=AP,LL,PA", replace(NAMES, values=()), "say what AP is called"),
        ("view=AP,LL,PA,XX", NAMES, "say what XX is called"),
        ("side=AP,LL,PA", NAMES, "labels neither 'side=AP' nor 'AP'"),
    ],
)
def test_a_category_needs_names(
    pack: Pack, text: str, names: Names, sentence: str
) -> None:
    """What is asked is read, or refused."""
    with pytest.raises(Permanent) as refused:
        question(pack, made(pack, patients=5).cohort, text, names)
    assert sentence in str(refused.value)


def test_a_temperature_is_found_where_a_head_is_too_sure() -> None:
    """Logits three times too large have the temperature 3; good ones have none."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3000, 4)) * 1.5
    says = shares_of(logits).cumsum(axis=1)
    value = (rng.random(3000)[:, None] > says).sum(axis=1).astype(np.int8)
    fold = (np.arange(3000) % 4).astype(np.int8)
    names = ("a", "b", "c", "d")
    found = calibrate(3 * logits, value, fold, names)
    assert found.temperature == pytest.approx(3.0, rel=0.1)
    assert found.losses["temperature"] < found.losses["none"]
    assert sum(found.prevalence.values()) == pytest.approx(1.0)
    sure = np.where(np.arange(4) == value[:, None], 40.0, 0.0)
    assert calibrate(sure, value, fold, names).temperature is None


def test_the_balanced_accuracy_varies_as_patients_drawn_again_do() -> None:
    """Its interval is about as wide as that of the bootstrap by patient."""
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(150), 3)
    value = rng.choice(3, size=450, p=[0.6, 0.3, 0.1])
    skill = rng.beta(4, 2, size=150)[patient]
    hits = rng.random(450) < skill
    found = balanced_accuracy(hits, value, patient)
    drawn_again = bootstrap(
        lambda rows: float(
            np.mean([hits[rows][value[rows] == v].mean() for v in range(3)])
        ),
        patient,
        runs=400,
    )
    width = found.high - found.low
    assert width == pytest.approx(2 * 1.96 * drawn_again.std(), rel=0.15)


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_says_what_it_made(
    pack: Pack, tmp_path: Path, *, as_json: bool
) -> None:
    """Figures with intervals and the confusion, at 80 columns or as JSON."""
    some = made(pack)
    write_cohort(some.cohort, tmp_path / "labels.csv")
    embedded(
        tmp_path / "e.safetensors",
        some.embeddings.vectors,
        studies=some.embeddings.studies,
        sop_instances=some.embeddings.sop_instances,
        key=pack.encoder_key,
    )
    options = ["--head", "knn", "--folds", "3", "--inner-folds", "2"]
    options += ["--exclusive", "view=AP,LL,PA", "--code", "111031|DCM|Image View"]
    for one in NAMES.values:
        options += ["--value", one]
    options += ["--data", str(tmp_path / "labels.csv")]
    options += ["--embeddings", str(tmp_path / "e.safetensors")]
    options += ["--out", str(tmp_path / "new"), *(["--json"] if as_json else [])]
    found = CliRunner().invoke(
        app, ["pack", "fit", str(pack.folder), *options], catch_exceptions=False
    )
    assert found.exit_code == 0
    if as_json:
        said = json.loads(found.stdout)["categories"][0]
        assert said["head"]["kind"] == "knn"
        assert len(said["heads_of_folds"]) == 3
        assert sum(map(sum, said["confusion"])) == said["studies"]
    else:
        assert "taken for ap" in found.stdout
        assert max(map(len, found.stdout.splitlines()[:-2])) <= 80
    assert open_pack(tmp_path / "new").manifest.categories[0].key == "view"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "name a --finding, or a category with --exclusive"),
        (["--finding", "a", "--exclusive", "v=a,b"], "name a --finding, or a category"),
        (["--exclusive", "v=a,b", "--site", "1|A|b"], "are of findings"),
    ],
)
def test_findings_and_categories_are_fitted_apart(
    tmp_path: Path, options: list[str], sentence: str
) -> None:
    """Options that do not go together: exit code 2."""
    common = ["--data", "l.csv", "--embeddings", "e", "--out", str(tmp_path / "new")]
    found = CliRunner().invoke(app, ["pack", "fit", "phantoms", *common, *options])
    assert found.exit_code == 2
    assert sentence in " ".join(found.output.replace("│", " ").split())
