"""An atlas in Milvus answers as it does in its folder: by the commands, and for a pack."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dicom_node.domain import Exam, Sha256, StudyUid
from dicom_node.errors import Permanent, Transient
from tests.atlases import Material, opened
from tests.unit.workers.atlas.test_looking import pacsight
from workers.atlas.link import beside
from workers.atlas.milvus import KEY, TEXT, VECTOR, connect
from workers.atlas.published import MilvusPlace
from workers.equipping import equip
from workers.manifest import AtlasSpec
from workers.pack import Pack

pytestmark = pytest.mark.skipif(
    find_spec("milvus_lite") is None, reason="milvus-lite is not installed"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> str:
    """Return the reference of an atlas that the command published. Only to be read."""
    uri = tmp_path_factory.mktemp("milvus") / "atlases.db"
    said = json.loads(pacsight("atlas", "publish", folder, f"milvus+{uri}", "--json"))
    assert said["digest"] == opened(folder).digest
    return str(said["atlas"])


@contextmanager
def client_of(reference: str) -> Iterator[Any]:
    """Yield a client of the server itself."""
    client = connect(MilvusPlace.of(reference).uri)
    yield client
    client.close()


def asked(made_of: Material, *more: object) -> dict[str, Any]:
    """Return what a search with the study of the first image says."""
    said = pacsight(
        *("search", "--study", "1.2.840.66.0.0", "--embeddings", made_of.embeddings),
        *("--k", 5, "--json", *more),
    )
    found: dict[str, Any] = json.loads(said)
    return found


def test_the_same_answer_as_from_the_folder(
    server: str, folder: Path, made_of: Material, tmp_path: Path
) -> None:
    """Cases, similarities, labels, pictures; with the link file, the same exclusions."""
    page, other = tmp_path / "page.html", tmp_path / "other.html"
    here = asked(made_of, "--atlas", folder, "--html", page)
    link = ("--link", beside(folder))
    there = asked(made_of, "--atlas", server, "--html", other, *link)
    assert there == here
    assert page.read_text() == other.read_text()
    assert page.read_text().count("data:image/png") == 5
    assert asked(made_of, "--atlas", server)["remark"] == "same patient not checked"
    ill = asked(made_of, "--atlas", server, "--modality", "MR")
    assert ill["hits"] == []


def test_a_pack_finds_its_atlas_there(
    server: str, folder: Path, made_of: Material, pack: Pack
) -> None:
    """By its digest; with another one the pack is not equipped."""
    spec = AtlasSpec(
        name="chests",
        version="1",
        digest=opened(folder).digest,
        path=server,
        link=str(beside(folder)),
    )
    named = replace(pack, manifest=replace(pack.manifest, atlas=spec))
    atlas = equip(named, device="cpu", threads=1).atlas
    assert atlas is not None
    who: Any = {"study": StudyUid("1.2.840.66.0.0"), "patient": Sha256("p")}
    runs, exam = [made_of.vectors[:1]], Exam(modality="DX", body_part="CHEST")
    found = atlas.nearest(runs, exam, 3, **who)
    here = equip(
        replace(
            named,
            manifest=replace(
                pack.manifest, atlas=replace(spec, path=str(folder), link="")
            ),
        ),
        device="cpu",
        threads=1,
    ).atlas
    assert here is not None
    assert found == here.nearest(runs, exam, 3, **who)
    other = replace(spec, digest="0" * 64)
    with pytest.raises(Permanent, match=r"holds chests:1 \(sha256:.*0000 is wanted"):
        equip(
            replace(pack, manifest=replace(pack.manifest, atlas=other)),
            device="cpu",
            threads=1,
        )


def test_versions_lie_side_by_side_until_one_replaces_the_others(
    folder: Path, made_of: Material, tmp_path: Path
) -> None:
    """What is removed is on no server once its version is replaced."""
    server, newer = f"milvus+{tmp_path / 'a.db'}", tmp_path / "chests-2"
    pacsight("atlas", "publish", folder, server)
    with pytest.raises(Permanent, match="holds chests 1 already"):
        pacsight("atlas", "publish", folder, server)
    case = opened(folder).identifier(0)
    pacsight(
        *("atlas", "remove", folder, case, "--reason", "r", "--version", 2),
        *("--out", newer),
    )
    assert "#chests:2" in pacsight("atlas", "publish", newer, server)
    with pytest.raises(Permanent, match=r"holds chests:.*, chests:"):
        asked(made_of, "--atlas", f"{server}#chests")
    assert len(asked(made_of, "--atlas", f"{server}#chests:1", "--k", 99)["hits"]) == 16
    newest = asked(made_of, "--atlas", f"{server}#chests:2", "--k", 99)["hits"]
    assert case not in {hit["name"] for hit in newest}
    assert len(newest) == 15
    third = tmp_path / "chests-3"
    other = next(hit["name"] for hit in newest)
    pacsight(
        *("atlas", "remove", newer, other, "--reason", "r", "--version", 3),
        *("--out", third),
    )
    pacsight("atlas", "publish", third, server, "--replace")
    assert len(asked(made_of, "--atlas", server, "--k", 99)["hits"]) == 14
    with client_of(server) as client:
        assert len(client.list_collections()) == 2


def test_what_is_not_what_was_published_is_noticed(
    folder: Path, made_of: Material, tmp_path: Path
) -> None:
    """Another vector, a case that is missing, a file that changed: a sentence each."""
    server = f"milvus+{tmp_path / 'a.db'}"
    pacsight("atlas", "publish", folder, server)
    with client_of(server) as client:
        cases, files = sorted(client.list_collections())
        swapped = [
            {KEY: n, VECTOR: made_of.vectors[0].tolist(), TEXT: ""} for n in (3, 4)
        ]
        client.upsert(collection_name=cases, data=swapped)
    with pytest.raises(Permanent, match="holds other vectors than its atlas"):
        asked(made_of, "--atlas", server)
    with client_of(server) as client:
        client.delete(collection_name=cases, ids=[3])
    with pytest.raises(Permanent, match="does not hold all cases"):
        asked(made_of, "--atlas", server)
    with client_of(server) as client:
        client.delete(collection_name=files, ids=[1_000_000])
    with pytest.raises(Permanent, match="digest of columns"):
        asked(made_of, "--atlas", server)
    with client_of(server) as client:
        client.delete(collection_name=files, ids=[0])
    with pytest.raises(Permanent, match="holds no atlas"):
        asked(made_of, "--atlas", server)


@pytest.mark.parametrize(
    ("reference", "error", "sentence"),
    [
        ("milvus+http://127.0.0.1:9", Transient, "Milvus at http://127.0.0.1:9 does"),
        ("milvus+https://me:s3cret@host", Permanent, "PACSIGHT_WORKER__MILVUS_TOKEN"),
        ("milvus+/nowhere/a.db", Permanent, "a.db: No such file"),
        ("milvus+ftp://host", Permanent, "neither http"),
    ],
)
def test_what_cannot_be_reached(
    made_of: Material, reference: str, error: type[Exception], sentence: str
) -> None:
    """One sentence each, and no secret in it."""
    with pytest.raises(error, match=sentence) as raised:
        asked(made_of, "--atlas", reference)
    assert "s3cret" not in str(raised.value)
