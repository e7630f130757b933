"""``pacsight threshold``: what it writes, what it refuses, and what a pack makes of it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from dicom_node.config import Settings, load_settings
from dicom_node.errors import PacsightError, Permanent
from tests.cohorts import embedded, labelled
from tests.operated import bytes_of, separate, studies, table_of
from tests.packs import finding, make_pack
from workers.cli import app
from workers.cohort import write_scores
from workers.inforce import packs_in_force, threshold_store
from workers.pack import Pack, open_pack
from workers.trained import LinearWeights

FINDING = "haemorrhage"
FEW = ("--runs", "10", "--json")


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Return a small pack, at the thresholds that it ships."""
    return make_pack(tmp_path_factory.mktemp("packs") / "shipped")


class Site:
    """A site with a small pack: commands in its folder."""

    def __init__(self, folder: Path, pack: Pack) -> None:
        self.folder, self.pack = folder, pack
        self.config = folder / "pacsight.toml"
        self.write_settings()

    def write_settings(self, more: str = "", pack: Pack | None = None) -> None:
        """Write the settings file."""
        name = (pack or self.pack).folder
        self.config.write_text(
            f'data_dir = "{self.folder}/data"\npacks = ["{name}"]\n{more}'
        )

    @property
    def settings(self) -> Settings:
        """Return the settings as they are read."""
        return load_settings(self.config, {})

    def run(self, *words: str | Path) -> str:
        """Return what `pacsight threshold` says; its errors are raised."""
        done = CliRunner().invoke(
            app, ["threshold", *map(str, words), "--config", str(self.config)]
        )
        if isinstance(done.exception, PacsightError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    def choose(self, scores: Path, *words: str | Path, name: str = "site") -> Any:
        """Return what `threshold set` says of a sensitivity of 0.9, as JSON."""
        asked = words or ("--sensitivity", "0.9")
        common = ("--finding", FINDING, "--name", name, "--scores", scores, *FEW)
        return json.loads(self.run("set", self.pack.folder, *common, *asked))

    def scores(self, patients: int = 90, seed: int = 1, **changes: Any) -> Path:
        """Return a file of out-of-fold scores, as ``pack fit`` writes it."""
        path = self.folder / f"scores-{len(list(self.folder.iterdir()))}.safetensors"
        sample = studies(patients, seed, folds=changes.pop("folds", 5))
        write_scores(table_of(self.pack, sample, FINDING, **changes), path)
        return path


@pytest.fixture
def site(tmp_path: Path, shipped: Pack) -> Site:
    """Return a site that has chosen nothing yet."""
    return Site(tmp_path, shipped)


# ── the way of a set ────────────────────────────────────────────────────────


def test_a_set_is_chosen_then_activated_then_in_force(site: Site) -> None:
    """Three steps: what is chosen changes nothing, what is activated changes the UID."""
    (before,) = packs_in_force(site.settings)
    made = site.choose(site.scores())
    assert made["set"] == "site-v1"
    assert [p.device_uid for p in packs_in_force(site.settings)] == [before.device_uid]
    site.run("activate", site.pack.folder, "site-v1")
    (after,) = packs_in_force(site.settings)
    assert after.device_uid != before.device_uid == site.pack.device_uid
    assert after.encoder_key == before.encoder_key
    points = {f.key: after.operating_point(f) for f in after.findings}
    assert points[FINDING].threshold == made["threshold"]
    assert points[FINDING].name == "sens>=0.9"
    assert {p.threshold_set for p in points.values()} == {"site-v1"}
    assert {p.threshold_set_digest for p in points.values()} == {made["digest"]}
    site.run("deactivate", site.pack.folder)
    (back,) = packs_in_force(site.settings)
    assert back.device_uid == before.device_uid


def test_other_findings_keep_their_thresholds(site: Site) -> None:
    """The pack's at first, then those of the set that it follows."""
    first = site.choose(site.scores(), "--youden")
    write = site.folder / "other.safetensors"
    write_scores(table_of(site.pack, studies(90, 2), "effusion"), write)
    common = ("--name", "site", "--scores", write, *FEW, "--specificity", "0.8")
    site.run("set", site.pack.folder, "--finding", "effusion", *common)
    store = threshold_store(site.settings)
    second = store.read("test-pack", "site-v2").set
    assert second.previous == first["digest"]
    origins = {key: point.origin for key, point in second.points.items()}
    assert origins == {
        "pneumothorax": "pack",
        "effusion": "site-v2",
        FINDING: "site-v1",
    }
    assert second.points[FINDING].threshold == first["threshold"]
    assert second.points["pneumothorax"].threshold == 0.5


def test_shadow_mode_is_another_device(site: Site) -> None:
    """What flags nothing is told apart from what flags; `--mode` keeps it so."""
    site.choose(site.scores())
    site.run("activate", site.pack.folder, "site-v1", "--shadow", FINDING)
    (shadowed,) = packs_in_force(site.settings)
    modes = {spec.key: spec.mode for spec in shadowed.findings}
    assert modes == {"pneumothorax": "live", "effusion": "live", FINDING: "shadow"}
    site.run("activate", site.pack.folder, "site-v1")
    (live,) = packs_in_force(site.settings)
    assert {spec.mode for spec in live.findings} == {"live"}
    assert live.device_uid != shadowed.device_uid
    made = site.choose(site.scores(), "--youden", "--mode", "shadow")
    assert made["mode"] == "shadow"
    assert site.choose(site.scores(), "--youden")["mode"] == "shadow"


def test_sets_are_listed_and_shown(site: Site) -> None:
    """With which is in force, the curve as a table, as JSON, and as a picture."""
    site.choose(
        site.scores(), "--rule-in-specificity", "0.9", "--rule-out-sensitivity", "0.9"
    )
    site.choose(site.scores())
    site.run("activate", "--shadow", FINDING, site.pack.folder, "site-v2")
    lines = json.loads(site.run("list", "--json"))
    assert [(one["set"], one["in_force"]) for one in lines] == [
        ("site-v1", False),
        ("site-v2", True),
    ]
    assert f"in shadow mode: {FINDING}" in " ".join(site.run("list").split())
    picture = site.folder / "roc.svg"
    shown = site.run("show", "test-pack", "site-v1", "--svg", picture)
    assert "◄ the threshold" in shown
    assert "not ruled out" in shown
    root = ET.fromstring(picture.read_text())  # noqa: S314 - our own
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 2
    everything = json.loads(site.run("show", "test-pack", "site-v1", "--json"))
    assert everything["points"][FINDING]["evidence"]["target"]["sensitivity"] == 0.9
    assert "2 sets and 1 decisions verify" in site.run("verify")
    assert len(site.run("key").strip()) == 64


def test_what_is_said_names_the_next_step(site: Site) -> None:
    """In words that fit a terminal, and alarms at the prevalence that was named."""
    words = (
        "--sensitivity",
        "0.8",
        "--confidence",
        "0.8",
        "--prevalence",
        "0.1",
        *FEW[:2],
    )
    said = site.run(
        "set", site.pack.folder, "--finding", FINDING, "--name", "site",
        "--scores", site.scores(), *words,
    )  # fmt: skip
    assert "demonstrated   yes, lower limits at confidence 0.8: sensitivity 0.8" in said
    assert "per 100 studies at a prevalence of 0.1" in said
    assert f"pacsight threshold activate {site.pack.folder} site-v1" in said


def test_nobody_is_named_in_a_set(site: Site) -> None:
    """Neither study nor patient."""
    site.choose(site.scores(root=777))
    text = threshold_store(site.settings).path("test-pack", "site-v1").read_text()
    assert "1.2.777" not in text
    assert "patient" in text  # their number


def test_other_patients_judge_where_they_are_given(site: Site) -> None:
    """Two files of scores, of different studies."""
    tune = site.scores(folds=None, kind="test")
    judge = site.scores(seed=2, folds=None, kind="test", root=4)
    made = site.choose(tune, "--judge", judge, "--sensitivity", "0.9")
    assert made["evidence"]["split"].startswith("held out")
    with pytest.raises(Permanent, match="studies are in both files"):
        site.choose(tune, "--judge", tune, "--sensitivity", "0.9")


def vectors(site: Site, truth: NDArray[np.bool_], seed: int) -> NDArray[np.float32]:
    """Return embeddings that the pack's head tells apart, more or less."""
    rng = np.random.default_rng(seed)
    head = site.pack.heads[FINDING]
    assert isinstance(head, LinearWeights)
    weight = head.weight
    drawn = rng.normal(size=(len(truth), len(weight))).astype(np.float32)
    drawn += np.outer(np.where(truth, 1.5, -1.5), weight / np.linalg.norm(weight))
    unit: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def test_labels_and_embeddings_do_as_well(site: Site) -> None:
    """The pack scores the studies; patients to tune choose, patients to test judge."""
    rows = np.arange(160)
    truth = rows % 4 < 2
    uids = [f"1.2.3.{row}.1" for row in rows]
    roles = ["tune" if row % 2 else "test" for row in rows]
    labels = labelled(
        site.folder / "labels.csv",
        *(
            f"P{row},1.2.3.{row},{uids[row]},{FINDING},{int(truth[row])},,,{roles[row]}"
            for row in rows
        ),
    )
    file = embedded(
        site.folder / "embeddings.safetensors",
        vectors(site, truth, 1),
        studies=[f"1.2.3.{row}" for row in rows],
        sop_instances=uids,
        key=site.pack.encoder_key,
    )
    common = ("set", site.pack.folder, "--finding", FINDING, "--name", "site", "--json")
    sources = ("--data", labels, "--embeddings", file)
    made = json.loads(site.run(*common, *sources, "--sensitivity", "0.8"))
    assert made["evidence"]["measured_on"]["positive_studies"] == 40
    assert made["evidence"]["chosen_on"]["negative_studies"] == 40
    text = labels.read_text().replace(",tune\n", ",train\n")
    labels.write_text(text)
    with pytest.raises(Permanent, match="has no patient with the role tune"):
        site.run(*common, *sources, "--youden")


# ── what is refused ─────────────────────────────────────────────────────────


def refused(site: Site, complaint: str, scores: Path, *words: str) -> None:
    """Check that a set is refused in a sentence, and that nothing was written."""
    before = bytes_of(site.folder)
    with pytest.raises(Permanent, match=complaint) as caught:
        site.choose(scores, *words)
    assert "\n" not in str(caught.value)
    assert bytes_of(site.folder) == before


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--seed", "1"), "name one target"),
        (("--youden", "--sensitivity", "0.9"), "name one target"),
        (("--ppv", "0.5"), "name it by --prevalence"),
        (("--rule-in-specificity", "0.9"), "a pair needs both"),
        (("--sensitivity", "95"), "a sensitivity lies above 0"),
        (("--youden", "--confidence", "0.95"), "a confidence goes with"),
        (("--sensitivity", "0.95", "--confidence", "0.95"), "at least 59 are needed"),
        (("--youden", "--data", "x.csv"), "name --scores"),
    ],
)
def test_targets_that_cannot_be_are_refused(
    site: Site, words: tuple[str, ...], complaint: str
) -> None:
    """One sentence each, nothing written."""
    refused(site, complaint, site.scores(), *words)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"pack": "b" * 64}, "holds scores of another pack"),
        ({"level": "image"}, "holds scores of images"),
        ({"calibrated": (True,)}, "holds calibrated scores"),
        ({"findings": ("other",)}, "has no scores of 'haemorrhage': it has other"),
        ({"folds": None, "kind": "test"}, "without folds: name another set by --judge"),
    ],
)
def test_scores_of_something_else_are_refused(
    site: Site, changes: dict[str, Any], complaint: str
) -> None:
    """Another pack, images, probabilities, another finding, no folds."""
    refused(site, complaint, site.scores(**changes), "--youden")


def test_files_that_are_none_are_refused(site: Site) -> None:
    """Missing, or of another kind."""
    path = site.folder / "table.csv"
    refused(site, "No such file|no such file", path, "--youden")
    path.write_text("patient,study\n")
    refused(site, "not a file of scores", path, "--youden")


def test_names_and_findings_that_are_none_are_refused(site: Site) -> None:
    """With those that there are."""
    scores = site.scores()
    with pytest.raises(Permanent, match="is no name for a threshold set"):
        site.choose(scores, "--youden", name="../up")
    with pytest.raises(Permanent, match="has no finding 'x': it has pneumothorax"):
        site.run(
            "set", site.pack.folder, "--finding", "x", "--name", "site",
            "--scores", scores, "--youden",
        )  # fmt: skip
    site.choose(scores)
    with pytest.raises(Permanent, match="has no finding 'x': it has effusion"):
        site.run("activate", site.pack.folder, "site-v1", "--shadow", "x")
    with pytest.raises(Permanent, match="there is no threshold set site-v7"):
        site.run("activate", site.pack.folder, "site-v7")
    with pytest.raises(Permanent, match="there is no threshold set of 'nothing'"):
        site.run("show", "nothing", "site-v1")


def test_a_set_that_was_edited_stops_worker_and_node(site: Site) -> None:
    """It is said in a sentence, and no pack is opened at any threshold."""
    site.choose(site.scores())
    site.run("activate", site.pack.folder, "site-v1")
    path = threshold_store(site.settings).path("test-pack", "site-v1")
    path.chmod(0o600)
    path.write_text(path.read_text().replace('"mode": "live"', '"mode": "shadow"', 1))
    with pytest.raises(Permanent, match="does not verify: its signature"):
        packs_in_force(site.settings)
    words = [sys.executable, "-m", "workers", "threshold", "verify"]
    done = subprocess.run(
        [*words, "--config", site.config],
        capture_output=True, text=True, check=False, timeout=100,
        env={"PATH": "", "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    complaint = f"{path} does not verify: its signature is not that of what it says"
    assert (done.returncode, done.stderr) == (2, f"pacsight: {complaint}\n")


def test_a_set_for_another_version_of_the_pack_is_refused(
    site: Site, tmp_path: Path
) -> None:
    """The worker does not start on a new pack before somebody has decided about it."""
    site.choose(site.scores())
    site.run("activate", site.pack.folder, "site-v1")
    newer = make_pack(tmp_path / "newer", version="2.0")
    site.write_settings(pack=newer)
    with pytest.raises(Permanent, match=r"version 2\.0: choose its thresholds with"):
        packs_in_force(site.settings)
    with pytest.raises(Permanent, match=r"site-v1 was made for test-pack 1\.0"):
        site.run("activate", newer.folder, "site-v1")
    site.run("deactivate", newer.folder)
    assert [p.device_uid for p in packs_in_force(site.settings)] == [newer.device_uid]


def test_a_set_of_a_key_that_is_not_trusted_is_refused(site: Site) -> None:
    """`thresholds.trusted_keys` names whose sets count."""
    site.choose(site.scores())
    site.run("activate", site.pack.folder, "site-v1")
    site.write_settings(f'[thresholds]\ntrusted_keys = ["{"0" * 64}"]\n')
    with pytest.raises(Permanent, match="not among the keys that this site trusts"):
        packs_in_force(site.settings)
    with pytest.raises(Permanent, match="which is not among the keys"):
        site.choose(site.scores())


def test_a_set_must_speak_of_all_findings(shipped: Pack, tmp_path: Path) -> None:
    """A pack is never at thresholds of which one is missing."""
    site = Site(tmp_path, shipped)
    site.choose(site.scores())
    whole = threshold_store(site.settings).read("test-pack", "site-v1").set
    part = replace(whole, points={FINDING: whole.points[FINDING]})
    with pytest.raises(Permanent, match="speaks of other findings than pack test-pack"):
        shipped.with_thresholds(part)
    other = replace(whole, profile="bfloat16")
    with pytest.raises(Permanent, match=r"was made for test-pack 1\.0 \(bfloat16\)"):
        shipped.with_thresholds(other)


def test_a_pack_that_was_opened_again_is_the_same(shipped: Pack) -> None:
    """Without a set in force nothing about a pack has changed."""
    again = open_pack(shipped.folder)
    assert again.thresholds is None
    assert again.device_uid == shipped.device_uid


def test_a_tolerance_goes_along(tmp_path: Path) -> None:
    """Half precision moves scores at the new threshold as it did at the shipped one."""
    point = {"name": "sens>=0.95", "threshold": 0.5, "tolerance": 0.01}
    pack = make_pack(
        tmp_path / "pack",
        findings=[finding(FINDING, accepts=None, operating_point=point)],
    )
    site = Site(tmp_path, pack)
    made = site.choose(site.scores())
    chosen = threshold_store(site.settings).read("test-pack", "site-v1").set
    expected = 0.04 * made["threshold"] * (1 - made["threshold"])
    assert chosen.points[FINDING].tolerance == pytest.approx(expected, rel=0.05)


def test_what_could_not_be_shown_says_so(site: Site) -> None:
    """Not demonstrated, in the set and in what is printed."""
    path = site.folder / "few.safetensors"
    write_scores(table_of(site.pack, separate(30), FINDING), path)
    words = ("--sensitivity", "0.95", "--confidence", "0.95", "--allow-undemonstrated")
    assert site.choose(path, *words)["demonstrated"] is False
    assert "NO, lower limits at confidence 0.95" in site.run(
        "show", "test-pack", "site-v1"
    )
