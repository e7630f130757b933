"""Categories and estimates: an answer, or the reason why there is none."""

from itertools import permutations

import numpy as np
import pytest

from dicom_node.domain import Flag
from tests.studies import (
    AXIS,
    LABELS,
    about,
    asking,
    embedded,
    found,
    head_slice,
    source,
)
from workers.pack import Pack
from workers.study import EmbeddedImage


def test_a_category_is_the_best_label_and_the_next_one(pack: Pack) -> None:
    """Its score is a share of all labels; the frames that show it most are named."""
    vectors = [AXIS[1], AXIS[1] * 0.8 + AXIS[0] * 0.6]
    frames = [
        EmbeddedImage(source=source(n), frame=0, vector=vector.astype(np.float32))
        for n, vector in enumerate(vectors, start=1)
    ]
    (view,) = about(asking(pack), *frames, labels=LABELS).categories
    assert view.chosen is not None
    assert view.runner_up is not None
    assert (view.chosen.label.value, view.runner_up.label.value) == ("pa", "ap")
    logits = 4.0 * np.array([0.3, 0.9, 0.0])
    expected = np.exp(logits) / np.exp(logits).sum()
    assert view.chosen.score.value == pytest.approx(expected[1])
    assert view.runner_up.score.value == pytest.approx(expected[0])
    assert view.chosen.score.calibration_set == ""
    assert [e.image.sop_instance_uid[-1] for e in view.evidence] == ["1", "2"]
    assert (view.images_scored, view.labels, view.reason) == (2, 3, "")


def test_an_estimate_is_the_value_of_the_references_nearby(pack: Pack) -> None:
    """In its unit, with what each frame gave, and that nobody has validated it."""
    (age,) = about(asking(pack), embedded(source(), 1.0), labels=LABELS).estimates
    assert (age.value, age.spread, age.unit.value) == (12.0, 0.0, "mo")
    assert (age.references, age.validated, age.images_scored) == (2, False, 1)
    assert [e.score for e in age.evidence] == [12.0]


def test_an_estimate_without_references_says_how_to_supply_them(pack: Pack) -> None:
    """Nothing is guessed."""
    bare = asking(pack, references={})
    (age,) = about(bare, embedded(source(), 1.0), labels=LABELS).estimates
    assert (age.value, age.spread, age.references) == (None, None, 0)
    assert "pacsight pack references" in age.reason
    assert age.unequipped
    (age,) = about(bare, embedded(head_slice(1), 1.0), labels=LABELS).estimates
    assert "no image of this study is accepted" in age.reason
    assert not age.unequipped


def test_outside_of_what_they_accept_nothing_is_chosen_or_estimated(
    pack: Pack,
) -> None:
    """The reason is said for each; findings of other images stay."""
    conclusion = about(asking(pack), embedded(head_slice(1), 2.0), labels=LABELS)
    refused = (
        "no image of this study is accepted: needs DX or CR of CHEST; found CT of HEAD"
    )
    assert [c.reason for c in conclusion.categories] == [refused]
    assert [e.reason for e in conclusion.estimates] == [refused]
    assert conclusion.categories[0].chosen is None
    assert conclusion.reason == ""
    assert found(conclusion, "haemorrhage").flag is Flag.ABOVE


def test_a_vector_that_is_no_number_chooses_nothing(pack: Pack) -> None:
    """Neither a label nor a value is made of it."""
    frame = embedded(source(), float("nan"))
    conclusion = about(asking(pack), frame, labels=LABELS)
    reasons = {conclusion.categories[0].reason, conclusion.estimates[0].reason}
    assert reasons == {"the model gave a score that is no number"}


def test_the_order_of_frames_has_no_say_in_categories_and_estimates(
    pack: Pack,
) -> None:
    """Bit for bit."""
    frames = [embedded(source(n), x) for n, x in ((1, 0.3), (2, 0.1), (3, 0.7))]
    said = {
        repr((c.categories, c.estimates))
        for c in (about(asking(pack), *o, labels=LABELS) for o in permutations(frames))
    }
    assert len(said) == 1
