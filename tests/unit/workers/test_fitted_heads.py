"""Heads that were fitted: scikit-learn and torch are the judges of their scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from dicom_node.errors import Permanent
from tests.packs import CONFIG, category, finding, manifest, write_parts
from workers.heads import MixtureWeights, frame_logits, score_frames, zero_shot
from workers.headspecs import FittedHead, KnnHead, LinearHead, MlpHead, SvmHead
from workers.pack import Pack, open_pack, seal
from workers.trained import fitted

D = CONFIG.embedding
Tensors = dict[str, NDArray[Any]]


def embeddings(count: int, seed: int) -> NDArray[np.float32]:
    """Return (count, D) of length one."""
    drawn = np.random.default_rng(seed).normal(size=(count, D))
    unit: NDArray[np.float32] = (
        drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    ).astype(np.float32)
    return unit


SEEN, NEW = embeddings(80, 1), embeddings(30, 2)
LABELS = SEEN[:, 0] + 0.3 * SEEN[:, 1] > 0


def scores(head: FittedHead, tensors: Tensors) -> NDArray[np.float64]:
    """Return what the head says of frames that it has not seen."""
    return score_frames(fitted(head, tensors, D), NEW)


def sigmoid(logits: Any) -> Any:
    """Return it as torch has it."""
    return torch.sigmoid(torch.as_tensor(logits, dtype=torch.float64)).numpy()


def test_a_linear_head_is_scikit_learn_s_logistic_regression() -> None:
    """To the last digits of the float32 in which weights are kept."""
    judge = LogisticRegression(C=10).fit(SEEN, LABELS)
    tensors = {"x.weight": judge.coef_[0], "x.bias": judge.intercept_}
    np.testing.assert_allclose(
        scores(LinearHead(weights="w", key="x"), tensors),
        judge.predict_proba(NEW)[:, 1],
        atol=1e-6,
    )


@pytest.mark.parametrize("standardised", [False, True])
def test_an_svm_is_scikit_learn_s(*, standardised: bool) -> None:
    """The sigmoid of SVC's decision function, with a scaler before it or without."""
    scaler = StandardScaler().fit(SEEN)
    prepared = scaler.transform if standardised else np.asarray
    judge = SVC(C=3.0, gamma="scale").fit(prepared(SEEN), LABELS)
    tensors = {
        "x.support": judge.support_vectors_,
        "x.dual": judge.dual_coef_[0],
        "x.intercept": judge.intercept_,
        "x.gamma": np.array([judge._gamma]),
    }
    if standardised:
        tensors |= {"x.mean": scaler.mean_, "x.scale": scaler.scale_}
    np.testing.assert_allclose(
        scores(SvmHead(weights="w", key="x"), tensors),
        sigmoid(judge.decision_function(prepared(NEW))),
        atol=1e-9,
    )


class Adapter(torch.nn.Module):
    """The adapter of MedImageInsight's examples, convolutions and all."""

    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.reduce = torch.nn.Linear(D, 20)
        self.project = torch.nn.Linear(20, 18)
        self.norm = torch.nn.LayerNorm(18)
        self.conv1 = torch.nn.Conv1d(18, hidden, 3, padding=1)
        self.conv2 = torch.nn.Conv1d(hidden, hidden, 3, padding=1)
        self.output = torch.nn.Linear(hidden, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs (N, C)."""
        x = torch.nn.functional.gelu(self.reduce(x))
        x = self.norm(self.project(x))[:, :, None]  # a sequence of length one
        x = torch.nn.functional.gelu(self.conv1(x))
        outputs: torch.Tensor = self.output(self.conv2(x)[:, :, 0])
        return outputs


def adapter(outputs: int) -> tuple[Adapter, Tensors]:
    """Return an adapter with norms that are not trivial, and its tensors."""
    torch.manual_seed(outputs)
    made = Adapter(hidden=14, outputs=outputs).double().eval()
    torch.nn.init.normal_(made.norm.weight)
    torch.nn.init.normal_(made.norm.bias)
    return made, {f"x.{k}": v.numpy() for k, v in made.state_dict().items()}


def test_an_mlp_with_one_output_is_a_sigmoid() -> None:
    """The module of torch, to the last digit of double precision."""
    judge, tensors = adapter(1)
    with torch.no_grad():
        expected = torch.sigmoid(judge(torch.from_numpy(NEW).double()))[:, 0]
    head = MlpHead(weights="w", key="x")
    np.testing.assert_allclose(scores(head, tensors), expected, rtol=1e-12)


def test_an_mlp_with_several_outputs_is_a_softmax() -> None:
    """Each finding has the share of its own output; all shares add up to one."""
    judge, tensors = adapter(3)
    with torch.no_grad():
        expected = torch.softmax(judge(torch.from_numpy(NEW).double()), dim=1).numpy()
    found = [scores(MlpHead(weights="w", key="x", output=i), tensors) for i in range(3)]
    np.testing.assert_allclose(np.stack(found, axis=1), expected, rtol=1e-12)


def test_only_the_centre_taps_need_be_kept() -> None:
    """The others never meet anything but padding."""
    _, whole = adapter(1)
    centre = whole | {
        f"x.conv{n}.weight": whole[f"x.conv{n}.weight"][:, :, 1] for n in (1, 2)
    }
    head = MlpHead(weights="w", key="x")
    np.testing.assert_array_equal(scores(head, whole), scores(head, centre))


@pytest.mark.parametrize("class_weights", [(1.0, 1.0), (1.0, 4.0)])
def test_neighbours_are_weighted_by_their_softmax(
    class_weights: tuple[float, float],
) -> None:
    """As written out: softmax over all, the k largest, sums by class, made one."""
    k, temperature = 7, 20.0
    tensors: Tensors = {"embeddings": SEEN, "x.labels": LABELS.astype(np.int8)}
    head = KnnHead(
        references="r",
        key="x",
        k=k,
        temperature=temperature,
        class_weights=class_weights,
    )
    cosines = torch.from_numpy(NEW).double() @ torch.from_numpy(SEEN).double().T
    shares = torch.softmax(temperature * cosines, dim=1).numpy()
    nearest = NearestNeighbors(n_neighbors=k).fit(SEEN).kneighbors(NEW)[1]
    expected: list[float] = []
    for row, found in zip(shares, nearest, strict=True):
        sums = [row[found][LABELS[found] == side].sum() for side in (False, True)]
        weighted = np.array(sums) * class_weights
        expected.append(weighted[1] / weighted.sum())
    np.testing.assert_allclose(scores(head, tensors), expected, rtol=1e-6)


def test_a_missing_label_is_no_negative() -> None:
    """References that are uncertain or not labelled do not count at all."""
    labels = LABELS.astype(np.int8)
    labels[::3] = -1
    labels[1::7] = -2
    known = labels >= 0
    head = KnnHead(references="r", key="x")
    np.testing.assert_array_equal(
        scores(head, {"embeddings": SEEN, "x.labels": labels}),
        scores(head, {"embeddings": SEEN[known], "x.labels": labels[known]}),
    )


def test_a_mixture_of_prompts_and_neighbours() -> None:
    """(weight * text + other) / (weight + 1), and its logit."""
    tensors: Tensors = {"embeddings": SEEN, "x.labels": LABELS.astype(np.int8)}
    other = fitted(KnnHead(references="r", key="x"), tensors, D)
    text = zero_shot(SEEN[:2], SEEN[2:4], logit_scale=1.0)
    mixture = MixtureWeights(text=text, other=other, text_weight=0.25)
    expected = (0.25 * score_frames(text, NEW) + score_frames(other, NEW)) / 1.25
    np.testing.assert_allclose(score_frames(mixture, NEW), expected, rtol=1e-15)
    np.testing.assert_allclose(
        sigmoid(frame_logits(mixture, NEW)), expected, atol=1e-12
    )


def test_many_frames_are_scored_as_few_are() -> None:
    """Blocks of frames change nothing."""
    many = embeddings(2500, 3)
    tensors: Tensors = {"embeddings": SEEN, "x.labels": LABELS.astype(np.int8)}
    head = fitted(KnnHead(references="r", key="x"), tensors, D)
    together = score_frames(head, many)
    alone = np.concatenate(
        [score_frames(head, many[i : i + 1]) for i in (0, 1300, 2499)]
    )
    np.testing.assert_allclose(together[[0, 1300, 2499]], alone, rtol=1e-9)


def sealed(folder: Path, tensors: Tensors, head: dict[str, Any]) -> Pack:
    """Return a pack with one finding that this head scores."""
    write_parts(folder)
    save_file(tensors, folder / "trained.st")
    return seal(folder, manifest(findings=[finding("x", head=head)]))


def test_a_pack_names_and_verifies_the_file_of_its_head(tmp_path: Path) -> None:
    """References of neighbours are a part of the pack, verified like all others."""
    tensors: Tensors = {"embeddings": SEEN, "x.labels": LABELS.astype(np.int8)}
    head = {"kind": "knn", "references": "trained.st", "key": "x"}
    pack = sealed(tmp_path, tensors, head)
    assert "trained.st" in pack.manifest.files
    found = score_frames(open_pack(tmp_path).heads["x"], NEW)
    np.testing.assert_array_equal(found, score_frames(pack.heads["x"], NEW))
    content = bytearray((tmp_path / "trained.st").read_bytes())
    content[-1] ^= 1
    (tmp_path / "trained.st").write_bytes(content)
    with pytest.raises(Permanent, match="is not the file that the manifest names"):
        open_pack(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "head", "why"),
    [
        (
            {"x.support": SEEN[:, :3]},
            {"kind": "svm", "weights": "trained.st"},
            "a svm head 'x': its support vectors have not 24 numbers",
        ),
        (
            {"x.support": SEEN},
            {"kind": "svm", "weights": "trained.st"},
            "a svm head 'x': there is no x.gamma",
        ),
        (
            {"embeddings": SEEN, "x.labels": np.ones(80, np.int8)},
            {"kind": "knn", "references": "trained.st"},
            "a knn head 'x': its references are not of both classes",
        ),
        (
            {"embeddings": SEEN * 2, "x.labels": LABELS.astype(np.int8)},
            {"kind": "knn", "references": "trained.st"},
            "a knn head 'x': an embedding does not have length one",
        ),
        (
            adapter(1)[1],
            {"kind": "mlp", "weights": "trained.st", "output": 1},
            "a mlp head 'x': it has no output 1",
        ),
        (
            adapter(1)[1] | {"x.conv2.weight": np.full((14, 14), np.nan)},
            {"kind": "mlp", "weights": "trained.st"},
            "a mlp head 'x': x.conv2.weight is not finite",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tensors: Tensors, head: dict[str, Any], why: str, tmp_path: Path
) -> None:
    """One sentence says which head, and what it lacks."""
    with pytest.raises(Permanent) as refused:
        sealed(tmp_path, tensors, {**head, "key": "x"})
    assert str(refused.value) == f"trained.st does not hold {why}"


VALUES = (np.arange(80) % 3).astype(np.int8)


@pytest.mark.parametrize(
    ("tensors", "head", "why"),
    [
        (
            {"x.weight": SEEN[:2], "x.bias": np.zeros(2)},
            {"kind": "softmax", "weights": "trained.st"},
            "a softmax head 'x': x.weight has the shape (2, 24), not (3, 24)",
        ),
        (
            {"x.weight": SEEN[:3]},
            {"kind": "softmax", "weights": "trained.st"},
            "a softmax head 'x': there is no x.bias",
        ),
        (
            {"embeddings": SEEN, "x.labels": VALUES + 2},
            {"kind": "votes", "references": "trained.st", "class_weights": [1, 1, 1]},
            "a votes head 'x': its references are not of two labels or more",
        ),
    ],
)
def test_the_head_of_a_category_is_checked(
    tensors: Tensors, head: dict[str, Any], why: str, tmp_path: Path
) -> None:
    """With its pack: it has as many rows as the category has labels."""
    write_parts(tmp_path)
    save_file(
        {name: np.ascontiguousarray(values) for name, values in tensors.items()},
        tmp_path / "trained.st",
    )
    asked = category("view", labels=("ap", "ll", "pa"))
    asked["head"] = {**head, "key": "x"}
    with pytest.raises(Permanent) as refused:
        seal(tmp_path, manifest(categories=[asked]))
    assert str(refused.value) == f"trained.st does not hold {why}"
