"""The page, as a browser gets it: who sees it, what its forms do, what it shows as text."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update

from dicom_node.access import Role, ServiceToken, digest_of
from dicom_node.domain import UserAuthenticated
from dicom_node.ledger.tables import job, study, version
from dicom_node.web.doorman import Limits
from tests.arrivals import received, study_uid
from tests.ledgers import concluded_study, record, state
from tests.websites import PLAIN, SERVICE_TOKENS, TOKENS, Website, website

BOTH = "pacsight_view-and-operate"
SCRIPT = "<script>alert(1)</script>"


class Elements(HTMLParser):
    """The elements of a page, and the fields of its forms."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.forms: list[str] = []
        self.fields: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.names.add(tag)
        self.attributes += said.items()
        if tag == "form":
            self.forms.append(said["action"])
        if tag == "input":
            self.fields[said["name"]] = said.get("value", "")


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[Website]:
    """Return a site that asks for tokens, with one study that is being received."""
    operator = ServiceToken(
        name="jane", sha256=digest_of(BOTH), roles=frozenset({Role.OPERATE})
    )
    tokens = [*SERVICE_TOKENS, operator]
    with website(tmp_path, service_tokens=tokens) as running:
        record(running.ledger, received())
        yield running


@pytest.fixture
def browser(shut: Website) -> Iterator[httpx.Client]:
    """Return a browser: it keeps cookies, and says where its forms stand."""
    headers = {"origin": shut.url, "sec-fetch-site": "same-origin"}
    with httpx.Client(base_url=shut.url, headers=headers, verify=PLAIN) as client:
        yield client


def log_in(browser: httpx.Client, token: str = BOTH) -> Elements:
    """Return the page behind the login."""
    answer = browser.post("/login", data={"token": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return Elements(browser.get("/").text)


def test_who_has_no_session_is_asked_for_a_token(browser: httpx.Client) -> None:
    """And sees nothing of any study."""
    answer = browser.get("/")
    assert answer.status_code == 200
    assert Elements(answer.text).forms == ["/login"]
    assert study_uid() not in answer.text
    assert "set-cookie" not in answer.headers


def test_a_login_a_form_and_the_end(shut: Website, browser: httpx.Client) -> None:
    """Log in, say that the study is complete, log out: then the page asks again."""
    page = log_in(browser)
    complete = f"/page/{study_uid()}/complete"
    assert page.forms == ["/logout", complete]
    done = browser.post(complete, data={"csrf": page.fields["csrf"]})
    assert done.status_code == 303
    with shut.ledger.read() as tx:
        assert tx.execute(study.select()).one().asked
    browser.post("/logout", data={"csrf": page.fields["csrf"]})
    assert Elements(browser.get("/").text).forms == ["/login"]
    assert shut.told == [
        UserAuthenticated(user="jane", address="127.0.0.1", accepted=True)
    ]


def test_a_study_that_failed_is_tried_again(
    shut: Website, browser: httpx.Client
) -> None:
    """The button does what `pacsight retry` does."""
    concluded_study(shut.ledger, received(2))
    with shut.ledger.write() as tx:
        failed = update(study).where(study.c.study_uid == study_uid(2))
        tx.execute(failed.values(state="undelivered"))
    page = log_in(browser)
    retry = f"/page/{study_uid(2)}/retry"
    assert retry in page.forms
    assert browser.post(retry, data={"csrf": page.fields["csrf"]}).is_redirect
    assert state(shut.ledger, 2) != "undelivered"


def test_who_may_only_look_sees_no_buttons(browser: httpx.Client) -> None:
    """And is refused where they are pressed all the same."""
    page = log_in(browser, TOKENS[Role.VIEW])
    assert page.forms == ["/logout"]
    answer = browser.post(
        f"/page/{study_uid()}/complete", data={"csrf": page.fields["csrf"]}
    )
    assert answer.status_code == 403


def test_who_may_not_look_gets_no_page(browser: httpx.Client) -> None:
    """A router's token opens no session that lasts."""
    assert log_in(browser, TOKENS[Role.SEND]).forms == ["/login"]
    assert Elements(browser.get("/").text).forms == ["/login"]


def test_a_wrong_token_is_not_repeated(shut: Website, browser: httpx.Client) -> None:
    """401, the same form, and nothing of what was typed."""
    answer = browser.post("/login", data={"token": "hunter2"})
    assert answer.status_code == 401
    assert "The token is not accepted." in answer.text
    assert "hunter2" not in answer.text
    assert shut.told == [
        UserAuthenticated(user="", address="127.0.0.1", accepted=False)
    ]


def test_guessing_at_the_login_is_limited(tmp_path: Path) -> None:
    """As anywhere else: 429."""
    limits = Limits(failures_per_minute=2)
    with website(tmp_path, service_tokens=SERVICE_TOKENS, limits=limits) as site:
        answers = [site.ask("POST", "/login", data={"token": "x"}) for _ in range(3)]
        assert [one.status_code for one in answers] == [401, 401, 429]


# ── forms of others ─────────────────────────────────────────────────────────


def test_a_form_without_our_word_does_nothing(
    shut: Website, browser: httpx.Client
) -> None:
    """The cookie alone is not enough, nor is another session's word."""
    page = log_in(browser)
    with httpx.Client(base_url=shut.url, verify=PLAIN) as other:
        strange = log_in(other).fields["csrf"]
    complete = f"/page/{study_uid()}/complete"
    for word in ("", "x", strange, page.fields["csrf"][:-1], "é"):
        answer = browser.post(complete, data={"csrf": word})
        assert answer.status_code == 403
    assert browser.post("/logout", data={}).status_code == 403
    with shut.ledger.read() as tx:
        assert not tx.execute(study.select()).one().asked


def test_a_form_of_another_site_is_refused(browser: httpx.Client) -> None:
    """Even with the right word."""
    word = log_in(browser).fields["csrf"]
    answer = browser.post(
        f"/page/{study_uid()}/complete",
        data={"csrf": word},
        headers={"origin": "https://evil.example"},
    )
    assert answer.status_code == 403


def test_a_cookie_opens_the_page_alone(browser: httpx.Client) -> None:
    """The interface for scripts wants a token: no form can reach it."""
    log_in(browser)
    assert browser.get("/api/studies").status_code == 401
    assert browser.post(f"/api/studies/{study_uid()}/retry").status_code == 401
    assert browser.post("/dicom-web/studies").status_code == 401


def test_a_session_that_has_ended_leads_to_the_page(browser: httpx.Client) -> None:
    """Whoever presses a button too late is asked for a token, not shown JSON."""
    answer = browser.post(f"/page/{study_uid()}/complete", data={"csrf": "x"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_the_cookie_is_for_this_site_alone(browser: httpx.Client) -> None:
    """No script reads it, no other site's form sends it."""
    answer = browser.post("/login", data={"token": BOTH})
    cookie = answer.headers["set-cookie"].lower()
    assert [
        w for w in ("httponly", "samesite=strict", "path=/") if w not in cookie
    ] == []
    assert "domain" not in cookie
    assert BOTH not in cookie


# ── what senders wrote ──────────────────────────────────────────────────────


def test_what_senders_wrote_is_text(tmp_path: Path) -> None:
    """Script in whatever the ledger holds is shown, never run."""
    with website(tmp_path) as site:
        concluded_study(site.ledger, received())
        with site.ledger.write() as tx:
            tx.execute(update(study).values(detail=SCRIPT, study_uid=f"1.2'\"{SCRIPT}"))
            tx.execute(update(version).values(modality='"><img src=x onerror=a>'))
            tx.execute(update(job).values(top_finding=f"&{SCRIPT}"))
        answer = site.ask("GET", "/")
        page = Elements(answer.text)
        assert page.names.isdisjoint({"script", "img", "iframe", "object", "link"})
        assert [name for name, _ in page.attributes if name.startswith("on")] == []
        assert [v for n, v in page.attributes if n in {"src", "href"}] == []
        assert answer.text.count("&lt;script&gt;") >= 3


def test_the_page_loads_nothing(browser: httpx.Client) -> None:
    """Its policy lets in its own style sheet by digest, and nothing else."""
    answer = browser.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert re.findall(r"https?://|url\(|@import", answer.text) == []


def test_without_tokens_the_page_is_open_and_its_forms_are_not(tmp_path: Path) -> None:
    """On this machine alone nobody logs in; a form still needs the page's word."""
    with website(tmp_path) as site:
        record(site.ledger, received())
        with httpx.Client(base_url=site.url, verify=PLAIN) as browser:
            page = Elements(browser.get("/").text)
            complete = f"/page/{study_uid()}/complete"
            assert page.forms == [complete]
            assert browser.post(complete, data={"csrf": "x"}).status_code == 403
            done = browser.post(complete, data={"csrf": page.fields["csrf"]})
            assert done.status_code == 303
