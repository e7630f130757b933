"""Scores of embeddings: of what the gate lets through, and of nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.cohorts import Drawn, drawn, embedded
from workers.accepting import Accepts
from workers.cohort import Examples, by_study, join
from workers.evaluating import evaluate
from workers.evaluating.sources import from_pack
from workers.evaluating.words import summary
from workers.findings import aggregate
from workers.gate import Gate, Scope
from workers.heads import score_frames
from workers.pack import Pack
from workers.scoring import inside, score_studies

FINDINGS = ("haemorrhage", "pneumothorax")
STRANGE = 7
"""The first studies; their images are unlike all others."""


@pytest.fixture(scope="module")
def made(pack: Pack) -> Drawn:
    """Return patients with both findings of the pack, and some strange studies."""
    found = drawn(
        dimension=pack.manifest.encoder.embedding_dim,
        findings=FINDINGS,
        key=pack.encoder_key,
    )
    vectors = found.embeddings.vectors.copy()
    strange = found.cohort.study < STRANGE
    vectors[strange] = 0
    vectors[strange, -1] = 1
    return replace(found, embeddings=replace(found.embeddings, vectors=vectors))


def scope(dimension: int, *modalities: str, limit: float) -> Scope:
    """Return a scope that measures how far a vector lies along the last axis."""
    axes = np.zeros((dimension, 1), np.float32)
    axes[-1] = 1
    return Scope(
        modalities=modalities,
        centre=np.zeros(dimension, np.float32),
        axes=axes,
        bank=np.zeros((2, 1), np.float32),
        learned=None,
        scales=((0.0, limit),),
        rate=0.02,
    )


@pytest.fixture(scope="module")
def gated(pack: Pack) -> Pack:
    """Return the pack with a gate: nothing along the last axis, in radiographs alone."""
    dimension = pack.manifest.encoder.embedding_dim
    scopes = (
        scope(dimension, "DX", "CR", limit=0.99),
        scope(dimension, "CT", limit=9.0),
    )
    return replace(pack, gate=Gate(scopes=scopes))


def test_a_study_outside_the_gate_has_no_score(
    pack: Pack, gated: Pack, made: Drawn
) -> None:
    """Of the finding whose modality the gate knows so; all others are as without it."""
    examples = join(made.cohort, made.embeddings)
    free = score_studies(pack, pack.heads, examples, data=made.cohort.digest)
    table = score_studies(gated, gated.heads, examples, data=made.cohort.digest)
    column = table.findings.index("pneumothorax")
    silent = np.isnan(table.scores[:, column])
    assert silent.tolist() == [row < STRANGE for row in range(len(silent))]
    assert np.array_equal(table.scores[~silent], free.scores[~silent])
    heads = table.findings.index("haemorrhage")
    assert np.array_equal(table.scores[:, heads], free.scores[:, heads])


def test_scores_are_those_of_each_head_by_itself(pack: Pack, made: Drawn) -> None:
    """However many frames are scored at once; a study has those of its images."""
    examples = join(made.cohort, made.embeddings)
    table = score_studies(pack, pack.heads, examples, data=made.cohort.digest)
    of_row = by_study(examples).of_row
    for column, key in enumerate(table.findings):
        (spec,) = (one for one in pack.findings if one.key == key)
        frames = score_frames(pack.heads[key], examples.vectors)
        expected = [
            aggregate(spec.aggregation, frames[of_row == study])
            for study in range(len(table.units))
        ]
        assert table.scores[:, column] == pytest.approx(expected, rel=1e-9)


def test_a_finding_that_is_asked_in_spite_of_the_gate_is_scored(
    gated: Pack, made: Drawn
) -> None:
    """As where studies are concluded."""
    specs = tuple(replace(spec, ungated=True) for spec in gated.findings)
    asked = replace(gated, manifest=replace(gated.manifest, findings=specs))
    examples = join(made.cohort, made.embeddings)
    table = score_studies(asked, asked.heads, examples, data=made.cohort.digest)
    assert not np.isnan(table.scores).any()


def test_a_volume_is_in_or_out_as_a_whole(gated: Pack, made: Drawn) -> None:
    """The median of its slices decides."""
    examples = replace(
        join(made.cohort, made.embeddings),
        volume=np.arange(len(made.embeddings.vectors), dtype=np.int32) // 4,
    )
    through = inside(gated, examples).of([Accepts(modality=("DX",))])
    by_volume = [set(through[at : at + 4].tolist()) for at in range(0, 40, 4)]
    assert all(len(found) == 1 for found in by_volume)
    for number, vectors in enumerate(np.split(examples.vectors[:40], 10)):
        assert gated.gate is not None
        said = gated.gate.outside_volume(vectors, "DX")
        assert by_volume[number] == {not said}


def test_a_modality_that_the_gate_does_not_know_is_outside(
    gated: Pack, made: Drawn
) -> None:
    """As the gate itself says."""
    examples: Examples = join(made.cohort, made.embeddings)
    assert not inside(gated, examples).of([Accepts(modality=("MR",))]).any()


def test_what_is_not_evaluated_is_counted_by_label(
    gated: Pack, made: Drawn, tmp_path: Path
) -> None:
    """No figure holds it, and the report says how many there are."""
    path = embedded(
        tmp_path / "e.safetensors",
        made.embeddings.vectors,
        studies=made.embeddings.studies,
        sop_instances=made.embeddings.sop_instances,
        key=made.embeddings.encoder_key,
    )
    source = from_pack(gated, gated.heads, made.cohort, [path])
    found = evaluate(source.cases, {})
    figures = {one.key: one for one in found.findings}["pneumothorax"]
    column = [one.key for one in source.cases.questions].index("pneumothorax")
    ill = int((source.cases.truth[:STRANGE, column] == 1).sum())
    counts = figures.counts
    assert (counts.not_evaluated, counts.not_evaluated_positives) == (STRANGE, ill)
    assert counts.positives + counts.negatives == found.rows - STRANGE
    assert figures.area is not None
    assert figures.area.positives == counts.positives
    left = int((made.cohort.study < STRANGE).sum())
    assert f"left out {left} of {len(made.cohort.units)} images" in found.gate
    said = f"{STRANGE} of {found.rows} labelled were not evaluated ({ill} with it"
    assert any(said in sentence for sentence in summary(found))
