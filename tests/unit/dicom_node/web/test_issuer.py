"""Signed tokens: what is believed, and what is not; a real issuer on a real socket."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.access import Identity, Role
from dicom_node.web.doorman import RefusedError
from dicom_node.web.issuer import FRESH_S, KEPT_S, PAUSE_S, SignedTokens, identity_of
from tests.issuers import Key, LocalIssuer, local_issuer

KEYS = {name: Key.made(name, name) for name in ("RS256", "PS256", "ES256", "EdDSA")}
OTHER = Key.made("other")
RSA = KEYS["RS256"]


class Clock:
    """Seconds that only a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    """Return a running issuer that publishes a key for each algorithm."""
    with local_issuer(*KEYS.values()) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


@pytest.fixture
def tokens(issuer: LocalIssuer, clock: Clock) -> SignedTokens:
    """Return what believes the issuer."""
    return SignedTokens(issuer.issuer(), clock=clock)


def whose(tokens: SignedTokens, token: str) -> Identity | None:
    """Return whose token it is said to be."""
    return asyncio.run(tokens.identify(token))


@pytest.mark.parametrize("name", KEYS)
def test_each_kind_of_signature(
    issuer: LocalIssuer, tokens: SignedTokens, name: str
) -> None:
    """RSA, RSA-PSS, elliptic curves and Edwards curves: name, roles and end."""
    end = int(time.time()) + 60
    found = whose(tokens, issuer.token(KEYS[name], exp=end))
    assert found == Identity(name="jane", roles=frozenset({Role.VIEW}), expires_at=end)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1_000_000_000},
        {"exp": None},
        {"nbf": 4_000_000_000},
        {"iat": 4_000_000_000},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"sub": None},
        {"sub": "  "},
        {"sub": "a\nb"},
    ],
    ids=str,
)
def test_claims_that_are_not_believed(
    issuer: LocalIssuer, tokens: SignedTokens, claims: dict[str, Any]
) -> None:
    """Past, future, somebody else's, for somebody else, for nobody."""
    assert whose(tokens, issuer.token(RSA, **claims)) is None


def test_clocks_may_differ_a_little(issuer: LocalIssuer, tokens: SignedTokens) -> None:
    """Half a minute, unless the settings say otherwise."""
    now = time.time()
    assert whose(tokens, issuer.token(RSA, exp=now - 20, nbf=now + 20)) is not None
    assert whose(tokens, issuer.token(RSA, exp=now - 40)) is None


def b64(content: bytes) -> str:
    """Return bytes as the parts of a token are written."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def hs256(head: dict[str, object], body: str, secret: bytes) -> str:
    """Return a token signed with a secret, as libraries refuse to."""
    signed = f"{b64(json.dumps(head).encode())}.{body}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), 'sha256'))}"


def forged(issuer: LocalIssuer) -> dict[str, str]:
    """Return tokens as attackers make them."""
    good = issuer.token(RSA)
    head, body, signature = good.split(".")
    public = RSA.private.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    none = {"alg": "none", "kid": RSA.kid}
    shared: dict[str, object] = {"alg": "HS256", "kid": RSA.kid}
    with_its_key = jwt.encode(
        {"sub": "root"}, OTHER.private, "RS256", headers={"jwk": OTHER.public}
    )
    elsewhere = {"jku": "https://evil.example/keys", "kid": "other"}
    claims = jwt.decode(good, options={"verify_signature": False})
    return {
        "none": f"{b64(json.dumps(none).encode())}.{body}.",
        "body": f"{head}.{b64(b'{}')}.{signature}",
        "signature": f"{head}.{body}.{signature[:-8]}AAAAAAAA",
        "no signature": f"{head}.{body}.",
        "public key as a secret": hs256(shared, body, public),
        "another's key under this name": issuer.token(OTHER, headers={"kid": RSA.kid}),
        "its own key": with_its_key,
        "a key elsewhere": issuer.token(OTHER, headers=elsewhere),
        "another algorithm of the key": jwt.encode(
            claims, RSA.private, "PS256", headers={"kid": RSA.kid}
        ),
        "an algorithm outside the list": jwt.encode(
            claims, RSA.private, "RS512", headers={"kid": RSA.kid}
        ),
        "no name where there is a choice": issuer.token(RSA, headers={}),
        "nested": b64(b"[" * 9000) + ".e30.AA",
        "a number": b64(b'{"alg":1,"kid":{}}') + ".e30.AA",
        "words": "not.a.token",
        "dots": "....",
    }


def test_forged_tokens(issuer: LocalIssuer, tokens: SignedTokens) -> None:
    """None of the known ways in (RFC 8725 2), and none of them ends in an error."""
    believed = {name: whose(tokens, t) for name, t in forged(issuer).items()}
    assert [name for name, found in believed.items() if found] == []
    assert whose(tokens, issuer.token(RSA)) is not None
    assert not [path for path in issuer.asked if "evil" in path]


@settings(max_examples=50)
@given(text=st.text(max_size=200))
def test_any_text_is_nobody_s_token(text: str) -> None:
    """Without a look at the issuer, and without an error."""
    tokens = SignedTokens(LocalIssuer(url="http://127.0.0.1:9").issuer())
    assert tokens._identify(text) is None


# ── keys come and go ────────────────────────────────────────────────────────


def test_a_new_key_is_found(
    issuer: LocalIssuer, tokens: SignedTokens, clock: Clock
) -> None:
    """A token that names a key that we do not know makes us look, once."""
    assert whose(tokens, issuer.token(RSA)) is not None
    issuer.published.append(OTHER)
    clock.now += PAUSE_S
    assert whose(tokens, issuer.token(OTHER)) is not None
    assert len(issuer.asked) == 4  # twice configuration and keys


def test_a_key_that_was_withdrawn_is_dropped(
    issuer: LocalIssuer, tokens: SignedTokens, clock: Clock
) -> None:
    """Within an hour."""
    assert whose(tokens, issuer.token(RSA)) is not None
    issuer.published = [OTHER]
    clock.now += FRESH_S + 1
    assert whose(tokens, issuer.token(RSA)) is None
    assert whose(tokens, issuer.token(OTHER)) is not None


def test_nobody_can_make_us_ask_in_a_loop(
    issuer: LocalIssuer, tokens: SignedTokens, clock: Clock
) -> None:
    """A thousand tokens with invented names: one look-up in ten seconds."""
    unknown = [issuer.token(OTHER, headers={"kid": f"k{n}"}) for n in range(3)]
    for token in unknown * 50:
        assert whose(tokens, token) is None
    assert len(issuer.asked) == 2
    clock.now += PAUSE_S
    assert whose(tokens, unknown[0]) is None
    assert len(issuer.asked) == 4


def test_one_key_needs_no_name(issuer: LocalIssuer, tokens: SignedTokens) -> None:
    """RFC 7515 4.1.4: where there is no choice."""
    issuer.published = [RSA]
    assert whose(tokens, issuer.token(RSA, headers={})) is not None


# ── the issuer is away ──────────────────────────────────────────────────────


def test_keys_that_are_known_go_on(
    issuer: LocalIssuer, tokens: SignedTokens, clock: Clock
) -> None:
    """While it is away, for a day; a key that is not known is nobody's meanwhile."""
    assert whose(tokens, issuer.token(RSA)) is not None
    issuer.broken = True
    clock.now += FRESH_S + 1
    assert whose(tokens, issuer.token(RSA)) is not None
    assert whose(tokens, issuer.token(OTHER)) is None
    clock.now += KEPT_S
    with pytest.raises(RefusedError) as caught:
        whose(tokens, issuer.token(RSA))
    assert caught.value.status == 503
    issuer.broken = False
    clock.now += PAUSE_S
    assert whose(tokens, issuer.token(RSA)) is not None


@pytest.mark.parametrize(
    "says",
    [
        {"issuer": "https://evil.example"},
        {"jwks_uri": "http://evil.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
    ],
    ids=str,
)
def test_a_configuration_that_is_not_believed(
    issuer: LocalIssuer, tokens: SignedTokens, says: dict[str, object]
) -> None:
    """Another issuer's, or keys in the open: as if it were away, 503 and when to come."""
    issuer.says = says
    with pytest.raises(RefusedError) as caught:
        whose(tokens, issuer.token(RSA))
    assert (caught.value.status, caught.value.retry_after_s) == (503, PAUSE_S)


def test_nobody_listens(clock: Clock) -> None:
    """An issuer that cannot be reached ends nothing: 503."""
    away = LocalIssuer(url="http://127.0.0.1:9")
    tokens = SignedTokens(away.issuer(), clock=clock)
    with pytest.raises(RefusedError, match="cannot be reached"):
        whose(tokens, away.token(RSA))


# ── who it is ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("claims", "settings", "roles"),
    [
        ({"roles": ["view", "operate", "x"]}, {}, {"view", "operate"}),
        ({"roles": "view send"}, {}, {"view", "send"}),
        ({"roles": {"view": True}}, {}, set()),
        ({"roles": [1, None]}, {}, set()),
        ({}, {}, set()),
        (
            {"realm_access": {"roles": ["pacsight-view", "operate"]}},
            {"roles_claim": "realm_access.roles", "role_prefix": "pacsight-"},
            {"view"},
        ),
        (
            {"https://a.example/r": ["send"]},
            {"roles_claim": "https://a.example/r"},
            {"send"},
        ),
        ({"a": 1}, {"roles_claim": "a.b.c"}, set()),
    ],
    ids=str,
)
def test_roles_of_a_claim(
    claims: dict[str, object], settings: dict[str, str], roles: set[str]
) -> None:
    """A list or words, wherever the settings say; what is not ours gives no role."""
    trusted = LocalIssuer(url="https://id.example").issuer(**settings)
    found = identity_of({"sub": "jane", **claims}, trusted)
    assert found is not None
    assert {role.value for role in found.roles} == roles


def test_the_user_s_name_is_the_claim_that_is_set() -> None:
    """And no longer than a log line wants it."""
    trusted = LocalIssuer(url="https://id.example").issuer(username_claim="email")
    found = identity_of({"sub": "1", "email": "j@example.org" * 20}, trusted)
    assert found is not None
    assert found.name == ("j@example.org" * 20)[:64]
