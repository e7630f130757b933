"""The head that asks the gate: how like the validated images an image is."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_node.errors import Permanent
from workers.gate import Gate, Scope, encode_gate
from workers.heads import LikenessWeights, heads_of, score_frames
from workers.pack import Pack, locate, open_pack, seal

D = 4


def scope(*modalities: str, dimension: int = D) -> Scope:
    """Return a scope in which the distance is the length of a vector."""
    return Scope(
        modalities=modalities,
        centre=np.zeros(dimension, np.float32),
        axes=np.eye(dimension, dtype=np.float32),
        bank=np.zeros((2, dimension), np.float32),
        learned=None,
        scales=((0.0, 1.0),),
        rate=0.02,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_at_the_limit_the_score_is_a_half(dtype: type[np.floating[Any]]) -> None:
    """1 where nothing is strange, and ever less beyond the limit."""
    head = LikenessWeights(scope=scope("DX"), limit=2.0)
    vectors = np.outer([0.0, 2.0, 6.0], np.eye(D)[0]).astype(dtype)
    assert score_frames(head, vectors).tolist() == pytest.approx([1.0, 0.5, 0.25])


def asking(tmp_path: Path, *scopes: Scope) -> Pack:
    """Return the phantoms pack with a finding that asks this gate, or none."""
    folder = tmp_path / "pack"
    shutil.copytree(locate("phantoms"), folder)
    manifest = json.loads((folder / "pack.json").read_bytes())
    manifest["findings"][0]["head"] = {"kind": "gate"}
    del manifest["gate"]
    if scopes:
        (folder / "gate.safetensors").write_bytes(encode_gate(Gate(scopes=scopes)))
        manifest["gate"] = {
            "file": "gate.safetensors",
            "kind": Gate(scopes=scopes).kind,
            "threshold": 1.5,
            "rate": 0.02,
        }
    return seal(folder, manifest)


class NoTexts:
    """An encoder that is asked nothing."""

    logit_scale = 0.0

    def embed_texts(self, texts: object) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return nothing of nothing."""
        assert not texts
        return np.empty((0, 128), np.float32)


def test_a_pack_gives_the_head_its_gate(tmp_path: Path) -> None:
    """With the limit that the manifest sets."""
    pack = asking(tmp_path, scope("DX", "CT", dimension=128))
    head = heads_of(open_pack(pack.folder), NoTexts())[pack.findings[0].key]
    assert isinstance(head, LikenessWeights)
    assert head.limit == 1.5


def test_without_a_gate_there_is_nothing_to_ask(tmp_path: Path) -> None:
    """The pack is not opened."""
    with pytest.raises(Permanent, match="asks the gate, and there is none"):
        asking(tmp_path)


def test_of_several_scopes_it_is_not_known_which(tmp_path: Path) -> None:
    """Embeddings do not say their modality."""
    with pytest.raises(Permanent, match="has 2 scopes"):
        asking(tmp_path, scope("DX", dimension=128), scope("CT", dimension=128))
