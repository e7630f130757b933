"""Which request needs which role: the table itself, and its page in the documentation."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.access import ANYBODY, INCLUDED, Identity, Role, user_of
from dicom_node.web.rules import RULES, rule_for

PAGE = Path(__file__).parents[4] / "docs" / "access-http.md"


def test_the_page_has_the_table() -> None:
    """Every request with its role, and no other."""
    rows = re.findall(
        r"^\| `((?:GET|POST) \S+)` \| `?(\w+)`?", PAGE.read_text(), re.MULTILINE
    )
    table = {f"{rule.method} {rule.path}": rule.role or "none" for rule in RULES}
    assert dict(rows) == table


def test_every_role_is_documented() -> None:
    """With what it may."""
    rows = re.findall(r"^\| `(\w+)` \| [a-z]", PAGE.read_text(), re.MULTILINE)
    assert set(rows) >= set(Role)


def test_head_is_judged_as_get() -> None:
    """Starlette answers it with the same route."""
    assert rule_for("HEAD", "/api/studies") == rule_for("GET", "/api/studies")


@given(st.text(max_size=40), st.sampled_from(["GET", "POST", "PUT", "DELETE", "X"]))
def test_any_path_is_in_the_table_or_outside(path: str, method: str) -> None:
    """No path makes it fail; what fits has as many segments as its rule."""
    rule = rule_for(method, path)
    assert rule is None or rule.path.count("/") == path.count("/")


def test_a_placeholder_is_never_empty() -> None:
    """``/dicom-web/studies/`` is no study."""
    assert rule_for("POST", "/dicom-web/studies/") is None
    assert rule_for("POST", "/dicom-web/studies/1.2/3") is None


def test_what_roles_include() -> None:
    """Who may do more may also look; nobody sends who was not told to."""
    assert {role: INCLUDED[role] for role in Role} == {
        Role.SEND: {Role.SEND},
        Role.VIEW: {Role.VIEW},
        Role.OPERATE: {Role.OPERATE, Role.VIEW},
        Role.ADMINISTER: {Role.ADMINISTER, Role.OPERATE, Role.VIEW},
    }
    assert [role for role in Role if not ANYBODY.may(role)] == []
    nobody = Identity(name="x", roles=frozenset())
    assert [role for role in Role if nobody.may(role)] == []


def test_who_sent_a_request_is_in_its_scope() -> None:
    """For those behind the guard: a name, or empty where nobody was asked."""
    view = Identity(name="view", roles=frozenset({Role.VIEW}))
    assert user_of({"pacsight.user": view}) == "view"
    assert [user_of({"pacsight.user": who}) for who in (None, ANYBODY)] == ["", ""]
    assert user_of({}) == ""
