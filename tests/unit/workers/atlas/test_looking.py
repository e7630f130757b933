"""`pacsight search` and `pacsight atlas`: asked as an operator asks."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dicom_node.errors import Permanent
from tests.atlases import Material, material
from tests.cohorts import embedded
from tests.unit.workers.atlas.test_building import linked
from workers.atlas.answering import Answer, Hit
from workers.atlas.sheet import contact_sheet
from workers.cli import app
from workers.decoding import DecodePool, FrameInput
from workers.encoder import open_encoder
from workers.pack import Pack


def pacsight(*words: object) -> str:
    """Return what a command prints; what it raises is raised."""
    found = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    if found.exception is not None:
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture(scope="module")
def real(
    tmp_path_factory: pytest.TempPathFactory, pack: Pack, spare_pool: DecodePool
) -> Material:
    """Return images and the embeddings that the pack's encoder gives them."""
    made_of = material(tmp_path_factory.mktemp("real"), pack)
    encoder = open_encoder(pack, device="cpu", threads=1)
    paths = [made_of.images / f"{n}.dcm" for n in range(len(made_of.units))]
    frames = spare_pool.map([FrameInput(path=p) for p in paths], pack.preprocessing)
    vectors = encoder.embed_images(np.stack([frame.image for frame in frames]))  # type: ignore[union-attr]
    embedded(
        made_of.embeddings,
        vectors,
        studies=[f"1.2.840.66.0.{n}" for n in range(len(paths))],
        sop_instances=made_of.units,
        key=pack.encoder_key,
    )
    return made_of


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory, pack: Pack, real: Material) -> Path:
    """Return an atlas that the command built."""
    out = tmp_path_factory.mktemp("looked") / "chests"
    told = pacsight(
        *("atlas", "build", "--data", real.labels, "--embeddings", real.embeddings),
        *("--images", real.images, "--pack", pack.folder, "--out", out),
        *("--floor", 2, "--name", "chests", "--approximate"),
    )
    assert "chests 1, 16 cases in 2 cells of 2 patients at least" in told
    assert "keep it here, and private" in told
    return out


def test_an_atlas_is_verified_shown_and_thinned(atlas: Path, tmp_path: Path) -> None:
    """The commands say the same of it, and cases can be taken out."""
    verified = json.loads(pacsight("atlas", "verify", atlas, "--json"))
    assert (verified["cases"], verified["floor"]) == (16, 2)
    assert "Pneumothorax" in pacsight("atlas", "show", atlas)
    case = next(iter(linked(atlas).values()))["case"]
    out = tmp_path / "out"
    pacsight(
        *("atlas", "remove", atlas, case, "--reason", "r", "--version", 2),
        *("--out", out),
    )
    assert json.loads(pacsight("atlas", "show", out, "--json"))["removed"] == 1


def test_image_to_image(atlas: Path, pack: Pack, real: Material) -> None:
    """An image of the atlas finds others, not itself and not its patient."""
    asked = ("search", "--image", real.images / "0.dcm", "--atlas", atlas)
    said = json.loads(pacsight(*asked, "--pack", pack.folder, "--json", "--k", 50))
    links = linked(atlas)
    group = links[real.units[0]]["group"]
    own = {link["case"] for link in links.values() if link["group"] == group}
    assert len(said["hits"]) == 14
    assert not own & {hit["name"] for hit in said["hits"]}
    assert said["remark"] == ""
    nearly = pacsight(*asked, "--pack", pack.folder, "--json", "--approximate")
    assert json.loads(nearly)["hits"][0] == said["hits"][0]


def test_a_picture_and_a_text(
    atlas: Path, pack: Pack, tmp_path: Path, real: Material
) -> None:
    """A plain picture is nobody's that is known; a text is nobody's at all."""
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(tmp_path / "p.png")
    common = ("--atlas", atlas, "--pack", pack.folder, "--json")
    said = json.loads(pacsight("search", "--image", tmp_path / "p.png", *common))
    assert (len(said["hits"]), said["remark"]) == (10, "same patient not checked")
    said = json.loads(pacsight("search", "--text", "x-ray chest", *common, "--k", 3))
    assert (len(said["hits"]), said["remark"]) == (3, "")
    ranked = pacsight(
        *("search", "--image", real.images / "1.dcm", "--label-prompts", *common),
        *("--prompt", "a hand", "--prompt", "a chest"),
    )
    prompts = json.loads(ranked)["prompts"]
    assert {p["text"] for p in prompts} == {"a hand", "a chest", "Pneumothorax"}
    assert sum(p["share"] for p in prompts) == pytest.approx(1, abs=1e-5)
    alone = ("search", "--image", real.images / "1.dcm", "--pack", pack.folder)
    assert "a hand" in pacsight(*alone, "--prompt", "a hand")


def test_a_study_in_a_folder_and_by_its_uid(
    atlas: Path, pack: Pack, real: Material
) -> None:
    """Embedded now, or taken from a file: the same answer."""
    links = linked(atlas)
    study = links[real.units[2]]["study"]
    by_uid = pacsight(
        *("search", "--study", study, "--embeddings", real.embeddings),
        *("--atlas", atlas, "--json"),
    )
    only = real.images / "2.dcm"
    folder = real.images.parent / "one"
    folder.mkdir()
    (folder / "2.dcm").write_bytes(only.read_bytes())
    in_folder = pacsight(
        *("search", "--study", folder, "--atlas", atlas, "--pack", pack.folder),
        "--json",
    )
    assert json.loads(by_uid)["hits"] == json.loads(in_folder)["hits"]
    with pytest.raises(Permanent, match="images of 16 studies"):
        pacsight(
            *("search", "--study", real.images, "--atlas", atlas),
            *("--pack", pack.folder),
        )


def test_embeddings_are_searched_for_research(
    pack: Pack, real: Material, tmp_path: Path
) -> None:
    """Results name instances; pictures are drawn from the images."""
    page = tmp_path / "sheet.html"
    said = pacsight(
        *("search", "--study", "1.2.840.66.0.4", "--embeddings", real.embeddings),
        *("--images", real.images, "--pack", pack.folder, "--html", page, "--k", 4),
        "--json",
    )
    hits = json.loads(said)["hits"]
    assert len(hits) == 4
    assert real.units[4] not in {hit["name"] for hit in hits}
    assert json.loads(said)["remark"] == "same patient not checked"
    assert page.read_text().count("data:image/png;base64,") == 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "ask with one of"),
        (("--text", "a", "--study", "1"), "ask with one of"),
        (("--text", "a"), "name what to search"),
        (("--text", "a", "--atlas", "nowhere"), "nowhere/atlas.json: No such file"),
        (("--text", "a", "--atlas", "ATLAS"), "name the pack"),
        (("--study", "9.9", "--atlas", "ATLAS"), "neither a folder nor a study"),
        (
            ("--text", "a", "--atlas", "ATLAS", "--pack", "phantoms"),
            "made with encoder",
        ),
        (("--text", "a", "--embeddings", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_answered(
    atlas: Path, words: tuple[str, ...], sentence: str
) -> None:
    """One sentence each."""
    named = [str(atlas) if word == "ATLAS" else word for word in words]
    with pytest.raises(Permanent, match=sentence):
        pacsight("search", *named)


def test_the_sheet_needs_nothing_else_and_believes_no_text() -> None:
    """No address outside of it; what is said in it is text, not markup."""
    hit = Hit(name="<b>", similarity=0.5, labels=("a & b",), labelled=True)
    page = contact_sheet(
        Answer(question="<script>alert(1)</script>", source="s", hits=(hit,))
    )
    assert "<script>" not in page
    assert "a &amp; b" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
