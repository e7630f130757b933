"""The page keeps its rules whatever it is given."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.domain import Code, Completion, Flag, Result, Score, Urgency
from sr_writer import ink
from sr_writer.ink import fit, font, wrap
from sr_writer.page import (
    BANNER,
    FREE_CORNER,
    HEIGHT,
    PICTURES_SHOWN,
    WIDTH,
    Picture,
    draw_page,
    headline,
    reading_order,
)
from tests.builders import (
    EFFUSION,
    NODULE,
    algorithm,
    category,
    ct_images,
    estimate,
    finding,
    image_ref,
    predecessor,
    result,
    unreadable,
)

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
WIDEST = "W" * 64


def picture(rows: int = 64, columns: int = 64, **changes: Any) -> Picture:
    """Return a grey picture."""
    values: dict[str, Any] = {
        "pixels": np.full((rows, columns), 200, np.uint8),
        "image": image_ref(),
        "label": "slice 1 of 9",
    }
    return Picture(**values | changes)


def twenty_with_the_widest_names() -> Result:
    """Return the result that needs most room."""
    code = Code(value="1", scheme="99X", meaning=WIDEST)
    flags = list(Flag)
    findings = [
        finding(None if flags[i % 4] is Flag.NOT_EVALUATED else 0.123456, key=str(i))
        for i in range(20)
    ]
    wide = [
        finding(
            f.score,
            key=f.key,
            concept=code,
            flag=flags[i % 4],
            urgency=Urgency.CRITICAL,
            reason=WIDEST * 3,
        )
        for i, f in enumerate(findings)
    ]
    images = ct_images(20)
    return result(
        wide,
        images=images,
        algorithm=algorithm(
            name=WIDEST, title=WIDEST, version=WIDEST, statement=f"{WIDEST} " * 9
        ),
        predecessors=tuple(predecessor(n) for n in range(99)),
        unreadable=tuple(unreadable(image=i) for i in images),
        software=WIDEST,
        completion=Completion.PARTIAL,
    )


PAGES = {
    "one finding": (result(), 1),
    "negative": (result([finding(0.1)]), 2),
    "nine findings": (result([finding(0.1 * i, key=str(i)) for i in range(9)]), 4),
    "ten findings": (result([finding(0.1 * i, key=str(i)) for i in range(10)]), 3),
    "twenty, widest": (twenty_with_the_widest_names(), 6),
    "thirty": (result([finding(0.03 * i, key=str(i)) for i in range(30)]), 9),
    "not evaluated": (result([], reason="out of scope " * 40), 0),
    "categories": (
        result([], categories=tuple(category(key=str(i)) for i in range(30))),
        1,
    ),
    "estimates": (result([], estimates=(estimate(), estimate(None))), 1),
    "all kinds": (
        result(
            [finding(0.1 * i, key=str(i)) for i in range(9)],
            categories=tuple(category(key=f"c{i}") for i in range(9)),
            estimates=(estimate(), estimate(None, reason=WIDEST * 3)),
        ),
        2,
    ),
    "raw scores": (result([finding(7.5, key="a"), finding(-3.0, key="b")]), 1),
}


@pytest.fixture(params=PAGES, name="page")
def drawn(request: pytest.FixtureRequest) -> NDArray[np.uint8]:
    """Return each page."""
    made_from, count = PAGES[request.param]
    pictures = [picture(label=WIDEST, score=0.5) for _ in range(count)]
    return draw_page(made_from, pictures, concluded_at=NOON).pixels


def is_background(area: NDArray[np.uint8]) -> bool:
    return bool((area == np.array(ink.BACKGROUND, np.uint8)).all())


def test_it_is_rgb_of_one_size(page: NDArray[np.uint8]) -> None:
    assert page.shape == (HEIGHT, WIDTH, 3)
    assert page.dtype == np.uint8


def test_without_findings_the_headline_is_what_was_chosen_or_estimated() -> None:
    """Never "no finding": nothing was looked for."""
    assert headline(result([], categories=(category(),))) == "postero-anterior"
    assert headline(result([], estimates=(estimate(),))) == "Bone age 131.2 mo"
    nothing = result([], estimates=(estimate(None),), reason="no references")
    assert headline(nothing) == "NOT EVALUATED"


def test_the_top_left_corner_stays_free(page: NDArray[np.uint8]) -> None:
    """Viewers write over it."""
    assert is_background(page[:FREE_CORNER, :FREE_CORNER])


def test_nothing_leaves_its_column(page: NDArray[np.uint8]) -> None:
    assert is_background(page[110:, 794:818]), "between pictures and findings"
    assert is_background(page[:, :22]), "left margin"
    assert is_background(page[:, WIDTH - 22 :]), "right margin"
    assert is_background(page[HEIGHT - 8 :]), "bottom margin"
    assert is_background(page[62:70]), "between banner and title"


def test_it_is_drawn_the_same_every_time() -> None:
    r = result()
    one, two = (draw_page(r, [picture()], concluded_at=NOON).pixels for _ in range(2))
    assert np.array_equal(one, two)


def test_the_banner_says_what_it_is() -> None:
    assert BANNER == "AI RESULT - RESEARCH - NOT FOR DIAGNOSIS"
    banner = draw_page(result(), [], concluded_at=NOON).pixels[14:60, 120:1500]
    assert (banner == np.array(ink.ORANGE, np.uint8)).all(axis=2).mean() > 0.5


# ── words ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("made_from", "expected"),
    [
        (result(), "1 of 1 at or above threshold"),
        (result([finding(0.9), finding(0.1, key="b")]), "1 of 2 at or above threshold"),
        (result([finding(0.1)]), "No finding at or above threshold"),
        (result([finding(0.4, flag=Flag.INDETERMINATE)]), "1 of 1 indeterminate"),
        (result([finding(None)]), "NOT EVALUATED"),
        (result([], reason="out of scope"), "NOT EVALUATED"),
    ],
)
def test_the_headline_never_takes_silence_for_a_negative(
    made_from: Result, expected: str
) -> None:
    assert headline(made_from) == expected


def test_the_urgent_is_read_first_the_pack_s_order_otherwise() -> None:
    findings = [
        finding(0.1, key="below"),
        finding(None, key="not evaluated"),
        finding(0.9, key="routine", urgency=Urgency.ROUTINE),
        finding(0.4, key="indeterminate", flag=Flag.INDETERMINATE),
        finding(0.2, key="below too", concept=EFFUSION),
        finding(0.6, key="critical", concept=NODULE, urgency=Urgency.CRITICAL),
    ]
    assert [f.key for f in reading_order(findings)] == [
        "critical",
        "routine",
        "indeterminate",
        "below",
        "below too",
        "not evaluated",
    ]


def test_flags_are_told_apart_without_colour() -> None:
    """Same score, same threshold: words and shapes alone differ."""
    pages = [
        draw_page(result([finding(0.5, flag=flag)]), [], concluded_at=NOON).pixels.mean(
            axis=2
        )
        > 20
        for flag in (Flag.ABOVE, Flag.BELOW, Flag.INDETERMINATE)
    ]
    marks = [p[200:230, 820:845] for p in pages]
    assert not np.array_equal(marks[0], marks[1])
    assert not np.array_equal(marks[1], marks[2])


def test_the_replaced_the_unread_and_the_synthetic_are_mentioned() -> None:
    plain = draw_page(result(), [], concluded_at=NOON).pixels[880:, :800]
    for changes in (
        {"predecessors": (predecessor(),)},
        {"unreadable": (unreadable(),), "completion": Completion.PARTIAL},
        {"algorithm": algorithm(statement="Synthetic demonstration")},
        {"revision": 2},
        {"findings": [finding(selection="20 of 300 slices, evenly selected")]},
        {"software": "0.2.0"},
    ):
        other = draw_page(result(**changes), [], concluded_at=NOON).pixels[880:, :800]
        assert not np.array_equal(plain, other), changes


def test_a_score_close_to_its_threshold_shows_the_digits_that_tell() -> None:
    near = result([finding(Score(value=0.49996))])
    same = result([finding(Score(value=0.5), flag=Flag.BELOW)])
    one, two = (draw_page(r, [], concluded_at=NOON).pixels for r in (near, same))
    assert not np.array_equal(one, two)


# ── pictures ────────────────────────────────────────────────────────────────


def shown_size(rows: int, columns: int, ratio: float) -> tuple[int, int]:
    """Return height and width of a white picture on the page."""
    white = np.full((rows, columns), 255, np.uint8)
    one = Picture(pixels=white, image=image_ref(), pixel_aspect_ratio=ratio)
    page = draw_page(result(), [one], concluded_at=NOON).pixels[100:872, :800]
    inside = (page == 255).all(axis=2)
    return int(inside.any(axis=1).sum()), int(inside.any(axis=0).sum())


@pytest.mark.parametrize(
    ("rows", "columns", "ratio"),
    [(100, 100, 1.0), (400, 200, 1.0), (100, 300, 1.0), (100, 100, 2.0), (64, 64, 0.5)],
)
def test_proportions_are_those_of_the_body(
    rows: int, columns: int, ratio: float
) -> None:
    height, width = shown_size(rows, columns, ratio)
    assert height / width == pytest.approx(rows * ratio / columns, rel=0.01)


def test_a_picture_fills_what_room_there_is() -> None:
    height, width = shown_size(100, 100, 1.0)
    assert min(height, width) > 720


def test_colour_pictures_keep_their_colour() -> None:
    red = np.zeros((50, 50, 3), np.uint8)
    red[..., 0] = 250
    one = Picture(pixels=red, image=image_ref())
    page = draw_page(result(), [one], concluded_at=NOON).pixels
    assert tuple(page[400, 400]) == (250, 0, 0)


def test_the_most_relevant_of_a_montage_is_the_largest() -> None:
    levels = [250, 210, 170, 130, 90, 50]
    pictures = [
        picture(pixels=np.full((64, 64), level, np.uint8), label="") for level in levels
    ]
    page = draw_page(result(), pictures, concluded_at=NOON).pixels[116:872, 24:792]
    areas = [int((page == level).all(axis=2).sum()) for level in levels]
    assert len(pictures) == PICTURES_SHOWN
    assert areas[0] > 3 * max(areas[1:])
    assert min(areas) > 200 * 200


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint16),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4), np.uint8),
    ],
    ids=["uint16", "RGBA", "1-D", "empty"],
)
def test_what_is_no_picture_is_refused(pixels: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        Picture(pixels=pixels, image=image_ref())


# ── text ────────────────────────────────────────────────────────────────────


def test_text_is_shortened_to_its_width() -> None:
    face = font(18)
    short = fit("Pneumothorax of the left upper lobe", face, 150)
    assert short.endswith("…")
    assert face.getlength(short) <= 150
    assert fit("ok", face, 150) == "ok"
    assert fit("anything", face, 1) == ""


def test_text_is_wrapped_at_words() -> None:
    face = font(18)
    lines = wrap("one two three four five six seven", face, 100, 2)
    assert len(lines) == 2
    assert all(face.getlength(line) <= 100 for line in lines)
    assert lines[-1].endswith("…")
    assert wrap("a\tb\nc", face, 100, 2) == ["a b c"]


# ── rows ────────────────────────────────────────────────────────────────────


def words(made_from: Result) -> list[str]:
    """Return the lines that stand on a page, in the order they were written."""
    page = draw_page(made_from, [], concluded_at=NOON)
    return [line.text for line in page.lines]


def test_the_reason_why_one_was_not_evaluated_is_not_cut() -> None:
    """It has two lines where there is no bar."""
    why = "no image of this study is accepted: needs CT of HEAD, found DX of the CHEST"
    assert why in " ".join(words(result([finding(), finding(None, reason=why)])))


@pytest.mark.parametrize("count", [1, 9, 20])
def test_a_long_name_is_not_cut(count: int) -> None:
    """64 characters, the longest that a code has: smaller, then in two lines."""
    name = "Enlargement of the mediastinum, in its upper anterior portion x"
    assert len(name) == 63
    long = Code(value="1", scheme="99X", meaning=name)
    findings = [finding(0.9, key=str(i), concept=long) for i in range(count)]
    text = " ".join(words(result(findings)))
    assert text.count(name) == count


def test_one_reason_for_all_is_said_once() -> None:
    """A run that evaluated nothing says why above the rows, and not in every one."""
    why = "no image of this study is accepted"
    unseen = [finding(None, key=str(i), reason=why) for i in range(5)]
    said = words(result(unseen))
    assert said.count(why) == 1
    assert said.count("NOT EVALUATED") == 1 + len(unseen)
    two = [finding(None, reason=why), finding(None, key="b", reason="needs a PA view")]
    assert {why, "needs a PA view"} <= set(words(result(two)))


def test_no_word_is_smaller_than_is_legible_at_half_the_size() -> None:
    """18 pixels of 1024; every word that is drawn is known by place and size."""
    for made_from, count in PAGES.values():
        shown = [picture(label=WIDEST, score=0.5) for _ in range(count)]
        for line in draw_page(made_from, shown, concluded_at=NOON).lines:
            assert line.size >= 18
            assert line.left >= 0
            assert line.left + line.width <= WIDTH
            assert 0 < line.baseline < HEIGHT
