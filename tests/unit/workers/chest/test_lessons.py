"""What is said of an image is true of it, or not said."""

from itertools import islice
from pathlib import Path

import numpy as np

from workers.chest import read_radiographs
from workers.chest.altering import Ranges
from workers.chest.learning import TOKENIZER
from workers.chest.lessons import WEIGHTS, Lesson, lessons, rephrasings
from workers.chest.recipe import POLICY
from workers.chest.texts import TOPICS, text
from workers.medimageinsight import Tokenizer


def test_each_batch_is_paired_once_for_every_topic(folder: Path) -> None:
    """With texts of the value that the label stands for."""
    data = read_radiographs(folder, POLICY)
    ranges = Ranges(turned=0, inverted=0)
    lesson = Lesson(size=32, count=24, ranges=ranges)
    batch = next(lessons(data, np.arange(24), lesson, seed=0))
    assert [pairing.weight for pairing in batch.pairings] == list(WEIGHTS.values())
    assert set(WEIGHTS) == set(TOPICS)
    for topic, pairing in zip(WEIGHTS, batch.pairings, strict=True):
        for said, label in zip(pairing.texts, pairing.labels, strict=True):
            wordings = TOPICS[topic][int(label) - 1]
            assert any(said.rstrip(".").endswith(wording) for wording in wordings)


def test_turned_images_say_nothing_of_their_patients(folder: Path) -> None:
    """They are left out of all that the table says."""
    data = read_radiographs(folder, POLICY)
    lesson = Lesson(size=32, count=24, ranges=Ranges(turned=0.5))
    made = lessons(data, np.arange(24), lesson, seed=0)
    for batch in islice(made, 3):
        pairings = dict(zip(WEIGHTS, batch.pairings, strict=True))
        turned = pairings["turn"].labels > 1
        assert turned.any()
        assert set(pairings["sex"].labels[turned].tolist()) == {-1}


def test_only_the_chosen_rows_are_learned_from(folder: Path) -> None:
    """Every one of them once before any comes again."""
    data = read_radiographs(folder, POLICY)
    still = Ranges(
        angle_deg=0, shift=0, scale=0, aspect=0, gamma=0, contrast=0, lift=0,
        covered=0, noise=0, mirrored=0, turned=0, inverted=0,
    )  # fmt: skip
    rows = np.array([1, 4, 7, 9])
    lesson = Lesson(size=48, count=2, ranges=still)
    made = lessons(data, rows, lesson, seed=0)
    seen = np.concatenate([batch.images for batch in islice(made, 2)])
    found = [
        int(np.abs(data.images.astype(int) - image).mean(axis=(1, 2)).argmin())
        for image in seen
    ]
    assert sorted(found) == rows.tolist()


def test_a_blended_batch_says_what_is_true_of_both_images(folder: Path) -> None:
    """Each topic twice; the weights of the two add up to twice the topic's."""
    data = read_radiographs(folder, POLICY)
    lesson = Lesson(size=32, count=24, ranges=Ranges(turned=0, inverted=0), mixed=1.0)
    batch = next(lessons(data, np.arange(24), lesson, seed=0))
    first, second = batch.pairings[: len(WEIGHTS)], batch.pairings[len(WEIGHTS) :]
    for one, other, weight in zip(first, second, WEIGHTS.values(), strict=True):
        assert np.isclose(one.weight + other.weight, 2 * weight)
        assert sorted(one.labels.tolist()) == sorted(other.labels.tolist())


def test_rephrasings_say_the_same_in_other_words() -> None:
    """Texts of one label are of one value of one topic."""
    pairs = next(rephrasings(count=50, seed=0))
    every = [wordings for topic in TOPICS.values() for wordings in topic]
    for first, second, label in zip(
        pairs.first, pairs.second, pairs.labels, strict=True
    ):
        wordings = every[int(label) - 1]
        for said in (first, second):
            assert any(said.rstrip(".").endswith(wording) for wording in wordings)


def test_the_tokenizer_knows_every_word_as_few_pieces() -> None:
    """No text of the lessons is longer than the words it has, by much."""
    tokenizer = Tokenizer.load(TOKENIZER)
    rng = np.random.default_rng(0)
    for topic, values in TOPICS.items():
        for value in range(len(values)):
            said = text(rng, topic, value)
            assert len(tokenizer.ids(said)) <= 2 + 3 * len(said.split())
