"""Browsers that somebody logged in with: how long they are known, and how many."""

from starlette.requests import HTTPConnection
from starlette.responses import Response

from dicom_node.access import Identity, Role
from dicom_node.web.sessions import IDLE_S, LONGEST_S, MOST, Session, Sessions

JANE = Identity(name="jane", roles=frozenset({Role.VIEW}))


class Clock:
    """Unix time that only a test moves on."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def request(key: str, scheme: str = "http", name: str = "pacsight") -> HTTPConnection:
    """Return a request with this cookie."""
    headers = [(b"cookie", f"{name}={key}".encode())]
    return HTTPConnection({"type": "http", "scheme": scheme, "headers": headers})


def test_a_session_ends_when_it_is_not_used() -> None:
    """Each use lets it go on for another half an hour."""
    clock = Clock()
    sessions = Sessions(clock=clock)
    session = sessions.open(JANE)
    for _ in range(3):
        clock.now += IDLE_S - 1
        assert sessions.identity(request(session.key)) == JANE
    clock.now += IDLE_S
    assert sessions.of(request(session.key)) is None


def test_a_session_ends_after_a_shift() -> None:
    """However busy it is."""
    clock = Clock()
    sessions = Sessions(clock=clock)
    session = sessions.open(JANE)
    lived = 0.0
    while sessions.of(request(session.key)) and lived < 2 * LONGEST_S:
        clock.now += 60
        lived += 60
    assert lived == LONGEST_S


def test_a_session_ends_with_its_token() -> None:
    """A signed token that ends in five minutes opens no session of eight hours."""
    clock = Clock()
    sessions = Sessions(clock=clock)
    brief = Identity(name="jane", roles=JANE.roles, expires_at=clock.now + 300)
    session = sessions.open(brief)
    clock.now += 299
    assert sessions.of(request(session.key)) is not None
    clock.now += 1
    assert sessions.of(request(session.key)) is None


def test_no_more_sessions_than_fit() -> None:
    """The one that was silent longest is forgotten."""
    sessions = Sessions(clock=Clock())
    first, *others = (sessions.open(JANE) for _ in range(MOST + 1))
    assert sessions.of(request(first.key)) is None
    assert isinstance(sessions.of(request(others[0].key)), Session)


def test_what_is_no_session() -> None:
    """No cookie, an empty one, another's name, the session's end."""
    sessions = Sessions(clock=Clock())
    session = sessions.open(JANE)
    assert sessions.of(request("")) is None
    assert sessions.of(request(session.csrf)) is None
    assert sessions.of(request(session.key, name="other")) is None
    sessions.close(session, request(session.key), Response())
    assert sessions.of(request(session.key)) is None


def test_under_tls_the_cookie_is_for_tls_alone() -> None:
    """``__Host-``: a neighbour in the same domain can set none of that name."""
    sessions = Sessions(clock=Clock())
    session = sessions.open(JANE)
    response = Response()
    sessions.tell(session, request("", "https"), response)
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("__Host-pacsight=")
    assert "Secure" in cookie
    assert sessions.of(request(session.key, "https")) is None
    assert sessions.of(request(session.key, "https", "__Host-pacsight")) == session
