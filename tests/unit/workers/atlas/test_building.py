"""Atlases are built of labelled images, hold nobody's identity, and say what is in them."""

import csv
import json
import re
import stat
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from dicom_node.domain import Code
from dicom_node.errors import Permanent
from tests.atlases import PATIENTS, Material, built, material, opened
from workers.atlas.building import UNDER_FLOOR
from workers.atlas.cells import Placed, counted, over_the_floor
from workers.atlas.checking import STAMP, verify
from workers.atlas.columns import CaseKind
from workers.atlas.concepts import read_concepts
from workers.atlas.identifiers import draw_groups, draw_identifiers
from workers.atlas.link import beside, read_link
from workers.atlas.manifest import CODES, COLUMNS, VECTORS, read_atlas
from workers.decoding import DecodePool
from workers.pack import Pack


def test_a_case_is_its_embedding_and_its_labels(
    folder: Path, made_of: Material
) -> None:
    """Each image finds itself; labels are coded, and say who established them."""
    atlas = opened(folder)
    assert atlas.manifest.cases == len(made_of.units)
    links = linked(folder)
    for vector, unit in zip(made_of.vectors, made_of.units, strict=True):
        case = atlas.search(vector[None], 1).cases[0]
        assert case.identifier == links[unit]["case"]
        assert case.similarity == pytest.approx(1.0, abs=1e-6)
        assert case.established_by == "two readers"
        ill = int(links[unit]["patient"][-2:]) % 2 == 0
        assert [label.meaning for label in case.labels] == ["Pneumothorax"] * ill


def test_nobody_is_named_in_any_file(folder: Path, made_of: Material) -> None:
    """No byte of the folder is of a patient: no name, UID, date, path or free text."""
    secrets = {
        *made_of.patients,
        *made_of.units,
        *(link["study"] for link in linked(folder).values()),
        *(link["patient_digest"] for link in linked(folder).values()),
        "Patient^",
        "Given",
        "ID-",
        "19610203",
        "ACC4711",
        "Nowhere",
        "chest of a person",
        "1.2.840.66",
        "1.2.840.77",
        str(made_of.images),
    }
    for path in folder.iterdir():
        content = path.read_bytes()
        found = [secret for secret in secrets if secret.encode() in content]
        assert (path.name, found) == (path.name, [])


def test_who_is_who_lies_outside_for_the_owner_alone(folder: Path) -> None:
    """One line a case; the numbers of patients are random."""
    path = beside(folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.is_relative_to(folder)
    groups = {link["patient"]: link["group"] for link in linked(folder).values()}
    assert len(set(groups.values())) == PATIENTS
    assert sorted(groups.values()) != [str(n) for n in range(PATIENTS)]


def test_names_are_random(
    tmp_path: Path, made_of: Material, pack: Pack, spare_pool: DecodePool
) -> None:
    """The same cases in another build have other names, and lie in another order."""
    names = []
    for number in (1, 2):
        built(tmp_path / str(number), made_of, pack, spare_pool)
        atlas = opened(tmp_path / str(number))
        names.append([atlas.identifier(row) for row in range(atlas.manifest.cases)])
    assert not set(names[0]) & set(names[1])
    form = re.compile("ATL-[0-9A-HJKMNP-TV-Z]{6}")
    assert all(form.fullmatch(name) for name in names[0])
    assert len(set(draw_identifiers(20_000))) == 20_000
    assert len(set(draw_groups(20_000))) == 20_000


def test_pictures_are_small_and_bare(folder: Path) -> None:
    """A PNG of pixels, without any chunk of text or time."""
    content = opened(folder).thumbnail(0)
    with Image.open(BytesIO(content)) as picture:
        assert (picture.mode, max(picture.size) <= 128) == ("L", True)
        assert picture.info == {}
    assert {content[at + 4 : at + 8] for at in chunks(content)} == {
        b"IHDR",
        b"IDAT",
        b"IEND",
    }


def test_images_in_which_names_can_be_read_are_refused(
    tmp_path: Path, pack: Pack, spare_pool: DecodePool
) -> None:
    """Burned-in annotations, recognisable faces; ultrasound that does not deny them."""
    headers: tuple[dict[str, Any], ...] = (
        {"BurnedInAnnotation": "YES"},
        {"RecognizableVisualFeatures": "YES"},
        {"Modality": "US", "BurnedInAnnotation": None},
    )
    for number, changes in enumerate(headers):
        made_of = material(tmp_path / f"m{number}", pack, seed=number, **changes)
        made = built(tmp_path / str(number), made_of, pack, spare_pool)
        assert made.cases == len(made_of.units) - 1
        assert sum(made.left_out.values()) == 1


def test_no_cell_is_under_the_floor(
    tmp_path: Path, pack: Pack, spare_pool: DecodePool
) -> None:
    """A rare body part is left out, and that is said."""
    made_of = material(tmp_path / "m", pack, BodyPartExamined="SKULL")
    made = built(tmp_path / "out", made_of, pack, spare_pool)
    assert made.left_out == {UNDER_FLOOR: 1}
    assert made.body_parts == ("CHEST",)
    assert [(c.finding, c.patients >= 2) for c in made.cells] == [
        ("", True),
        ("pneumothorax", True),
    ]
    with pytest.raises(Permanent, match="no cell holds 50 patients"):
        built(tmp_path / "none", made_of, pack, spare_pool, floor=50)
    assert not (tmp_path / "none").exists()
    assert not beside(tmp_path / "none").exists()


def test_the_floor_counts_patients_until_nothing_changes() -> None:
    """Two images of one patient are one; leaving a case out may empty another cell."""

    def case(patient: int, *present: str) -> Placed:
        return Placed(patient=patient, modality="DX", body_part="X", present=present)

    cases = [case(1, "a"), case(1, "a"), case(2, "a", "b"), case(3, "b", "c")]
    assert over_the_floor(cases, 1) == [0, 1, 2, 3]
    assert over_the_floor(cases, 2) == []
    assert over_the_floor([*cases, case(3, "a")], 2) == [0, 1, 4]
    first = counted(cases)[0]
    assert (first.finding, first.cases, first.patients) == ("a", 3, 2)


def test_series_become_volumes(
    tmp_path: Path, pack: Pack, spare_pool: DecodePool
) -> None:
    """A series with several slices is one case: the mean of them, made unit."""
    made_of = material(tmp_path / "m", pack)
    with safe_open(made_of.embeddings, framework="numpy") as file:
        about, vectors = file.metadata(), file.get_tensor("embeddings")
    rows = json.loads(about["rows"])
    first = {name: rows[name][0] for name in ("series", "study", "volume")}
    for name, value in first.items():
        rows[name][1] = value  # both images of the first patient are slices now
    save_file(
        {"embeddings": vectors}, made_of.embeddings, about | {"rows": json.dumps(rows)}
    )
    text = made_of.labels.read_text().replace("sop_instance_uid", "series_uid")
    lines = re.sub(r"(1\.2\.840\.77\.0\.\d+)", r"\1.9", text).splitlines()
    made_of.labels.write_text("\n".join(lines[:2] + lines[3:]) + "\n")
    made = built(tmp_path / "out", made_of, pack, spare_pool)
    assert made.cases == len(made_of.units) - 1
    atlas = opened(tmp_path / "out")
    (row,) = np.flatnonzero(atlas.columns.kind == CaseKind.VOLUME)
    expected = vectors[:2].mean(axis=0)
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(atlas.vectors[row], expected, atol=1e-6)
    assert atlas.thumbnail(int(row))


@pytest.mark.parametrize("name", [VECTORS, CODES, COLUMNS])
def test_files_that_changed_are_noticed(
    tmp_path: Path, made_of: Material, pack: Pack, spare_pool: DecodePool, name: str
) -> None:
    """Also where the size is the same: one sentence, with the file's name."""
    built(tmp_path / "out", made_of, pack, spare_pool)
    path = tmp_path / "out" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(Permanent, match=f"digest of .*{name}"):
        opened(tmp_path / "out")
    path.write_bytes(content[:-1])
    with pytest.raises(Permanent, match=f"{name} has .* bytes"):
        opened(tmp_path / "out")
    path.unlink()
    with pytest.raises(Permanent, match=f"{name}: No such file"):
        opened(tmp_path / "out")


def test_an_opening_trusts_the_stamp_and_verify_does_not(
    tmp_path: Path, made_of: Material, pack: Pack, spare_pool: DecodePool
) -> None:
    """Without a stamp, as in a copy, everything is looked at, and a stamp is left."""
    out = tmp_path / "out"
    built(out, made_of, pack, spare_pool)
    stamp = (out / STAMP).read_bytes()
    (out / STAMP).unlink()
    opened(out)
    assert (out / STAMP).read_bytes() == stamp
    verify(out, read_atlas(out))
    with pytest.raises(Permanent, match=r"has the digest .*, and 0000 is wanted"):
        opened(out, digest="0000")
    assert opened(out, digest=read_atlas(out).digest).manifest.cases


def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, made_of: Material, pack: Pack, spare_pool: DecodePool
) -> None:
    """Another encoder, a missing image, a finding without a concept: nothing written."""

    def refuse(sentence: str, changed: Material, **changes: object) -> None:
        with pytest.raises(Permanent, match=sentence):
            built(tmp_path / "out", changed, pack, spare_pool, **changes)
        assert not (tmp_path / "out").exists()
        assert not beside(tmp_path / "out").exists()

    other = material(tmp_path / "other", pack)
    content = other.embeddings.read_bytes()
    key = pack.encoder_key.encoder.encode()
    other.embeddings.write_bytes(content.replace(key, b"0" * len(key)))
    refuse("its encoder is 0+, and that of pack test-pack", other)
    other.embeddings.write_bytes(content)
    (other.images / "3.dcm").unlink()
    refuse("does not hold the labelled image", other)
    text = other.labels.read_text()
    other.labels.write_text(text.replace("pneumothorax", "gout"))
    refuse("no coded concept for 'gout'", other)
    other.labels.write_text(text.replace(",atlas", ",train"))
    refuse("gives no patient the role atlas", other)
    refuse("must not lie inside", made_of, link=tmp_path / "out" / "link.csv")


def test_concepts_come_from_a_table_too(
    tmp_path: Path, pack: Pack, spare_pool: DecodePool
) -> None:
    """For findings that the pack does not know."""
    other = material(tmp_path / "other", pack)
    other.labels.write_text(other.labels.read_text().replace("pneumothorax", "gout"))
    table = tmp_path / "concepts.csv"
    table.write_text("finding,value,scheme,meaning\ngout,90560007,SCT,Gout\n")
    concepts = read_concepts(table)
    made = built(tmp_path / "out", other, pack, spare_pool, concepts=concepts)
    assert made.labels[0].concept == Code(
        value="90560007", scheme="SCT", meaning="Gout"
    )
    table.write_text("finding,value\ngout,1\n")
    with pytest.raises(Permanent, match="line 2: needs"):
        read_concepts(table)


def test_a_link_file_of_another_atlas_is_refused(tmp_path: Path, folder: Path) -> None:
    """It would let through whom it should keep out."""
    path = tmp_path / "link.csv"
    lines = beside(folder).read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(Permanent, match="link file of another atlas"):
        opened(folder, link=path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(Permanent, match="not the link file"):
        read_link(path, [])


def test_vectors_are_mapped_not_read(folder: Path) -> None:
    """Processes share the pages: the files are part of the address space."""
    held = opened(folder)
    maps = Path("/proc/self/maps").read_text()
    assert str(folder / VECTORS) in maps
    assert str(folder / CODES) in maps
    assert held.manifest.name  # held until here: what is let go is unmapped


def linked(folder: Path) -> dict[str, dict[str, str]]:
    """Return the lines of the link file, by image."""
    with beside(folder).open(newline="") as file:
        return {row["unit"]: row for row in csv.DictReader(file)}


def chunks(png: bytes) -> list[int]:
    """Return where the chunks of a PNG begin."""
    found, at = [], 8
    while at < len(png):
        found.append(at)
        at += 12 + int.from_bytes(png[at : at + 4], "big")
    return found
