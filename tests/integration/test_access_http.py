"""Who may do what over HTTP, from the wire."""

import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dicom_node.access import Role, ServiceToken, digest_of
from dicom_node.config import load_settings
from dicom_node.domain import Alarm, InstancesReceived, SecurityAlert, UserAuthenticated
from dicom_node.errors import SettingsError
from dicom_node.tls import ServerTls, server_context
from dicom_node.web.doorman import Limits
from dicom_node.web.issuer import SignedTokens
from dicom_node.web.rules import RULES
from dicom_node.wiring import http_server
from tests.arrivals import received, study_uid
from tests.certificates import Authority
from tests.issuers import Key, local_issuer
from tests.ledgers import record
from tests.receiving import STUDY, house, multipart, part10, running
from tests.websites import DICOM, SERVICE_TOKENS, TOKENS, Website, empty_ledger, website

WRONG = "pacsight_a-token-that-nobody-made"
HEADERS = [
    "cache-control",
    "content-security-policy",
    "referrer-policy",
    "x-content-type-options",
    "x-frame-options",
]


@pytest.fixture(scope="module")
def shut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    """Return a site that asks for tokens, with one study in its ledger."""
    folder = tmp_path_factory.mktemp("shut")
    limits = Limits(failures_per_minute=1000)
    with website(folder, service_tokens=SERVICE_TOKENS, limits=limits) as running:
        record(running.ledger, received())
        yield running


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    """Return a site that asks nobody, with one study in its ledger."""
    with website(tmp_path_factory.mktemp("laptop")) as running:
        record(running.ledger, received())
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority for the node and its callers."""
    return Authority.found(tmp_path_factory.mktemp("ca") / "ca")


def store(site: Website, token: str = "", study: str = "") -> httpx.Response:
    """Return the answer to a Store request with one instance."""
    return site.ask(
        "POST",
        f"/dicom-web/studies{study}",
        token,
        content=multipart([part10()]),
        headers={"content-type": DICOM},
    )


# ── who may do what ─────────────────────────────────────────────────────────


EXPECTED = {
    Role.SEND: {Role.SEND},
    Role.VIEW: {Role.VIEW, Role.OPERATE, Role.ADMINISTER},
    Role.OPERATE: {Role.OPERATE, Role.ADMINISTER},
    Role.ADMINISTER: {Role.ADMINISTER},
}
"""Who may take a route that needs a role."""
GUARDED = [rule for rule in RULES if rule.role is not None and not rule.by_session]


@pytest.mark.parametrize("rule", GUARDED, ids=lambda r: f"{r.method} {r.path}")
def test_every_route_knows_its_roles(shut: Website, rule: object) -> None:
    """Without a token 401, without the role 403, with it neither: each route, each role."""
    assert rule in RULES
    (found,) = [one for one in RULES if one == rule]
    path = found.path.replace("{study}", study_uid())
    answers = {
        role: shut.ask(found.method, path, token).status_code
        for role, token in TOKENS.items()
    }
    assert shut.ask(found.method, path).status_code == 401
    assert found.role is not None
    let_in = {role for role, status in answers.items() if status not in {401, 403}}
    assert let_in == EXPECTED[found.role]
    assert {answers[role] for role in set(Role) - let_in} == {403}


def test_health_is_open_and_says_nothing(shut: Website) -> None:
    """A load balancer needs no token, and learns nothing."""
    answer = shut.ask("GET", "/health")
    assert (answer.status_code, answer.text) == (200, "ok\n")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/dicom-web/studies"),
        ("GET", "/nowhere"),
        ("DELETE", "/api/studies"),
        ("POST", "/health"),
        ("GET", "//api/studies"),
        ("GET", "/api/studies/"),
        ("GET", "/API/studies"),
        ("GET", "/%61pi/studies"),
        ("OPTIONS", "/api/studies"),
        ("PROPFIND", "/"),
    ],
)
def test_nothing_outside_the_table_is_open(
    shut: Website, method: str, path: str
) -> None:
    """What no rule names is 401 without a token, however it is spelt."""
    assert shut.ask(method, path).status_code == 401


def test_a_sender_stores_and_is_known_by_name(shut: Website) -> None:
    """STOW-RS works with the role send, in both of its forms; the trail is told whose."""
    shut.told.clear()
    assert store(shut, TOKENS[Role.SEND]).status_code == 200
    assert store(shut, TOKENS[Role.SEND], f"/{STUDY}").status_code == 200
    stored = [one for one in shut.told if isinstance(one, InstancesReceived)]
    assert [one.user for one in stored] == ["send", "send"]
    assert store(shut).status_code == 401
    assert store(shut, TOKENS[Role.ADMINISTER]).status_code == 403


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        f"Bearer {WRONG}",
        f"Basic {TOKENS[Role.VIEW]}",
        TOKENS[Role.VIEW],
        f"Bearer {TOKENS[Role.VIEW]}x",
        f"Bearer {TOKENS[Role.VIEW].upper()}",
        f"Bearer {hashlib.sha256(TOKENS[Role.VIEW].encode()).hexdigest()}",
        "Bearer " + "x" * 20_000,
        "Bearer \xff\xfe",
    ],
)
def test_what_is_no_token(shut: Website, header: str) -> None:
    """Another scheme, half a token, its digest: 401, and not a word of it is repeated."""
    shut.told.clear()
    raw = header.encode("latin-1")
    answer = shut.ask("GET", "/api/studies", headers={"authorization": raw})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="pacsight"'
    assert answer.json()["detail"] == "the token is not accepted"
    refused = UserAuthenticated(user="", address="127.0.0.1", accepted=False)
    assert shut.told == [refused]


def test_the_scheme_is_read_as_http_reads_it(shut: Website) -> None:
    """RFC 9110 11.1: upper and lower case do not differ."""
    headers = {"authorization": f"bEARER {TOKENS[Role.VIEW]}"}
    assert shut.ask("GET", "/api/studies", headers=headers).status_code == 200


def test_one_token_may_have_several_roles(tmp_path: Path) -> None:
    """A router that also asks what became of its studies needs one token."""
    both = ServiceToken(
        name="router",
        sha256=digest_of("pacsight_both"),
        roles=frozenset({Role.SEND, Role.VIEW}),
    )
    with website(tmp_path, service_tokens=[both]) as site:
        assert store(site, "pacsight_both").status_code == 200
        assert site.ask("GET", "/api/studies", "pacsight_both").status_code == 200


def test_signed_tokens_come_in_beside_the_services(tmp_path: Path) -> None:
    """An issuer's users and services' tokens; while the issuer is away, 503 for the one."""
    key = Key.made("k1")
    with (
        local_issuer(key) as issuer,
        website(
            tmp_path,
            service_tokens=SERVICE_TOKENS,
            issuer=SignedTokens(issuer.issuer()),
        ) as site,
    ):
        issuer.broken = True
        away = site.ask("GET", "/api/studies", issuer.token(key))
        assert (away.status_code, away.headers["retry-after"]) == (503, "10")
        assert site.ask("GET", "/api/studies", TOKENS[Role.VIEW]).status_code == 200
    with (
        local_issuer(key) as issuer,
        website(tmp_path / "2", issuer=SignedTokens(issuer.issuer())) as site,
    ):
        assert site.ask("GET", "/api/studies").status_code == 401
        assert site.ask("GET", "/api/studies", issuer.token(key)).status_code == 200
        assert site.ask("GET", "/api/settings", issuer.token(key)).status_code == 403
        forged = issuer.token(Key.made("k1"))
        assert site.ask("GET", "/api/studies", forged).status_code == 401
        assert [type(event).__name__ for event in site.told] == [
            "UserAuthenticated",
            "SecurityAlert",
            "UserAuthenticated",
        ]


# ── open on this machine alone ──────────────────────────────────────────────


def test_without_tokens_everything_is_open_to_this_machine(laptop: Website) -> None:
    """No settings, no token."""
    assert store(laptop).status_code == 200
    assert laptop.ask("GET", "/api/studies").status_code == 200
    assert laptop.ask("GET", "/api/settings").status_code == 200
    (told,) = laptop.told
    assert isinstance(told, InstancesReceived)
    assert told.user == ""


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", ""])
def test_an_open_door_answers_as_localhost_alone(laptop: Website, host: str) -> None:
    """A name of somebody else that leads to this machine (DNS rebinding) gets nothing."""
    answer = laptop.ask("GET", "/api/studies", headers={"host": host})
    assert answer.status_code in {400, 421}
    here = laptop.ask("GET", "/api/studies", headers={"host": "[::1]:80"})
    assert here.status_code == 200


def test_health_answers_under_any_name(laptop: Website) -> None:
    """It says nothing that anybody could take away."""
    assert laptop.ask("GET", "/health", headers={"host": "node.example"}).is_success


def test_an_explicit_word_lets_other_names_in(tmp_path: Path) -> None:
    """``http.insecure`` opens the door under whatever name."""
    with website(tmp_path, any_host=True) as site:
        answer = site.ask("GET", "/api/studies", headers={"host": "node.example"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_no_other_site_can_ask_in_a_browser(
    laptop: Website, headers: dict[str, str]
) -> None:
    """What changes something is refused in the name of another site's page."""
    path = f"/api/studies/{study_uid()}/complete"
    assert laptop.ask("POST", path, headers=headers).status_code == 403
    own = {"origin": laptop.url, "sec-fetch-site": "same-origin"}
    assert laptop.ask("POST", path, headers=own).status_code == 200


# ── how often ───────────────────────────────────────────────────────────────


def test_too_many_requests_of_one_name(tmp_path: Path) -> None:
    """429 with the time to wait; another name at the same address goes on."""
    limits = Limits(requests_per_minute=3)
    with website(tmp_path, service_tokens=SERVICE_TOKENS, limits=limits) as site:
        answers = [site.ask("GET", "/api/studies", TOKENS[Role.VIEW]) for _ in range(4)]
        assert [one.status_code for one in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
        assert store(site, TOKENS[Role.SEND]).status_code == 200


def test_too_many_wrong_tokens_of_one_address(tmp_path: Path) -> None:
    """429 after the limit; who has a token that is good still comes in."""
    limits = Limits(failures_per_minute=3)
    with website(tmp_path, service_tokens=SERVICE_TOKENS, limits=limits) as site:
        answers = [site.ask("GET", "/api/studies", WRONG) for _ in range(5)]
        assert [one.status_code for one in answers] == [401, 401, 401, 429, 429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert site.ask("GET", "/api/studies", TOKENS[Role.VIEW]).status_code == 200


# ── the trail ───────────────────────────────────────────────────────────────


def test_the_trail_is_told_who_came(tmp_path: Path) -> None:
    """Once for a name and an address; each refusal; each missing role."""
    with website(tmp_path, service_tokens=SERVICE_TOKENS) as site:
        for _ in range(3):
            site.ask("GET", "/api/studies", TOKENS[Role.VIEW])
        site.ask("GET", "/api/studies", WRONG)
        site.ask("GET", "/api/settings", TOKENS[Role.VIEW])
        here = "127.0.0.1"
        assert site.told == [
            UserAuthenticated(user="view", address=here, accepted=True),
            UserAuthenticated(user="", address=here, accepted=False),
            SecurityAlert(
                alarm=Alarm.USE_OF_RESTRICTED_FUNCTION,
                reason="GET /api/settings needs the role administer",
                who="view",
                address=here,
            ),
        ]


def test_nobody_can_pretend_to_come_from_elsewhere(tmp_path: Path) -> None:
    """X-Forwarded-For counts from no proxy that the settings do not name."""
    with website(tmp_path, service_tokens=SERVICE_TOKENS) as site:
        forged = {"x-forwarded-for": "10.9.8.7", "authorization": f"Bearer {WRONG}"}
        site.ask("GET", "/api/studies", headers=forged)
        (told,) = site.told
        assert isinstance(told, UserAuthenticated)
        assert told.address == "127.0.0.1"


def test_a_proxy_that_is_named_is_believed(tmp_path: Path) -> None:
    """It tells who asks and that they came by TLS: for the trail, cookies and browsers."""
    told = {"x-forwarded-for": "10.9.8.7", "x-forwarded-proto": "https"}
    proxies = ("127.0.0.1",)
    with website(
        tmp_path, service_tokens=SERVICE_TOKENS, trusted_proxies=proxies
    ) as site:
        data = {"token": TOKENS[Role.VIEW]}
        answer = site.ask("POST", "/login", data=data, headers=told)
        assert answer.headers["set-cookie"].startswith("__Host-pacsight=")
        assert "strict-transport-security" in answer.headers
        seen = UserAuthenticated(user="view", address="10.9.8.7", accepted=True)
        assert site.told == [seen]


def test_the_settings_make_it_so(tmp_path: Path, authority: Authority) -> None:
    """From the file to the wire: TLS, a token with its role, its limit, all of it."""
    own = authority.certify("node")
    lines = [
        f'data_dir = "{tmp_path}"',
        "[http]\nport = 0\nrequests_per_minute = 3",
        f'[http.tls]\ncertificate = "{own.path}"\nkey = "{own.key}"',
        f'[[http.tokens]]\nname = "w"\nsha256 = "{digest_of("pacsight_w")}"',
        'roles = ["administer"]',
    ]
    (tmp_path / "pacsight.toml").write_text("\n".join(lines))
    settings = load_settings(tmp_path / "pacsight.toml", {})
    home = house(tmp_path)
    ledger = empty_ledger(tmp_path)
    server = http_server(settings, home.intake, ledger, lambda _: None)
    trusting = ssl.create_default_context(cafile=authority.own.path)
    with running(server):
        url = f"https://127.0.0.1:{server.port}"
        site = Website(url=url, ledger=ledger, home=home)
        assert site.ask("GET", "/api/studies", verify=trusting).status_code == 401
        answers = [
            site.ask("GET", "/api/settings", "pacsight_w", verify=trusting)
            for _ in range(4)
        ]
        assert [one.status_code for one in answers] == [200, 200, 200, 429]
        assert answers[0].json()["http"]["tls"]["certificate"] == str(own.path)
    ledger.close()


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """When the node starts: which setting, and why."""
    text = f'[http.tls]\ncertificate = "{tmp_path}/gone.pem"'
    (tmp_path / "pacsight.toml").write_text(text)
    settings = load_settings(tmp_path / "pacsight.toml", {})
    home = house(tmp_path)
    ledger = empty_ledger(tmp_path)
    with pytest.raises(
        SettingsError, match=r"http\.tls\.certificate: there is no file"
    ):
        http_server(settings, home.intake, ledger, lambda _: None)
    ledger.close()


# ── TLS, and what browsers are told ─────────────────────────────────────────


@pytest.mark.parametrize("path", ["/health", "/api/studies", "/nowhere", "/"])
def test_every_answer_has_the_headers(shut: Website, path: str) -> None:
    """Whatever is answered: nothing is kept, framed, guessed or passed on."""
    answer = shut.ask("GET", path)
    assert [name for name in HEADERS if name not in answer.headers] == []
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers
    assert "strict-transport-security" not in answer.headers


def test_over_tls(tmp_path: Path, authority: Authority) -> None:
    """A client that trusts the authority stores; its answer asks for TLS from then on."""
    own = authority.certify("node")
    context = server_context(ServerTls(certificate=own.path, key=own.key), "http")
    with website(tmp_path, context=context, service_tokens=SERVICE_TOKENS) as site:
        trusting = ssl.create_default_context(cafile=authority.own.path)
        answer = site.ask("GET", "/api/studies", TOKENS[Role.VIEW], verify=trusting)
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            site.ask("GET", "/health")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            trusting.minimum_version = ssl.TLSVersion.TLSv1_1
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            trusting.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError):
            site.ask("GET", "/health", verify=trusting)


def test_certificates_of_callers(tmp_path: Path, authority: Authority) -> None:
    """With http.tls.ca nobody gets as far as a token without a certificate."""
    own, caller = authority.certify("node"), authority.certify("caller")
    stranger = Authority.found(tmp_path / "other").certify("stranger")
    tls = ServerTls(certificate=own.path, key=own.key, ca=authority.own.path)
    context = server_context(tls, "http")
    with website(tmp_path, context=context, service_tokens=SERVICE_TOKENS) as site:
        trusting = ssl.create_default_context(cafile=authority.own.path)
        with pytest.raises(httpx.TransportError):
            site.ask("GET", "/health", verify=trusting)
        other = ssl.create_default_context(cafile=authority.own.path)
        other.load_cert_chain(stranger.path, stranger.key)
        with pytest.raises(httpx.TransportError):
            site.ask("GET", "/health", verify=other)
        trusting.load_cert_chain(caller.path, caller.key)
        assert site.ask("GET", "/health", verify=trusting).status_code == 200
        assert site.ask("GET", "/api/studies", verify=trusting).status_code == 401
