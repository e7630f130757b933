"""Heads, made of a pack's weights and prompts, and the scores that they give."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.studies import AXIS, asking, sigmoid
from workers.heads import heads_of, labels_of, score_frames, zero_shot
from workers.labels import LabelWeights
from workers.pack import Pack
from workers.trained import LinearWeights


def test_a_linear_head_is_a_logistic_regression() -> None:
    """sigmoid(w.x + b), without overflow at either end."""
    head = LinearWeights(weight=AXIS[0] * 2, bias=-1.0)
    vectors = np.stack([AXIS[0], AXIS[1], AXIS[0] * 1e6, AXIS[0] * -1e6])
    np.testing.assert_allclose(
        score_frames(head, vectors), [sigmoid(1), sigmoid(-1), 1, 0], atol=1e-12
    )


def test_zero_shot_is_a_softmax_between_two_ensembles() -> None:
    """Prompts are averaged and made unit; the temperature is exp(logit_scale)."""
    positive = np.stack([AXIS[0], AXIS[1]])
    negative = np.stack([AXIS[2]])
    head = zero_shot(positive, negative, logit_scale=np.log(3.0))
    image = (AXIS[0] * 0.6 + AXIS[2] * 0.8)[None]
    logits = 3.0 * np.array([0.6 / np.sqrt(2), 0.8])
    softmax = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(score_frames(head, image), softmax[:1], rtol=1e-6)


class Texts:
    """A text encoder that gives every text an axis of its own."""

    logit_scale = 1.0

    def __init__(self) -> None:
        self.seen: list[str] = []

    def embed_texts(self, texts: Any) -> NDArray[np.float32]:
        """Return (N, D) unit vectors."""
        rows = []
        for text in texts:
            rows.append(AXIS[len(self.seen)])
            self.seen.append(text)
        return np.stack(rows)


def test_every_finding_gets_its_head(pack: Pack) -> None:
    """Linear ones from the pack's file, zero-shot ones from its prompts."""
    texts = Texts()
    heads = heads_of(pack, texts)
    assert sorted(heads) == sorted(f.key for f in pack.findings)
    assert heads["pneumothorax"] is pack.heads["pneumothorax"]
    assert texts.seen == [
        "x-ray chest pleural effusion.",
        "x-ray chest no pleural effusion.",
    ]


def test_every_category_gets_its_head(pack: Pack) -> None:
    """One row for each label, in the order of the labels."""
    texts = Texts()
    found = labels_of(asking(pack), texts)["view"]
    assert isinstance(found, LabelWeights)
    assert texts.seen == ["ap", "pa", "lateral"]
    assert found.texts.tolist() == AXIS[:3].tolist()
    assert found.temperature == pytest.approx(np.e)


def test_a_prompt_is_embedded_once_however_many_ask_it(pack: Pack) -> None:
    """Findings share what says that nothing is there: a worker starts sooner."""
    (zero,) = [f for f in pack.findings if f.prompts is not None]
    assert zero.prompts is not None
    other = replace(zero, key="other", prompts=replace(zero.prompts, positive=("x.",)))
    both = replace(pack, manifest=replace(pack.manifest, findings=(zero, other)))
    texts = Texts()
    heads = heads_of(replace(both, heads={}), texts)
    assert texts.seen == [*zero.prompts.positive, *zero.prompts.negative, "x."]
    assert sorted(heads) == ["effusion", "other"]
