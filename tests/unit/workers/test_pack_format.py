"""The pack format: its schema, and the page that explains it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.packs import category, estimate, manifest
from workers.cli import app
from workers.manifest import manifest_schema, parse_manifest
from workers.pack import locate

PAGE = Path(__file__).resolve().parents[3] / "docs" / "pack-format.md"
SCHEMA = manifest_schema()
FIELDS = sorted(
    {
        (name, field)
        for name, one in [("Manifest", SCHEMA), *SCHEMA["$defs"].items()]
        for field in one.get("properties", ())
    }
)


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_field_is_explained(name: str, field: str) -> None:
    """In the section of what it is a field of."""
    section = re.search(
        rf"^##+ .*`{name}`.*?(?=^##+ |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert section is not None, f"no section for {name}"
    assert f"\n| `{field}` |" in section[0]


def test_no_field_is_explained_that_does_not_exist() -> None:
    """Every row of a table is a field, or a tensor of a head."""
    rows = set(re.findall(r"^\| `([a-z_0-9]+)` \|", PAGE.read_text(), re.MULTILINE))
    assert rows <= {field for _, field in FIELDS}


def test_the_command_prints_the_schema() -> None:
    """As JSON, the same that packs are checked with."""
    printed = CliRunner().invoke(app, ["pack", "schema"])
    assert json.loads(printed.stdout) == SCHEMA


def sealed(**changes: Any) -> dict[str, Any]:
    """Return a manifest as it stands in a file."""
    made = manifest(files={}, **changes)
    made["encoder"]["sha256"] = "0" * 64
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "said",
    [
        json.loads((locate("phantoms") / "pack.json").read_bytes()),
        sealed(),
        sealed(categories=[category("view")], estimates=[estimate("age")]),
    ],
)
def test_what_is_a_manifest_fits_the_schema(said: dict[str, Any]) -> None:
    """Its required fields are there, and it has no others."""
    made = parse_manifest(json.dumps(said).encode(), Path("pack.json"))
    assert made.name == said["name"]
    assert set(SCHEMA["required"]) <= said.keys() <= SCHEMA["properties"].keys()
