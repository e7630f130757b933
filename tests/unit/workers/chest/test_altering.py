"""Altered radiographs: what is done to them is what is said to have been done."""

import numpy as np

from workers.chest.altering import STATES, Ranges, altered, in_state

STILL = Ranges(
    angle_deg=0, shift=0, scale=0, aspect=0, gamma=0, contrast=0, lift=0, covered=0,
    noise=0, mirrored=0, turned=0, inverted=0,
)  # fmt: skip


def images() -> np.ndarray:
    """Return four images of even blocks, none of them symmetric."""
    blocks = np.random.default_rng(0).integers(10, 246, (4, 4, 4), dtype=np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


def test_nothing_altered_is_the_same_image() -> None:
    """With every range at zero, at its own size."""
    shown = altered(images(), 32, np.random.default_rng(0), STILL)
    assert np.abs(shown.images.astype(int) - images()).max() <= 1
    assert not shown.turns.any()


def test_turns_mirroring_and_inversion_are_those_that_are_stated() -> None:
    """Undone by what is stated, the image is the one it was."""
    ranges = Ranges(
        angle_deg=0, shift=0, scale=0, aspect=0, gamma=0, contrast=0, lift=0,
        covered=0, noise=0, mirrored=0.5, turned=0.7, inverted=0.5,
    )  # fmt: skip
    many = np.concatenate([images()] * 8)
    shown = altered(many, 32, np.random.default_rng(1), ranges)
    for at, image in enumerate(shown.images):
        back = np.rot90(image, -int(shown.turns[at]))
        back = 255 - back if shown.inverted[at] else back
        back = back[:, ::-1] if shown.mirrored[at] else back
        assert np.abs(back.astype(int) - many[at]).max() <= 1
    assert len(set(shown.turns.tolist())) == 4
    assert 0 < shown.mirrored.sum() < len(many)


def test_the_same_seed_alters_in_the_same_way() -> None:
    """And another one in another way."""
    first, second, other = (
        altered(images(), 24, np.random.default_rng(seed), Ranges()).images
        for seed in (3, 3, 4)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_states_are_ways_in_which_an_image_arrives() -> None:
    """The first leaves it as it is; each of the others gives another image."""
    shown = [in_state(images(), state) for state in STATES]
    assert np.array_equal(shown[0], images())
    assert len({state.tobytes() for state in shown}) == len(STATES)
    assert np.array_equal(shown[2], images()[:, ::-1, ::-1])
