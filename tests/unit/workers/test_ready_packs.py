"""The ready packs: what they ask, in which words, and what they say of themselves."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from tests.packs import make_pack, manifest
from workers.commands.pack import import_medimageinsight
from workers.importing import kinds, read_template
from workers.manifest import Manifest
from workers.medimageinsight import Tokenizer
from workers.pack import open_pack

RESULTS = Path(__file__).parents[3] / "docs" / "results.md"
OWN_SCHEME = "99PACSIGHT"
SNOMED_BY_HAND = {
    "8186001", "786838002", "46621007", "95436008", "87433001", "51615001",
    "309529002", "233604007", "39607008", "80891009",
}  # fmt: skip
"""SNOMED CT codes that PS3.16 does not use, looked up by hand."""


@pytest.fixture(params=kinds(), name="template")
def each_template(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return each template."""
    return read_template(request.param)


@pytest.fixture(name="read")
def as_manifest(template: dict[str, Any], tmp_path: Path) -> Manifest:
    """Return each template as a manifest, with the encoder of a small model."""
    return make_pack(
        tmp_path, **{**template, "encoder": manifest()["encoder"]}
    ).manifest


def prompts_of(template: dict[str, Any]) -> list[str]:
    """Return every text that is embedded."""
    sides = [f["prompts"] for f in template["findings"]]
    labels = [label for c in template.get("categories", ()) for label in c["labels"]]
    return [
        *(text for side in sides for texts in side.values() for text in texts),
        *(text for label in labels for text in label["prompts"]),
    ]


def codes_of(value: Any) -> list[tuple[str, str, str]]:
    """Return every coded concept in a template."""
    if isinstance(value, list):
        return [code for item in value for code in codes_of(item)]
    if not isinstance(value, dict):
        return []
    own = [tuple(value[key]) for key in ("code", "site", "unit") if key in value]
    return [*own, *(code for item in value.values() for code in codes_of(item))]


def test_there_are_three() -> None:
    """Findings, categories, an estimate."""
    assert kinds() == ("bone-age", "chest-xray", "exam-category")


def test_the_command_names_them_all() -> None:
    """The help of ``--kind``, and the table of the manual."""
    options = inspect.get_annotations(import_medimageinsight)["kind"]
    (option,) = options.__metadata__
    page = (RESULTS.parent / "packs.md").read_text("utf-8")
    for kind in kinds():
        assert kind in option.help
        assert f"| `{kind}` |" in page


def test_they_claim_no_validation(read: Manifest) -> None:
    """No finding is urgent, no threshold has evidence, the statement says so."""
    assert read.statement.startswith("Research only.")
    assert "not validated" in read.statement
    for finding in read.findings:
        assert finding.urgency == "routine"
        assert finding.operating_point.threshold == 0.5
        assert "not validated" in finding.operating_point.name
        assert finding.operating_point.evidence == {}
    assert all(estimate.validated is None for estimate in read.estimates)


def test_they_share_their_embeddings() -> None:
    """One policy for all three, of the model's size and normalisation."""
    one, *others = [read_template(kind)["preprocessing"] for kind in kinds()]
    assert [one] * len(others) == others
    assert one["size"] == 480
    assert one["mean"] == [0.485, 0.456, 0.406]
    assert one["std"] == [0.229, 0.224, 0.225]


def test_prompts_are_of_the_official_shape(template: dict[str, Any]) -> None:
    """Modality first, one period at the end, single spaces, no comma before it."""
    for text in prompts_of(template):
        assert text.endswith(".")
        assert not text.endswith((" .", ",.", ".."))
        assert text == " ".join(text.split())
        assert text.split()[0] in {
            "x-ray", "computed", "magnetic", "ultrasound", "retinal", "Optical",
            "dermatology", "histopathology.",
        }  # fmt: skip


def test_the_chest_prompts_are_the_official_example_with_its_period() -> None:
    """Both views, and no finding as the other side."""
    findings = {f["key"]: f for f in read_template("chest-xray")["findings"]}
    assert findings["cardiomegaly"]["prompts"] == {
        "positive": [
            "x-ray chest anteroposterior Cardiomegaly.",
            "x-ray chest posteroanterior Cardiomegaly.",
        ],
        "negative": [
            "x-ray chest anteroposterior No Finding.",
            "x-ray chest posteroanterior No Finding.",
        ],
    }
    assert len(findings) == 14


@pytest.mark.corpus
def test_no_prompt_is_cut(template: dict[str, Any], shared: Path) -> None:
    """Each fits the model's context, with room to spare, and has no unknown word."""
    tokenizer = Tokenizer.load(shared / "golden" / "clip_tokenizer")
    assert max([0, *(len(tokenizer.ids(text)) for text in prompts_of(template))]) < 60


def test_standard_codes_are_those_of_the_standard(template: dict[str, Any]) -> None:
    """Value and meaning as in PS3.16, else one of the few that were looked up."""
    known = {
        (code.value, code.scheme_designator)
        for scheme in (codes.SCT, codes.DCM, codes.UCUM)
        for name in scheme.dir()
        for code in [getattr(scheme, name)]
        if isinstance(code, Code)
    }
    for value, scheme, meaning in codes_of(template):
        assert len(value) <= 16
        assert 0 < len(meaning) <= 64
        by_hand = scheme == "SCT" and value in SNOMED_BY_HAND
        assert scheme == OWN_SCHEME or by_hand or (value, scheme) in known, value


def test_own_codes_are_documented(template: dict[str, Any]) -> None:
    """A value that once was written never changes its meaning."""
    page = RESULTS.read_text("utf-8")
    for value, scheme, meaning in codes_of(template):
        if scheme == OWN_SCHEME:
            assert f"| `{value}` | {meaning} |" in page


def test_labels_of_a_category_exclude_one_another(read: Manifest) -> None:
    """No two have one code, and no text speaks for two."""
    for category in read.categories:
        assert len({label.concept for label in category.labels}) == len(category.labels)
        texts = [text for label in category.labels for text in label.prompts]
        assert len(set(texts)) == len(texts), category.key


def test_a_manifest_without_them_has_neither_categories_nor_estimates(
    tmp_path: Path,
) -> None:
    """And the digest that it had before there were any."""
    pack = make_pack(tmp_path)
    text = json.loads((tmp_path / "pack.json").read_text("utf-8"))
    assert {"categories", "estimates"}.isdisjoint(text)
    text |= {"categories": [], "estimates": []}
    (tmp_path / "pack.json").write_text(json.dumps(text), "utf-8")
    assert open_pack(tmp_path).digest == pack.digest


def test_the_view_is_asked_of_radiographs_only() -> None:
    """A slice has no projection."""
    view = read_template("exam-category")["categories"][2]
    assert view["key"] == "view"
    assert view["accepts"] == {"modality": ["CR", "DX"]}
