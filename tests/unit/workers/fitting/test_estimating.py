"""Quantities by neighbours: chosen by patient, judged on patients left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import Permanent
from tests.cohorts import Drawn, drawn
from tests.packs import CONFIG, estimate, make_pack
from workers.fitting.choosing import Plan
from workers.fitting.estimating import fit_estimate, judged, quantities
from workers.fitting.packing import Identity
from workers.pack import Pack, open_pack

PLAN = Plan(outer=3, inner=2)
IDENTITY = Identity(name="ages", version="2", created="2026-01-01")


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Return a pack that asks for an age."""
    folder = tmp_path_factory.mktemp("asking")
    return make_pack(folder, findings=[], estimates=[estimate("age")])


def aged(pack: Pack) -> Drawn:
    """Return patients whose age lies in their images."""
    some = drawn(
        patients=40, dimension=CONFIG.embedding, findings=("age",), key=pack.encoder_key
    )
    months = np.linspace(12, 200, len(some.cohort.patients)).round()
    ages = months[some.cohort.patient]
    some.cohort.values[:, 0] = ages
    rows = np.zeros_like(some.embeddings.vectors)
    rows[:, 0], rows[:, 1] = np.cos(ages / 100), np.sin(ages / 100)
    return replace(some, embeddings=replace(some.embeddings, vectors=rows))


def test_an_estimate_is_chosen_judged_and_written(asking: Pack, tmp_path: Path) -> None:
    """Its error in months stands in the pack; the references are all of the images."""
    some = aged(asking)
    written, fit = fit_estimate(
        asking,
        tmp_path / "new",
        some.cohort,
        some.embeddings,
        "age",
        plan=PLAN,
        identity=IDENTITY,
        progress=lambda *_: None,
    )
    opened = open_pack(tmp_path / "new")
    assert opened.digest == written.digest
    spec = opened.manifest.estimates[0]
    assert (spec.head.k, spec.head.values) == (fit.chosen.k, fit.chosen.values)
    assert len(opened.references["age"].values) == len(some.cohort.units)
    assert spec.validated is not None
    assert spec.validated["error"]["value"] == fit.error.value < 15


def test_no_patient_is_its_own_neighbour(asking: Pack) -> None:
    """Where ages are drawn by lot, nothing is known of a patient that is left out."""
    some = aged(asking)
    shuffled = np.random.default_rng(0).permutation(40)[some.cohort.patient]
    some.cohort.values[:, 0] = shuffled
    found = judged(
        quantities(some.cohort, some.embeddings, "age"), "age", PLAN, lambda *_: None
    )
    assert found.error.value > 7


def test_what_cannot_be_estimated_is_refused(asking: Pack, tmp_path: Path) -> None:
    """In a sentence."""
    some = aged(asking)
    with pytest.raises(Permanent, match="does not estimate 'height'"):
        fit_estimate(
            asking,
            tmp_path / "new",
            some.cohort,
            some.embeddings,
            "height",
            plan=PLAN,
            identity=IDENTITY,
            progress=lambda *_: None,
        )
    some.cohort.values[:] = np.nan
    with pytest.raises(Permanent, match="has no values of age"):
        quantities(some.cohort, some.embeddings, "age")
