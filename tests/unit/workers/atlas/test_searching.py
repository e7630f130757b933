"""An atlas answers: filters, tombstones, the patient's own cases, Milvus alike."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from dicom_node.domain import EncoderKey, Exam, Sha256
from dicom_node.errors import Permanent
from tests.atlases import Material, built, material, opened, quiet
from tests.unit.workers.atlas.test_building import linked
from workers.atlas.codes import Codes, Rows, mean_of, quantise
from workers.atlas.columns import Columns
from workers.atlas.link import NOT_CHECKED, Asker, beside
from workers.atlas.milvus import (
    KEY,
    TEXT,
    VECTOR,
    MilvusSearch,
    connect,
    make_collection,
)
from workers.atlas.removal import Removal, remove_cases
from workers.atlas.scan import ExactScan
from workers.atlas.searching import Filters, FlatSearch, Searcher
from workers.decoding import DecodePool
from workers.pack import Pack


def test_the_query_and_its_patient_are_left_out(
    folder: Path, made_of: Material
) -> None:
    """By image, by study, or by the patient's name: all cases of that patient."""
    atlas, links = opened(folder), linked(folder)
    unit = made_of.units[0]  # of a patient with two images
    group = links[unit]["group"]
    own = {link["case"] for link in links.values() if link["group"] == group}
    assert len(own) == 2
    askers = (
        Asker(units=frozenset([unit])),
        Asker(studies=frozenset([links[unit]["study"]])),
        Asker(patients=frozenset([links[unit]["patient"]])),
        Asker(patients=frozenset([links[unit]["patient_digest"]])),
    )
    for asker in askers:
        found = atlas.search(made_of.vectors[:1], 50, asker=asker)
        assert len(found.cases) == atlas.manifest.cases - 2
        assert not own & {case.identifier for case in found.cases}
        assert found.remark == ""


def test_where_it_cannot_be_told_the_answer_says_so(
    tmp_path: Path, folder: Path, made_of: Material
) -> None:
    """Without a link file, without knowing who asks, or of a study it does not know."""
    atlas, query = opened(folder), made_of.vectors[:1]
    assert atlas.search(query, 3).remark == NOT_CHECKED
    stranger = Asker(studies=frozenset(["9.9"]))
    assert atlas.search(query, 3, asker=stranger).remark == NOT_CHECKED
    known = Asker(patients=frozenset(["Somebody else"]))
    assert atlas.search(query, 3, asker=known).remark == ""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert opened(copy).search(query, 3, asker=known).remark == NOT_CHECKED


def test_filters_hold(tmp_path: Path, pack: Pack, spare_pool: DecodePool) -> None:
    """Cases of another modality or body part are not found; nor is anything else."""
    made_of = material(tmp_path / "m", pack, BodyPartExamined="SKULL", Modality="CR")
    built(tmp_path / "out", made_of, pack, spare_pool, floor=1)
    atlas, query = opened(tmp_path / "out"), made_of.vectors[-1:]
    odd = atlas.search(query, 9, filters=Filters(modality="CR"))
    assert [case.similarity for case in odd.cases] == [pytest.approx(1, abs=1e-6)]
    skulls = atlas.search(query, 9, filters=Filters(body_part="skull"))
    assert odd.cases == skulls.cases
    chests = atlas.search(query, 50, filters=Filters(modality="DX"))
    assert len(chests.cases) == atlas.manifest.cases - 1
    assert not atlas.search(query, 9, filters=Filters(modality="MR")).cases
    assert atlas.nearest([query], Exam(modality="MR"), 5) is None
    found = atlas.nearest([query], Exam(modality="CR", body_part="SKULL"), 5)
    assert found is not None
    assert found.cases == odd.cases
    assert (found.atlas, found.digest) == ("chests", atlas.digest)


def test_several_images_find_what_resembles_one_of_them(
    folder: Path, made_of: Material
) -> None:
    """A case counts once, by the image that it resembles most."""
    atlas = opened(folder)
    found = atlas.search(made_of.vectors[:4], 4)
    assert len({case.identifier for case in found.cases}) == 4
    assert all(case.similarity > 0.999 for case in found.cases)


def test_what_is_no_embedding_of_its_encoder_is_refused(folder: Path) -> None:
    """Another length, no numbers, another encoder: a sentence each."""
    atlas = opened(folder)
    size = atlas.manifest.dimension
    with pytest.raises(Permanent, match=rf"embeddings of {size} numbers"):
        atlas.search(np.ones((1, size + 1), np.float32), 3)
    with pytest.raises(Permanent, match="no row of numbers"):
        atlas.search(np.full((1, size), np.nan, np.float32), 3)
    key = EncoderKey(encoder=Sha256("x"), preprocessing=Sha256("y"), profile="float32")
    with pytest.raises(Permanent, match=r"made with encoder .* and pack P has x"):
        atlas.check_encoder(key, "pack P")
    with pytest.raises(Permanent, match="no index"):
        atlas.search(np.ones((1, size), np.float32), 3, approximate=True)


def test_removed_cases_are_never_found_again(
    tmp_path: Path, made_of: Material, pack: Pack, spare_pool: DecodePool
) -> None:
    """A new version: their picture and their line in the link file are gone, too."""
    old, new = tmp_path / "old", tmp_path / "new"
    built(old, made_of, pack, spare_pool)
    before = opened(old)
    gone = before.search(made_of.vectors[5:6], 1).cases[0].identifier
    row = before.row_of(gone)
    removal = Removal(cases=(gone,), reason="consent withdrawn", version="2")
    remove_cases(before, removal, new, progress=quiet)
    after = opened(new)
    assert (after.manifest.removed, after.manifest.previous) == (1, before.digest)
    everything = after.search(made_of.vectors, 100).cases
    assert len(everything) == before.manifest.cases - 1
    assert gone not in {case.identifier for case in everything}
    assert gone not in beside(new).read_text()
    assert (before.thumbnail(row) != b"", after.thumbnail(row)) == (True, b"")
    stones = json.loads((new / "tombstones.json").read_bytes())
    assert stones == [{"case": gone, "reason": "consent withdrawn"}]
    again = Removal(cases=(gone,), reason="r", version="3")
    with pytest.raises(Permanent, match=f"no case {gone}"):
        remove_cases(after, again, tmp_path / "third", progress=quiet)
    with pytest.raises(Permanent, match="version 2 is the one"):
        remove_cases(
            after,
            Removal(cases=(everything[0].identifier,), reason="r", version="2"),
            tmp_path / "third",
            progress=quiet,
        )


def test_a_cell_that_falls_under_the_floor_goes(
    tmp_path: Path, pack: Pack, spare_pool: DecodePool
) -> None:
    """The floor holds after a removal, too."""
    made_of = material(tmp_path / "m", pack)
    built(tmp_path / "old", made_of, pack, spare_pool, floor=6)
    before = opened(tmp_path / "old")
    ill = next(
        case for case in before.search(made_of.vectors, 100).cases if case.labels
    )
    group = before.columns.group[before.row_of(ill.identifier)]
    rows = np.flatnonzero(before.columns.group == group)
    names = tuple(before.identifier(int(row)) for row in rows)
    removal = Removal(cases=names, reason="r", version="2")
    made = remove_cases(before, removal, tmp_path / "new", progress=quiet)
    assert [cell.finding for cell in made.cells] == [""]
    left = opened(tmp_path / "new").search(made_of.vectors, 100).cases
    assert not any(case.labels for case in left)


@pytest.mark.skipif(
    find_spec("milvus_lite") is None, reason="milvus-lite is not installed"
)
def test_milvus_gives_the_same_answers(tmp_path: Path) -> None:
    """Of the same rows, with the same filters and exclusions: congruent with the scan."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(600, 48))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = vectors.astype(np.float32)
    mean = mean_of(rows)
    codes = quantise(rows, mean)
    client = connect(str(tmp_path / "atlas.db"))
    make_collection(client, "cases", 48)
    data = [{KEY: n, VECTOR: row, TEXT: ""} for n, row in enumerate(rows)]
    client.insert(collection_name="cases", data=data)
    client.load_collection("cases")
    checked = drawn_columns(mean, codes)
    allowed = np.zeros(600, dtype=np.bool_)
    allowed[100:400] = True
    without = [np.array([0, 150, 151, 399])] * 5
    searchers: list[Searcher] = [
        ExactScan(rows, codes, mean, threads=1),
        FlatSearch(rows),
        MilvusSearch(client, "cases", len(rows), checked),
    ]
    for limits in ({}, {"allowed": allowed}, {"allowed": allowed, "without": without}):
        answers = [
            [one.rows.tolist() for one in searcher.search(rows[148:153], 10, **limits)]
            for searcher in searchers
        ]
        assert answers[0] == answers[1] == answers[2]
    client.close()


def drawn_columns(mean: Rows, codes: Codes) -> Columns:
    """Return columns of rows of which nothing but the codes is known."""
    count = len(codes.scale)
    nothing = np.zeros(count, dtype=np.int16)
    return Columns(
        identifier=np.full(count, b"ATL-000000"),
        group=nothing.astype(np.int32),
        kind=nothing.astype(np.uint8),
        modality=nothing,
        body_part=nothing,
        truth=np.zeros((count, 0), np.int8),
        source=np.zeros((count, 0), np.int16),
        thumbnail=np.zeros((count, 2), np.int64),
        mean=mean,
        scale=codes.scale,
        residual=codes.residual,
        length=codes.length,
    )
