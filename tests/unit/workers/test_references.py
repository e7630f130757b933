"""Labelled images for a pack that estimates: matched, or refused in a sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from dicom_node.errors import Permanent
from tests.packs import CONFIG, estimate, make_pack
from workers.pack import Pack, open_pack
from workers.references import Supplied, supply

UIDS = ("1.2.3", "1.2.4", "1.2.5")


@pytest.fixture(scope="session")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Return a pack that asks for an age, and nobody has supplied references."""
    folder = tmp_path_factory.mktemp("asking")
    return make_pack(folder, findings=[], estimates=[estimate("age", k=3)])


def embedded(pack: Pack, path: Path, **changes: Any) -> Path:
    """Write what ``pacsight embed`` writes of three images."""
    key = pack.encoder_key
    metadata = {
        "encoder": key.encoder,
        "preprocessing": key.preprocessing,
        "profile": key.profile,
        "rows": json.dumps(
            {
                "study": ["1"] * len(UIDS),
                "series": ["1.1"] * len(UIDS),
                "sop_instance": UIDS,
                "frame": [0] * len(UIDS),
            }
        ),
    }
    rows = np.eye(CONFIG.embedding, dtype=np.float32)[: len(UIDS)]
    save_file({"embeddings": rows}, path, metadata | changes)
    return path


def labelled(path: Path, *lines: str) -> Path:
    """Write a table of labels."""
    path.write_text("\n".join(("sop_instance_uid,value", *lines)) + "\n", "utf-8")
    return path


def supplied(pack: Pack, folder: Path, embeddings: Path, labels: Path) -> Supplied:
    """Return the pack with references, and how many there are."""
    return supply(
        pack,
        folder / "out",
        embeddings=embeddings,
        labels=labels,
        progress=lambda *_: None,
    )


def test_labels_find_their_embeddings(asking: Pack, tmp_path: Path) -> None:
    """In any order; what has no counterpart is counted and left out."""
    made = supplied(
        asking,
        tmp_path,
        embedded(asking, tmp_path / "e.safetensors"),
        labelled(tmp_path / "l.csv", "1.2.5,130", "9.9.9,7", "1.2.3, 94.5"),
    )
    assert (made.references, made.labels_left, made.images_left) == (2, 1, 1)
    pack = open_pack(tmp_path / "out")
    known = pack.references["age"]
    assert known.values.tolist() == [94.5, 130.0]
    assert known.embeddings.argmax(axis=1).tolist() == [0, 2]


def test_the_new_pack_is_another_one_with_the_same_encoder(
    asking: Pack, tmp_path: Path
) -> None:
    """Embeddings stay valid, reports tell the two apart; no identifier is kept."""
    labels = labelled(tmp_path / "l.csv", *(f"{uid},12" for uid in UIDS))
    embeddings = embedded(asking, tmp_path / "e.safetensors")
    pack = supplied(asking, tmp_path, embeddings, labels).pack
    assert pack.encoder_key == asking.encoder_key
    assert pack.device_uid != asking.device_uid
    assert pack.weights.samefile(asking.weights)
    assert b"1.2.3" not in (pack.folder / "references.safetensors").read_bytes()
    again = supply(
        pack,
        tmp_path / "third",
        embeddings=embeddings,
        labels=labelled(tmp_path / "m.csv", "1.2.3,13"),
        progress=lambda *_: None,
    )
    assert again.pack.references["age"].values.tolist() == [13.0]
    assert pack.references["age"].values.tolist() == [12.0, 12.0, 12.0]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["9.9.9,7"], "no image of .* is labelled"),
        (["1.2.3,old"], "line 2: needs a UID and a number"),
        (["1.2.3,nan"], "line 2: needs a UID and a number"),
        ([",12"], "line 2: needs a UID and a number"),
        (["1.2.3"], "line 2: needs a UID and a number"),
        (["1.2.3,1", "1.2.3,2"], r"line 3: 1\.2\.3 has another value above"),
    ],
)
def test_labels_that_are_none_are_refused(
    asking: Pack, tmp_path: Path, lines: list[str], sentence: str
) -> None:
    """With the line that is wrong; no pack is written."""
    labels = labelled(tmp_path / "l.csv", *lines)
    with pytest.raises(Permanent, match=sentence):
        supplied(asking, tmp_path, embedded(asking, tmp_path / "e.st"), labels)
    assert not (tmp_path / "out").exists()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_whatever_lies_in_a_table_the_answer_is_a_sentence(
    asking: Pack, tmp_path: Path, content: bytes
) -> None:
    """Of bytes that nobody wrote by hand, too."""
    for text in (content, b"sop_instance_uid,value\n" + content):
        (tmp_path / "l.csv").write_bytes(text)
        with pytest.raises(Permanent):
            supplied(
                asking,
                tmp_path,
                embedded(asking, tmp_path / "e.st"),
                tmp_path / "l.csv",
            )


def test_a_table_without_the_columns_is_refused(asking: Pack, tmp_path: Path) -> None:
    """The sentence names them."""
    (tmp_path / "l.csv").write_text("uid,months\n1.2.3,4\n", "utf-8")
    with pytest.raises(Permanent, match="needs the columns sop_instance_uid and value"):
        supplied(
            asking, tmp_path, embedded(asking, tmp_path / "e.st"), tmp_path / "l.csv"
        )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"encoder": "other"}, "its encoder is other, and that of pack test-pack is"),
        ({"profile": "bfloat16"}, "its profile is bfloat16"),
        (
            {
                "rows": '{"study": [], "series": [], "sop_instance": [], "frame": []}',
            },
            "for 0 rows",
        ),
        ({"rows": "[1]"}, "not a file of `pacsight embed`"),
        ({"rows": "{}"}, "not a file of `pacsight embed`"),
    ],
)
def test_embeddings_of_another_encoder_are_refused(
    asking: Pack, tmp_path: Path, changes: dict[str, str], sentence: str
) -> None:
    """A neighbour in another space is none."""
    labels = labelled(tmp_path / "l.csv", "1.2.3,4")
    embeddings = embedded(asking, tmp_path / "e.st", **changes)
    with pytest.raises(Permanent, match=sentence):
        supplied(asking, tmp_path, embeddings, labels)


def test_files_that_are_not_there_are_named(asking: Pack, tmp_path: Path) -> None:
    """Each in a sentence."""
    embeddings = embedded(asking, tmp_path / "e.st")
    labels = labelled(tmp_path / "l.csv", "1.2.3,4")
    with pytest.raises(Permanent, match=r"none\.csv: No such file"):
        supplied(asking, tmp_path, embeddings, tmp_path / "none.csv")
    with pytest.raises(Permanent, match=r"none\.st"):
        supplied(asking, tmp_path, tmp_path / "none.st", labels)


def test_a_pack_that_estimates_nothing_takes_none(pack: Pack, tmp_path: Path) -> None:
    """There is nothing that the labels would be for."""
    with pytest.raises(Permanent, match="does not estimate just one quantity"):
        supplied(pack, tmp_path, tmp_path / "e.st", tmp_path / "l.csv")
