"""Service tokens: new ones, and whose one is."""

import json
from pathlib import Path

from typer.testing import CliRunner

from dicom_node.access import TOKEN_PREFIX, Role, ServiceToken, digest_of
from dicom_node.config import load_settings
from dicom_node.web.tokens import identify, new_token
from workers.cli import app


def test_tokens_are_long_random_and_known_by_their_prefix() -> None:
    """256 bits in URL-safe letters, and no two alike."""
    made = {new_token() for _ in range(1000)}
    assert len(made) == 1000
    assert {len(token) for token in made} == {len(TOKEN_PREFIX) + 43}
    assert all(token.startswith(TOKEN_PREFIX) for token in made)


def test_whose_a_token_is() -> None:
    """By its digest; nobody's is None."""
    token = new_token()
    known = ServiceToken(
        name="router", sha256=digest_of(token), roles=frozenset({Role.SEND})
    )
    found = identify(token, [known])
    assert found is not None
    assert (found.name, found.roles) == ("router", frozenset({Role.SEND}))
    assert identify(known.sha256, [known]) is None
    assert identify("\udcff é", [known]) is None
    assert identify(token, []) is None


def test_the_command_prints_the_token_once_and_the_lines_for_the_settings(
    tmp_path: Path,
) -> None:
    """The lines are TOML that the node takes; they do not hold the token."""
    words = ["token", "new", 'a "router"', "--role", "send", "--role", "view"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    token, _, lines = done.stdout.partition("\n")
    assert token not in lines
    (tmp_path / "pacsight.toml").write_text(f"[http]\n{lines}")
    (known,) = load_settings(tmp_path / "pacsight.toml", {}).http.tokens
    assert known.name == 'a "router"'
    found = identify(token, [known])
    assert found is not None
    assert found.roles == {Role.SEND, Role.VIEW}
    assert "once" in done.stderr


def test_the_command_speaks_json() -> None:
    """For scripts: the same four things."""
    done = CliRunner().invoke(app, ["token", "new", "ci", "--role", "view", "--json"])
    said = json.loads(done.stdout)
    assert digest_of(said["token"]) == said["sha256"]
    assert (said["name"], said["roles"]) == ("ci", ["view"])
