"""Features without anatomy: what they tell, and that they do not look inside."""

import numpy as np

from workers.shortcuts.traces import (
    BORDER,
    COMPRESSIBILITY,
    HISTOGRAM,
    trace,
)

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (320, 320), dtype=np.uint8)
FLAT = np.full((320, 320), 128, np.uint8)


def test_an_image_has_three_families_of_features() -> None:
    """All finite, whatever the shape, down to a single pixel."""
    for shape in ((320, 320), (3000, 40), (1, 1), (17, 2000)):
        found = trace(np.zeros(shape, np.uint8))
        sizes = (found.histogram.size, found.compressibility.size, found.border.size)
        assert sizes == (HISTOGRAM, COMPRESSIBILITY, BORDER)
        for family in (found.histogram, found.compressibility, found.border):
            assert np.isfinite(family).all()


def test_noise_is_harder_to_compress() -> None:
    """In every format; a flat image takes next to nothing."""
    assert (trace(NOISE).compressibility > 4 * trace(FLAT).compressibility).all()
    assert trace(NOISE).compressibility[0] > 7.9


def test_the_border_does_not_see_the_middle() -> None:
    """Whatever lies inside of strips and corners."""
    other = NOISE.copy()
    other[40:-40, 40:-40] = 0
    assert trace(other).border.tolist() == trace(NOISE).border.tolist()


def test_a_marker_in_a_corner_is_seen() -> None:
    """A white letter on black."""
    marked = np.zeros((320, 320), np.uint8)
    marked[5:25, 5:20] = 255
    seen = np.flatnonzero(trace(marked).border != trace(marked * 0).border)
    assert len(seen) > 5


def test_a_histogram_has_shares_and_moments() -> None:
    """Of a ramp: even shares, mean a half, no skewness."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    found = trace(ramp).histogram
    assert found[:32].tolist() == [1 / 32] * 32
    assert np.abs(found[32:] - [0.5, 256 / 255 / 12**0.5, 0.0, 1.8]).max() < 1e-3
